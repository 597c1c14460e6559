// Coroutines for sequences that wait (RPC handlers, connects, superblocks): Task<T> is lazy, runs on the thread that awaits or spawns it,
// and every resumption from outside goes through that thread's ready list or a message.
// Owner: the thread it was started on. Left out: cancellation (a sequence checks its own conditions), use on the per-I/O path.
//
// Rules (docs/architecture.md "Coroutines"; g++ 12 miscompiles what breaks them, tests/lint/check_coroutines.py holds them):
//   auto r = co_await f(named...);   as a statement of its own: not in a condition, not inside an expression;
//   parameters by value, of types with constructors; no aggregate temporaries, no capturing lambda coroutines.
#pragma once

#include <coroutine>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "reactor/base/check.h"
#include "reactor/thread.h"
#include "reactor/worker_pool.h"

namespace catnap {

template <typename T>
class Task;

namespace detail {

struct TaskPromiseBase {
  std::coroutine_handle<> continuation;

  struct FinalAwaiter {
    bool await_ready() const noexcept { return false; }
    template <typename Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> done) const noexcept {
      auto next = done.promise().continuation;
      return next ? next : std::noop_coroutine();
    }
    void await_resume() const noexcept {}
  };

  std::suspend_always initial_suspend() const noexcept { return {}; }
  FinalAwaiter final_suspend() const noexcept { return {}; }
  void unhandled_exception() { check_failed("an exception left a coroutine"); }
};

template <typename T>
struct TaskPromise : TaskPromiseBase {
  std::optional<T> value;
  Task<T> get_return_object();
  void return_value(T result) { value.emplace(std::move(result)); }
};

template <>
struct TaskPromise<void> : TaskPromiseBase {
  Task<void> get_return_object();
  void return_void() {}
};

}  // namespace detail

template <typename T>
class [[nodiscard]] Task {
 public:
  using promise_type = detail::TaskPromise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      if (handle_) handle_.destroy();
      handle_ = std::exchange(other.handle_, {});
    }
    return *this;
  }
  ~Task() {
    if (handle_) handle_.destroy();
  }

  bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> parent) noexcept {
    handle_.promise().continuation = parent;
    return handle_;
  }
  T await_resume() {
    if constexpr (!std::is_void_v<T>) return std::move(*handle_.promise().value);
  }

 private:
  Handle handle_;
};

template <typename T>
Task<T> detail::TaskPromise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<TaskPromise<T>>::from_promise(*this));
}
inline Task<void> detail::TaskPromise<void>::get_return_object() { return Task<void>(std::coroutine_handle<TaskPromise<void>>::from_promise(*this)); }

namespace detail {
// Fire-and-forget coroutine: frees itself at its end.
struct Detached {
  struct promise_type {
    Detached get_return_object() const { return {}; }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const {}
    void unhandled_exception() const { check_failed("an exception left a coroutine"); }
  };
};
template <typename T>
Detached run_detached(Task<T> task, std::move_only_function<void(T)> done) {
  T value = co_await std::move(task);
  done(std::move(value));
}
inline Detached run_detached_void(Task<void> task, std::move_only_function<void()> done) {
  co_await std::move(task);
  if (done) done();
}
}  // namespace detail

// Starts `task` at once on the current thread; `done` gets its result there.
template <typename T>
void spawn(Task<T> task, std::move_only_function<void(T)> done) {
  detail::run_detached<T>(std::move(task), std::move(done));
}
inline void spawn(Task<void> task, std::move_only_function<void()> done = {}) { detail::run_detached_void(std::move(task), std::move(done)); }

// A value that arrives once: the bridge from callbacks to coroutines. Copyable handle; set() from any OS thread,
// the waiter resumes on the thread it awaited on. Exactly one waiter.
template <typename T>
class Promise {
  struct State;

 public:
  Promise() : state_(std::make_shared<State>()) { state_->owner = Thread::current(); }

  void set(T value) const {
    auto state = state_;
    state->owner->send([state, value = std::move(value)]() mutable {
      CATNAP_CHECK(!state->value.has_value());
      state->value.emplace(std::move(value));
      if (state->waiter) std::exchange(state->waiter, {}).resume();
    });
  }

  class Awaiter {
   public:
    explicit Awaiter(const Promise& promise) : state_(promise.state_) {}
    bool await_ready() const noexcept { return state_->value.has_value(); }
    void await_suspend(std::coroutine_handle<> waiter) const noexcept { state_->waiter = waiter; }
    T await_resume() const { return std::move(*state_->value); }

   private:
    std::shared_ptr<State> state_;
  };
  Awaiter operator co_await() const { return Awaiter(*this); }

 private:
  friend class Awaiter;
  struct State {
    Thread* owner = nullptr;
    std::optional<T> value;
    std::coroutine_handle<> waiter;
  };
  std::shared_ptr<State> state_;
};

// Suspends the current sequence for delay_us.
class SleepFor {
 public:
  explicit SleepFor(std::uint64_t delay_us) : delay_us_(delay_us), timer_([this] { std::exchange(waiter_, {}).resume(); }) {}
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    waiter_ = waiter;
    Thread::current()->arm_in_us(timer_, delay_us_);
  }
  void await_resume() const noexcept {}

 private:
  std::uint64_t delay_us_;
  std::coroutine_handle<> waiter_;
  Timer timer_;
};

// Runs `call` on another thread and gives back what it returns: `Promise<R> p = call_on<R>(thread, fn); auto r = co_await p;`
template <typename R, typename Call>
Promise<R> call_on(Thread& thread, Call call) {
  Promise<R> answer;
  thread.send([answer, call = std::move(call)]() mutable { answer.set(call()); });
  return answer;
}
// The same on the worker pool, for calls that may block.
template <typename R, typename Call>
Promise<R> call_blocking(WorkerPool& workers, Call call) {
  Promise<R> answer;
  workers.submit([answer, call = std::move(call)]() mutable { answer.set(call()); });
  return answer;
}

}  // namespace catnap
