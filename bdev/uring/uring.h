// The uring bdev: a file or block device through io_uring, with O_DIRECT where the file system takes it.
//
// Each reactor has one ring for all uring bdevs of its threads (uring_ring.h); a turn's I/O is submitted with one system call, and a registered
// eventfd wakes the reactor, so it sleeps whenever nothing completes. FUA writes carry RWF_DSYNC, flush is an fdatasync: both come back when the data
// is on the medium. Unmap and write zeroes are fallocate requests (a hole; a zeroed range), BLKDISCARD on the worker pool for block devices. Short
// transfers are continued. Where the medium refuses to zero a range, the core writes zeroes.
//
// Owner: a UringBdev belongs to app_thread, its channels to their threads. Left out: making files, registered buffers, passthrough of NVMe commands.
#pragma once

#include <memory>
#include <string>

#include "bdev/bdev.h"
#include "bdev/file/file_bdev.h"
#include "bdev/uring/uring_ring.h"

namespace catnap::bdev {

struct UringOptions {
  std::string name;
  std::string filename;
  std::uint32_t block_size = 0;  // bytes; 0: the device's or file system's
  std::string uuid;              // empty: made up
  bool readonly = false;
  bool direct = true;
  unsigned ring_entries = UringRing::default_entries;  // requests in flight per reactor; a power of two
};

class UringBdev final : public FileBdev {
 public:
  // Opens the file; blocks, so on the worker pool. Errors: FileTarget::open()'s, UringRing::probe()'s, EINVAL. Not yet in the Registry.
  static Result<std::shared_ptr<UringBdev>> create(UringOptions options, WorkerPool& workers);

  std::string driver_specific_json() const override;
  std::string config_json() const override;

 private:
  UringBdev(BdevInfo info, std::shared_ptr<FileTarget> target, WorkerPool& workers, unsigned ring_entries)
      : FileBdev(std::move(info), std::move(target), workers), ring_entries_(ring_entries) {}
  Result<std::unique_ptr<Channel>> create_channel(Thread& thread) override;

  unsigned ring_entries_;
};

}  // namespace catnap::bdev
