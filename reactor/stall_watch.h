// Finds the callback that held a loop up, so that the stall warning can name it.
// Owner: its reactor; callbacks of the loop report their end through the OS thread's current watch (none: nothing is noted).
// Left out: stopping the callback, and callbacks that never end (the reactor's counters stand still then, as seen by RPC).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "reactor/clock.h"

namespace catnap {

class Thread;

class StallWatch {
 public:
  enum class Kind : std::uint8_t { message, timer, poller, fd, ready_work, turn_end };

  // Callbacks longer than a tenth of `bound_ns` are told apart; a turn is only reported above the bound itself.
  StallWatch(const Clock& clock, std::uint64_t bound_ns) : clock_(clock), floor_ns_(bound_ns / 10) {}
  StallWatch(const StallWatch&) = delete;
  StallWatch& operator=(const StallWatch&) = delete;

  // A turn begins or ends; `previous` is what enter() gave.
  StallWatch* enter() {
    StallWatch* previous = current_;
    current_ = this;
    longest_ns_ = floor_ns_;
    longest_.clear();
    since_ns_ = clock_.coarse_ns();
    return previous;
  }
  static void leave(StallWatch* previous) { current_ = previous; }

  // A callback has returned, or a list of them. The coarse clock is a few nanoseconds and a few milliseconds fine: enough for bounds of tens of
  // milliseconds. Text is made only for long ones.
  static void ended(Kind kind, std::string_view name = {}) {
    StallWatch* watch = current_;
    if (watch == nullptr) return;
    const std::uint64_t now_ns = watch->clock_.coarse_ns();
    const std::uint64_t took_ns = now_ns - watch->since_ns_;
    watch->since_ns_ = now_ns;
    if (took_ns > watch->longest_ns_) watch->note(kind, name, took_ns);
  }

  // Of the turn under way or just over: "poller NAME of thread T", with its duration; "" when no single callback stood out.
  const std::string& longest() const { return longest_; }
  std::uint64_t longest_ns() const { return longest_ns_; }

 private:
  void note(Kind kind, std::string_view name, std::uint64_t took_ns);

  inline static constinit thread_local StallWatch* current_ = nullptr;
  const Clock& clock_;
  std::uint64_t floor_ns_;
  std::uint64_t since_ns_ = 0;
  std::uint64_t longest_ns_ = 0;
  std::string longest_;
};

}  // namespace catnap
