// What the uring and aio bdevs share: a bdev upon a FileTarget, and a channel that can send calls which may block to the worker pool.
// Owner: a FileBdev belongs to app_thread, a FileChannel to its thread. Left out: reading and writing (each module's own way).
#pragma once

#include <memory>
#include <string>

#include "bdev/bdev.h"
#include "bdev/file/block_turns.h"
#include "bdev/file/file_target.h"
#include "reactor/worker_pool.h"

namespace catnap::bdev {

class FileBdev : public Bdev {
 public:
  bool supports(Op op) const override;
  void destroy(std::move_only_function<void()> done) override;
  std::optional<std::uint64_t> allocated_blocks() const override;

  FileTarget& target() const { return *target_; }
  std::shared_ptr<FileTarget> shared_target() const { return target_; }
  WorkerPool& workers() const { return workers_; }
  // Null: the file takes O_DIRECT. From any thread.
  BlockTurns* turns() const { return turns_.get(); }
  // Takes over a size measured on the worker pool, also a smaller one: the file is that small already. On app_thread.
  void take_size(std::uint64_t num_blocks) { set_num_blocks(num_blocks); }

 protected:
  FileBdev(BdevInfo info, std::shared_ptr<FileTarget> target, WorkerPool& workers);

 private:
  std::shared_ptr<FileTarget> target_;
  WorkerPool& workers_;
  std::unique_ptr<BlockTurns> turns_;
};

class FileChannel : public Channel {
 protected:
  FileChannel(FileBdev& bdev, Thread& thread)
      : Channel(bdev, thread), target_(bdev.shared_target()), workers_(bdev.workers()), turns_(bdev.turns()) {}

  // A module's own way with an I/O, which ends with finish() or finish_range(). On a file in the page cache nothing that overlaps is under way.
  virtual void start(BdevIo& io) = 0;
  void finish(BdevIo& io, Status status);

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
  friend class FileBdev;
  void execute(BdevIo& io) final;
  bool abort_in_module(BdevIo& io) final;
  void leave(const BdevIo& io);
  void start_sync();
  void sync_done(int err);

  std::shared_ptr<FileTarget> target_;
  WorkerPool& workers_;
  BlockTurns* const turns_;         // the bdev's
  BdevIo* syncing_ = nullptr;       // served by the fdatasync that runs; linked by next
  BdevIo* sync_waiting_ = nullptr;  // by the next one
};

}  // namespace catnap::bdev
