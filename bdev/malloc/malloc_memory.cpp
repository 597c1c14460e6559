// See malloc_memory.h.
#include "bdev/malloc/malloc_memory.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <linux/falloc.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cstring>

#include "bdev/malloc/stream_copy.h"
#include "reactor/base/check.h"

namespace catnap::bdev {
namespace {

// About 2 µs: the length of a small copy. After that the holder may have lost its CPU, and spinning on would keep it away.
constexpr std::uint32_t spins_before_yield = 64;
// About 10 µs of politeness towards an insisting writer.
constexpr std::uint32_t polite_spins = 256;

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void spin(std::uint32_t& spins) {
  if (++spins % spins_before_yield == 0) {
    sched_yield();
  } else {
    pause_cpu();
  }
}

void* map_lazily(std::size_t length_bytes, int fd) {
  const int flags = fd >= 0 ? MAP_SHARED | MAP_NORESERVE : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* memory = mmap(nullptr, length_bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

}  // namespace

void StripeLock::lock_shared() {
  std::uint32_t spins = 0;
  while (insisting_.load(std::memory_order_relaxed) != 0 && spins < polite_spins) spin(spins);
  for (;;) {
    std::uint32_t word = word_.load(std::memory_order_relaxed);
    if (word < writer && word_.compare_exchange_weak(word, word + 1, std::memory_order_acquire, std::memory_order_relaxed)) return;
    spin(spins);
  }
}

bool StripeLock::try_lock() {
  for (std::uint32_t spins = 1; spins < spins_before_yield; ++spins) {
    std::uint32_t free = 0;
    if (word_.compare_exchange_weak(free, writer, std::memory_order_acquire, std::memory_order_relaxed)) return true;
    pause_cpu();
  }
  return false;
}

void StripeLock::lock_insistently() {
  insisting_.fetch_add(1, std::memory_order_relaxed);
  std::uint32_t spins = 0;
  while (!try_lock()) spin(spins);
  insisting_.fetch_sub(1, std::memory_order_relaxed);
}

Result<std::unique_ptr<MallocMemory>> MallocMemory::create(std::uint64_t size_bytes) {
  std::unique_ptr<MallocMemory> memory(new MallocMemory);
  const auto failed = [size_bytes](const char* what) {
    const int err = errno;
    return fail(err, fmt::format("{}: {} for {} bytes of memory", errno_text(err), what, size_bytes));
  };
  memory->memfd_ = memfd_create("catnap-malloc", MFD_CLOEXEC);
  if (memory->memfd_ < 0) return failed("memfd_create");
  if (ftruncate(memory->memfd_, static_cast<off_t>(size_bytes)) != 0) return failed("ftruncate");
  void* base = map_lazily(size_bytes, memory->memfd_);
  if (base == nullptr) return failed("mmap");
  memory->base_ = static_cast<std::byte*>(base);
  memory->size_bytes_ = size_bytes;
  static_cast<void>(madvise(base, size_bytes, MADV_DONTDUMP));  // a disk's contents are nobody's who looks into a crash
  static const std::size_t cache_bytes = last_level_cache_bytes();
  memory->outgrows_caches_ = cache_bytes > 0 && size_bytes > cache_bytes;

  const std::uint64_t pages = (size_bytes + page_bytes - 1) / page_bytes;
  memory->written_words_ = (pages + 63) / 64;
  void* bits = map_lazily(memory->written_words_ * sizeof(std::uint64_t), -1);
  if (bits == nullptr) return failed("mmap of the page table");
  // Zero pages are valid zero atomics; making them one by one would touch them all.
  memory->written_ = static_cast<std::atomic<std::uint64_t>*>(bits);
  memory->locks_ = std::make_unique<StripeLock[]>(lock_count);
  return memory;
}

MallocMemory::~MallocMemory() {
  if (base_ != nullptr) munmap(base_, size_bytes_);
  if (written_ != nullptr) munmap(written_, written_words_ * sizeof(std::uint64_t));
  if (memfd_ >= 0) close(memfd_);
}

bool MallocMemory::any_written(std::uint64_t offset_bytes, std::uint64_t length_bytes) const {
  const std::uint64_t end = (offset_bytes + length_bytes + page_bytes - 1) / page_bytes;
  std::uint64_t page = offset_bytes / page_bytes;
  while (page < end) {
    const std::uint64_t bits = written_[page / 64].load(std::memory_order_relaxed) >> (page % 64);
    const std::uint64_t left = 64 - page % 64;
    const std::uint64_t span = left < end - page ? left : end - page;
    if ((span == 64 ? bits : bits & ((std::uint64_t{1} << span) - 1)) != 0) return true;
    page += span;
  }
  return false;
}

// A word of bits spans four stripes, so neighbours' writers meet in it: read-modify-write, but only where a bit really changes.
void MallocMemory::mark_written(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  const std::uint64_t end = (offset_bytes + length_bytes + page_bytes - 1) / page_bytes;
  for (std::uint64_t page = offset_bytes / page_bytes; page < end; ++page) {
    const std::uint64_t bit = std::uint64_t{1} << (page % 64);
    auto& word = written_[page / 64];
    if ((word.load(std::memory_order_relaxed) & bit) == 0) word.fetch_or(bit, std::memory_order_relaxed);
  }
}

void MallocMemory::clear_written(std::uint64_t first_page, std::uint64_t end_page) {
  for (std::uint64_t page = first_page; page < end_page; ++page) {
    written_[page / 64].fetch_and(~(std::uint64_t{1} << (page % 64)), std::memory_order_relaxed);
  }
}

void MallocMemory::zero_within_stripe(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  if (!any_written(offset_bytes, length_bytes)) return;
  const std::uint64_t end_bytes = offset_bytes + length_bytes;
  const std::uint64_t first_whole = (offset_bytes + page_bytes - 1) / page_bytes;
  // The last page of the disk may be cut short; it is whole for us when all of it that exists is meant.
  const std::uint64_t end_whole = end_bytes == size_bytes_ ? (end_bytes + page_bytes - 1) / page_bytes : end_bytes / page_bytes;
  if (first_whole < end_whole) {
    const auto from = static_cast<off_t>(first_whole * page_bytes);
    const auto length = static_cast<off_t>((end_whole - first_whole) * page_bytes);
    if (fallocate(memfd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, length) == 0) {
      clear_written(first_whole, end_whole);
    } else {
      std::memset(base_ + from, 0,
                  end_bytes - first_whole * page_bytes < static_cast<std::uint64_t>(length) ? end_bytes - first_whole * page_bytes
                                                                                            : static_cast<std::uint64_t>(length));
    }
  }
  const auto clear_part = [this](std::uint64_t from, std::uint64_t to) {
    if (from < to && any_written(from, to - from)) std::memset(base_ + from, 0, to - from);
  };
  if (first_whole >= end_whole) {
    clear_part(offset_bytes, end_bytes < first_whole * page_bytes ? end_bytes : first_whole * page_bytes);
    clear_part(first_whole * page_bytes, end_bytes);
    return;
  }
  clear_part(offset_bytes, first_whole * page_bytes);
  clear_part(end_whole * page_bytes, end_bytes);
}

std::uint64_t MallocMemory::written_pages() const {
  std::uint64_t pages = 0;
  for (std::uint64_t i = 0; i < written_words_; ++i) pages += static_cast<std::uint64_t>(std::popcount(written_[i].load(std::memory_order_relaxed)));
  return pages;
}

void MallocMemory::lock_for_send(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  for (std::uint64_t at = offset_bytes, end = offset_bytes + length_bytes; at < end; at += within_stripe(at, end - at)) lock_of(at).lock_shared();
}

void MallocMemory::unlock_after_send(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  for (std::uint64_t at = offset_bytes, end = offset_bytes + length_bytes; at < end; at += within_stripe(at, end - at)) lock_of(at).unlock_shared();
}

std::uint64_t MallocMemory::allocated_bytes() const {
  struct stat info{};
  return fstat(memfd_, &info) == 0 ? static_cast<std::uint64_t>(info.st_blocks) * 512 : size_bytes_;  // stat(2): units of 512 bytes
}

}  // namespace catnap::bdev
