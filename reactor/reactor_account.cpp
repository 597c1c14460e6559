// Where a reactor's time goes, and what it tells of itself: each thread's share of a turn, the busy alarm, stalls, counters, and its state for
// observers. Owner: the reactor's OS thread; what reactor.h says of any OS thread reads atomics or takes a mutex. Left out: measuring the turn itself
// (reactor.cpp), time asleep (reactor_wait.cpp).
#include <fmt/core.h>

#include <utility>

#include "reactor/base/log.h"
#include "reactor/reactor_impl.h"

namespace catnap {
namespace {

// Stalls come in rows (a slow disk, a stopped VM): one line a second says as much as a thousand.
constexpr std::uint64_t stall_report_interval_ns = ns_per_s;

}  // namespace

// Ends the charge of CPU time to one thread and begins that of the next (null: the loop itself). Returns who was charged until now.
Thread* Reactor::charge(Thread* next) {
  if (!impl_->several_threads) return nullptr;  // one thread gets the whole turn, without asking the clock in between
  const std::uint64_t now = clock_.now_ns();
  Thread* const before = std::exchange(impl_->charged, next);
  if (before != nullptr) before->add_turn_busy(now - impl_->charged_since_ns);
  impl_->charged_since_ns = now;
  return before;
}

Reactor::RunAs::RunAs(Thread& thread) : scope_(&thread), reactor_(current()) {
  thread.touch();
  if (reactor_ != nullptr) before_ = reactor_->charge(&thread);
}

Reactor::RunAs::~RunAs() {
  if (reactor_ != nullptr) reactor_->charge(before_);
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
    impl_->progress += thread->take_progress();
    impl_->adaptive_here = impl_->adaptive_here || looks;
    look_for_more = look_for_more || (looks && touched);
    if (!impl_->several_threads && touched) thread->set_turn_busy(busy_ns);
    thread->account(end_ns);
  }
  return look_for_more;
}

// Work came after an idle time: was it right to look, or to sleep?
void Reactor::learn(std::uint64_t end_ns) {
  if (impl_->idle_spun_ns + impl_->idle_slept_ns > 0) {
    const std::uint64_t gap_ns = turn_ns_ - impl_->look_since_ns;
    impl_->tuner.learn({gap_ns, impl_->idle_spun_ns, impl_->idle_slept_ns, impl_->preempted, impl_->stolen_ns, impl_->progress}, turn_ns_);
    impl_->spin_budget_ns.store(impl_->tuner.budget_ns(turn_ns_), std::memory_order_relaxed);
    impl_->spin_pays.store(impl_->tuner.trial().pays(), std::memory_order_relaxed);
    impl_->spin_trials.store(impl_->tuner.trial().trials(), std::memory_order_relaxed);
  }
  impl_->idle_spun_ns = impl_->idle_slept_ns = 0;
  impl_->preempted = false;
  impl_->stolen_ns = 0;
  impl_->look_since_ns = end_ns;
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
  using Awake = Impl::Awake;
  const bool told_before = impl_->reason == Awake::asleep || impl_->reason == Awake::spinning;
  return told_before && impl_->working.load(std::memory_order_relaxed) ? "work" : impl_->reason_text;
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
          read(impl_->spin_budget_ns), read(impl_->stalls),   impl_->spin_pays.load(std::memory_order_relaxed),
          read(impl_->spin_trials)};
}

}  // namespace catnap
