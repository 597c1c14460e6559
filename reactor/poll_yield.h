// When a reactor in poll mode gives its CPU away: now and then to whoever waits for it, and wholly while somebody else clearly needs this CPU.
// Owner: its reactor. Left out: clocks and system calls (the reactor measures and tells), so that it is tested with numbers.
#pragma once

#include <algorithm>
#include <cstdint>

namespace catnap {

class PollYield {
 public:
  // Without work for this long, kernel work on this CPU gets its turn. A yield that finds nobody costs 0.5 µs, so this costs half a percent.
  static constexpr std::uint64_t yield_every_ns = 100'000;
  // A yield that took longer let somebody run: with nobody there it takes less than 1 µs.
  static constexpr std::uint64_t somebody_ran_ns = 5'000;
  // One that took this long gave whole time slices to programs; kernel work is shorter.
  static constexpr std::uint64_t slice_ns = 1'000'000;
  // Kernel work comes and goes. Who is there at more than a quarter of the yields shares the CPU for good (a client of ours, or another busy
  // program): finding somebody counts this much, finding nobody takes one off. (With others there, the kernel still lets every other yield return at
  // once.)
  static constexpr int somebody_counts = 3;
  static constexpr int shared_score = 9;
  // Yields do not help then: the kernel makes one who yields wait for whole time slices of the others (4 ms and more), while one who slept is run
  // as soon as its work is there. So the reactor sleeps when idle, and asks again after a while that doubles as long as the answer is the same.
  static constexpr std::uint64_t first_pause_ns = 10'000'000;
  static constexpr std::uint64_t longest_pause_ns = 1'000'000'000;

  // Idle since `idle_since_ns`: is it time to yield?
  bool due(std::uint64_t idle_since_ns, std::uint64_t now_ns) const { return now_ns >= std::max(idle_since_ns, yielded_ns_) + yield_every_ns; }

  // What a yield showed.
  void yielded(std::uint64_t began_ns, std::uint64_t ended_ns) {
    yielded_ns_ = ended_ns;
    const std::uint64_t took_ns = ended_ns - began_ns;
    if (took_ns < somebody_ran_ns) {
      score_ = std::max(score_ - 1, 0);
      if (score_ == 0) pause_ns_ = first_pause_ns;
      return;
    }
    score_ += took_ns < slice_ns ? somebody_counts : shared_score;
    if (score_ < shared_score) return;
    score_ = shared_score - somebody_counts;  // found once more, it is as before
    shared_until_ns_ = ended_ns + pause_ns_;
    pause_ns_ = std::min(2 * pause_ns_, longest_pause_ns);
  }

  // Is the CPU shared, so that it is better to sleep than to look?
  bool shared(std::uint64_t now_ns) const { return now_ns < shared_until_ns_; }

 private:
  std::uint64_t yielded_ns_ = 0;
  std::uint64_t shared_until_ns_ = 0;
  std::uint64_t pause_ns_ = first_pause_ns;
  int score_ = 0;
};

}  // namespace catnap
