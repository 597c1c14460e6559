// The turn of a call that changes state: such calls run one after another (dispatcher.h). One whose change is made, and that only waits for what it
// took away to end, gives its turn up, so that the others need not wait as well.
// Owner: app_thread. Left out: the line itself.
#pragma once

#include <functional>
#include <memory>
#include <utility>

namespace catnap::rpc {

class Turn {
 public:
  // Of the call whose handler is being started: to be asked for before the handler's first suspension. Outside of one, a turn that holds nothing.
  static Turn current() { return Turn(starting()); }

  // The next call may begin, maybe before this returns. Once is enough; the handler must change nothing any more.
  void give_up() {
    const auto held = std::exchange(held_, nullptr);
    if (held == nullptr || *held == nullptr) return;
    const std::function<void()> release = std::exchange(*held, nullptr);
    release();
  }

 private:
  friend class Dispatcher;
  using Held = std::shared_ptr<std::function<void()>>;  // null inside: given up
  explicit Turn(Held held) : held_(std::move(held)) {}
  static Held& starting() {
    static thread_local Held held;
    return held;
  }

  Held held_;
};

}  // namespace catnap::rpc
