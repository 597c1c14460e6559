// Blocks on which a write may still be at work whose connection was lost: no later write may be carried out there before it can be overtaken no more.
//
// A command that was outstanding when its connection ended is carried out, or not, or later: until the controller has noticed the loss and cleaned up
// (Base 2.1 section 9.6). Repeating it elsewhere at once does no harm, since it leaves the same. What does harm is the next write of the same blocks:
// the old one could come behind it. So only such writes wait, and everything else goes on at once (docs/initiator.md, "Writes in flight").
//
// Owner: values, shared by a bdev's channels. Left out: how long that takes (quiesce.h), who waits (nvme_channel.h).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace catnap::bdev {

struct FencedRange {
  std::uint64_t offset_blocks = 0;
  std::uint64_t num_blocks = 0;
  std::uint64_t until_ns = 0;  // monotonic clock
};

class WriteFences {
 public:
  // The moment until which a write of these blocks has to wait; 0: it may go.
  std::uint64_t until_ns(std::uint64_t offset_blocks, std::uint64_t num_blocks, std::uint64_t now_ns) const {
    std::uint64_t until = 0;
    for (const FencedRange& range : ranges_) {
      const bool apart = offset_blocks >= range.offset_blocks + range.num_blocks || range.offset_blocks >= offset_blocks + num_blocks;
      if (!apart && range.until_ns > now_ns && range.until_ns > until) until = range.until_ns;
    }
    return until;
  }
  bool over(std::uint64_t now_ns) const {
    for (const FencedRange& range : ranges_) {
      if (range.until_ns > now_ns) return false;
    }
    return true;
  }
  // These without what is over, and one more. Null stands for none.
  static std::shared_ptr<const WriteFences> with(const WriteFences* fences, const FencedRange& range, std::uint64_t now_ns) {
    auto next = std::make_shared<WriteFences>();
    if (fences != nullptr) {
      for (const FencedRange& known : fences->ranges_) {
        if (known.until_ns > now_ns) next->ranges_.push_back(known);
      }
    }
    next->ranges_.push_back(range);
    return next;
  }
  std::size_t size() const { return ranges_.size(); }

 private:
  std::vector<FencedRange> ranges_;
};

}  // namespace catnap::bdev
