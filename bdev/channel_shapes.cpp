// I/Os that the module does not take as they come: too large, across a boundary, in memory it cannot use, or operations that it leaves to the core;
// and resets. See bdev.h. Owner: the channel's thread. Left out: how parts run (split_io.h, staged_io.h, reset_run.h).
#include <algorithm>
#include <vector>

#include "bdev/bdev.h"
#include "bdev/core_state.h"
#include "bdev/iov.h"
#include "bdev/split_io.h"
#include "bdev/staged_io.h"

namespace catnap::bdev {
namespace {

bool carries_data(Op op) { return op == Op::read || op == Op::write || op == Op::compare; }

// Whether every cut into max_pieces pieces at a time holds at least one block.
bool cuts_well(const BdevIo& io, std::uint32_t max_pieces, std::uint32_t block_bytes) {
  IovCursor cursor(io.iov, io.iov_count);
  std::vector<iovec> pieces;
  for (std::uint64_t left = io.num_blocks * block_bytes; left > 0;) {
    pieces.clear();
    const std::uint64_t taken = cursor.take(left, max_pieces, block_bytes, pieces);
    if (taken == 0) return false;
    left -= taken;
  }
  return true;
}

}  // namespace

bool Channel::needs_staging(const BdevIo& io) const {
  const BdevInfo& info = bdev_.info();
  if (io.op == Op::write_zeroes) return info.core_writes_zeroes;
  if (!carries_data(io.op) || io.iov == nullptr) return false;
  if (io.op == Op::compare && info.core_compares) return true;
  if (info.max_segments > 0 && io.iov_count > info.max_segments && !cuts_well(io, info.max_segments, bdev_.block_size())) return true;
  if (info.buffer_alignment <= 1) return false;
  const std::uintptr_t mask = info.buffer_alignment - 1;
  return std::any_of(io.iov, io.iov + io.iov_count,
                     [mask](const iovec& piece) { return ((reinterpret_cast<std::uintptr_t>(piece.iov_base) | piece.iov_len) & mask) != 0; });
}

bool Channel::needs_splitting(const BdevIo& io) const {
  const BdevInfo& info = bdev_.info();
  if (io.op == Op::unmap) return info.max_unmap_blocks > 0 && io.num_blocks > info.max_unmap_blocks;
  if (io.op == Op::write_zeroes) return info.max_write_zeroes_blocks > 0 && io.num_blocks > info.max_write_zeroes_blocks;
  if (!carries_data(io.op) || io.iov == nullptr) return false;
  if (info.max_io_blocks > 0 && io.num_blocks > info.max_io_blocks) return true;
  if (info.max_segments > 0 && io.iov_count > info.max_segments) return true;
  if (!info.split_at_boundary || info.optimal_io_boundary_blocks == 0) return false;
  return io.offset_blocks % info.optimal_io_boundary_blocks + io.num_blocks > info.optimal_io_boundary_blocks;
}

void Channel::dispatch_shaped(BdevIo& io) {
  const BdevInfo& info = bdev_.info();
  if (io.op == Op::reset) {
    start_reset(io);
  } else if (io.op == Op::compare_and_write && !info.native_compare_and_write) {
    lock_and_stage(io);
  } else if ((io.op == Op::copy && !info.native_copy) || (io.op == Op::verify && !info.native_verify) || needs_staging(io)) {
    stage(io);
  } else if (needs_splitting(io)) {
    split(io);
  } else {
    execute_now(io);
  }
}

void Channel::stage(BdevIo& io) {
  auto staged = StagedIo::create(*this, io);
  if (staged == nullptr) {
    queue_front(io);
    return;
  }
  staged.release()->run();  // frees itself with its last part
}

void Channel::split(BdevIo& io) {
  (new SplitIo(*this, io))->run();  // frees itself with its last part
}

void Channel::execute_by_writing_zeroes(BdevIo& io) {
  --executing_;  // from here on its parts are
  stage(io);
}

// A compare-and-write has its blocks for itself from before the compare until after the write.
void Channel::lock_and_stage(BdevIo& io) {
  if ((io.notes & BdevIo::note_lock) != 0) {  // granted
    stage(io);
    return;
  }
  struct Asking {
    bool now = true;  // lock() is on the stack
    bool granted = false;
  };
  io.phase = Phase::held;
  auto* hold = new std::shared_ptr<RangeHold>;
  io.kept = hold;
  io.notes |= BdevIo::note_lock;
  auto asking = std::make_shared<Asking>();
  auto granted = [this, &io, asking] {
    asking->granted = true;
    if (!asking->now) pass_locks(io);
  };
  *hold = bdev_.range_locks().lock(io.offset_blocks, io.num_blocks, &io, granted);
  asking->now = false;
  if (asking->granted) pass_locks(io);
}

}  // namespace catnap::bdev
