// The loop: one turn waits, dispatches, runs the threads, sends what was gathered, and accounts. See reactor.h.
// Owner: its OS thread. Left out: how it waits (reactor_wait.cpp), whose time it was (reactor_account.cpp), threads that come and go
// (reactor_move.cpp).
#include "reactor/reactor.h"

#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>

#include "reactor/base/check.h"
#include "reactor/base/sim_point.h"
#include "reactor/buffer_pool.h"
#include "reactor/reactor_impl.h"

namespace catnap {
namespace {

thread_local Reactor* current_reactor = nullptr;

// Idle for this long before free buffers are given back: longer than pauses within a workload.
constexpr std::uint64_t trim_after_ns = ns_per_s;

// A turn's work that took so long may have lost the CPU to a quota that ran out (tens of milliseconds), and only then is the kernel asked. Work that
// takes so long by itself is reported as a stall.
constexpr std::uint64_t lost_in_work_ns = 10 * ns_per_ms;

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
  impl_->working.store(true, std::memory_order_relaxed);
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
  impl_->working.store(false, std::memory_order_relaxed);

  const std::uint64_t end_ns = clock_.now_ns();
  // Events that were there at once when they were asked for: fetching them is part of the work, not idle time before it.
  const std::uint64_t fetch_ns = turn_ns_ - previous_end_ns < Impl::no_wait_ns ? turn_ns_ - previous_end_ns : 0;
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
    // Under a quota most of the CPU goes to work, so that is where it mostly ends; for the idle time that follows.
    if (busy_ns >= lost_in_work_ns && impl_->adaptive_here) note_lost_cpu(busy_ns);
    impl_->trim_at_ns = buffers_->worth_trimming() ? end_ns + trim_after_ns : 0;
  } else if (impl_->trim_at_ns != 0 && end_ns >= impl_->trim_at_ns) {
    buffers_->trim();
    impl_->trim_at_ns = 0;
  }
  impl_->turn_end_ns = end_ns;
  current_reactor = previous;
  return work;
}

std::vector<Thread*> Reactor::threads() const {
  const std::lock_guard lock(impl_->list_mutex);
  std::vector<Thread*> list;
  for (const auto& thread : impl_->threads) list.push_back(thread.get());
  for (const auto& arrival : impl_->arrivals) list.push_back(arrival.thread.get());
  return list;
}

}  // namespace catnap
