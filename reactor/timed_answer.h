// An answer that a coroutine waits for, but not for ever: a callback and a deadline race, and the first one counts.
//   auto answer = TimedAnswer<bool>::within_us(5'000'000);
//   start([answer] { answer->give(true); });
//   const std::optional<bool> came = co_await answer->promise();   // as a statement of its own; empty: time is up
// Owner: the thread that made it, every member; who answers from elsewhere sends a message. Left out: taking back what was started.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "reactor/task.h"
#include "reactor/timer.h"

namespace catnap {

template <typename T>
class TimedAnswer {
 public:
  static std::shared_ptr<TimedAnswer> within_us(std::uint64_t limit_us) {
    std::shared_ptr<TimedAnswer> answer(new TimedAnswer);
    Thread::current()->arm_in_us(answer->deadline_, limit_us);
    return answer;
  }
  // Too late: nothing happens.
  void give(T value) { take(std::optional<T>(std::move(value))); }
  const Promise<std::optional<T>>& promise() const { return promise_; }

 private:
  TimedAnswer() : deadline_([this] { take(std::nullopt); }) {}
  void take(std::optional<T> outcome) {
    if (std::exchange(taken_, true)) return;
    deadline_.disarm();
    promise_.set(std::move(outcome));
  }

  Promise<std::optional<T>> promise_;
  bool taken_ = false;
  Timer deadline_;
};

}  // namespace catnap
