// What a Reactor keeps to itself; for the files that implement it (reactor.cpp, reactor_wait.cpp,
// reactor_account.cpp, reactor_move.cpp).
// Owner: the reactor's OS thread, but for atomics and what a mutex guards. Left out: everything that its users need (reactor.h).
#pragma once

#include <fmt/core.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "reactor/poll_yield.h"
#include "reactor/reactor.h"
#include "reactor/spin_tuner.h"
#include "reactor/stall_watch.h"
#include "reactor/thread.h"

namespace catnap {

class BufferWaiter;

// Counters have one writer: a plain add, readable elsewhere, without a locked instruction.
inline void bump(std::atomic<std::uint64_t>& counter, std::uint64_t by = 1) {
  counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
}

struct Reactor::Impl {
  enum class Awake : std::uint8_t { asleep, spinning, work, mode_poll, thread_poll, busy_poller };
  // A thread on its way here, with its places in the line of the pool that it comes from.
  struct Arrival {
    std::unique_ptr<Thread> thread;
    std::vector<BufferWaiter*> line;
    bool moved = false;  // from another reactor
  };

  // A wait that took less than this found its events ready: about what the system call itself takes on a slow machine. A real sleep and the wake-up
  // from it take 20 us and more.
  static constexpr std::uint64_t no_wait_ns = 5'000;

  Impl(const ReactorOptions& options, const Clock& clock)
      : tuner(options.max_spin_us * ns_per_us),
        watch(clock, options.stall_us * ns_per_us),
        loop(std::make_unique<Thread>(Thread::LoopTag{}, options.name)) {}

  SpinTuner tuner;
  StallWatch watch;
  std::uint64_t stall_reported_ns = 0;  // 0: never
  std::uint64_t stalls_unreported = 0;
  std::atomic<std::uint64_t> stalls{0};
  std::string last_stall;  // under reason_mutex
  int wake_fd = -1;
  int deadline_fd = -1;  // only when exported to a foreign loop
  bool wake_fd_fired = false;

  std::unique_ptr<Thread> loop;      // Reactor::loop(); not in `threads`
  std::vector<FdGroup*> not_nested;  // fds of arrived threads that the kernel refused to watch here, to be tried again
  std::unique_ptr<Timer> nest_again;

  std::vector<std::unique_ptr<Thread>> threads;  // changed under `list_mutex`, read without it by the owner
  std::vector<std::unique_ptr<Thread>> exited;   // kept, so that late senders find them and are told
  mutable std::mutex list_mutex;
  std::vector<Arrival> arrivals;  // under list_mutex
  std::atomic<bool> has_arrivals{false};

  std::uint64_t last_work_ns = 0;   // end of the last turn that did something
  std::uint64_t look_since_ns = 0;  // end of the last turn that did something for which it pays to look for more
  bool adaptive_here = false;       // this reactor, or a thread of it, looks for work before it sleeps
  std::uint64_t turn_end_ns = 0;    // end of the last turn
  std::uint64_t idle_spun_ns = 0;   // since look_since_ns
  std::uint64_t idle_slept_ns = 0;  // since look_since_ns
  std::uint64_t turn_slept_ns = 0;  // in this turn
  PollYield yield;
  std::uint32_t idle_looks = 0;   // in poll mode, since there was something
  bool cpu_shared = false;        // so poll mode sleeps as interrupt mode does
  std::uint32_t modes_seen = 0;   // count of mode changes at the beginning of this turn
  long involuntary_switches = 0;  // when the kernel was last asked for them
  bool preempted = false;
  std::uint64_t stolen_ns = 0;  // then: the longest that the CPU was gone
  std::uint64_t progress = 0;   // commands done by the threads here
  std::uint64_t trim_at_ns = 0;

  Thread* charged = nullptr;
  std::uint64_t charged_since_ns = 0;
  BusyAlarm alarm;
  std::uint64_t alarm_window_began_ns = 0;
  std::uint64_t alarm_busy_ns = 0;  // in this window
  bool several_threads = false;     // in this turn: then each one's time is measured

  mutable std::mutex reason_mutex;
  Awake reason = Awake::asleep;
  const Thread* reason_thread = nullptr;
  std::string reason_text;  // under reason_mutex
  // In callbacks, or about to look for the next ones: then it neither sleeps nor spins, whatever it did before the turn.
  std::atomic<bool> working{false};

  std::atomic<std::uint64_t> busy_ns{0}, spin_ns{0}, sleep_ns{0}, turns{0}, sleeps{0};
  std::atomic<std::uint64_t> asleep_since_ns{0};  // 0: awake
  std::atomic<std::uint64_t> asleep_until_ns{0};  // valid while asleep
  std::atomic<std::uint32_t> asleep_modes{0};     // count of mode changes that it knew of; valid while asleep
  int epoll_fd = -1;
  std::atomic<std::uint64_t> by_fd{0}, by_message{0}, by_timer{0}, spurious{0}, spin_budget_ns{0}, spin_trials{0};
  std::atomic<bool> spin_pays{true};

  void explain(Awake why, const Thread* thread = nullptr) {
    if (why == reason && thread == reason_thread) return;
    const std::lock_guard lock(reason_mutex);
    reason = why;
    reason_thread = thread;
    switch (why) {
      case Awake::asleep:
        reason_text.clear();
        break;
      case Awake::spinning:
        reason_text = "spinning";
        break;
      case Awake::work:
        reason_text = thread != nullptr ? "work of thread " + thread->name() : "work";
        break;
      case Awake::mode_poll:
        reason_text = "mode poll";
        break;
      case Awake::thread_poll:
        reason_text = "mode poll of thread " + thread->name();
        break;
      case Awake::busy_poller:
        reason_text = "poller " + thread->busy_poller_name() + " of thread " + thread->name();
        break;
    }
  }
};

}  // namespace catnap
