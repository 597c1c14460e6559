// The aio bdev: a file or block device through libaio with O_DIRECT, for systems where io_uring is not allowed.
//
// io_submit() must not hold up a reactor, so every request asks the kernel not to wait (RWF_NOWAIT); one that would have to (space to be allocated,
// no request tag free) comes back and is done by the worker pool with a blocking call. Without O_DIRECT io_submit() would block for each
// page that is not cached: there the worker pool does all transfers, except reads that the page cache answers at once. Flush, unmap and write zeroes
// are calls on the worker pool. FUA writes carry RWF_DSYNC. An eventfd wakes the thread; it sleeps whenever nothing completes.
//
// Owner: an AioBdev belongs to app_thread, its channels to their threads. Left out: making files.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "bdev/aio/aio_context.h"
#include "bdev/bdev.h"
#include "bdev/file/file_bdev.h"

namespace catnap::bdev {

struct AioOptions {
  std::string name;
  std::string filename;
  std::uint32_t block_size = 0;  // bytes; 0: the device's or file system's
  std::string uuid;              // empty: made up
  bool readonly = false;
  bool fallocate = true;  // false: no unmap, zeroes are written
  bool direct = true;
  unsigned context_entries = AioContext::default_entries;  // requests in flight per thread
};

class AioBdev final : public FileBdev {
 public:
  // Opens the file; blocks, so on the worker pool. Errors: FileTarget::open()'s, EINVAL. Not yet in the Registry.
  static Result<std::shared_ptr<AioBdev>> create(AioOptions options, WorkerPool& workers);

  bool supports(Op op) const override;
  std::string driver_specific_json() const override;
  std::string config_json() const override;

  // Whether the medium knows RWF_NOWAIT, as far as we have seen. Any thread.
  bool nowait() const { return nowait_.load(std::memory_order_relaxed); }
  void nowait_refused() { nowait_.store(false, std::memory_order_relaxed); }

 private:
  AioBdev(BdevInfo info, std::shared_ptr<FileTarget> target, WorkerPool& workers, bool fallocate, unsigned context_entries)
      : FileBdev(std::move(info), std::move(target), workers), fallocate_(fallocate), context_entries_(context_entries) {}
  Result<std::unique_ptr<Channel>> create_channel(Thread& thread) override;

  bool fallocate_;
  unsigned context_entries_;
  std::atomic<bool> nowait_{true};
};

}  // namespace catnap::bdev
