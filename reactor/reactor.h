// The event loop of one OS thread: runs lightweight threads, sleeps in one epoll_pwait2 when all of them may, and says why it does not.
// Owner: its OS thread (`reactor_<n>`, or the control thread); members marked "any OS thread" are safe elsewhere.
// Left out: creating OS threads (runtime.h), deciding which threads move between reactors (dynamic_scheduler.h).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reactor/clock.h"
#include "reactor/fd_group.h"
#include "reactor/thread.h"

namespace catnap {

class BufferPool;

// interrupt: sleep as soon as nothing is due. poll: never sleep, unless somebody else needs this CPU (poll_yield.h). adaptive: keep looking for a
// self-tuned while, then sleep.
enum class ReactorMode : std::uint8_t { interrupt, poll, adaptive };
std::string_view reactor_mode_name(ReactorMode mode);
std::optional<ReactorMode> reactor_mode_from_name(std::string_view name);

struct ReactorOptions {
  std::string name = "reactor";
  unsigned lcore = 0;
  ReactorMode mode = ReactorMode::adaptive;
  // Longest time to look for work before sleeping. 50 µs covers a depth-1 host's turnaround on loopback and fast networks (feasibility measurements).
  std::uint64_t max_spin_us = 50;
  // A callback running longer is reported by name. 100 ms is far above any step that does not block.
  std::uint64_t stall_us = 100'000;
  // Bytes of data buffers this reactor may hold at most; at the cap I/O waits its turn. 128 connections' worth of 1 MiB.
  std::size_t buffer_cap_bytes = std::size_t{128} << 20;
  // The NUMA node of its CPU, where its buffers should be; none: unknown, or all the same.
  std::optional<unsigned> numa_node;
};

// "Tell me when you have been busy for so long within one window": lets somebody rest who measures only while there is something to measure.
struct BusyAlarm {
  std::uint64_t window_ns = 0;
  std::uint64_t busy_ns = 0;   // 0: off
  std::function<void()> ring;  // once, on the reactor's OS thread; then the alarm is off
};

class Reactor {
 public:
  struct Stats {
    std::uint64_t busy_ns = 0, spin_ns = 0, sleep_ns = 0;
    std::uint64_t turns = 0, sleeps = 0;
    std::uint64_t wakeups_fd = 0, wakeups_message = 0, wakeups_timer = 0, wakeups_spurious = 0;
    std::uint64_t spin_budget_ns = 0;
    std::uint64_t stalls = 0;  // turns longer than stall_us
    // Adaptive mode: whether looking for work made its senders faster when it was last tried, and how often that was (spin_trial.h).
    bool spin_pays = true;
    std::uint64_t spin_trials = 0;
  };

  explicit Reactor(ReactorOptions options, const Clock& clock = system_clock());
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  static Reactor* current();

  // Takes a thread over: it runs here once before this reactor may sleep again. Any OS thread.
  void adopt(std::unique_ptr<Thread> thread);
  // Called once the move is over, on the OS thread of the reactor that the thread was on. Errors: ESRCH (it exits), ECANCELED (a reactor stops).
  using Moved = std::move_only_function<void(Result<void>)>;
  // Moves a thread with all that it has (messages, timers, ready work, fds, pollers, places in line for buffers) to another reactor, between two
  // turns of its present one. Nothing waits or is drained. Any OS thread.
  static void move(Thread& thread, Reactor& target, Moved moved);
  // While it is held, no thread is on its way between reactors, so lists of several reactors fit together. Any OS thread, briefly.
  static std::unique_lock<std::mutex> hold_moves();
  // Runs callbacks of another thread of this reactor within one of somebody else's: it is the current thread and pays for the time. On its OS thread.
  class RunAs {
   public:
    explicit RunAs(Thread& thread);
    ~RunAs();
    RunAs(const RunAs&) = delete;
    RunAs& operator=(const RunAs&) = delete;

   private:
    Thread::Scope scope_;
    Reactor* reactor_;
    Thread* before_ = nullptr;
  };
  void set_busy_alarm(BusyAlarm alarm);  // any OS thread; by a message of the loop
  // Where a thread may run has changed: rings the alarm, as an arriving thread does. Any OS thread.
  void placement_changed();
  // The loop's own thread: runs what belongs to this OS thread whichever threads come and go (rings), and never moves. In no list of threads.
  Thread& loop();

  // Loops until request_stop() and every thread has exited.
  void run();
  // One turn; waits for events at most max_wait_ns (negative: as long as the sleep contract allows). For tests and embedding.
  // Returns how many callbacks did something.
  std::size_t turn(std::int64_t max_wait_ns);
  void request_stop();  // any OS thread
  bool stop_requested() const { return stop_.load(std::memory_order_seq_cst); }

  // --- embedding: a foreign loop waits instead of run() ---
  // The fd it waits on; readable when there is work. Called once, before the first wait. Errors: EMFILE and the like.
  Result<int> export_fd();
  // Right before the wait. False: there is work now; call turn(0) and ask again. True: messages and deadlines from now on make the fd readable.
  bool prepare_sleep();
  // Right after the wait, whatever ended it; then turn(0) until it returns 0.
  void woke() { sleeping_.store(false, std::memory_order_seq_cst); }

  // Called by senders after their push: wakes the loop only if it sleeps. Any OS thread.
  void notify();

  ReactorMode mode() const { return mode_.load(std::memory_order_relaxed); }
  void set_mode(ReactorMode mode);  // any OS thread; takes effect at the next turn
  void modes_changed();             // the mode of one of its threads was set. Any OS thread.
  // The bound of an adaptive reactor's look for work. Any OS thread; takes effect at the next look.
  std::uint64_t max_spin_us() const { return max_spin_us_.load(std::memory_order_relaxed); }
  void set_max_spin_us(std::uint64_t max_spin_us) { max_spin_us_.store(max_spin_us, std::memory_order_relaxed); }
  // Bounds of set_max_spin_us: beyond 10 ms a sleep costs a host nothing that it could notice.
  static constexpr std::uint64_t longest_max_spin_us = 10'000;
  // Why the loop may not sleep now: "" (asleep or about to), "mode poll", "mode poll of thread THREAD", "poller NAME of thread THREAD", "work of
  // thread THREAD", "work" (callbacks run now, or the loop's own), "spinning". Any OS thread.
  std::string awake_because() const;
  bool asleep() const { return sleeping_.load(std::memory_order_seq_cst); }
  // How long the present sleep has lasted, 0 when awake. stats().sleep_ns includes it. Any OS thread.
  std::uint64_t sleeping_for_ns() const;

  const std::string& name() const { return options_.name; }
  unsigned lcore() const { return options_.lcore; }
  int os_thread_id() const { return os_thread_id_.load(std::memory_order_relaxed); }
  const ReactorOptions& options() const { return options_; }
  const Clock& clock() const { return clock_; }
  // Time of the current turn; cheaper than asking the clock.
  std::uint64_t turn_ns() const { return turn_ns_; }
  BufferPool& buffers() { return *buffers_; }
  // Names and ids of its threads. Any OS thread.
  std::vector<Thread*> threads() const;
  Stats stats() const;             // any OS thread
  std::string last_stall() const;  // what the last stall warning said; "": there was none. Any OS thread.
  // What an observer needs to tell a lost wake-up, which is a state and no time: in the same wait twice, not notified, with work that is due. Any OS
  // thread.
  struct WaitState {
    bool waiting = false;        // inside the wait
    bool notified = false;       // a sender has cleared the sleeping flag, so the wait is about to end
    std::uint64_t waits = 0;     // waits that have ended: the same number twice means the same wait
    std::uint64_t until_ns = 0;  // nearest deadline when it began (TimerHeap::never_ns: none); valid while waiting
    std::string due;             // work from outside that is there: messages, exit requests, arrivals, a change of mode; "": none
    int os_thread_id = 0;
    int epoll_fd = -1;  // readable: fds are ready
  };
  WaitState wait_state() const;
  // The loop's own fds (messages, deadline), not those of its threads. On its OS thread.
  std::vector<FdGroup::Waker> own_wakers() const { return fds_.own_wakers(); }

 private:
  struct Impl;

  std::size_t wait_for_events(std::int64_t max_wait_ns);
  std::size_t look(std::uint32_t looks);
  bool spin(std::uint64_t until_ns);
  void note_lost_cpu(std::uint64_t took_ns);
  std::size_t run_threads();
  void take_arrivals();
  void reap_exited();
  void hand_over(Thread& thread, Reactor& target, Moved moved);
  void watch_arrived_fds();
  Thread* charge(Thread* next);
  bool account_threads(std::uint64_t busy_ns, std::uint64_t end_ns);
  void learn(std::uint64_t end_ns);
  void ring_alarm();
  void count_towards_alarm(std::uint64_t busy_ns, std::uint64_t end_ns);
  bool pending() const;
  bool must_stay_awake() const;
  std::uint64_t nearest_deadline_ns() const;
  void sleep(std::int64_t max_wait_ns, std::uint64_t now_ns);
  void report_stall(std::uint64_t busy_ns, std::uint64_t end_ns);

  ReactorOptions options_;
  const Clock& clock_;
  std::unique_ptr<Impl> impl_;
  FdGroup fds_;
  std::unique_ptr<BufferPool> buffers_;
  std::atomic<ReactorMode> mode_;
  std::atomic<std::uint32_t> mode_changes_{0};
  std::atomic<std::uint64_t> max_spin_us_;
  std::atomic<bool> sleeping_{false};
  std::atomic<bool> stop_{false};
  std::atomic<int> os_thread_id_{0};
  std::uint64_t turn_ns_ = 0;
};

}  // namespace catnap
