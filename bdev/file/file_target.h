// A file or block device as the uring and aio bdevs use it: opened, measured, and what direct I/O asks of buffers. Everything here may block and
// runs on the worker pool, except where a member says otherwise.
// Owner: the bdev that opened it; the fd is used from all channels' threads. Left out: I/O itself.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "bdev/bdev.h"
#include "reactor/base/error.h"

namespace catnap::bdev {

struct FileOptions {
  std::string filename;
  std::uint32_t block_size = 0;  // bytes; 0: the device's logical block size, or the file system's preferred one
  bool readonly = false;
  bool direct = true;  // false: through the page cache from the start (tests)
};

class FileTarget {
 public:
  // Errors: what open says (ENOENT: "No such file or directory: filename '…'"), EINVAL for what is neither a file nor a block device, a block size
  // that does not fit the device or a size that is not a multiple of it.
  static Result<std::shared_ptr<FileTarget>> open(FileOptions options);
  ~FileTarget();
  FileTarget(const FileTarget&) = delete;
  FileTarget& operator=(const FileTarget&) = delete;

  int fd() const { return fd_; }
  const std::string& filename() const { return options_.filename; }
  bool is_block_device() const { return is_block_device_; }
  bool readonly() const { return options_.readonly; }
  // False: the file system refuses O_DIRECT, I/O goes through the page cache (driver_specific says so, and the log once).
  bool direct() const { return direct_; }
  bool block_size_given() const { return options_.block_size != 0; }
  std::uint32_t block_size() const { return block_size_; }
  std::uint32_t buffer_alignment() const { return buffer_alignment_; }
  std::uint64_t num_blocks() const { return size_bytes_ / block_size_; }
  // The size now, in blocks; a rest that does not fill a block is left out. Errors: what the system says.
  Result<std::uint64_t> measure_blocks() const;
  // What a regular file takes up, as far as this machine knows by itself (no file server is asked); empty for block devices. Any thread, never waits.
  std::optional<std::uint64_t> allocated_bytes() const;

  // Makes blocks read as zero without moving data, durable after the next flush. 0, or a positive errno; EOPNOTSUPP: this medium cannot.
  int zero_range(std::uint64_t offset_bytes, std::uint64_t length_bytes);
  // Gives blocks back; they read as zero afterwards unless unmap_reads_zeroes() is false. As above.
  int discard_range(std::uint64_t offset_bytes, std::uint64_t length_bytes);
  // fdatasync: 0, or a positive errno (never ENOMEM, which would be taken for "try again").
  int sync();
  // What a sync that the kernel answered with `err` is worth. Through the page cache, a failed one has lost data that later ones would not speak of
  // (the kernel reports a write-back error once and drops the pages): from then on every sync fails. Any thread.
  int judge_sync(int err);
  // Block devices may leave anything behind a discard.
  bool unmap_reads_zeroes() const { return !is_block_device_; }

  // Fills what a bdev says about itself. Any thread.
  void describe(BdevInfo& info) const;

  // A fallocate mode that this medium refused is not tried again. Any thread.
  bool may_zero_range() const { return may_zero_range_.load(std::memory_order_relaxed); }
  void zero_range_refused() { may_zero_range_.store(false, std::memory_order_relaxed); }

 private:
  explicit FileTarget(FileOptions options) : options_(std::move(options)) {}
  Result<void> open_fd();
  Result<void> inspect();
  Error error(int err) const;

  FileOptions options_;
  int fd_ = -1;
  bool is_block_device_ = false;
  bool direct_ = false;
  std::uint32_t block_size_ = 0;
  std::uint32_t physical_block_size_ = 0;
  std::uint32_t buffer_alignment_ = 1;
  std::uint64_t size_bytes_ = 0;
  std::atomic<bool> may_zero_range_{true};
  std::atomic<bool> write_back_lost_{false};
};

}  // namespace catnap::bdev
