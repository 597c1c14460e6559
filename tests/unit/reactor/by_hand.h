// A reactor that a test turns by hand, with a clock that the test moves: nothing here waits.
// Owner: the test's OS thread. Left out: several reactors at once (runtime_test.cpp).
#pragma once

#include <memory>
#include <string>

#include "reactor/clock.h"
#include "reactor/reactor.h"
#include "reactor/thread.h"

namespace catnap {

struct ByHand {
  explicit ByHand(ReactorMode mode = ReactorMode::interrupt) : reactor(options(mode), clock) {
    auto made = std::make_unique<Thread>("first", CpuMask::of_cpu(0));
    thread = made.get();
    reactor.adopt(std::move(made));
    settle();
  }

  static ReactorOptions options(ReactorMode mode) {
    ReactorOptions chosen;
    chosen.name = "by_hand";
    chosen.mode = mode;
    return chosen;
  }

  Thread& add_thread(std::string name) {
    auto made = std::make_unique<Thread>(std::move(name), CpuMask::of_cpu(0));
    Thread& added = *made;
    reactor.adopt(std::move(made));
    settle();
    return added;
  }

  // Turns until a turn finds nothing to do.
  void settle() {
    while (reactor.turn(0) > 0) {
    }
  }
  void advance_us(std::uint64_t by_us) {
    clock.advance_us(by_us);
    settle();
  }
  // Runs `call` as a message of the first thread.
  template <typename Call>
  void on_thread(Call call) {
    thread->send(std::move(call));
    settle();
  }

  VirtualClock clock;
  Reactor reactor;
  Thread* thread;
};

}  // namespace catnap
