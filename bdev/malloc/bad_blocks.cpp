// See bad_blocks.h.
#include "bdev/malloc/bad_blocks.h"

#include <algorithm>
#include <iterator>

namespace catnap::bdev {

bool BadBlocks::touches(std::uint64_t offset_blocks, std::uint64_t num_blocks) const {
  const std::lock_guard lock(mutex_);
  auto after = ranges_.lower_bound(offset_blocks + num_blocks);
  return after != ranges_.begin() && std::prev(after)->second > offset_blocks;
}

// Takes [begin, end) out; what sticks out on either side stays.
void BadBlocks::cut(std::uint64_t begin, std::uint64_t end) {
  auto at = ranges_.upper_bound(begin);
  if (at != ranges_.begin()) --at;
  while (at != ranges_.end() && at->first < end) {
    const auto [first, last] = *at;
    if (last <= begin) {
      ++at;
      continue;
    }
    at = ranges_.erase(at);
    if (first < begin) ranges_.emplace(first, begin);
    if (last > end) ranges_.emplace(end, last);
  }
}

void BadBlocks::mark(std::uint64_t offset_blocks, std::uint64_t num_blocks) {
  const std::lock_guard lock(mutex_);
  cut(offset_blocks, offset_blocks + num_blocks);
  ranges_.emplace(offset_blocks, offset_blocks + num_blocks);
  any_.store(true, std::memory_order_release);
}

void BadBlocks::clear(std::uint64_t offset_blocks, std::uint64_t num_blocks) {
  const std::lock_guard lock(mutex_);
  cut(offset_blocks, offset_blocks + num_blocks);
  any_.store(!ranges_.empty(), std::memory_order_release);
}

}  // namespace catnap::bdev
