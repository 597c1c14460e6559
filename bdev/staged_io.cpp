// See staged_io.h. One part: make or fetch its bytes, hand it to the module, look at the answer, next part.
#include "bdev/staged_io.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "bdev/core_state.h"
#include "bdev/iov.h"
#include "reactor/reactor.h"

namespace catnap::bdev {
namespace {

constexpr std::size_t page_bytes = 4096;

bool writes(Op op) { return op == Op::write || op == Op::write_zeroes || op == Op::unmap; }

}  // namespace

std::unique_ptr<StagedIo> StagedIo::create(Channel& channel, BdevIo& whole) {
  std::unique_ptr<StagedIo> staged(new StagedIo(channel, whole));
  const std::uint64_t wanted_bytes = std::min<std::uint64_t>(whole.num_blocks * channel.bdev().block_size(), staged_part_bytes);
  if (Reactor* reactor = Reactor::current(); reactor != nullptr) staged->pooled_ = reactor->buffers().try_get(wanted_bytes);
  if (staged->pooled_) {
    staged->data_ = staged->pooled_.data();
  } else {
    auto& core = *channel.core_;
    if (core.reserve_in_use) return nullptr;
    if (core.reserve == nullptr) core.reserve = static_cast<std::byte*>(std::aligned_alloc(page_bytes, staged_part_bytes));
    if (core.reserve == nullptr) return nullptr;
    core.reserve_in_use = true;
    staged->data_ = core.reserve;
  }
  staged->capacity_bytes_ = static_cast<std::uint32_t>(wanted_bytes);
  if (whole.op == Op::write_zeroes || whole.op == Op::unmap) std::memset(staged->data_, 0, wanted_bytes);
  return staged;
}

StagedIo::~StagedIo() {
  auto& core = *channel_.core_;
  if (data_ != nullptr && data_ == core.reserve) core.reserve_in_use = false;
}

void StagedIo::start_part() {
  const std::uint32_t block_size = channel_.bdev().block_size();
  const std::uint64_t blocks = std::min<std::uint64_t>(whole_.num_blocks - done_blocks_, std::max(1u, capacity_bytes_ / block_size));
  part_.op = writes(whole_.op) ? Op::write : Op::read;
  part_.fua = whole_.fua && part_.op == Op::write;
  part_.offset_blocks = whole_.offset_blocks + done_blocks_;
  part_.num_blocks = blocks;
  part_iov_ = {data_, static_cast<std::size_t>(blocks * block_size)};
  part_.iov = &part_iov_;
  part_.iov_count = 1;
  part_.channel = &channel_;
  part_.staged = this;
  if (whole_.op == Op::write) {
    IovCursor cursor(whole_.iov, whole_.iov_count);
    cursor.skip(done_blocks_ * block_size);
    cursor.copy_out(data_, part_iov_.iov_len);
  }
  channel_.dispatch(part_);
}

// The bytes of a part that was read: to the reader, or against the comparer's.
Status StagedIo::take_in_part() {
  const std::uint32_t block_size = channel_.bdev().block_size();
  IovCursor cursor(whole_.iov, whole_.iov_count);
  cursor.skip(done_blocks_ * block_size);
  if (whole_.op == Op::read) cursor.copy_in(data_, part_iov_.iov_len);
  if (whole_.op == Op::compare && !cursor.equals(data_, part_iov_.iov_len)) return Status::compare_failed;
  return Status::ok;
}

// True: the whole I/O is finished and this object gone.
bool StagedIo::finished_after(Status status) {
  if (status == Status::ok && part_.op == Op::read) status = take_in_part();
  done_blocks_ += part_.num_blocks;
  if (status == Status::ok && done_blocks_ < whole_.num_blocks) return false;
  Channel& channel = channel_;
  BdevIo& whole = whole_;
  delete this;
  channel.finish(whole, status);
  return true;
}

void StagedIo::run() {
  for (;;) {
    answered_ = false;
    starting_ = true;
    start_part();
    starting_ = false;
    if (!answered_ || finished_after(answer_)) return;
  }
}

void StagedIo::part_done(Status status) {
  if (starting_) {
    answered_ = true;
    answer_ = status;
    return;
  }
  if (!finished_after(status)) run();
}

}  // namespace catnap::bdev
