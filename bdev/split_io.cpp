// See split_io.h.
#include "bdev/split_io.h"

#include <algorithm>

#include "bdev/core_state.h"

namespace catnap::bdev {

SplitIo::Part& SplitIo::free_part() {
  if (free_.empty()) {
    parts_.push_back(std::make_unique<Part>());
    free_.push_back(parts_.back().get());
  }
  Part& part = *free_.back();
  free_.pop_back();
  return part;
}

void SplitIo::start_part() {
  const BdevInfo& info = channel_.bdev().info();
  Part& part = free_part();
  BdevIo& io = part.io;
  prepare(io, whole_.op);
  io.fua = whole_.fua;
  io.borrowed = whole_.borrowed && (whole_.notes & BdevIo::note_copy) == 0;
  io.offset_blocks = whole_.offset_blocks + started_blocks_;
  const std::uint64_t left = whole_.num_blocks - started_blocks_;
  if (whole_.op == Op::unmap) {
    io.num_blocks = std::min(left, info.max_unmap_blocks);
  } else if (whole_.op == Op::write_zeroes) {
    io.num_blocks = std::min(left, info.max_write_zeroes_blocks);
  } else {
    const std::uint32_t block_size = channel_.bdev().block_size();
    part.iov.clear();
    const std::uint64_t bytes = cursor_.take(blocks_allowed(io.offset_blocks, left) * block_size, info.max_segments, block_size, part.iov);
    io.num_blocks = bytes / block_size;
    io.iov = part.iov.data();
    io.iov_count = static_cast<std::uint32_t>(part.iov.size());
  }
  started_blocks_ += io.num_blocks;
  ++in_flight_;
  dispatch(io);
}

void SplitIo::run() {
  running_ = true;
  // Borrowed bytes are gone when this returns, so all parts have to be with the module by then (or copied by the core).
  while (status_ == Status::ok && started_blocks_ < whole_.num_blocks && (in_flight_ < split_parts_at_once || whole_.borrowed)) start_part();
  running_ = false;
  if (over()) end_whole(status_);
}

void SplitIo::part_done(BdevIo& part, Status status) {
  --in_flight_;
  if (status_ == Status::ok) status_ = status;
  const auto mine = std::ranges::find_if(parts_, [&part](const auto& one) { return &one->io == &part; });
  free_.push_back(mine->get());
  if (!running_) run();
}

bool SplitIo::abort() {
  if (status_ == Status::ok) status_ = Status::aborted;
  const bool was_running = std::exchange(running_, true);  // parts that end now do not end this under our hands
  for (const auto& part : parts_) {
    if (std::ranges::find(free_, part.get()) == free_.end()) (void)take_back(part->io);
  }
  running_ = was_running;
  const bool ours = status_ == Status::aborted;
  if (!running_ && over()) end_whole(status_);
  return ours;
}

}  // namespace catnap::bdev
