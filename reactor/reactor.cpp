// The loop: wait, dispatch, run threads, send what was gathered, account, sleep. See reactor.h.
#include "reactor/reactor.h"

#include <fmt/core.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>

#include "reactor/base/check.h"
#include "reactor/base/log.h"
#include "reactor/base/sim_point.h"
#include "reactor/buffer_pool.h"
#include "reactor/reactor_impl.h"

namespace catnap {
namespace {

thread_local Reactor* current_reactor = nullptr;

// How often the kernel took the CPU from this OS thread.
long involuntary_switches() {
  if constexpr (sim::enabled) return 0;  // what the real kernel does to the model must not decide how it goes on
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nivcsw;
}

// A wait that took less than this found its events ready: about what the system call itself takes on a slow machine. A real sleep and the wake-up
// from it take 20 us and more.
constexpr std::uint64_t no_wait_ns = 5'000;

// A deadline nearer than this is awaited looking: by the time the timer of a sleep is set and has fired, the deadline would be past. Counted as
// spinning.
constexpr std::uint64_t worth_a_sleep_ns = 5'000;

// Idle for this long before free buffers are given back: longer than pauses within a workload.
constexpr std::uint64_t trim_after_ns = ns_per_s;

// Stalls come in rows (a slow disk, a stopped VM): one line a second says as much as a thousand.
constexpr std::uint64_t stall_report_interval_ns = ns_per_s;

}  // namespace

std::string_view reactor_mode_name(ReactorMode mode) {
  switch (mode) {
    case ReactorMode::interrupt:
      return "interrupt";
    case ReactorMode::poll:
      return "poll";
    case ReactorMode::adaptive:
      return "adaptive";
  }
  return "?";
}

std::optional<ReactorMode> reactor_mode_from_name(std::string_view name) {
  for (const auto mode : {ReactorMode::interrupt, ReactorMode::poll, ReactorMode::adaptive}) {
    if (reactor_mode_name(mode) == name) return mode;
  }
  return std::nullopt;
}

Reactor::Reactor(ReactorOptions options, const Clock& clock)
    : options_(std::move(options)),
      clock_(clock),
      impl_(std::make_unique<Impl>(options_, clock)),
      fds_(options_.name),
      buffers_(std::make_unique<BufferPool>(options_.buffer_cap_bytes, BufferPool::default_keep_bytes, options_.numa_node)),
      mode_(options_.mode),
      max_spin_us_(options_.max_spin_us) {
  impl_->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  CATNAP_CHECK(impl_->wake_fd >= 0);
  // Edge-triggered and never read: each write is one edge, and the counter cannot overflow in the life of a process.
  auto added = fds_.add(impl_->wake_fd, EPOLLIN | EPOLLET, "messages", [this](std::uint32_t) { impl_->wake_fd_fired = true; });
  CATNAP_CHECK(added.has_value());
  impl_->epoll_fd = fds_.epoll_fd().value();
  fds_.on_owner_change([this](Thread* next) { charge(next); });
  buffers_->belong_to([this] { notify(); });
  impl_->loop->set_home(this);
  CATNAP_CHECK(fds_.nest(impl_->loop->fds()).has_value());
  impl_->nest_again = std::make_unique<Timer>([this] { watch_arrived_fds(); });
  turn_ns_ = impl_->turn_end_ns = impl_->last_work_ns = impl_->look_since_ns = clock_.now_ns();
  impl_->adaptive_here = mode() == ReactorMode::adaptive;
}

Reactor::~Reactor() {
  for (auto& arrival : impl_->arrivals) impl_->threads.push_back(std::move(arrival.thread));
  impl_->arrivals.clear();
  for (const auto& thread : impl_->threads) {
    if (!thread->exited()) thread->mark_exited();
  }
  impl_->threads.clear();
  impl_->nest_again.reset();
  impl_->loop.reset();
  if (impl_->deadline_fd >= 0) {
    (void)fds_.remove(impl_->deadline_fd);
    close(impl_->deadline_fd);
  }
  (void)fds_.remove(impl_->wake_fd);
  BufferPool::retire(std::move(buffers_));
  close(impl_->wake_fd);
}

Reactor* Reactor::current() { return current_reactor; }

void Reactor::notify() {
  if (!sleeping_.load(std::memory_order_seq_cst)) return;
  sim::point(sim::Point::flag_seen_set);
  if (!sleeping_.exchange(false, std::memory_order_seq_cst)) return;  // somebody else woke it
  sim::point(sim::Point::flag_taken);
  const std::uint64_t one = 1;
  const auto written = write(impl_->wake_fd, &one, sizeof one);
  CATNAP_CHECK(written == sizeof one);
}

void Reactor::set_mode(ReactorMode mode) {
  mode_.store(mode, std::memory_order_seq_cst);
  modes_changed();
}

void Reactor::modes_changed() {
  mode_changes_.fetch_add(1, std::memory_order_seq_cst);
  sim::point(sim::Point::value_set);
  notify();
}

void Reactor::request_stop() {
  {
    const auto no_moves = hold_moves();  // from here on no thread arrives
    stop_.store(true, std::memory_order_seq_cst);
  }
  sim::point(sim::Point::value_set);
  notify();
}

void Reactor::run() {
  os_thread_id_.store(static_cast<int>(syscall(SYS_gettid)), std::memory_order_relaxed);
  // Stopping is asked for by a flag that only wakes the loop; each turn looks at it.
  while (!stop_.load(std::memory_order_seq_cst) || !impl_->threads.empty() || impl_->has_arrivals.load(std::memory_order_seq_cst) ||
         impl_->loop->has_ready_work()) {
    turn(-1);
    sim::point(sim::Point::turn_ended);
  }
}

// What comes from other OS threads: must be looked at between saying "I sleep" and sleeping.
bool Reactor::pending() const {
  if (impl_->has_arrivals.load(std::memory_order_seq_cst) && !sim::left_out(sim::Step::recheck_arrivals)) return true;
  if (sim::left_out(sim::Step::recheck_messages)) return false;
  if (buffers_->return_is_urgent() || impl_->loop->has_ready_work()) return true;
  return std::ranges::any_of(impl_->threads, [](const auto& thread) { return thread->has_ready_work() || thread->mode() == ThreadMode::poll; });
}

bool Reactor::must_stay_awake() const {
  using Awake = Impl::Awake;
  if (mode() == ReactorMode::poll && !impl_->cpu_shared) {
    impl_->explain(Awake::mode_poll);
    return true;
  }
  if (impl_->loop->has_ready_work() || buffers_->return_is_urgent()) {
    impl_->explain(Awake::work);
    return true;
  }
  for (const auto& thread : impl_->threads) {
    if (thread->mode() == ThreadMode::poll) {
      impl_->explain(Awake::thread_poll, thread.get());
      return true;
    }
    if (thread->has_busy_poller()) {
      impl_->explain(Awake::busy_poller, thread.get());
      return true;
    }
    if (thread->has_ready_work()) {
      impl_->explain(Awake::work, thread.get());
      return true;
    }
  }
  return false;
}

std::uint64_t Reactor::nearest_deadline_ns() const {
  std::uint64_t nearest = impl_->trim_at_ns != 0 ? impl_->trim_at_ns : TimerHeap::never_ns;
  nearest = std::min(nearest, impl_->loop->nearest_deadline_ns());
  for (const auto& thread : impl_->threads) nearest = std::min(nearest, thread->nearest_deadline_ns());
  return nearest;
}

// Looks for work until `until_ns`. True: there is some (fd events are collected, not yet dispatched).
bool Reactor::spin(std::uint64_t until_ns) {
  impl_->explain(Impl::Awake::spinning);
  const std::uint64_t deadline_ns = nearest_deadline_ns();
  const std::uint64_t began_ns = clock_.now_ns();
  const long switches_before = involuntary_switches();
  std::uint64_t now = began_ns;
  std::uint64_t longest_look_ns = 0;
  const std::uint32_t modes = mode_changes_.load(std::memory_order_relaxed);
  bool found = false;
  while (!found && now < until_ns && mode_changes_.load(std::memory_order_relaxed) == modes) {
    sim::point(sim::Point::looked);
    found = fds_.collect(0) > 0 || pending();
    const std::uint64_t looked_ns = clock_.now_ns();
    longest_look_ns = std::max(longest_look_ns, looked_ns - now);
    now = looked_ns;
    found = found || now >= deadline_ns;
  }
  if (involuntary_switches() != switches_before) {
    impl_->preempted_while_spinning = true;
    impl_->stolen_ns = std::max(impl_->stolen_ns, longest_look_ns);
  }
  impl_->idle_spun_ns += now - began_ns;
  return found;
}

void Reactor::sleep(std::int64_t max_wait_ns, std::uint64_t now_ns) {
  const std::uint64_t deadline_ns = nearest_deadline_ns();
  std::int64_t wait_ns = max_wait_ns;
  if (deadline_ns != TimerHeap::never_ns) {
    const std::int64_t until_deadline_ns = deadline_ns <= now_ns ? 0 : static_cast<std::int64_t>(deadline_ns - now_ns);
    wait_ns = max_wait_ns < 0 ? until_deadline_ns : std::min(max_wait_ns, until_deadline_ns);
  }
  if (wait_ns == 0) {
    fds_.collect(0);
    return;
  }
  impl_->explain(Impl::Awake::asleep);
  const bool was_stopping = stop_.load(std::memory_order_seq_cst);
  sim::point(sim::Point::about_to_sleep);
  sleeping_.store(true, std::memory_order_seq_cst);
  sim::point(sim::Point::flag_set);
  if (pending() || mode_changes_.load(std::memory_order_seq_cst) != impl_->modes_seen ||
      (stop_.load(std::memory_order_seq_cst) && (!was_stopping || impl_->threads.empty()))) {
    sleeping_.store(false, std::memory_order_seq_cst);
    fds_.collect(0);
    return;
  }
  sim::point(sim::Point::rechecked);
  impl_->asleep_until_ns.store(deadline_ns, std::memory_order_relaxed);
  impl_->asleep_modes.store(impl_->modes_seen, std::memory_order_relaxed);
  impl_->asleep_since_ns.store(now_ns, std::memory_order_release);
  const std::size_t ready = fds_.collect(sim::wait(impl_->epoll_fd, wait_ns));
  impl_->asleep_since_ns.store(0, std::memory_order_relaxed);
  // Already false: a sender cleared it and wrote the eventfd.
  const bool notified = !sleeping_.exchange(false, std::memory_order_seq_cst);
  const std::uint64_t woke_ns = clock_.now_ns();
  bump(impl_->sleeps);
  if (woke_ns - now_ns >= no_wait_ns) {
    bump(impl_->sleep_ns, woke_ns - now_ns);
    impl_->turn_slept_ns = woke_ns - now_ns;
  }
  impl_->idle_slept_ns += woke_ns - now_ns;
  if (notified) {
    bump(impl_->by_message);
  } else if (ready > 0) {
    bump(impl_->by_fd);
  } else if (woke_ns >= deadline_ns) {
    bump(impl_->by_timer);
  } else {
    bump(impl_->spurious);
  }
}

Result<int> Reactor::export_fd() {
  if (impl_->deadline_fd < 0) {
    const int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd < 0) return fail(errno, fmt::format("reactor '{}': timerfd_create: {}", options_.name, errno_text(errno)));
    auto added = fds_.add(fd, EPOLLIN, "deadline", [](std::uint32_t) {}, FdKind::eventfd);
    if (!added) {
      close(fd);
      return std::unexpected(added.error());
    }
    impl_->deadline_fd = fd;
  }
  return fds_.epoll_fd();
}

bool Reactor::prepare_sleep() {
  if (must_stay_awake()) return false;
  const std::uint64_t deadline_ns = nearest_deadline_ns();
  if (deadline_ns <= clock_.now_ns()) return false;
  itimerspec when{};  // all zero: disarmed
  if (deadline_ns != TimerHeap::never_ns) {
    when.it_value.tv_sec = static_cast<time_t>(deadline_ns / ns_per_s);
    when.it_value.tv_nsec = static_cast<long>(deadline_ns % ns_per_s);
  }
  timerfd_settime(impl_->deadline_fd, TFD_TIMER_ABSTIME, &when, nullptr);
  impl_->explain(Impl::Awake::asleep);
  sleeping_.store(true, std::memory_order_seq_cst);
  if (!pending()) return true;
  sleeping_.store(false, std::memory_order_seq_cst);
  return false;
}

// Fills the fd group's batch, asleep or awake as the contract says. Returns how many fds are ready.
std::size_t Reactor::wait_for_events(std::int64_t max_wait_ns) {
  impl_->modes_seen = mode_changes_.load(std::memory_order_seq_cst);
  impl_->cpu_shared = impl_->yield.shared(impl_->turn_end_ns);
  if (max_wait_ns == 0 || must_stay_awake()) {
    const std::size_t ready = fds_.collect(0);
    if (ready > 0) return ready;
    if (const std::uint64_t now_ns = clock_.now_ns(); impl_->yield.due(impl_->last_work_ns, now_ns)) {
      sched_yield();
      impl_->yield.yielded(now_ns, clock_.now_ns());
    }
    return 0;
  }
  if (impl_->adaptive_here && max_wait_ns < 0) {
    if (const std::uint64_t max_ns = max_spin_us() * ns_per_us; max_ns != impl_->tuner.max_ns()) impl_->tuner.set_max_ns(max_ns);
    const std::uint64_t until_ns = impl_->look_since_ns + impl_->tuner.budget_ns(impl_->turn_end_ns);
    if (impl_->turn_end_ns < until_ns && spin(until_ns)) return 1;
  }
  if (max_wait_ns < 0) {
    const std::uint64_t deadline_ns = nearest_deadline_ns();
    const bool near = deadline_ns > impl_->turn_end_ns && deadline_ns - impl_->turn_end_ns < worth_a_sleep_ns;
    if (near && spin(deadline_ns)) return 1;
  }
  sleep(max_wait_ns, clock_.now_ns());
  return 1;
}

// Ends the charge of CPU time to one thread and begins that of the next (null: the loop itself). Returns who was charged until now.
Thread* Reactor::charge(Thread* next) {
  if (!impl_->several_threads) return nullptr;  // one thread gets the whole turn, without asking the clock in between
  const std::uint64_t now = clock_.now_ns();
  Thread* const before = std::exchange(impl_->charged, next);
  if (before != nullptr) before->add_turn_busy(now - impl_->charged_since_ns);
  impl_->charged_since_ns = now;
  return before;
}

Reactor::RunAs::RunAs(Thread& thread) : scope_(&thread), reactor_(current_reactor) {
  thread.touch();
  if (reactor_ != nullptr) before_ = reactor_->charge(&thread);
}

Reactor::RunAs::~RunAs() {
  if (reactor_ != nullptr) reactor_->charge(before_);
}

std::size_t Reactor::run_threads() {
  std::size_t work = 0;
  for (std::size_t i = 0; i < impl_->threads.size(); ++i) {
    Thread& thread = *impl_->threads[i];
    if (!thread.has_ready_work() && !thread.has_busy_poller() && thread.nearest_deadline_ns() > turn_ns_) continue;
    charge(&thread);
    work += thread.run_turn();
  }
  for (const auto& thread : impl_->threads) {
    if (!thread->has_turn_end_work()) continue;
    charge(thread.get());
    work += thread->run_turn_end();
  }
  charge(nullptr);
  if (impl_->loop->has_ready_work() || impl_->loop->nearest_deadline_ns() <= turn_ns_) {
    work += impl_->loop->run_turn();
    work += impl_->loop->run_turn_end();
  }
  return work;
}

void Reactor::reap_exited() {
  for (std::size_t i = 0; i < impl_->threads.size();) {
    Thread& thread = *impl_->threads[i];
    if (!thread.exit_requested() || !thread.ready_to_exit() || !thread.try_exit()) {
      ++i;
      continue;
    }
    std::erase(impl_->not_nested, &thread.fds());
    (void)fds_.unnest(thread.fds());
    const std::lock_guard lock(impl_->list_mutex);
    impl_->exited.push_back(std::move(impl_->threads[i]));
    impl_->threads.erase(impl_->threads.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

std::size_t Reactor::turn(std::int64_t max_wait_ns) {
  Reactor* const previous = std::exchange(current_reactor, this);
  const BufferPool::Scope own_pool(*buffers_);
  if (os_thread_id_.load(std::memory_order_relaxed) == 0) os_thread_id_.store(static_cast<int>(syscall(SYS_gettid)), std::memory_order_relaxed);
  const std::uint64_t previous_end_ns = impl_->turn_end_ns;

  wait_for_events(max_wait_ns);
  turn_ns_ = clock_.now_ns();
  StallWatch* const previous_watch = impl_->watch.enter();
  take_arrivals();
  impl_->several_threads = impl_->threads.size() > 1;
  if (buffers_->has_returned()) buffers_->take_back_returned();
  std::size_t work = fds_.dispatch();
  if (std::exchange(impl_->wake_fd_fired, false)) --work;  // the wake-up itself is no work
  work += run_threads();
  reap_exited();
  StallWatch::leave(previous_watch);

  const std::uint64_t end_ns = clock_.now_ns();
  // Events that were there at once when they were asked for: fetching them is part of the work, not idle time before it.
  const std::uint64_t fetch_ns = turn_ns_ - previous_end_ns < no_wait_ns ? turn_ns_ - previous_end_ns : 0;
  const std::uint64_t busy_ns = work > 0 ? end_ns - turn_ns_ + fetch_ns : 0;
  bump(impl_->turns);
  bump(impl_->busy_ns, busy_ns);
  // What was neither asleep nor work was looking for work: the three add up to the wall, in every mode.
  const std::uint64_t wall_ns = end_ns - previous_end_ns;
  const std::uint64_t slept_ns = std::exchange(impl_->turn_slept_ns, 0);
  bump(impl_->spin_ns, wall_ns > busy_ns + slept_ns ? wall_ns - busy_ns - slept_ns : 0);
  const bool look_for_more = account_threads(busy_ns, end_ns);
  if (busy_ns > options_.stall_us * ns_per_us) report_stall(busy_ns, end_ns);
  if (work > 0) {
    impl_->last_work_ns = end_ns;
    if (impl_->alarm.busy_ns != 0) count_towards_alarm(busy_ns, end_ns);
    if (look_for_more) learn(end_ns);
    impl_->trim_at_ns = buffers_->worth_trimming() ? end_ns + trim_after_ns : 0;
  } else if (impl_->trim_at_ns != 0 && end_ns >= impl_->trim_at_ns) {
    buffers_->trim();
    impl_->trim_at_ns = 0;
  }
  impl_->turn_end_ns = end_ns;
  current_reactor = previous;
  return work;
}

// Ends the turn for its threads. True: something of one ran that looks for more before its reactor sleeps.
bool Reactor::account_threads(std::uint64_t busy_ns, std::uint64_t end_ns) {
  const bool adaptive = mode() == ReactorMode::adaptive;
  bool look_for_more = false;
  impl_->adaptive_here = adaptive && impl_->threads.empty();
  for (const auto& thread : impl_->threads) {
    const ThreadMode own = thread->mode();
    const bool looks = own == ThreadMode::adaptive || (own == ThreadMode::inherit && adaptive);
    const bool touched = thread->take_touched();
    impl_->adaptive_here = impl_->adaptive_here || looks;
    look_for_more = look_for_more || (looks && touched);
    if (!impl_->several_threads && touched) thread->set_turn_busy(busy_ns);
    thread->account(end_ns);
  }
  return look_for_more;
}

void Reactor::set_busy_alarm(BusyAlarm alarm) {
  loop().send([this, alarm = std::move(alarm)]() mutable {
    impl_->alarm = std::move(alarm);
    impl_->alarm_busy_ns = 0;
    impl_->alarm_window_began_ns = turn_ns_;
  });
}

void Reactor::count_towards_alarm(std::uint64_t busy_ns, std::uint64_t end_ns) {
  if (end_ns - impl_->alarm_window_began_ns > impl_->alarm.window_ns) {
    impl_->alarm_window_began_ns = end_ns;
    impl_->alarm_busy_ns = 0;
  }
  impl_->alarm_busy_ns += busy_ns;
  if (impl_->alarm_busy_ns >= impl_->alarm.busy_ns) ring_alarm();
}

void Reactor::ring_alarm() {
  if (std::exchange(impl_->alarm.busy_ns, 0) != 0) impl_->alarm.ring();
}

void Reactor::placement_changed() {
  loop().send([this] { ring_alarm(); });
}

// Work came after an idle time: was it right to look, or to sleep?
void Reactor::learn(std::uint64_t end_ns) {
  if (impl_->idle_spun_ns + impl_->idle_slept_ns > 0) {
    const std::uint64_t gap_ns = turn_ns_ - impl_->look_since_ns;
    impl_->tuner.learn({gap_ns, impl_->idle_spun_ns, impl_->idle_slept_ns, impl_->preempted_while_spinning, impl_->stolen_ns}, turn_ns_);
    impl_->spin_budget_ns.store(impl_->tuner.budget_ns(turn_ns_), std::memory_order_relaxed);
  }
  impl_->idle_spun_ns = impl_->idle_slept_ns = 0;
  impl_->preempted_while_spinning = false;
  impl_->stolen_ns = 0;
  impl_->look_since_ns = end_ns;
}

void Reactor::report_stall(std::uint64_t busy_ns, std::uint64_t end_ns) {
  bump(impl_->stalls);
  const StallWatch& watch = impl_->watch;
  std::string text = fmt::format("one turn took {} ms (bound {} ms), ", busy_ns / ns_per_ms, options_.stall_us / 1000);
  text += watch.longest().empty() ? std::string("many callbacks together")
                                  : fmt::format("{} ms of them {}", watch.longest_ns() / ns_per_ms, watch.longest());
  {
    const std::lock_guard lock(impl_->reason_mutex);
    impl_->last_stall = text;
  }
  if (impl_->stall_reported_ns != 0 && end_ns - impl_->stall_reported_ns < stall_report_interval_ns) {
    ++impl_->stalls_unreported;
    return;
  }
  impl_->stall_reported_ns = end_ns;
  const std::uint64_t unreported = std::exchange(impl_->stalls_unreported, 0);
  log_warning("reactor '{}': {}{}", options_.name, text, unreported > 0 ? fmt::format("; {} more before it", unreported) : std::string());
}

std::string Reactor::last_stall() const {
  const std::lock_guard lock(impl_->reason_mutex);
  return impl_->last_stall;
}

std::string Reactor::awake_because() const {
  const std::lock_guard lock(impl_->reason_mutex);
  return impl_->reason_text;
}

std::vector<Thread*> Reactor::threads() const {
  const std::lock_guard lock(impl_->list_mutex);
  std::vector<Thread*> list;
  for (const auto& thread : impl_->threads) list.push_back(thread.get());
  for (const auto& arrival : impl_->arrivals) list.push_back(arrival.thread.get());
  return list;
}

std::uint64_t Reactor::sleeping_for_ns() const {
  const std::uint64_t since_ns = impl_->asleep_since_ns.load(std::memory_order_relaxed);
  const std::uint64_t now_ns = clock_.now_ns();
  return since_ns != 0 && now_ns > since_ns ? now_ns - since_ns : 0;
}

Reactor::WaitState Reactor::wait_state() const {
  WaitState state;
  state.os_thread_id = os_thread_id();
  state.epoll_fd = impl_->epoll_fd;
  state.waits = impl_->sleeps.load(std::memory_order_relaxed);
  state.waiting = impl_->asleep_since_ns.load(std::memory_order_acquire) != 0;
  state.until_ns = impl_->asleep_until_ns.load(std::memory_order_relaxed);
  state.notified = !sleeping_.load(std::memory_order_seq_cst);
  if (impl_->has_arrivals.load(std::memory_order_seq_cst)) state.due = "an arriving thread";
  if (state.waiting && impl_->asleep_modes.load(std::memory_order_relaxed) != mode_changes_.load(std::memory_order_seq_cst))
    state.due = "a change of mode";
  if (impl_->loop->has_outside_work()) state.due = "messages of the loop";
  const std::lock_guard lock(impl_->list_mutex);
  for (const auto& thread : impl_->threads) {
    if (thread->has_outside_work()) state.due = "messages of thread " + thread->name();
  }
  return state;
}

Reactor::Stats Reactor::stats() const {
  const auto read = [](const std::atomic<std::uint64_t>& counter) { return counter.load(std::memory_order_relaxed); };
  return {read(impl_->busy_ns),        read(impl_->spin_ns),  read(impl_->sleep_ns) + sleeping_for_ns(),
          read(impl_->turns),          read(impl_->sleeps),   read(impl_->by_fd),
          read(impl_->by_message),     read(impl_->by_timer), read(impl_->spurious),
          read(impl_->spin_budget_ns), read(impl_->stalls)};
}

}  // namespace catnap
