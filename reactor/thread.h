// A lightweight thread: a message queue, deadlines, a ready list, pollers and fds that run together on whatever reactor holds it.
// Owner: itself; all members but those marked "any OS thread" are called while it is Thread::current().
// It may move from one reactor to another between two of their turns (Reactor::move); everything it has moves along, and nothing of it runs
// meanwhile. Left out: preemption (a callback runs to its end; the stall detector of the reactor names long ones).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
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

// How a reactor waits on behalf of one thread. inherit: as the reactor does. poll: it never sleeps while it has this thread. interrupt: this thread's
// events do not make it look for more. adaptive: they do, also on a reactor in interrupt mode. A reactor in poll mode never sleeps, whatever its
// threads say.
enum class ThreadMode : std::uint8_t { inherit, interrupt, poll, adaptive };
std::string_view thread_mode_name(ThreadMode mode);
std::optional<ThreadMode> thread_mode_from_name(std::string_view name);

// Told when its thread goes to another reactor, for objects that keep something of the reactor they are on (an io_uring ring). Lives on the thread.
class MoveWatcher {
 public:
  explicit MoveWatcher(Thread& thread);
  virtual ~MoveWatcher();
  MoveWatcher(const MoveWatcher&) = delete;
  MoveWatcher& operator=(const MoveWatcher&) = delete;

  // On the OS thread of the reactor that it leaves, the last of the thread to run there.
  virtual void leaving() = 0;
  // On the OS thread of its new reactor, before anything else of the thread runs there.
  virtual void arrived() = 0;

 private:
  Thread& watched_;
};

class Thread {
 public:
  // A thread that somebody still uses does not exit: a bdev's channel, a for-each operation that is to end here. Taken and released on the thread.
  class Hold {
   public:
    // `what`: plural, with static storage ("channels"); it stands in the log when the thread waits for it.
    Hold(Thread& thread, const char* what);
    ~Hold();
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    Thread& thread_;
    const char* what_;
  };

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
  // The CPUs whose reactors it may run on. Read and changed on app_thread only, after the thread was made.
  const CpuMask& cpumask() const { return cpumask_; }
  void set_cpumask(const CpuMask& cpumask) { cpumask_ = cpumask; }
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
  // The same behind all that are queued by now, also when it is queued already.
  void last_at_turn_end(Deferred& entry) {
    if (turn_end_.ends_with(entry)) return;
    entry.cancel();
    turn_end_.push(entry);
  }

  // A command of a host, or one of ours to a remote target, is done: what looking for work is judged by (spin_trial.h). On the thread.
  void count_progress() { ++progress_; }

  FdGroup& fds() { return fds_; }

  Poller& add_poller(std::string name, Poller::Run run, std::uint64_t period_us);
  void remove_poller(Poller& poller);  // safe from within its own run
  std::vector<const Poller*> pollers() const;
  Poller* find_poller(std::uint64_t id);  // null: this thread has none of that id

  ThreadMode mode() const { return mode_.load(std::memory_order_relaxed); }
  void set_mode(ThreadMode mode);  // any OS thread; takes effect at its reactor's next turn

  // Asks the thread to leave its reactor once no message, poller, channel or other hold is left. The log says what it waits for: once, and again each
  // exit_report_us. Any OS thread.
  void request_exit();
  // Runs on this thread when it was asked to exit: removes what would keep it (pollers of services that last as long as the thread).
  void at_exit(Message hook) { exit_hooks_.push_back(std::move(hook)); }
  static constexpr std::uint64_t exit_report_us = 5'000'000;
  // What keeps it from exiting: "2 channels, poller x"; "" when nothing does. On the thread.
  std::string waits_for() const;
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
  // A reactor's own: id 0, in no list.
  struct LoopTag {};
  Thread(LoopTag, std::string name);
  ~Thread();
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;
  // One turn: messages, due timers, ready list, busy pollers. Returns how many callbacks did something.
  std::size_t run_turn();
  std::size_t run_turn_end();
  bool has_turn_end_work() const { return !turn_end_.empty(); }
  bool has_ready_work() const { return !ready_.empty() || !turn_end_.empty() || has_outside_work(); }
  // Messages (an exit request is one) are there. Any OS thread.
  bool has_outside_work() const {
    return messages_head_.load(std::memory_order_seq_cst) != nullptr || critical_.load(std::memory_order_seq_cst) != nullptr;
  }
  // Name of the first busy poller, or empty: why the reactor may not sleep.
  std::string busy_poller_name() const;
  bool has_busy_poller() const { return busy_pollers_ > 0; }
  std::uint64_t nearest_deadline_ns() const { return timers_.nearest_ns(); }
  // The reactor that has taken it over and may run it; null while it is on its way to another. Any OS thread; that reactor's own OS thread may rely
  // on it.
  Reactor* host() const { return host_.load(std::memory_order_acquire); }
  void set_host(Reactor* reactor) { host_.store(reactor, std::memory_order_release); }
  void set_home(Reactor* reactor) { home_.store(reactor, std::memory_order_seq_cst); }
  bool exit_requested() const { return state_.load(std::memory_order_acquire) == State::exiting; }
  // Exit was requested, its hooks have run, and nothing keeps it. On its reactor's OS thread.
  bool ready_to_exit() const;
  // Exits, after which send() refuses. False: a message came first.
  bool try_exit();
  void mark_exited();
  void count_fd_event();
  // Something of it runs in a callback of somebody else's (Reactor::RunAs).
  void touch() { touched_ = true; }
  // Time of callbacks in this turn, added up until account().
  void add_turn_busy(std::uint64_t busy_ns) { turn_busy_ns_ += busy_ns; }
  std::uint64_t turn_busy_ns() const { return turn_busy_ns_; }
  void set_turn_busy(std::uint64_t busy_ns) { turn_busy_ns_ = busy_ns; }
  // The time since the last account (or begin_account) is over: busy as added up, the rest idle.
  void account(std::uint64_t now_ns);
  void begin_account(std::uint64_t now_ns);
  // True once after anything of it ran (messages, timers, fds, ready work).
  bool take_touched() { return std::exchange(touched_, false); }
  // Since the last call.
  std::uint64_t take_progress() { return std::exchange(progress_, 0); }
  void tell_leaving();
  void tell_arrived();

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
  friend class MoveWatcher;
  enum class State : std::uint8_t { running, exiting, exited };
  struct MessageNode {
    Message message;
    MessageNode* next;
  };

  // Stands in the queue's head once it takes no more.
  static MessageNode* closed_queue() { return reinterpret_cast<MessageNode*>(closed_mark_); }
  std::size_t run_critical();
  std::size_t run_messages();
  std::size_t run_busy_pollers();
  void publish_poller_counts();
  void begin_exit();
  void report_exit();

  alignas(std::max_align_t) static inline std::byte closed_mark_[1];  // only its address means something

  std::string name_;
  std::uint64_t id_;
  CpuMask cpumask_;
  std::atomic<Reactor*> home_{nullptr};
  std::atomic<Reactor*> host_{nullptr};
  std::atomic<State> state_{State::running};
  std::atomic<ThreadMode> mode_{ThreadMode::inherit};
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
  std::uint64_t progress_ = 0;
  bool exit_begun_ = false;   // the request has arrived and the hooks have run
  bool exit_forced_ = false;  // the whole reactor stops and this thread took too long
  std::vector<Message> exit_hooks_;
  Timer exit_report_;
  std::vector<std::pair<const char*, std::uint32_t>> holds_;
  std::vector<MoveWatcher*> move_watchers_;
  std::uint64_t turn_busy_ns_ = 0;
  std::uint64_t accounted_until_ns_ = 0;  // 0: not yet on a reactor

  std::atomic<std::uint32_t> active_count_{0}, timed_count_{0}, paused_count_{0};
  std::atomic<std::uint64_t> busy_ns_{0}, idle_ns_{0}, message_count_{0}, timer_count_{0}, fd_event_count_{0};
};

// Stops a debug build when the caller is not on `owner`, naming both.
void check_on_thread(const Thread& owner, const char* object);

}  // namespace catnap
