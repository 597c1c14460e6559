// Connects, loads, measures. Owner: main's OS thread. Left out: I/Os of one queue (io_load.cpp).
#include "tests/bench/perf/run.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "bdev/nvme/association.h"
#include "keyring/keyring.h"
#include "reactor/clock.h"
#include "reactor/reactor.h"
#include "reactor/task.h"
#include "tests/bench/perf/cpu_time.h"
#include "tests/bench/perf/pace.h"

namespace catnap::perf {
namespace {

constexpr double ns_of_s = static_cast<double>(ns_per_s);
// One turn while nothing but connecting goes on.
constexpr std::int64_t connecting_wait_ns = 10'000'000;

struct Geometry {
  std::uint32_t block_size = 0;
  std::uint64_t blocks = 0;
  std::uint32_t in_capsule_bytes = 0;
  std::uint32_t max_transfer_bytes = 0;
  std::uint64_t queue_entries = 0;
};

class Run {
 public:
  explicit Run(const Options& options) : options_(options), reactor_(reactor_options()) {
    auto made = std::make_unique<Thread>("perf", CpuMask::of_cpu(0));
    thread_ = made.get();
    reactor_.adopt(std::move(made));
    reactor_.turn(0);
  }
  ~Run() { disconnect(); }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  Result<Outcome> go() {
    if (auto keyed = take_key(); !keyed) return std::unexpected(keyed.error());
    if (auto connected = connect_controllers(); !connected) return std::unexpected(connected.error());
    if (auto fits = check_geometry(); !fits) return std::unexpected(fits.error());
    if (auto connected = connect_queues(); !connected) return std::unexpected(connected.error());
    return measure();
  }

 private:
  static ReactorOptions reactor_options() {
    ReactorOptions options;
    options.name = "perf";
    options.mode = ReactorMode::interrupt;  // turned by hand: how long a turn waits is said each time
    return options;
  }

  // Turns until `done()`, or an error is known. Connecting has deadlines of its own.
  template <typename Done>
  Result<void> turn_until(Done done) {
    while (!done()) {
      reactor_.turn(connecting_wait_ns);
      if (failed_) return std::unexpected(*failed_);
      for (const auto& load : loads_) {
        if (load->failed()) return std::unexpected(*load->failed());
      }
    }
    return {};
  }

  Result<void> take_key() {
    if (options_.psk_file.empty()) return {};
    keyring::Keyring& keyring = keyring::Keyring::instance();
    if (auto added = keyring.add_file("psk-file", options_.psk_file); !added) return added;
    auto borrowed = keyring.borrow("psk-file", "--psk-file");
    if (!borrowed) return std::unexpected(borrowed.error());
    psk_ = std::move(*borrowed);
    return {};
  }

  bdev::AssociationOptions association_options() const {
    bdev::AssociationOptions chosen;
    chosen.id.traddr = options_.traddr;
    chosen.id.trsvcid = options_.trsvcid;
    chosen.id.subnqn = options_.nqn;
    chosen.hostnqn = options_.hostnqn;
    std::memcpy(chosen.hostid.data(), "catnap-perf-host", chosen.hostid.size());
    chosen.hdgst = options_.hdgst;
    chosen.ddgst = options_.ddgst;
    chosen.kato_ms = 30'000;
    chosen.psk = psk_;
    return chosen;
  }

  Task<Result<void>> open_controller(std::size_t index) {
    auto opened = co_await controllers_[index]->open();
    if (!opened || index > 0) co_return opened;
    auto identified = co_await controllers_[index]->identify(nvme::Cns::namespace_data, options_.nsid);
    if (!identified) co_return std::unexpected(identified.error());
    if (identified->size() < sizeof(nvme::IdentifyNamespace)) co_return fail(EPROTO, "Identify Namespace is short");
    const auto data = std::make_unique<nvme::IdentifyNamespace>();
    std::memcpy(data.get(), identified->data(), sizeof *data);
    const bdev::Association& controller = *controllers_[index];
    geometry_.blocks = data->nsze;
    geometry_.block_size = 1U << std::min<std::uint8_t>(data->lbaf[data->flbas & 0xF].lbads, 31);
    const std::uint32_t capsule_bytes = controller.data().ioccsz * 16U;
    geometry_.in_capsule_bytes =
        capsule_bytes > sizeof(nvme::SubmissionEntry) ? capsule_bytes - static_cast<std::uint32_t>(sizeof(nvme::SubmissionEntry)) : 0;
    geometry_.max_transfer_bytes = controller.max_transfer_bytes();
    geometry_.queue_entries = (controller.cap() & 0xFFFF) + 1;  // CAP.MQES, which counts from 0
    co_return Result<void>();
  }

  void begin_to_open(std::size_t index) {
    spawn<Result<void>>(open_controller(index), [this](Result<void> opened) {
      if (opened) {
        ++controllers_open_;
      } else {
        failed_ = opened.error();
      }
    });
  }

  Result<void> connect_controllers() {
    // A backlog's worth at once.
    constexpr std::size_t at_once = 64;
    while (controllers_.size() < options_.connections) {
      const std::size_t wanted = std::min<std::size_t>(controllers_.size() + at_once, options_.connections);
      thread_->send([this, wanted] {
        while (controllers_.size() < wanted) {
          controllers_.push_back(bdev::Association::create(*thread_, association_options()));
          begin_to_open(controllers_.size() - 1);
        }
      });
      if (auto connected = turn_until([this, wanted] { return controllers_open_ == wanted; }); !connected) return connected;
    }
    return {};
  }

  Result<void> check_geometry() {
    if (geometry_.blocks == 0) return fail(ENODEV, fmt::format("--nsid {}: no such namespace", options_.nsid));
    if (options_.size % geometry_.block_size != 0)
      return fail(EINVAL, fmt::format("--size {}: not a multiple of the namespace's blocks of {} bytes", options_.size, geometry_.block_size));
    if (options_.size > geometry_.max_transfer_bytes)
      return fail(EINVAL, fmt::format("--size {}: the controller takes {} bytes per command at most", options_.size, geometry_.max_transfer_bytes));
    if (options_.depth >= geometry_.queue_entries)
      return fail(EINVAL, fmt::format("--depth {}: the controller's queues have {} entries, of which one stays free", options_.depth,
                                      geometry_.queue_entries));
    if (options_.blocks > geometry_.blocks) return fail(EINVAL, fmt::format("--blocks {}: the namespace has {}", options_.blocks, geometry_.blocks));
    const std::uint64_t blocks = options_.blocks > 0 ? options_.blocks : geometry_.blocks;
    places_per_queue_ = blocks / (options_.size / geometry_.block_size) / options_.io_queues();
    const std::uint64_t needed = options_.verify ? options_.depth + 1 : 1;
    if (places_per_queue_ < needed)
      return fail(EINVAL, fmt::format("{} blocks are too few for {} I/O queues of depth {} with I/Os of {} bytes", blocks, options_.io_queues(),
                                      options_.depth, options_.size));
    return {};
  }

  Result<void> connect_queues() {
    const std::uint32_t in_capsule = std::min(geometry_.in_capsule_bytes, options_.in_capsule);
    for (const auto& controller : controllers_) {
      for (std::uint32_t i = 0; i < options_.queues; ++i) {
        auto queue = bdev::queue_options(controller->options(), controller->cntlid());
        if (!queue) return std::unexpected(queue.error());
        queue->qid = static_cast<std::uint16_t>(i + 1);
        queue->entries = static_cast<std::uint16_t>(options_.depth + 1);
        queue->in_capsule_bytes = in_capsule;
        const std::size_t index = loads_.size();
        loads_.push_back(std::make_unique<IoLoad>(*thread_, options_, std::move(*queue),
                                                  IoLoad::Share{index * places_per_queue_, places_per_queue_, geometry_.block_size},
                                                  options_.seed + index));
        thread_->send([this, index] { loads_[index]->connect(); });
        if (auto connected = turn_until([this] { return loads_.back()->ready(); }); !connected) return connected;
      }
    }
    return {};
  }

  // Loads until `until_ns`; with a rate, gives each I/O that becomes due to the next queue.
  Result<void> load_until(std::uint64_t until_ns, Pace* pace) {
    std::uint64_t progress_at_ns = system_clock().now_ns() + ns_per_s;
    std::uint64_t seen = counts_->ios();
    for (std::uint64_t now_ns = system_clock().now_ns(); now_ns < until_ns; now_ns = system_clock().now_ns()) {
      std::uint64_t wake_ns = std::min(until_ns, progress_at_ns);
      if (pace != nullptr) {
        const Thread::Scope here(thread_);
        pace->advance(now_ns, [this](std::uint64_t due_ns) { loads_[next_queue_++ % loads_.size()]->add_due(due_ns); });
        wake_ns = std::min(wake_ns, pace->next_due_ns());
      }
      reactor_.turn(options_.wait ? static_cast<std::int64_t>(std::max(wake_ns, now_ns + 1) - now_ns) : 0);
      if (now_ns < progress_at_ns) continue;
      for (const auto& load : loads_) {
        if (load->failed()) return std::unexpected(*load->failed());
      }
      if (options_.progress) fmt::print(stderr, "{} I/Os in the last second\n", counts_->ios() - seen);
      seen = counts_->ios();
      progress_at_ns = now_ns + ns_per_s;
    }
    for (const auto& load : loads_) {
      if (load->failed()) return std::unexpected(*load->failed());
    }
    return {};
  }

  Result<Outcome> measure() {
    Counts warm_up;
    Outcome outcome;
    counts_ = &warm_up;
    std::uint64_t now_ns = system_clock().now_ns();
    std::optional<Pace> pace;
    if (options_.rate > 0) pace.emplace(options_.rate, options_.burst, now_ns);
    thread_->send([this] {
      for (const auto& load : loads_) {
        load->count_into(counts_);
        if (options_.rate == 0) load->start(counts_);
      }
    });
    if (auto loaded = load_until(now_ns + static_cast<std::uint64_t>(options_.warm_up_seconds * ns_of_s), pace ? &*pace : nullptr); !loaded)
      return std::unexpected(loaded.error());
    counts_ = &outcome.counts;
    for (const auto& load : loads_) load->count_into(counts_);
    const std::optional<std::uint64_t> cpu_before_ns = options_.pid != 0 ? cpu_time_ns(options_.pid) : std::nullopt;
    if (options_.pid != 0 && !cpu_before_ns) return fail(ESRCH, fmt::format("--pid {}: no such process", options_.pid));
    const std::uint64_t began_ns = system_clock().now_ns();
    if (auto loaded = load_until(began_ns + static_cast<std::uint64_t>(options_.seconds * ns_of_s), pace ? &*pace : nullptr); !loaded)
      return std::unexpected(loaded.error());
    outcome.seconds = static_cast<double>(system_clock().now_ns() - began_ns) / ns_of_s;
    if (cpu_before_ns) {
      const auto cpu_after_ns = cpu_time_ns(options_.pid);
      if (!cpu_after_ns) return fail(ESRCH, fmt::format("--pid {}: it has ended", options_.pid));
      outcome.target_cpu_ns = *cpu_after_ns - *cpu_before_ns;
    }
    for (const auto& load : loads_) outcome.behind += load->behind();
    Counts rest;
    for (const auto& load : loads_) {
      load->count_into(&rest);
      load->stop();
    }
    auto drained = turn_until([this] { return std::ranges::all_of(loads_, [](const auto& load) { return load->outstanding() == 0; }); });
    if (!drained) return std::unexpected(drained.error());
    return outcome;
  }

  void disconnect() {
    thread_->send([this] {
      for (const auto& load : loads_) load->close();
      for (const auto& controller : controllers_) controller->close({ECANCELED, "the run is over"});
    });
    while (reactor_.turn(0) > 0) {
    }
    loads_.clear();
    controllers_.clear();
    thread_->request_exit();
    reactor_.request_stop();
    while (reactor_.turn(0) > 0) {
    }
  }

  const Options& options_;
  keyring::KeyRef psk_;  // null: cleartext
  Reactor reactor_;
  Thread* thread_ = nullptr;
  Geometry geometry_;
  std::uint64_t places_per_queue_ = 0;
  std::vector<std::shared_ptr<bdev::Association>> controllers_;
  std::size_t controllers_open_ = 0;
  std::vector<std::unique_ptr<IoLoad>> loads_;
  std::size_t next_queue_ = 0;
  Counts* counts_ = nullptr;
  std::optional<Error> failed_;
};

}  // namespace

Result<Outcome> run(const Options& options) {
  if (options.cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (options.cpu < CPU_SETSIZE) CPU_SET(static_cast<unsigned>(options.cpu), &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) return fail(errno, fmt::format("--cpu {}: {}", options.cpu, errno_text(errno)));
  }
  return std::make_unique<Run>(options)->go();
}

}  // namespace catnap::perf
