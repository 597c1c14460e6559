// The pages of a malloc bdev, their stripe locks, and which of them hold anything. See malloc.h for the why.
// Owner: shared by the channels of all threads, under the stripe locks. Left out: blocks and I/O (everything here is bytes).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "reactor/base/error.h"
#include "transport/command_sink.h"

namespace catnap::bdev {

// Shared by readers, alone for a writer; a word, since there are many and nearly all are free nearly always.
class alignas(64) StripeLock {
 public:
  // Waits for a writer's copy to end (64 KiB at most). Being polite to a waiting writer is bounded: a sender may hold the same stripe for another
  // answer of its gathered send already.
  void lock_shared();
  void unlock_shared() { word_.fetch_sub(1, std::memory_order_release); }
  bool try_lock();
  // Keeps new readers out for as long as they are patient, and waits for the present ones: one send each at most.
  void lock_insistently();
  void unlock() { word_.store(0, std::memory_order_release); }

 private:
  static constexpr std::uint32_t writer = 0x8000'0000;
  // Readers: the low 31 bits.
  std::atomic<std::uint32_t> word_{0};
  std::atomic<std::uint32_t> insisting_{0};
};

class MallocMemory final : public transport::Lender {
 public:
  static constexpr std::uint64_t stripe_bytes = 65536;  // the longest wait is one copy of this; also the largest block size
  static constexpr std::uint64_t page_bytes = 4096;
  // Half of a 47-bit address space: mapping more fails in ways that name nothing.
  static constexpr std::uint64_t max_size_bytes = std::uint64_t{1} << 46;

  // Errors: ENOMEM, EMFILE with the size.
  static Result<std::unique_ptr<MallocMemory>> create(std::uint64_t size_bytes);
  ~MallocMemory();
  MallocMemory(const MallocMemory&) = delete;
  MallocMemory& operator=(const MallocMemory&) = delete;

  std::byte* base() const { return base_; }
  std::uint64_t size_bytes() const { return size_bytes_; }
  int memfd() const { return memfd_; }
  // More than the CPU's caches hold, so that what is written will not be found there when it is read.
  bool outgrows_caches() const { return outgrows_caches_; }
  // Of pages that were written and not cleared since. Any OS thread.
  std::uint64_t allocated_bytes() const;
  StripeLock& lock_of(std::uint64_t offset_bytes) { return locks_[(offset_bytes / stripe_bytes) % lock_count]; }
  // Bytes from offset to the end of its stripe, at most length.
  static std::uint64_t within_stripe(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
    const std::uint64_t left = stripe_bytes - offset_bytes % stripe_bytes;
    return left < length_bytes ? left : length_bytes;
  }

  // Which pages hold anything. Call within a stripe under its lock.
  bool any_written(std::uint64_t offset_bytes, std::uint64_t length_bytes) const;
  void mark_written(std::uint64_t offset_bytes, std::uint64_t length_bytes);
  // Makes bytes of one stripe read as zero: gives whole pages back, clears the rest. Under the stripe's lock, alone.
  void zero_within_stripe(std::uint64_t offset_bytes, std::uint64_t length_bytes);
  // Pages that hold anything now, for tests and reports.
  std::uint64_t written_pages() const;

  void lock_for_send(std::uint64_t offset_bytes, std::uint64_t length_bytes) override;
  void unlock_after_send(std::uint64_t offset_bytes, std::uint64_t length_bytes) override;

 private:
  MallocMemory() = default;
  void clear_written(std::uint64_t first_page, std::uint64_t end_page);

  // Stripes share locks in turn: 64 KiB of locks serve any size, and 1024 stripes in use at once are more than all queues of a reactor have.
  static constexpr std::size_t lock_count = 1024;

  int memfd_ = -1;
  std::byte* base_ = nullptr;
  std::uint64_t size_bytes_ = 0;
  bool outgrows_caches_ = false;
  std::unique_ptr<StripeLock[]> locks_;
  std::uint64_t written_words_ = 0;
  std::atomic<std::uint64_t>* written_ = nullptr;  // one bit per page, in lazily taken memory of its own
};

}  // namespace catnap::bdev
