// Messages, timers, ready work and pollers of a lightweight thread. See thread.h.
#include "reactor/thread.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "reactor/base/check.h"
#include "reactor/base/log.h"
#include "reactor/base/sim_point.h"
#include "reactor/reactor.h"
#include "reactor/spin_lock.h"
#include "reactor/stall_watch.h"

namespace catnap {
namespace {

thread_local Thread* current_thread = nullptr;
std::atomic<std::uint64_t> next_thread_id{1};
std::atomic<std::uint64_t> next_poller_id{1};
std::atomic<std::uint64_t> dropped{0};

// Counters have one writer: a plain add, readable elsewhere, without a locked instruction.
void bump(std::atomic<std::uint64_t>& counter, std::uint64_t by = 1) {
  counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
}

}  // namespace

Thread* Thread::current() { return current_thread; }

Thread::Scope::Scope(Thread* thread) : previous_(current_thread) { current_thread = thread; }
Thread::Scope::~Scope() {
  SpinLock::check_none_held(current_thread != nullptr ? current_thread->name().c_str() : "no thread");
  current_thread = previous_;
}

Thread::Thread(std::string name, CpuMask cpumask)
    : name_(std::move(name)), id_(next_thread_id.fetch_add(1)), cpumask_(cpumask), fds_(name_, this), exit_report_([this] { report_exit(); }) {}

Thread::Thread(LoopTag, std::string name) : name_(std::move(name)), id_(0), fds_(name_, this), exit_report_([] {}) {}

Thread::~Thread() {
  MessageNode* node = messages_head_.exchange(nullptr);
  if (node == closed_queue()) return;
  while (node != nullptr) delete std::exchange(node, node->next);
}

bool Thread::send(Message message) {
  if (sim::left_out(sim::Step::notify_after_push)) {
    if (Reactor* early = home_.load(std::memory_order_seq_cst); early != nullptr) early->notify();
    sim::point(sim::Point::home_read);
  }
  Reactor* home = sim::left_out(sim::Step::home_after_push) ? home_.load(std::memory_order_seq_cst) : nullptr;
  if (home != nullptr) sim::point(sim::Point::home_read);
  auto* node = new MessageNode{std::move(message), messages_head_.load(std::memory_order_relaxed)};
  // Sequentially consistent on purpose, as are the loads of home and of the reactor's sleeping flag: of "I push, then look whether you sleep" and
  // "I say that I sleep, then look for messages", at least one side sees the other (docs/architecture.md, sleep contract).
  do {
    if (node->next == closed_queue()) {
      delete node;
      dropped.fetch_add(1, std::memory_order_relaxed);
      log_warning("message to thread '{}' dropped: it has exited", name_);
      return false;
    }
  } while (!messages_head_.compare_exchange_weak(node->next, node, std::memory_order_seq_cst, std::memory_order_relaxed));
  sim::point(sim::Point::message_pushed);
  if (sim::left_out(sim::Step::notify_after_push)) return true;
  if (!sim::left_out(sim::Step::home_after_push)) home = home_.load(std::memory_order_seq_cst);
  sim::point(sim::Point::home_read);
  if (home != nullptr) home->notify();
  return true;
}

bool Thread::run_or_send(Message message) {
  if (current_thread != this) return send(std::move(message));
  message();
  return true;
}

std::uint64_t Thread::dropped_messages() { return dropped.load(std::memory_order_relaxed); }

std::uint64_t Thread::now_ns() const {
  const Reactor* home = reactor();
  return home != nullptr ? home->turn_ns() : system_clock().now_ns();
}

void Thread::arm_coarse(Timer& timer, std::uint64_t delay_us, std::uint64_t grid_us) {
  const std::uint64_t grid_ns = grid_us * ns_per_us;
  const std::uint64_t deadline_ns = now_ns() + delay_us * ns_per_us;
  timers_.arm(timer, (deadline_ns + grid_ns - 1) / grid_ns * grid_ns);
}

bool Thread::send_critical(const CriticalMessage& message) {
  static_assert(std::atomic<const CriticalMessage*>::is_always_lock_free);
  const CriticalMessage* none = nullptr;
  if (!critical_.compare_exchange_strong(none, &message, std::memory_order_seq_cst)) return false;
  Reactor* home = home_.load(std::memory_order_seq_cst);
  if (home != nullptr) home->notify();
  return true;
}

std::size_t Thread::run_critical() {
  const CriticalMessage* message = critical_.load(std::memory_order_acquire);
  if (message == nullptr) return 0;
  critical_.store(nullptr, std::memory_order_release);  // before it runs, so that it may be followed by another
  message->run(message->argument);
  return 1;
}

std::size_t Thread::run_messages() {
  MessageNode* stack = messages_head_.exchange(nullptr, std::memory_order_acq_rel);
  if (stack == nullptr) return 0;
  MessageNode* first = nullptr;  // reversed: first in, first out
  while (stack != nullptr) {
    MessageNode* next = stack->next;
    stack->next = first;
    first = stack;
    stack = next;
  }
  std::size_t ran = 0;
  while (first != nullptr) {
    const std::unique_ptr<MessageNode> node(std::exchange(first, first->next));
    node->message();
    SpinLock::check_none_held("message");
    StallWatch::ended(StallWatch::Kind::message);
    ++ran;
  }
  bump(message_count_, ran);
  return ran;
}

std::size_t Thread::run_busy_pollers() {
  std::size_t work = 0;
  running_pollers_ = true;
  for (std::size_t i = 0; i < pollers_.size(); ++i) {
    Poller& poller = *pollers_[i];
    if (poller.dead_ || poller.paused_ || poller.period_us_ != 0) continue;
    const std::uint64_t before = poller.busy_count_;
    poller.run_now();
    SpinLock::check_none_held(poller.name_.c_str());
    work += poller.busy_count_ - before;
  }
  running_pollers_ = false;
  if (pollers_dirty_) {
    pollers_dirty_ = false;
    std::erase_if(pollers_, [](const auto& poller) { return poller->dead_; });
  }
  return work;
}

std::size_t Thread::run_turn() {
  const Scope scope(this);
  std::size_t work = run_critical() + run_messages();
  if (timers_.nearest_ns() <= now_ns()) {
    const std::size_t fired = timers_.fire_due(now_ns());
    bump(timer_count_, fired);
    work += fired;
  }
  if (!ready_.empty()) {
    work += ready_.run_once();
    StallWatch::ended(StallWatch::Kind::ready_work);
  }
  if (busy_pollers_ > 0 || pollers_dirty_) work += run_busy_pollers();
  touched_ = touched_ || work > 0;
  return work;
}

std::size_t Thread::run_turn_end() {
  if (turn_end_.empty()) return 0;
  const Scope scope(this);
  touched_ = true;
  const std::size_t ran = turn_end_.run_once();
  StallWatch::ended(StallWatch::Kind::turn_end);
  return ran;
}

std::string Thread::busy_poller_name() const {
  for (const auto& poller : pollers_) {
    if (!poller->dead_ && !poller->paused_ && poller->period_us_ == 0) return poller->name_;
  }
  return {};
}

Poller& Thread::add_poller(std::string name, Poller::Run run, std::uint64_t period_us) {
  check_on_thread(*this, "add_poller");
  pollers_.push_back(std::unique_ptr<Poller>(new Poller(*this, std::move(name), std::move(run), period_us)));
  pollers_.back()->schedule();
  publish_poller_counts();
  return *pollers_.back();
}

void Thread::remove_poller(Poller& poller) {
  check_on_thread(*this, "remove_poller");
  poller.pause();
  poller.dead_ = true;
  publish_poller_counts();
  pollers_dirty_ = true;  // freed at the end of the poller round of a turn, as it may be running now
  if (!running_pollers_) ready_.push(poller.reaper_);
}

void Thread::publish_poller_counts() {
  PollerCounts counts;
  for (const auto& poller : pollers_) {
    if (poller->dead_) continue;
    ++(poller->paused_ ? counts.paused : poller->period_us_ == 0 ? counts.active : counts.timed);
  }
  active_count_.store(counts.active, std::memory_order_relaxed);
  timed_count_.store(counts.timed, std::memory_order_relaxed);
  paused_count_.store(counts.paused, std::memory_order_relaxed);
}

Thread::PollerCounts Thread::poller_counts() const {
  return {active_count_.load(std::memory_order_relaxed), timed_count_.load(std::memory_order_relaxed), paused_count_.load(std::memory_order_relaxed)};
}

std::vector<const Poller*> Thread::pollers() const {
  std::vector<const Poller*> list;
  for (const auto& poller : pollers_) {
    if (!poller->dead_) list.push_back(poller.get());
  }
  return list;
}

Poller* Thread::find_poller(std::uint64_t id) {
  for (const auto& poller : pollers_) {
    if (!poller->dead_ && poller->id_ == id) return poller.get();
  }
  return nullptr;
}

Thread::Stats Thread::stats() const {
  const auto read = [](const std::atomic<std::uint64_t>& counter) { return counter.load(std::memory_order_relaxed); };
  return {read(busy_ns_), read(idle_ns_), read(message_count_), read(timer_count_), read(fd_event_count_)};
}

void Thread::count_fd_event() {
  bump(fd_event_count_);
  touched_ = true;
}

void Thread::begin_account(std::uint64_t now_ns) {
  if (accounted_until_ns_ == 0) accounted_until_ns_ = now_ns;
}

void Thread::account(std::uint64_t now_ns) {
  const std::uint64_t busy_ns = std::exchange(turn_busy_ns_, 0);
  const std::uint64_t wall_ns = now_ns - std::exchange(accounted_until_ns_, now_ns);
  if (busy_ns > 0) bump(busy_ns_, busy_ns);
  if (wall_ns > busy_ns) bump(idle_ns_, wall_ns - busy_ns);
}

Poller::Poller(Thread& thread, std::string name, Run run, std::uint64_t period_us)
    : thread_(thread),
      name_(std::move(name)),
      run_(std::move(run)),
      id_(next_poller_id.fetch_add(1)),
      period_us_(period_us),
      timer_([this] {
        schedule();
        run_now();
      }),
      reaper_([] {}) {}

void Poller::schedule() {
  if (paused_) return;
  if (period_us_ == 0) {
    ++thread_.busy_pollers_;
  } else {
    thread_.arm_in_us(timer_, period_us_);
  }
}

void Poller::run_now() {
  ++run_count_;
  if (run_() > 0) ++busy_count_;
  StallWatch::ended(StallWatch::Kind::poller, name_);
}

void Poller::pause() {
  if (paused_ || dead_) return;
  paused_ = true;
  if (period_us_ == 0) {
    --thread_.busy_pollers_;
  } else {
    timer_.disarm();
  }
  thread_.publish_poller_counts();
}

void Poller::resume() {
  if (!paused_ || dead_) return;
  paused_ = false;
  schedule();
  thread_.publish_poller_counts();
}

void Poller::set_period_us(std::uint64_t period_us) {
  const bool was_paused = paused_;
  pause();
  period_us_ = period_us;
  if (!was_paused) resume();
}

void check_on_thread(const Thread& owner, const char* object) {
#ifndef NDEBUG
  const Thread* caller = Thread::current();
  // Before the thread runs on a reactor (tests, start-up) anybody may set it up.
  if (caller == &owner || owner.reactor() == nullptr) return;
  std::fprintf(stderr, "%s belongs to thread '%s' (%llu), called from '%s'\n", object, owner.name().c_str(),
               static_cast<unsigned long long>(owner.id()), caller != nullptr ? caller->name().c_str() : "no thread");
  std::abort();
#else
  (void)owner;
  (void)object;
#endif
}

}  // namespace catnap
