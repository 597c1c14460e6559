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

}  // namespace

std::unique_ptr<StagedIo> StagedIo::create(Channel& channel, BdevIo& whole) {
  const std::uint64_t wanted_bytes = std::min<std::uint64_t>(whole.num_blocks * channel.bdev().block_size(), staged_part_bytes);
  Buffer pooled;
  if (Reactor* reactor = Reactor::current(); reactor != nullptr) pooled = reactor->buffers().try_get(wanted_bytes);
  std::byte* data = pooled.data();
  if (data == nullptr) {
    auto& core = core_of(channel);
    if (core.reserve_in_use) return nullptr;
    if (core.reserve == nullptr) core.reserve = static_cast<std::byte*>(std::aligned_alloc(page_bytes, staged_part_bytes));
    if (core.reserve == nullptr) return nullptr;
    core.reserve_in_use = true;
    data = core.reserve;
  }
  std::unique_ptr<StagedIo> staged(new StagedIo(channel, whole));
  staged->pooled_ = std::move(pooled);
  staged->data_ = data;
  staged->capacity_bytes_ = static_cast<std::uint32_t>(wanted_bytes);
  if (whole.op == Op::write_zeroes || whole.op == Op::unmap) std::memset(data, 0, wanted_bytes);
  staged->backwards_ =
      whole.op == Op::copy && whole.offset_blocks > whole.source_offset_blocks && whole.offset_blocks - whole.source_offset_blocks < whole.num_blocks;
  return staged;
}

StagedIo::~StagedIo() {
  auto& core = core_of(channel_);
  if (data_ != nullptr && data_ == core.reserve) core.reserve_in_use = false;
}

Op StagedIo::next_op() const {
  switch (whole_.op) {
    case Op::write:
    case Op::write_zeroes:
    case Op::unmap:
      return Op::write;
    case Op::copy:
    case Op::compare_and_write:
      return writing_ ? Op::write : Op::read;
    default:
      return Op::read;
  }
}

// Where the next part of so many blocks is, in the source of a copy or where the I/O itself is.
std::uint64_t StagedIo::offset_of(std::uint64_t blocks, bool source) const {
  const std::uint64_t base = source ? whole_.source_offset_blocks : whole_.offset_blocks;
  return base + (backwards_ ? blocks_ - done_blocks_ - blocks : done_blocks_);
}

void StagedIo::start_part() {
  const std::uint32_t block_size = channel_.bdev().block_size();
  const Op op = next_op();
  const bool source = whole_.op == Op::copy && op == Op::read;
  std::uint64_t blocks = std::min<std::uint64_t>(blocks_ - done_blocks_, std::max(1u, capacity_bytes_ / block_size));
  if (whole_.op == Op::copy && writing_) {
    blocks = part_blocks_;
  } else if (whole_.op == Op::copy) {
    // What is read in one part is written in one part, so it has to suit both places.
    for (const std::uint64_t base : {whole_.source_offset_blocks, whole_.offset_blocks}) {
      blocks = backwards_ ? blocks_allowed_before(base + blocks_ - done_blocks_, blocks) : blocks_allowed(base + done_blocks_, blocks);
    }
    part_blocks_ = blocks;
  } else {
    blocks = blocks_allowed(offset_of(blocks, false), blocks);
  }
  prepare(part_, op);
  part_.fua = whole_.fua && op == Op::write;
  part_.offset_blocks = offset_of(blocks, source);
  part_.num_blocks = blocks;
  part_iov_ = {data_, static_cast<std::size_t>(blocks * block_size)};
  part_.iov = &part_iov_;
  part_.iov_count = 1;
  if (op == Op::write && (whole_.op == Op::write || whole_.op == Op::compare_and_write)) {
    IovCursor cursor(whole_.iov, whole_.iov_count);
    cursor.skip((done_blocks_ + (whole_.op == Op::compare_and_write ? blocks_ : 0)) * block_size);
    cursor.copy_out(data_, part_iov_.iov_len);
  }
  dispatch(part_);
}

// The bytes of a part that was read: to the reader, or against the comparer's.
Status StagedIo::take_in_part() {
  if (whole_.op == Op::copy || whole_.op == Op::verify) return Status::ok;
  const std::uint32_t block_size = channel_.bdev().block_size();
  IovCursor cursor(whole_.iov, whole_.iov_count);
  cursor.skip(done_blocks_ * block_size);
  if (whole_.op == Op::read) {
    cursor.copy_in(data_, part_iov_.iov_len);
  } else if (!cursor.equals(data_, part_iov_.iov_len)) {
    return Status::compare_failed;
  }
  return Status::ok;
}

// A part went well. True: that was all.
bool StagedIo::step(Status status) {
  if (status != Status::ok) return true;
  if (whole_.op == Op::copy) {
    writing_ = !writing_;
    if (writing_) return false;
  }
  done_blocks_ += part_.num_blocks;
  if (done_blocks_ < blocks_) return false;
  if (whole_.op != Op::compare_and_write || writing_) return true;
  writing_ = true;
  done_blocks_ = 0;
  return false;
}

// True: the whole I/O is finished and this object gone.
bool StagedIo::finished_after(Status status) {
  if (status == Status::ok && part_.op == Op::read) status = take_in_part();
  if (aborted_) status = Status::aborted;
  if (!step(status)) return false;
  end_whole(status);
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

void StagedIo::part_done(BdevIo&, Status status) {
  if (starting_) {
    answered_ = true;
    answer_ = status;
    return;
  }
  if (!finished_after(status)) run();
}

bool StagedIo::abort() {
  aborted_ = true;
  (void)take_back(part_);  // may end the whole, and this
  return true;
}

}  // namespace catnap::bdev
