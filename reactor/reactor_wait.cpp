// How a reactor waits: whether it may sleep and why not, looking for work before it sleeps, the sleep itself, and what a foreign loop does instead
// (export_fd(), prepare_sleep()). The contract behind it is in docs/architecture.md, "Sleep contract".
// Owner: the reactor's OS thread. Left out: what is done with what was waited for (reactor.cpp), how long looking pays (spin_tuner.h).
#include <fmt/core.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "reactor/base/sim_point.h"
#include "reactor/buffer_pool.h"
#include "reactor/reactor_impl.h"

namespace catnap {
namespace {

// How often the kernel took the CPU from this OS thread.
long involuntary_switches() {
  if constexpr (sim::enabled) return 0;  // what the real kernel does to the model must not decide how it goes on
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nivcsw;
}

// A deadline nearer than this is awaited looking: by the time the timer of a sleep is set and has fired, the deadline would be past. Counted as
// spinning.
constexpr std::uint64_t worth_a_sleep_ns = 5'000;

// A look (one epoll_wait that does not wait) takes less than 1 us. One that took longer may have lost the CPU, and only then is the kernel asked:
// asking twice per look is 3 % of the CPU at one command outstanding.
constexpr std::uint64_t suspicious_look_ns = 5'000;

// Looks for one question to the kernel, while the fd that had the last event for itself is asked directly: others wait for some 200 ns each at most.
constexpr std::uint32_t looks_per_question = 8;

}  // namespace

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

// One look for events, after so many that found none. The first asks the kernel, which knows of all fds: where several have work none gets ahead.
std::size_t Reactor::look(std::uint32_t looks) { return looks % looks_per_question == 0 || !fds_.may_attempt() ? fds_.collect(0) : fds_.attempt(); }

// Looks for work until `until_ns`. True: there is some (fd events are collected, not yet dispatched).
bool Reactor::spin(std::uint64_t until_ns) {
  impl_->explain(Impl::Awake::spinning);
  const std::uint64_t deadline_ns = nearest_deadline_ns();
  const std::uint64_t began_ns = clock_.now_ns();
  std::uint64_t now = began_ns;
  std::uint64_t longest_look_ns = 0;
  const std::uint32_t modes = mode_changes_.load(std::memory_order_relaxed);
  std::uint32_t looks = 0;
  bool found = false;
  while (!found && now < until_ns && mode_changes_.load(std::memory_order_relaxed) == modes) {
    sim::point(sim::Point::looked);
    found = look(looks++) > 0 || pending();
    const std::uint64_t looked_ns = clock_.now_ns();
    longest_look_ns = std::max(longest_look_ns, looked_ns - now);
    now = looked_ns;
    found = found || now >= deadline_ns;
  }
  if (longest_look_ns >= suspicious_look_ns) note_lost_cpu(longest_look_ns);
  impl_->idle_spun_ns += now - began_ns;
  return found;
}

// A look, or the work of a turn, took this long: because somebody else had the CPU? The count is compared with that of the last such question, so the
// CPU may have been taken at another moment since: that says as much about who else wants it.
void Reactor::note_lost_cpu(std::uint64_t took_ns) {
  const long switches = involuntary_switches();
  if (std::exchange(impl_->involuntary_switches, switches) == switches) return;
  impl_->preempted = true;
  impl_->stolen_ns = std::max(impl_->stolen_ns, took_ns);
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
  if (woke_ns - now_ns >= Impl::no_wait_ns) {
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

// Fills the fd group's batch, asleep or awake as the contract says. Returns how many fds are ready.
std::size_t Reactor::wait_for_events(std::int64_t max_wait_ns) {
  impl_->modes_seen = mode_changes_.load(std::memory_order_seq_cst);
  impl_->cpu_shared = impl_->yield.shared(impl_->turn_end_ns);
  if (max_wait_ns == 0 || must_stay_awake()) {
    // Who asks for a turn without a wait wants all that is ready.
    const std::size_t ready = max_wait_ns == 0 ? fds_.collect(0) : look(impl_->idle_looks++);
    if (ready > 0) {
      impl_->idle_looks = 0;
      return ready;
    }
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

}  // namespace catnap
