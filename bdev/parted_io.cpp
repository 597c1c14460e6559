// See parted_io.h.
#include "bdev/parted_io.h"

#include <algorithm>

#include "bdev/core_state.h"

namespace catnap::bdev {

void PartedIo::prepare(BdevIo& part, Op op) {
  part.op = op;
  part.phase = Phase::part;
  part.status = Status::ok;
  part.retries = 0;
  part.notes = 0;
  part.channel = &channel_;
  part.next = nullptr;
  part.parted = this;
  part.start_ns = whole_.start_ns;
}

void PartedIo::dispatch(BdevIo& part) { channel_.execute_now(part); }

bool PartedIo::take_back(BdevIo& part) { return channel_.take_back(part); }

void PartedIo::end_whole(Status status) {
  Channel& channel = channel_;
  BdevIo& whole = whole_;
  whole.parted = outer_;
  delete this;
  channel.end(whole, status);
}

std::uint64_t PartedIo::blocks_allowed(std::uint64_t offset_blocks, std::uint64_t wanted) const {
  const BdevInfo& info = channel_.bdev().info();
  if (info.max_io_blocks > 0) wanted = std::min<std::uint64_t>(wanted, info.max_io_blocks);
  if (info.split_at_boundary && info.optimal_io_boundary_blocks > 0) {
    wanted = std::min<std::uint64_t>(wanted, info.optimal_io_boundary_blocks - offset_blocks % info.optimal_io_boundary_blocks);
  }
  return wanted;
}

std::uint64_t PartedIo::blocks_allowed_before(std::uint64_t end_blocks, std::uint64_t wanted) const {
  const BdevInfo& info = channel_.bdev().info();
  if (info.max_io_blocks > 0) wanted = std::min<std::uint64_t>(wanted, info.max_io_blocks);
  if (info.split_at_boundary && info.optimal_io_boundary_blocks > 0) {
    const std::uint64_t into = end_blocks % info.optimal_io_boundary_blocks;
    wanted = std::min<std::uint64_t>(wanted, into > 0 ? into : info.optimal_io_boundary_blocks);
  }
  return wanted;
}

Channel::Core& PartedIo::core_of(Channel& channel) { return *channel.core_; }

}  // namespace catnap::bdev
