// One-shot deadlines of a lightweight thread, kept in a heap so that the loop sleeps until the nearest one (no timerfd per timer).
// Owner: the thread on which a timer is armed. Left out: wall-clock timers, periods (Poller has them).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace catnap {

class TimerHeap;

// Arm it through Thread::arm(). Destroying an armed timer disarms it. The callback runs on the arming thread with the timer disarmed.
class Timer {
 public:
  explicit Timer(std::function<void()> fire) : fire_(std::move(fire)) {}
  ~Timer() { disarm(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  bool armed() const { return heap_ != nullptr; }
  std::uint64_t deadline_ns() const { return deadline_ns_; }
  void disarm();

 private:
  friend class TimerHeap;

  std::function<void()> fire_;
  TimerHeap* heap_ = nullptr;
  std::size_t index_ = 0;
  std::uint64_t deadline_ns_ = 0;
};

class TimerHeap {
 public:
  static constexpr std::uint64_t never_ns = ~std::uint64_t{0};

  TimerHeap() = default;
  ~TimerHeap();
  TimerHeap(const TimerHeap&) = delete;
  TimerHeap& operator=(const TimerHeap&) = delete;

  // Arms, or moves an armed timer to another deadline.
  void arm(Timer& timer, std::uint64_t deadline_ns);
  void disarm(Timer& timer);
  std::uint64_t nearest_ns() const { return heap_.empty() ? never_ns : heap_.front()->deadline_ns_; }
  // Fires what is due at now_ns; timers that these arm for the past wait for the next call. Returns how many fired.
  std::size_t fire_due(std::uint64_t now_ns);
  std::size_t size() const { return heap_.size(); }

 private:
  void sift_up(std::size_t index);
  void sift_down(std::size_t index);
  void put(std::size_t index, Timer* timer);

  std::vector<Timer*> heap_;
};

}  // namespace catnap
