// What the uring and aio bdevs share: a bdev upon a FileTarget, and a channel that can send calls which may block to the worker pool.
// Owner: a FileBdev belongs to app_thread, a FileChannel to its thread. Left out: reading and writing (each module's own way).
#pragma once

#include <memory>
#include <string>

#include "bdev/bdev.h"
#include "bdev/file/file_target.h"
#include "reactor/worker_pool.h"

namespace catnap::bdev {

class FileBdev : public Bdev {
 public:
  bool supports(Op op) const override;
  void destroy(std::move_only_function<void()> done) override;

  FileTarget& target() const { return *target_; }
  std::shared_ptr<FileTarget> shared_target() const { return target_; }
  WorkerPool& workers() const { return workers_; }
  // Takes over a size measured on the worker pool, also a smaller one: the file is that small already. On app_thread.
  void take_size(std::uint64_t num_blocks) { set_num_blocks(num_blocks); }

 protected:
  FileBdev(BdevInfo info, std::shared_ptr<FileTarget> target, WorkerPool& workers)
      : Bdev(std::move(info)), target_(std::move(target)), workers_(workers) {}

 private:
  std::shared_ptr<FileTarget> target_;
  WorkerPool& workers_;
};

class FileChannel : public Channel {
 protected:
  FileChannel(FileBdev& bdev, Thread& thread) : Channel(bdev, thread), target_(bdev.shared_target()), workers_(bdev.workers()) {}

  FileTarget& target() const { return *target_; }
  WorkerPool& workers() const { return workers_; }
  std::uint64_t offset_bytes(const BdevIo& io) const { return io.offset_blocks * bdev().block_size(); }
  std::uint64_t length_bytes(const BdevIo& io) const { return io.num_blocks * bdev().block_size(); }

  // unmap or write zeroes on a worker, made durable there when `io.fua`; then finish_range().
  void range_on_worker(BdevIo& io);
  // Completes an unmap or write zeroes by its errno; what the medium cannot do, the core does by writing (an unmap of a disk is only advice and
  // ends well).
  void finish_range(BdevIo& io, int err);
  // fdatasync on a worker. Calls that come while one runs share the next one: each still begins after them.
  void flush_on_worker(BdevIo& io);

 private:
  void start_sync();
  void sync_done(int err);

  std::shared_ptr<FileTarget> target_;
  WorkerPool& workers_;
  BdevIo* syncing_ = nullptr;       // served by the fdatasync that runs; linked by next
  BdevIo* sync_waiting_ = nullptr;  // by the next one
};

}  // namespace catnap::bdev
