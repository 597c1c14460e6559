// What all threads of a raid1 share without locks: bits per region, and which blocks are being written.
// Owner: any thread (atomics); who may set what stands at each member. Left out: what is on disk (bitmap_pages.h).
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "reactor/base/check.h"

namespace catnap::bdev::raid1 {

// Bits, any thread. All operations are sequentially consistent: see RegionMaps about who relies on it.
class AtomicBits {
 public:
  explicit AtomicBits(std::uint64_t size) : size_(size), words_(std::make_unique<std::atomic<std::uint64_t>[]>((size + 63) / 64)) {}
  std::uint64_t size() const { return size_; }
  bool test(std::uint64_t bit) const { return (words_[bit / 64].load() & mask(bit)) != 0; }
  bool test_relaxed(std::uint64_t bit) const { return (words_[bit / 64].load(std::memory_order_relaxed) & mask(bit)) != 0; }
  // Whether it was not set before.
  bool set(std::uint64_t bit) { return (words_[bit / 64].fetch_or(mask(bit)) & mask(bit)) == 0; }
  void clear(std::uint64_t bit) { words_[bit / 64].fetch_and(~mask(bit)); }
  // The first set bit from `from` on; size() when there is none.
  std::uint64_t next(std::uint64_t from) const {
    for (std::uint64_t word = from / 64; from < size_; from = ++word * 64) {
      const std::uint64_t bits = words_[word].load() & (~std::uint64_t{0} << (from % 64));
      if (bits != 0) return word * 64 + static_cast<std::uint64_t>(std::countr_zero(bits));
    }
    return size_;
  }
  std::uint64_t count() const {
    std::uint64_t total = 0;
    for (std::uint64_t word = 0; word < (size_ + 63) / 64; ++word) total += static_cast<std::uint64_t>(std::popcount(words_[word].load()));
    return total;
  }

 private:
  static std::uint64_t mask(std::uint64_t bit) { return std::uint64_t{1} << (bit % 64); }

  std::uint64_t size_;
  std::unique_ptr<std::atomic<std::uint64_t>[]> words_;
};

// A set of regions that only one thread looks at.
class Bits {
 public:
  explicit Bits(std::uint64_t size) : size_(size), words_((size + 63) / 64) {}
  std::uint64_t size() const { return size_; }
  std::uint64_t count() const { return count_; }
  bool empty() const { return count_ == 0; }
  bool test(std::uint64_t bit) const { return (words_[bit / 64] >> (bit % 64) & 1) != 0; }
  void set(std::uint64_t bit) {
    count_ += test(bit) ? 0 : 1;
    words_[bit / 64] |= std::uint64_t{1} << (bit % 64);
  }
  void clear(std::uint64_t bit) {
    count_ -= test(bit) ? 1 : 0;
    words_[bit / 64] &= ~(std::uint64_t{1} << (bit % 64));
  }
  std::uint64_t next(std::uint64_t from) const {
    for (std::uint64_t word = from / 64; from < size_; from = ++word * 64) {
      const std::uint64_t bits = words_[word] & (~std::uint64_t{0} << (from % 64));
      if (bits != 0) return word * 64 + static_cast<std::uint64_t>(std::countr_zero(bits));
    }
    return size_;
  }

 private:
  std::uint64_t size_;
  std::uint64_t count_ = 0;
  std::vector<std::uint64_t> words_;
};

// Who waits for blocks that somebody else is writing: told, on any thread, when some became free.
class OverlapWaiter {
 public:
  virtual void blocks_freed() = 0;

 protected:
  ~OverlapWaiter() = default;
};

// A claim on blocks: units that are held, of those wanted.
struct OverlapHold {
  std::uint64_t first_unit = 0;
  std::uint64_t last_unit = 0;
  std::uint64_t words_held = 0;
  bool complete = false;
};

// Which blocks are being written. A bit stands for a unit (4 KiB, or a block when that is larger), a word for 64 of them. Arrays with more words than
// the table has share words between far-apart blocks, which costs a needless wait now and then and no correctness.
//
// A claim takes its words in the order of the table, each wholly or not at all, and keeps what it has while it waits for the next: so claims cannot
// wait for each other in a circle. Taking and giving back an ordinary write's claim are one atomic operation each.
class OverlapTable {
 public:
  // 512 KiB at most; 256 KiB of blocks of 4 KiB per word: arrays of up to 16 GiB share nothing.
  static constexpr std::uint64_t max_words = 65536;

  OverlapTable(std::uint64_t num_blocks, std::uint32_t blocks_per_unit)
      : blocks_per_unit_(blocks_per_unit),
        size_(std::clamp<std::uint64_t>((num_blocks / blocks_per_unit + 64) / 64, 1, max_words)),
        words_(std::make_unique<std::atomic<std::uint64_t>[]>(size_)) {}

  OverlapHold hold(std::uint64_t offset_blocks, std::uint64_t num_blocks) const {
    OverlapHold hold;
    hold.first_unit = offset_blocks / blocks_per_unit_;
    hold.last_unit = (offset_blocks + num_blocks - 1) / blocks_per_unit_;
    return hold;
  }
  // Goes on taking; true: all are held now.
  bool take(OverlapHold& hold) {
    const std::uint64_t count = word_count(hold);
    while (hold.words_held < count) {
      const Place place = place_of(hold, hold.words_held, count);
      std::uint64_t seen = words_[place.word].load();
      do {
        if ((seen & place.mask) != 0) return false;
      } while (!words_[place.word].compare_exchange_weak(seen, seen | place.mask));
      ++hold.words_held;
    }
    hold.complete = true;
    return true;
  }
  void give_back(OverlapHold& hold) {
    const std::uint64_t count = word_count(hold);
    while (hold.words_held > 0) {
      const Place place = place_of(hold, --hold.words_held, count);
      words_[place.word].fetch_and(~place.mask);
    }
    hold.complete = false;
    if (waiting_.load() != 0) wake();
  }
  // Somebody holds one of the blocks, or of blocks that share a word with them.
  bool busy(std::uint64_t offset_blocks, std::uint64_t num_blocks) const {
    const OverlapHold range = hold(offset_blocks, num_blocks);
    const std::uint64_t count = word_count(range);
    for (std::uint64_t i = 0; i < count; ++i) {
      const Place place = place_of(range, i, count);
      if ((words_[place.word].load() & place.mask) != 0) return true;
    }
    return false;
  }
  // From now on `waiter` is told; it tries once more after this call, since blocks may have become free before it.
  void wait(OverlapWaiter& waiter) {
    const std::lock_guard lock(mutex_);
    waiters_.push_back(&waiter);
    waiting_.fetch_add(1);
  }
  void wait_no_more(OverlapWaiter& waiter) {
    const std::lock_guard lock(mutex_);
    if (std::erase(waiters_, &waiter) != 0) waiting_.fetch_sub(1);
  }

 private:
  struct Place {
    std::uint64_t word;
    std::uint64_t mask;
  };
  std::uint64_t word_count(const OverlapHold& hold) const { return std::min(hold.last_unit / 64 - hold.first_unit / 64 + 1, size_); }
  // The i-th word of a claim in the order of the table.
  Place place_of(const OverlapHold& hold, std::uint64_t i, std::uint64_t count) const {
    const std::uint64_t first = hold.first_unit / 64, last = hold.last_unit / 64;
    if (last - first + 1 >= size_)
      return {i, size_ == last - first + 1 && size_ == 1 ? bits(hold.first_unit % 64, hold.last_unit % 64) : ~std::uint64_t{0}};
    const std::uint64_t start = first % size_;
    const std::uint64_t wrapped = start + count > size_ ? start + count - size_ : 0;  // words at the table's beginning: the claim's last ones
    const std::uint64_t nth = i < wrapped ? count - wrapped + i : i - wrapped;        // in the order of blocks
    const std::uint64_t from = nth == 0 ? hold.first_unit % 64 : 0;
    const std::uint64_t to = first + nth == last ? hold.last_unit % 64 : 63;
    return {(first + nth) % size_, bits(from, to)};
  }
  static std::uint64_t bits(std::uint64_t from, std::uint64_t to) { return (~std::uint64_t{0} >> (63 - (to - from))) << from; }
  void wake() {
    const std::lock_guard lock(mutex_);
    for (OverlapWaiter* waiter : waiters_) waiter->blocks_freed();
  }

  const std::uint32_t blocks_per_unit_;
  const std::uint64_t size_;
  std::unique_ptr<std::atomic<std::uint64_t>[]> words_;
  std::atomic<std::uint32_t> waiting_{0};
  std::mutex mutex_;
  std::vector<OverlapWaiter*> waiters_;
};

// Bits per region that all threads read.
//
// marked: the intent is durable on every in-sync member, so writes may go at once. Who writes takes its blocks in the OverlapTable and then looks at
// the mark; who clears takes the mark away and then looks whether blocks are taken. All four are sequentially consistent, so at least one of the two
// sees the other: the write asks for the mark anew, or the mark stays.
struct RegionMaps {
  // `capacity_blocks`: what the array may grow to.
  RegionMaps(std::uint64_t num_blocks, std::uint64_t capacity_blocks, std::uint64_t region_blocks_wanted, std::uint32_t blocks_per_unit)
      : region_blocks(region_blocks_wanted),
        shift(static_cast<std::uint32_t>(std::countr_zero(region_blocks_wanted))),
        capacity((capacity_blocks + region_blocks_wanted - 1) / region_blocks_wanted),
        regions((num_blocks + region_blocks_wanted - 1) / region_blocks_wanted),
        marked(capacity),
        touched(capacity),
        suspect(capacity),
        overlaps(capacity_blocks, blocks_per_unit) {
    CATNAP_CHECK(std::has_single_bit(region_blocks_wanted));
  }
  std::uint64_t region_of(std::uint64_t block) const { return block >> shift; }

  const std::uint64_t region_blocks;  // power of two
  const std::uint32_t shift;
  const std::uint64_t capacity;  // in regions
  std::uint64_t regions;         // of the array as it is; the core's thread only
  AtomicBits marked;             // set and cleared by the core; where marks live in memory only, set by lanes
  AtomicBits touched;            // set by lanes, cleared by the core: written since it last looked (it clears marks of quiet regions only)
  AtomicBits suspect;            // set and cleared by the core: in-sync members may differ there since an unclean stop
  std::atomic<bool> any_suspect{false};
  OverlapTable overlaps;
};

}  // namespace catnap::bdev::raid1
