// How a thread ends, what keeps it until then, its mode, and who is told when it moves. See thread.h.
#include <fmt/core.h>

#include <algorithm>

#include "reactor/base/check.h"
#include "reactor/base/log.h"
#include "reactor/base/sim_point.h"
#include "reactor/reactor.h"
#include "reactor/thread.h"

namespace catnap {
namespace {

const CriticalMessage no_more;

}  // namespace

// --- mode ---

std::string_view thread_mode_name(ThreadMode mode) {
  switch (mode) {
    case ThreadMode::inherit:
      return "inherit";
    case ThreadMode::interrupt:
      return "interrupt";
    case ThreadMode::poll:
      return "poll";
    case ThreadMode::adaptive:
      return "adaptive";
  }
  return "?";
}

std::optional<ThreadMode> thread_mode_from_name(std::string_view name) {
  for (const auto mode : {ThreadMode::inherit, ThreadMode::interrupt, ThreadMode::poll, ThreadMode::adaptive}) {
    if (thread_mode_name(mode) == name) return mode;
  }
  return std::nullopt;
}

void Thread::set_mode(ThreadMode mode) {
  mode_.store(mode, std::memory_order_seq_cst);
  Reactor* home = home_.load(std::memory_order_seq_cst);
  if (home != nullptr) home->modes_changed();
}

// --- moving ---

MoveWatcher::MoveWatcher(Thread& thread) : watched_(thread) { thread.move_watchers_.push_back(this); }
MoveWatcher::~MoveWatcher() { std::erase(watched_.move_watchers_, this); }

void Thread::tell_leaving() {
  const Scope scope(this);
  for (MoveWatcher* watcher : move_watchers_) watcher->leaving();
}

void Thread::tell_arrived() {
  const Scope scope(this);
  for (MoveWatcher* watcher : move_watchers_) watcher->arrived();
}

// --- exit ---

Thread::Hold::Hold(Thread& thread, const char* what) : thread_(thread), what_(what) {
  auto& holds = thread_.holds_;
  const auto found = std::ranges::find(holds, what_, [](const auto& hold) { return hold.first; });
  if (found != holds.end()) {
    ++found->second;
  } else {
    holds.emplace_back(what_, 1);
  }
}

Thread::Hold::~Hold() {
  auto& holds = thread_.holds_;
  const auto found = std::ranges::find(holds, what_, [](const auto& hold) { return hold.first; });
  CATNAP_CHECK(found != holds.end());
  if (--found->second == 0) holds.erase(found);
}

namespace {

// Steps that a sequence may still have before it ends: each of them may wait for another deadline.
constexpr int max_passing_rounds = 64;

// The process ends, and who still waits for a deadline would be waiting for ever, with all that it holds. So they pass now, in rounds, as those who
// are told go on in messages and may arm others. `pass_all`: fires every timer and says how many there were.
void pass_deadlines(std::function<std::size_t()> pass_all, int rounds = max_passing_rounds) {
  if (rounds == 0 || pass_all() == 0) return;
  Thread::current()->send([pass_all = std::move(pass_all), rounds]() mutable { pass_deadlines(std::move(pass_all), rounds - 1); });
}

}  // namespace

void Thread::request_exit() {
  State expected = State::running;
  if (!state_.compare_exchange_strong(expected, State::exiting)) return;
  sim::point(sim::Point::value_set);
  send([this] { begin_exit(); });
}

void Thread::begin_exit() {
  exit_begun_ = true;
  for (Message& hook : std::exchange(exit_hooks_, {})) hook();
  if (const Reactor* home = reactor(); home != nullptr && home->stop_requested()) {
    pass_deadlines([this] {
      const bool reports = exit_report_.armed();
      exit_report_.disarm();
      const std::size_t passed = timers_.fire_due(TimerHeap::never_ns - 1);
      if (reports) arm_in_us(exit_report_, exit_report_us);
      return passed;
    });
  }
  const std::string waits = waits_for();
  if (waits.empty()) return;
  log_notice("thread '{}' is to exit and waits for {}", name_, waits);
  arm_in_us(exit_report_, exit_report_us);
}

// Each five seconds while something keeps it. When all of the reactor stops, the process must end: then these are all the seconds there are.
void Thread::report_exit() {
  const std::string waits = waits_for();
  if (waits.empty()) return;
  const Reactor* home = reactor();
  exit_forced_ = home != nullptr && home->stop_requested();
  if (exit_forced_) {
    log_error("thread '{}' exits although there are still {}", name_, waits);
  } else {
    log_warning("thread '{}' still waits for {}", name_, waits);
    arm_in_us(exit_report_, exit_report_us);
  }
}

std::string Thread::waits_for() const {
  std::string text;
  const auto add = [&](const std::string& one) { text += (text.empty() ? "" : ", ") + one; };
  for (const auto& [what, count] : holds_) add(fmt::format("{} {}", count, what));
  for (const auto& poller : pollers_) {
    if (!poller->dead_) add(fmt::format("poller {}", poller->name_));
  }
  return text;
}

bool Thread::ready_to_exit() const {
  if (!exit_begun_ || has_ready_work()) return false;
  if (exit_forced_) return true;
  return holds_.empty() && std::ranges::all_of(pollers_, [](const auto& poller) { return poller->dead_; });
}

bool Thread::try_exit() {
  MessageNode* none = nullptr;
  if (!messages_head_.compare_exchange_strong(none, closed_queue(), std::memory_order_seq_cst)) return false;
  const CriticalMessage* no_critical = nullptr;
  if (!critical_.compare_exchange_strong(no_critical, &no_more, std::memory_order_seq_cst)) {
    // A signal handler was faster: its message runs, and what others send meanwhile is refused already.
    run_critical();
    critical_.store(&no_more, std::memory_order_seq_cst);
  }
  mark_exited();
  return true;
}

void Thread::mark_exited() {
  state_.store(State::exited, std::memory_order_seq_cst);
  exit_report_.disarm();
  for (const auto& poller : pollers_) poller->timer_.disarm();
  if (timers_.size() > 0) log_warning("thread '{}' exits with {} timers armed", name_, timers_.size());
}

}  // namespace catnap
