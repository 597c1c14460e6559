// See dynamic_scheduler.h.
#include "reactor/dynamic_scheduler.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace catnap {
namespace {

constexpr unsigned permille_per_percent = 10;

}  // namespace

// Loads as they would be after the moves so far.
class DynamicPolicy::Plan {
 public:
  struct Placed {
    const ThreadLoad* load;
    unsigned cpu;
    History* history;
  };

  Plan(const std::vector<ThreadLoad>& threads, const std::vector<CoreLoad>& core_loads, std::map<std::uint64_t, History>& history) {
    for (const CoreLoad& core : core_loads) cores[core.cpu] = core;
    std::map<unsigned, unsigned> sums;
    for (const ThreadLoad& thread : threads) {
      if (!cores.contains(thread.cpu)) continue;
      placed.push_back({&thread, thread.cpu, &history[thread.id]});
      sums[thread.cpu] += thread.load_permille;
    }
    for (auto& [cpu, core] : cores) core.load_permille = std::max(core.load_permille, sums[cpu]);
  }

  bool movable(const Placed& thread) const { return !cores.at(thread.cpu).isolated && thread.history->stays_for == 0; }
  bool may_go(const Placed& thread, const CoreLoad& core) const {
    return core.cpu != thread.cpu && !core.isolated && thread.load->cpumask.has(core.cpu);
  }
  void move(Placed& thread, unsigned to, unsigned settle_periods) {
    moves.push_back({thread.load->id, thread.cpu, to});
    CoreLoad& from = cores.at(thread.cpu);
    from.load_permille -= std::min(from.load_permille, thread.load->load_permille);
    cores.at(to).load_permille += thread.load->load_permille;
    thread.cpu = to;
    thread.history->stays_for = std::max(1U, settle_periods);  // not twice in one plan
  }

  std::map<unsigned, CoreLoad> cores;
  std::vector<Placed> placed;
  std::vector<ThreadMove> moves;
};

void DynamicPolicy::judge(const std::vector<ThreadLoad>& threads) {
  std::erase_if(history_, [&](const auto& entry) { return std::ranges::find(threads, entry.first, &ThreadLoad::id) == threads.end(); });
  const unsigned busy_from = options_.load_limit * permille_per_percent;
  for (const ThreadLoad& thread : threads) {
    History& history = history_[thread.id];
    if (history.stays_for > 0) --history.stays_for;
    if (thread.load_permille >= busy_from) {
      history.busy = true;
      history.calm_periods = 0;
    } else if (thread.load_permille >= busy_from / 2) {
      history.calm_periods = 0;
    } else if (history.busy && ++history.calm_periods >= options_.idle_periods) {
      history.busy = false;
    }
  }
}

void DynamicPolicy::gather_idle(Plan& plan, unsigned scheduling_core) {
  const CoreLoad& home = plan.cores.at(scheduling_core);
  for (Plan::Placed& thread : plan.placed) {
    if (thread.history->busy || !plan.movable(thread) || !plan.may_go(thread, home)) continue;
    if (home.load_permille + thread.load->load_permille > options_.core_limit * permille_per_percent) continue;
    plan.move(thread, scheduling_core, options_.settle_periods);
  }
}

// The best move off an overloaded core, again and again until none is good enough.
void DynamicPolicy::relieve(Plan& plan) {
  struct Choice {
    Plan::Placed* thread;
    unsigned to;
    bool overfull;  // the new core would be full
    unsigned larger_load;
  };
  for (;;) {
    std::optional<Choice> best;
    for (Plan::Placed& thread : plan.placed) {
      const CoreLoad& from = plan.cores.at(thread.cpu);
      if (!thread.history->busy || !plan.movable(thread) || from.load_permille < options_.core_busy * permille_per_percent) continue;
      for (const auto& [cpu, core] : plan.cores) {
        if (!plan.may_go(thread, core)) continue;
        const unsigned load = thread.load->load_permille;
        const unsigned there = core.load_permille + load;
        const unsigned larger = std::max(from.load_permille - std::min(from.load_permille, load), there);
        if (larger + options_.move_gain * permille_per_percent > std::max(from.load_permille, core.load_permille)) continue;
        const Choice choice{&thread, cpu, there > options_.core_limit * permille_per_percent, larger};
        const auto rank = [](const Choice& one) { return std::pair(one.overfull, one.larger_load); };
        if (!best || rank(choice) < rank(*best)) best = choice;
      }
    }
    if (!best) return;
    plan.move(*best->thread, best->to, options_.settle_periods);
  }
}

std::vector<ThreadMove> DynamicPolicy::decide(const std::vector<ThreadLoad>& threads, const std::vector<CoreLoad>& cores, unsigned scheduling_core) {
  judge(threads);
  Plan plan(threads, cores, history_);
  if (!plan.cores.contains(scheduling_core)) return {};
  relieve(plan);
  gather_idle(plan, scheduling_core);
  at_rest_ = plan.moves.empty() && std::ranges::none_of(history_, [](const auto& entry) { return entry.second.busy || entry.second.stays_for > 0; });
  return plan.moves;
}

}  // namespace catnap
