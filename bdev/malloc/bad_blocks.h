// Blocks that a user has marked as unreadable (write uncorrectable): a set of ranges, empty nearly always.
// Owner: shared by the channels of all threads (a mutex, taken only while there are any). Left out: keeping them; a malloc bdev keeps nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>

namespace catnap::bdev {

class BadBlocks {
 public:
  // Ask first: one load on the path of every I/O.
  bool any() const { return any_.load(std::memory_order_acquire); }
  bool touches(std::uint64_t offset_blocks, std::uint64_t num_blocks) const;
  void mark(std::uint64_t offset_blocks, std::uint64_t num_blocks);
  void clear(std::uint64_t offset_blocks, std::uint64_t num_blocks);

 private:
  void cut(std::uint64_t begin, std::uint64_t end);

  std::atomic<bool> any_{false};
  mutable std::mutex mutex_;
  std::map<std::uint64_t, std::uint64_t> ranges_;  // begin to end, apart from each other
};

}  // namespace catnap::bdev
