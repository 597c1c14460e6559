// See file_bdev.h.
#include "bdev/file/file_bdev.h"

#include <algorithm>
#include <utility>

namespace catnap::bdev {

FileBdev::FileBdev(BdevInfo info, std::shared_ptr<FileTarget> target, WorkerPool& workers)
    : Bdev(std::move(info)), target_(std::move(target)), workers_(workers) {
  const auto go = [](BdevIo& io) { static_cast<FileChannel*>(io.channel)->start(io); };
  if (!target_->direct()) turns_ = std::make_unique<BlockTurns>(go, block_size());
}

bool FileBdev::supports(Op op) const {
  if (op == Op::write_uncorrectable) return false;
  return !target_->readonly() || op == Op::read || op == Op::compare || op == Op::verify || op == Op::flush || op == Op::reset;
}

std::optional<std::uint64_t> FileBdev::allocated_blocks() const {
  const std::optional<std::uint64_t> bytes = target_->allocated_bytes();
  if (!bytes.has_value()) return std::nullopt;
  return std::min((*bytes + block_size() - 1) / block_size(), num_blocks());
}

// close() may wait for a device; and the last reference goes here, as no channel is left.
void FileBdev::destroy(std::move_only_function<void()> done) {
  auto close_file = [target = std::move(target_)]() mutable {
    target.reset();
    return true;
  };
  workers_.submit(*Thread::current(), std::move(close_file), [done = std::move(done)](bool) mutable { done(); });
}

void FileChannel::execute(BdevIo& io) {
  const bool goes = turns_ == nullptr || !BlockTurns::concerns(io.op) || turns_->enter(io);
  if (goes) start(io);
}

void FileChannel::leave(const BdevIo& io) {
  if (turns_ != nullptr && BlockTurns::concerns(io.op)) turns_->leave(io);
}

bool FileChannel::abort_in_module(BdevIo& io) {
  if (turns_ == nullptr || !BlockTurns::concerns(io.op) || !turns_->give_up(io)) return false;
  complete(io, Status::aborted);
  return true;
}

void FileChannel::finish(BdevIo& io, Status status) {
  leave(io);
  complete(io, status);
}

void FileChannel::range_on_worker(BdevIo& io) {
  auto work = [target = target_, unmap = io.op == Op::unmap, fua = io.fua, offset = offset_bytes(io), length = length_bytes(io)] {
    int err = unmap ? target->discard_range(offset, length) : target->zero_range(offset, length);
    if (err == 0 && fua) err = target->sync();
    return err;
  };
  workers_.submit(thread(), std::move(work), [this, &io](int err) { finish_range(io, err); });
}

void FileChannel::finish_range(BdevIo& io, int err) {
  const bool refused = err == EOPNOTSUPP || err == ENOSYS || err == ENOTTY;
  if (refused && (io.op == Op::write_zeroes || target_->unmap_reads_zeroes())) {
    leave(io);  // the writes take their own turns
    execute_by_writing_zeroes(io);
    return;
  }
  finish(io, refused ? Status::ok : status_from_errno(err, io.op));
}

void FileChannel::flush_on_worker(BdevIo& io) {
  io.next = sync_waiting_;
  sync_waiting_ = &io;
  if (syncing_ == nullptr) start_sync();
}

void FileChannel::start_sync() {
  syncing_ = std::exchange(sync_waiting_, nullptr);
  auto work = [target = target_] { return target->sync(); };
  workers_.submit(thread(), std::move(work), [this](int err) { sync_done(err); });
}

void FileChannel::sync_done(int err) {
  BdevIo* served = std::exchange(syncing_, nullptr);
  if (sync_waiting_ != nullptr) start_sync();
  while (served != nullptr) {
    BdevIo* next = served->next;
    finish(*served, status_from_errno(err, Op::flush));
    served = next;
  }
}

}  // namespace catnap::bdev
