// I/Os of one queue. Owner: the run's one thread. Left out: everything above a queue.
#include "tests/bench/perf/io_load.h"

#include <fmt/format.h>

#include <cerrno>
#include <span>

#include "bdev/nvme/association.h"
#include "reactor/base/crc32c.h"
#include "reactor/clock.h"
#include "transport/nvme/command.h"

namespace catnap::perf {

struct IoLoad::Io {
  IoLoad* load = nullptr;
  tcp::HostRequest request;
  iovec iov{};
  std::vector<std::uint64_t> own;  // when its contents matter
  std::uint64_t place = 0;
  std::uint64_t since_ns = 0;
  bool is_read = false;
  std::span<std::uint64_t> words() { return own; }
};

namespace {

// Without --verify; any value will do.
constexpr std::uint64_t fill = 0x5A5A'5A5A'5A5A'5A5AULL;

}  // namespace

IoLoad::IoLoad(Thread& thread, const Options& options, tcp::HostQueueOptions queue, Share share, std::uint64_t seed)
    : options_(options),
      share_(share),
      places_(share.first_place, share.places, options.is_random(), options.verify, seed),
      ios_(std::make_unique<Io[]>(options.depth)) {
  if (!options.verify) {
    to_write_.assign(options.size / sizeof(std::uint64_t), fill);
    read_.resize(to_write_.size());
  }
  std::optional<std::uint32_t> digest;
  if (!options.verify && queue.data_digest) digest = crc32c(to_write_.data(), options.size);
  tcp::HostQueueUser& user = *this;
  queue_ = std::make_unique<tcp::HostQueue>(thread, std::move(queue), user);
  for (std::uint32_t i = 0; i < options.depth; ++i) {
    Io& io = ios_[i];
    if (options.verify) io.own.assign(options.size / sizeof(std::uint64_t), fill);
    io.iov = {io.own.data(), options.size};
    io.request.iov = &io.iov;
    io.request.iov_count = 1;
    io.request.data_bytes = options.size;
    io.request.known_digest = digest;
    io.request.done = done;
    io.load = this;
    io.request.context = &io;
    io.request.sqe.nsid = options.nsid;
    io.request.sqe.cdw12 = options.size / share.block_size - 1;
    free_.push_back(&io);
  }
}

IoLoad::~IoLoad() = default;

void IoLoad::start(Counts* counts) {
  counts_ = counts;
  const std::uint64_t now_ns = system_clock().now_ns();
  while (!free_.empty() && !failed_) {
    Io* const io = free_.back();
    free_.pop_back();
    submit(*io, now_ns);
  }
}

void IoLoad::add_due(std::uint64_t due_ns) {
  if (free_.empty()) return due_.push_back(due_ns);
  Io* const io = free_.back();
  free_.pop_back();
  submit(*io, due_ns);
}

void IoLoad::submit(Io& io, std::uint64_t since_ns) {
  io.place = places_.take();
  io.is_read = places_.percent(options_.reads_of_100());
  io.since_ns = since_ns;
  if (!options_.verify) {
    io.iov.iov_base = io.is_read ? read_.data() : to_write_.data();
  } else if (!io.is_read) {
    places_.fill(io.place, io.words());
  }
  io.request.sqe.opcode = static_cast<std::uint8_t>(io.is_read ? nvme::IoOpcode::read : nvme::IoOpcode::write);
  io.request.sqe.set_slba(places_.absolute(io.place) * (options_.size / share_.block_size));
  io.request.direction = io.is_read ? transport::DataDirection::controller_to_host : transport::DataDirection::host_to_controller;
  ++outstanding_;
  queue_->submit(io.request);
}

void IoLoad::done(tcp::HostRequest& request) {
  Io& io = *static_cast<Io*>(request.context);
  io.load->finish(io);
}

void IoLoad::finish(Io& io) {
  --outstanding_;
  places_.give_back(io.place);
  if (io.request.outcome != tcp::HostRequest::Outcome::answered) return;  // queue_ended() says why
  const std::uint64_t lba = places_.absolute(io.place) * (options_.size / share_.block_size);
  if (!io.request.status().is_success())
    return fail({EIO, fmt::format("{} of {} bytes at LBA {}: {}", io.is_read ? "read" : "write", options_.size, lba,
                                  bdev::status_text(io.request.status()))});
  if (io.is_read && options_.verify && !places_.is_right(io.place, io.words()))
    return fail({EILSEQ, fmt::format("read of {} bytes at LBA {}: not what was written there last", options_.size, lba)});
  const std::uint64_t now_ns = system_clock().now_ns();
  (io.is_read ? counts_->reads : counts_->writes).add(now_ns - io.since_ns);
  if (options_.rate > 0 && !due_.empty()) {
    const std::uint64_t due_ns = due_.front();
    due_.pop_front();
    return submit(io, due_ns);
  }
  if (options_.rate > 0 || stopped_ || failed_) return free_.push_back(&io);
  submit(io, now_ns);
}

void IoLoad::fail(Error why) {
  if (!failed_) failed_ = std::move(why);
}

void IoLoad::queue_ended(tcp::HostQueue& queue, const Error& why) {
  if (!stopped_) fail({why.err, fmt::format("{}: {}", queue.label(), why.message)});
}

void IoLoad::close() {
  stopped_ = true;
  if (!queue_->over()) queue_->close({ECANCELED, "the run is over"});
}

}  // namespace catnap::perf
