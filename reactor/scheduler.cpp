// See scheduler.h.
#include "reactor/scheduler.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "reactor/base/log.h"

namespace catnap {
namespace {

unsigned permille(std::uint64_t part_ns, std::uint64_t whole_ns) {
  return whole_ns == 0 ? 0 : static_cast<unsigned>(std::min<std::uint64_t>(part_ns * 1000 / whole_ns, 1000));
}

}  // namespace

Scheduler::Scheduler(Runtime& runtime) : runtime_(runtime) {
  const auto reactors = runtime.reactors();
  if (!reactors.empty()) scheduling_core_ = reactors.front()->lcore();
}

std::shared_ptr<Scheduler> Scheduler::make(Runtime& runtime) {
  std::shared_ptr<Scheduler> scheduler(new Scheduler(runtime));
  Thread& app = runtime.app_thread();
  app.run_or_send([&app, weak = std::weak_ptr(scheduler)] {
    app.at_exit([weak] {
      if (const auto self = weak.lock()) self->use_static();
    });
  });
  return scheduler;
}

void Scheduler::use_static() {
  policy_.reset();
  if (poller_ != nullptr) runtime_.app_thread().remove_poller(*std::exchange(poller_, nullptr));
  for (Reactor* reactor : runtime_.reactors()) reactor->set_busy_alarm({});
}

void Scheduler::use_dynamic(std::uint64_t period_us, DynamicOptions options) {
  use_static();
  period_us_ = period_us;
  options_ = options;
  policy_ = std::make_unique<DynamicPolicy>(options_);
  start();
}

void Scheduler::set_period_us(std::uint64_t period_us) {
  period_us_ = period_us;
  if (poller_ != nullptr) poller_->set_period_us(period_us);
}

Result<void> Scheduler::set_cores(unsigned scheduling_core, CpuMask isolated) {
  if (runtime_.reactor_on(scheduling_core) == nullptr)
    return fail(EINVAL, fmt::format("parameter 'scheduling_core': no reactor runs on CPU {}", scheduling_core));
  if (isolated.has(scheduling_core))
    return fail(EINVAL, fmt::format("parameter 'isolated_core_mask': 0x{} has the scheduling core, CPU {}", isolated.hex(), scheduling_core));
  for (const unsigned cpu : isolated.cpus()) {
    if (runtime_.reactor_on(cpu) == nullptr)
      return fail(EINVAL, fmt::format("parameter 'isolated_core_mask': 0x{}: no reactor runs on CPU {}", isolated.hex(), cpu));
  }
  scheduling_core_ = scheduling_core;
  isolated_ = isolated;
  if (dynamic()) start();
  return {};
}

// Measures from now on.
void Scheduler::start() {
  if (policy_ == nullptr || poller_ != nullptr) return;
  std::vector<CoreLoad> cores;
  static_cast<void>(measure(cores));
  poller_ = &runtime_.app_thread().add_poller("scheduler", [this] { return period_over(); }, period_us_);
}

// Until a reactor says that something got busy.
void Scheduler::rest() {
  runtime_.app_thread().remove_poller(*std::exchange(poller_, nullptr));
  for (Reactor* reactor : runtime_.reactors()) {
    BusyAlarm alarm;
    alarm.window_ns = period_us_ * ns_per_us;
    alarm.busy_ns = alarm.window_ns / 100 * options_.load_limit;
    alarm.ring = [weak = weak_from_this(), &app = runtime_.app_thread()] {
      app.send([weak] {
        if (const auto self = weak.lock()) self->start();
      });
    };
    reactor->set_busy_alarm(std::move(alarm));
  }
}

std::vector<ThreadLoad> Scheduler::measure(std::vector<CoreLoad>& cores) {
  const std::uint64_t now_ns = runtime_.control().clock().now_ns();
  const std::uint64_t period_ns = now_ns - std::exchange(measured_ns_, now_ns);
  std::vector<ThreadLoad> threads;
  std::map<std::uint64_t, std::uint64_t> thread_busy_ns;
  const auto no_moves = Reactor::hold_moves();
  for (const Reactor* reactor : runtime_.reactors()) {
    const std::uint64_t busy_ns = reactor->stats().busy_ns;
    cores.push_back(
        {reactor->lcore(), isolated_.has(reactor->lcore()), permille(busy_ns - std::exchange(reactor_busy_ns_[reactor], busy_ns), period_ns)});
    for (const Thread* thread : reactor->threads()) {
      const std::uint64_t total_ns = thread->stats().busy_ns;
      const auto before = thread_busy_ns_.find(thread->id());
      const std::uint64_t grown_ns = before == thread_busy_ns_.end() ? 0 : total_ns - before->second;
      thread_busy_ns[thread->id()] = total_ns;
      threads.push_back({thread->id(), reactor->lcore(), permille(grown_ns, period_ns), thread->cpumask()});
    }
  }
  thread_busy_ns_ = std::move(thread_busy_ns);
  return threads;
}

int Scheduler::period_over() {
  std::vector<CoreLoad> cores;
  const auto loads = measure(cores);
  const auto moves = policy_->decide(loads, cores, scheduling_core_);
  const auto threads = runtime_.threads();
  for (const ThreadMove& move : moves) {
    const auto found = std::ranges::find(threads, move.id, [](const Thread* thread) { return thread->id(); });
    Reactor* const target = runtime_.reactor_on(move.to);
    if (found == threads.end() || target == nullptr) continue;
    const auto load = std::ranges::find(loads, move.id, &ThreadLoad::id)->load_permille;
    log_notice("dynamic scheduler: thread '{}' (load {} %) goes from CPU {} to CPU {}", (*found)->name(), load / 10, move.from, move.to);
    ++moves_;
    Reactor::move(**found, *target, [](Result<void>) {});  // refused only while the thread or the process ends
  }
  if (policy_->at_rest()) rest();
  return static_cast<int>(moves.size());
}

}  // namespace catnap
