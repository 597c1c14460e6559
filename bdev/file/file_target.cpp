// See file_target.h.
#include "bdev/file/file_target.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>

#include "reactor/base/allowed_paths.h"
#include "reactor/base/log.h"

namespace catnap::bdev {
namespace {

// What direct I/O needs where the kernel does not tell (STATX_DIOALIGN is of Linux 6.1): the sector every disk understands.
constexpr std::uint32_t fallback_alignment_bytes = 512;
// A file's own preferred block size beyond this (some network file systems say 1 MiB) is no block size for a disk.
constexpr std::uint32_t default_file_block_size = 4096;

struct DirectIoNeeds {
  std::uint32_t memory_bytes = fallback_alignment_bytes;
  std::uint32_t offset_bytes = fallback_alignment_bytes;
};

DirectIoNeeds direct_io_needs(int fd) {
  DirectIoNeeds needs;
#ifdef STATX_DIOALIGN
  struct statx info{};
  if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) == 0 && (info.stx_mask & STATX_DIOALIGN) != 0 && info.stx_dio_mem_align != 0) {
    needs = {info.stx_dio_mem_align, info.stx_dio_offset_align};
  }
#endif
  return needs;
}

bool valid_block_size(std::uint64_t size) { return size >= min_block_size && size <= max_block_size && std::has_single_bit(size); }

}  // namespace

Error FileTarget::error(int err) const { return Error(err, fmt::format("{}: filename '{}'", errno_text(err), options_.filename)); }

Result<std::shared_ptr<FileTarget>> FileTarget::open(FileOptions options) {
  std::shared_ptr<FileTarget> target(new FileTarget(std::move(options)));
  if (auto opened = target->open_fd(); !opened) return std::unexpected(opened.error());
  if (auto fits = target->inspect(); !fits) return std::unexpected(fits.error());
  return target;
}

FileTarget::~FileTarget() {
  if (fd_ >= 0) close(fd_);
}

Result<void> FileTarget::open_fd() {
  // O_NONBLOCK: opening a FIFO or a serial line by mistake must not hang a worker; for files and disks it means nothing.
  const int flags = (options_.readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK;
  if (options_.direct) fd_ = ::open(options_.filename.c_str(), flags | O_DIRECT);
  direct_ = fd_ >= 0;
  if (fd_ < 0 && (!options_.direct || errno == EINVAL)) fd_ = ::open(options_.filename.c_str(), flags);
  if (fd_ >= 0) return {};
  const int err = errno;
  return fail(err, fmt::format("{}: filename '{}'", open_error_text(err, options_.filename), options_.filename));
}

Result<void> FileTarget::inspect() {
  struct stat info{};
  if (fstat(fd_, &info) != 0) return std::unexpected(error(errno));
  is_block_device_ = S_ISBLK(info.st_mode);
  if (!is_block_device_ && !S_ISREG(info.st_mode)) {
    return fail(EINVAL, fmt::format("filename '{}' is neither a regular file nor a block device", options_.filename));
  }
  std::uint32_t logical = min_block_size;
  if (is_block_device_) {
    int sector_bytes = 0;
    if (ioctl(fd_, BLKSSZGET, &sector_bytes) != 0) return std::unexpected(error(errno));
    logical = static_cast<std::uint32_t>(sector_bytes);
    unsigned physical_bytes = 0;
    if (ioctl(fd_, BLKPBSZGET, &physical_bytes) == 0) physical_block_size_ = physical_bytes;
    std::uint64_t size = 0;
    if (ioctl(fd_, BLKGETSIZE64, &size) != 0) return std::unexpected(error(errno));
    size_bytes_ = size;
  } else {
    size_bytes_ = static_cast<std::uint64_t>(info.st_size);
  }
  const DirectIoNeeds needs = direct_io_needs(fd_);
  if (direct_ && needs.offset_bytes == 0) direct_ = false;  // opened, but every direct I/O would fail (STATX_DIOALIGN says so)
  if (direct_) {
    logical = std::max(logical, needs.offset_bytes);
    buffer_alignment_ = std::max(1u, needs.memory_bytes);
  } else {
    if (options_.direct) {
      const int flags = fcntl(fd_, F_GETFL);
      if ((flags & O_DIRECT) != 0 && fcntl(fd_, F_SETFL, flags & ~O_DIRECT) != 0) return std::unexpected(error(errno));
      log_warning("bdev: '{}' does not take O_DIRECT, its I/O goes through the page cache", options_.filename);
    }
    buffer_alignment_ = 1;
  }

  block_size_ = options_.block_size;
  if (block_size_ == 0) {
    const auto preferred = static_cast<std::uint64_t>(info.st_blksize);
    block_size_ = is_block_device_ ? logical : valid_block_size(preferred) ? static_cast<std::uint32_t>(preferred) : default_file_block_size;
    block_size_ = std::max(block_size_, logical);
  }
  if (!valid_block_size(block_size_)) {
    return fail(EINVAL, fmt::format("block_size {} is not a power of two from {} to {}", block_size_, min_block_size, max_block_size));
  }
  if (block_size_ % logical != 0) {
    return fail(EINVAL, fmt::format("block_size {} is smaller than the {} bytes that '{}' reads and writes at a time", block_size_, logical,
                                    options_.filename));
  }
  if (size_bytes_ == 0 || size_bytes_ % block_size_ != 0) {
    return fail(EINVAL, fmt::format("filename '{}' has {} bytes, which is {} block_size {}", options_.filename, size_bytes_,
                                    size_bytes_ == 0 ? "no block of" : "not a multiple of", block_size_));
  }
  if (!valid_block_size(physical_block_size_)) physical_block_size_ = block_size_;
  physical_block_size_ = std::max(physical_block_size_, block_size_);
  return {};
}

Result<std::uint64_t> FileTarget::measure_blocks() const {
  std::uint64_t size = 0;
  if (is_block_device_) {
    if (ioctl(fd_, BLKGETSIZE64, &size) != 0) return std::unexpected(error(errno));
  } else {
    struct stat info{};
    if (fstat(fd_, &info) != 0) return std::unexpected(error(errno));
    size = static_cast<std::uint64_t>(info.st_size);
  }
  if (size < block_size_)
    return fail(EINVAL, fmt::format("filename '{}' has shrunk to {} bytes, less than one block of {}", options_.filename, size, block_size_));
  return size / block_size_;
}

std::optional<std::uint64_t> FileTarget::allocated_bytes() const {
  struct statx info{};
  if (is_block_device_ || statx(fd_, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BLOCKS, &info) != 0) return std::nullopt;
  if ((info.stx_mask & STATX_BLOCKS) == 0) return std::nullopt;
  return info.stx_blocks * 512;  // statx(2): units of 512 bytes
}

int FileTarget::zero_range(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  const auto offset = static_cast<off_t>(offset_bytes);
  const auto length = static_cast<off_t>(length_bytes);
  // ZERO_RANGE keeps the space, so that a full disk cannot fail the next write; where it is missing (tmpfs), a hole reads as zero too.
  if (may_zero_range()) {
    if (fallocate(fd_, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length) == 0) return 0;
    if (errno != EOPNOTSUPP) return errno;
    zero_range_refused();
  }
  if (fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) == 0) return 0;
  return errno;
}

int FileTarget::discard_range(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  if (is_block_device_) {
    std::uint64_t range[2] = {offset_bytes, length_bytes};
    return ioctl(fd_, BLKDISCARD, range) == 0 ? 0 : errno;
  }
  const auto offset = static_cast<off_t>(offset_bytes);
  const auto length = static_cast<off_t>(length_bytes);
  return fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) == 0 ? 0 : errno;
}

int FileTarget::sync() { return judge_sync(fdatasync(fd_) == 0 ? 0 : errno); }

int FileTarget::judge_sync(int err) {
  if (err != 0) {
    log_error("bdev: fdatasync of '{}': {}", options_.filename, errno_text(err));
    if (!direct_) write_back_lost_.store(true, std::memory_order_relaxed);
  }
  if (err == ENOMEM || write_back_lost_.load(std::memory_order_relaxed)) return EIO;
  return err;
}

void FileTarget::describe(BdevInfo& info) const {
  info.block_size = block_size_;
  info.physical_block_size = physical_block_size_;
  info.num_blocks = num_blocks();
  info.buffer_alignment = buffer_alignment_;
  info.write_cache = true;  // the disk's own, if no page cache: only fdatasync says that data is on the medium
  info.unmap_reads_zeroes = unmap_reads_zeroes();
  info.core_compares = true;
}

}  // namespace catnap::bdev
