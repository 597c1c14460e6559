// How fast a copy or a scrub may go: below a limit, and out of the way of the array's users.
// Owner: the core's thread. Left out: deadlines (who asks arms one when it has to wait).
#pragma once

#include <algorithm>
#include <cstdint>

namespace catnap::bdev::raid1 {

class Pace {
 public:
  // With I/O of users about, a step is followed by a pause of this many times as long as it took: a quarter of the time is ours.
  static constexpr std::uint64_t pauses_per_step = 3;
  // At least so often goes a step, whatever users do: a copy that never ends protects nobody.
  static constexpr std::uint64_t longest_pause_ns = 100'000'000;
  // What a step takes at least: the time of a turn stands still, so members in memory seem to take none.
  static constexpr std::uint64_t shortest_step_ns = 100'000;

  // Bytes per second; 0: none. Counts at once.
  void set_limit(std::uint64_t bytes_per_second) {
    limit_ = bytes_per_second;
    next_ns_ = 0;
  }
  std::uint64_t limit() const { return limit_; }
  // Nanoseconds to wait before the next step; 0: go, and the step counts as begun.
  std::uint64_t ask(std::uint64_t now_ns, std::uint64_t bytes) {
    if (now_ns < next_ns_) return next_ns_ - now_ns;
    const std::uint64_t cost = limit_ == 0 ? 0 : static_cast<std::uint64_t>(static_cast<double>(bytes) * 1e9 / static_cast<double>(limit_));
    // What was not used up in the past is lost, but for one step.
    next_ns_ = std::max(next_ns_, now_ns > cost ? now_ns - cost : 0) + cost;
    return 0;
  }
  // A step has ended; `users_ios`: I/Os that users have begun so far.
  void step_took(std::uint64_t began_ns, std::uint64_t now_ns, std::uint64_t users_ios) {
    const bool busy = users_ios != users_ios_;
    users_ios_ = users_ios;
    if (busy) next_ns_ = std::max(next_ns_, now_ns + std::min(std::max(now_ns - began_ns, shortest_step_ns) * pauses_per_step, longest_pause_ns));
  }

 private:
  std::uint64_t limit_ = 0;
  std::uint64_t next_ns_ = 0;
  std::uint64_t users_ios_ = 0;
};

}  // namespace catnap::bdev::raid1
