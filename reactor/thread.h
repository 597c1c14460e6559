// A lightweight thread: a message queue, deadlines, a ready list, pollers and fds that run together on whatever reactor holds it.
// Owner: itself; all members but those marked "any OS thread" are called while it is Thread::current().
// Left out: preemption (a callback runs to its end; the stall detector of the reactor names long ones).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "reactor/base/error.h"
#include "reactor/clock.h"
#include "reactor/cpumask.h"
#include "reactor/deferred.h"
#include "reactor/fd_group.h"
#include "reactor/timer.h"

namespace catnap {

class Reactor;

using Message = std::move_only_function<void()>;

// A message that a signal handler may send: no allocation. One can be under way per thread; the object must outlive its run.
struct CriticalMessage {
  void (*run)(void* argument) = nullptr;
  void* argument = nullptr;
};

// Periodic (period_us > 0) or busy (period_us == 0) function of a thread. A busy poller keeps its reactor awake and is named in
// awake_because; nothing in catnap registers one unless the user asked for polling.
class Poller {
 public:
  // Returns how much work it did (0: none), for busy/idle accounting.
  using Run = std::function<int()>;

  const std::string& name() const { return name_; }
  std::uint64_t id() const { return id_; }
  std::uint64_t period_us() const { return period_us_; }
  std::uint64_t run_count() const { return run_count_; }
  std::uint64_t busy_count() const { return busy_count_; }
  bool paused() const { return paused_; }
  void set_period_us(std::uint64_t period_us);
  void pause();
  void resume();

 private:
  friend class Thread;
  Poller(Thread& thread, std::string name, Run run, std::uint64_t period_us);
  void schedule();
  void run_now();

  Thread& thread_;
  std::string name_;
  Run run_;
  std::uint64_t id_;
  std::uint64_t period_us_;
  std::uint64_t run_count_ = 0;
  std::uint64_t busy_count_ = 0;
  bool paused_ = false;
  bool dead_ = false;
  Timer timer_;
  Deferred reaper_;  // brings about a turn in which a dead poller is freed
};

class Thread {
 public:
  struct Stats {
    std::uint64_t busy_ns = 0;  // in callbacks
    std::uint64_t idle_ns = 0;  // looking for work in vain, or asleep with the reactor
    std::uint64_t messages = 0;
    std::uint64_t timers = 0;
    std::uint64_t fd_events = 0;
  };

  // The thread whose callback is running on this OS thread; null outside of any.
  static Thread* current();

  const std::string& name() const { return name_; }
  std::uint64_t id() const { return id_; }
  const CpuMask& cpumask() const { return cpumask_; }
  // The reactor it runs on now. Any OS thread.
  Reactor* reactor() const { return home_.load(std::memory_order_acquire); }

  // Queues a message; it never runs within send(), also not when sent to oneself. Any OS thread.
  // False: the thread has exited; the message is dropped and counted (dropped_messages()).
  bool send(Message message);
  // Runs it at once if this is the current thread, else sends it. Any OS thread.
  bool run_or_send(Message message);
  // Async-signal-safe. Any OS thread. False: another critical message is under way, or the thread has exited.
  bool send_critical(const CriticalMessage& message);
  static std::uint64_t dropped_messages();

  std::uint64_t now_ns() const;  // the time at which this turn began, or later
  void arm_at(Timer& timer, std::uint64_t deadline_ns) { timers_.arm(timer, deadline_ns); }
  void arm_in_us(Timer& timer, std::uint64_t delay_us) { timers_.arm(timer, now_ns() + delay_us * ns_per_us); }
  // Rounds the deadline up to a multiple of grid_us, so that many lazy timers (keep-alives) share one wake-up.
  void arm_coarse(Timer& timer, std::uint64_t delay_us, std::uint64_t grid_us);

  void make_ready(Deferred& entry) { ready_.push(entry); }
  // Runs at the end of the turn, after everything else of this thread ("one gathered send per connection and turn").
  void at_turn_end(Deferred& entry) { turn_end_.push(entry); }

  FdGroup& fds() { return fds_; }

  Poller& add_poller(std::string name, Poller::Run run, std::uint64_t period_us);
  void remove_poller(Poller& poller);  // safe from within its own run
  std::vector<const Poller*> pollers() const;
  Poller* find_poller(std::uint64_t id);  // null: this thread has none of that id

  // Asks the thread to leave its reactor once nothing is queued. Any OS thread.
  void request_exit();
  bool exited() const { return state_.load(std::memory_order_acquire) == State::exited; }

  Stats stats() const;  // any OS thread (a snapshot of relaxed counters)
  struct PollerCounts {
    std::uint32_t active = 0;  // period 0: these forbid sleeping
    std::uint32_t timed = 0;
    std::uint32_t paused = 0;
  };
  PollerCounts poller_counts() const;  // any OS thread

  // --- for Reactor only ---
  Thread(std::string name, CpuMask cpumask);
  ~Thread();
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;
  // One turn: messages, due timers, ready list, busy pollers. Returns how many callbacks did something.
  std::size_t run_turn();
  std::size_t run_turn_end();
  bool has_turn_end_work() const { return !turn_end_.empty(); }
  bool has_ready_work() const {
    return !ready_.empty() || !turn_end_.empty() || messages_head_.load(std::memory_order_seq_cst) != nullptr ||
           critical_.load(std::memory_order_seq_cst) != nullptr;
  }
  // Messages or an exit request are there. Any OS thread.
  bool has_outside_work() const {
    return messages_head_.load(std::memory_order_seq_cst) != nullptr || critical_.load(std::memory_order_seq_cst) != nullptr || exit_requested();
  }
  // Name of the first busy poller, or empty: why the reactor may not sleep.
  std::string busy_poller_name() const;
  bool has_busy_poller() const { return busy_pollers_ > 0; }
  std::uint64_t nearest_deadline_ns() const { return timers_.nearest_ns(); }
  void set_home(Reactor* reactor) { home_.store(reactor, std::memory_order_seq_cst); }
  bool exit_requested() const { return state_.load(std::memory_order_acquire) == State::exiting; }
  void mark_exited();
  void count_fd_event();
  void account_busy(std::uint64_t busy_ns);
  void account_idle(std::uint64_t idle_ns);
  // True once after anything of it ran (messages, timers, fds, ready work).
  bool take_touched() { return std::exchange(touched_, false); }

  // Makes a thread current for a scope.
  class Scope {
   public:
    explicit Scope(Thread* thread);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Thread* previous_;
  };

 private:
  friend class Poller;
  enum class State : std::uint8_t { running, exiting, exited };
  struct MessageNode {
    Message message;
    MessageNode* next;
  };

  std::size_t run_critical();
  std::size_t run_messages();
  std::size_t run_busy_pollers();
  void publish_poller_counts();

  std::string name_;
  std::uint64_t id_;
  CpuMask cpumask_;
  std::atomic<Reactor*> home_{nullptr};
  std::atomic<State> state_{State::running};
  // Lock-free stack, pushed by any OS thread, taken whole and reversed by the owner: first in, first out per sender.
  std::atomic<MessageNode*> messages_head_{nullptr};
  std::atomic<const CriticalMessage*> critical_{nullptr};
  TimerHeap timers_;
  DeferredList ready_;
  DeferredList turn_end_;
  FdGroup fds_;
  std::vector<std::unique_ptr<Poller>> pollers_;
  std::size_t busy_pollers_ = 0;
  bool pollers_dirty_ = false;
  bool running_pollers_ = false;
  bool touched_ = false;

  std::atomic<std::uint32_t> active_count_{0}, timed_count_{0}, paused_count_{0};
  std::atomic<std::uint64_t> busy_ns_{0}, idle_ns_{0}, message_count_{0}, timer_count_{0}, fd_event_count_{0};
};

// Stops a debug build when the caller is not on `owner`, naming both.
void check_on_thread(const Thread& owner, const char* object);

}  // namespace catnap
