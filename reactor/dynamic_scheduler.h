// Which threads should run on which reactor, from their measured loads: the policy of the dynamic scheduler as a function over numbers.
//
// Idle threads gather on the scheduling core, so that the other cores sleep deeply. Busy threads stay where they are until their core is overloaded;
// then one goes to where it lowers the larger of the two loads most. Each rule has its own hysteresis, so a steady load comes to rest: a thread is
// busy from load_limit, idle only below half of it for some periods; a move must gain something; a moved thread stays for a while.
//
// Owner: the scheduler (app_thread). No clocks, no reactors: tests feed it tables. Left out: measuring and moving (scheduler.h).
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "reactor/cpumask.h"

namespace catnap {

struct DynamicOptions {
  // The first three are SPDK's, with its defaults; all in percent of one CPU.
  unsigned load_limit = 20;  // a thread with at least this load is busy
  unsigned core_limit = 80;  // a core is full: idle threads do not gather there, busy ones go elsewhere if they can
  unsigned core_busy = 95;   // a core is overloaded: it gives threads away
  // Ours. A thread counts as idle after so many periods in a row below half of load_limit: a pause between two bursts is no end.
  unsigned idle_periods = 2;
  // Percentage points by which a move must lower the larger load of the two cores: less is within what loads swing by themselves.
  unsigned move_gain = 10;
  // Periods for which a moved thread stays: its load after a move has to be seen before it is judged.
  unsigned settle_periods = 2;
  bool operator==(const DynamicOptions&) const = default;
};

struct ThreadLoad {
  std::uint64_t id = 0;
  unsigned cpu = 0;  // whose reactor it runs on
  unsigned load_permille = 0;
  CpuMask cpumask;  // where it may run
};

struct CoreLoad {
  unsigned cpu = 0;
  bool isolated = false;       // nothing comes, nothing is taken away
  unsigned load_permille = 0;  // of the reactor; at least the sum of its threads counts
};

struct ThreadMove {
  std::uint64_t id = 0;
  unsigned from = 0, to = 0;  // CPUs
  bool operator==(const ThreadMove&) const = default;
};

class DynamicPolicy {
 public:
  explicit DynamicPolicy(DynamicOptions options = {}) : options_(options) {}

  // One period is over. `scheduling_core` is one of `cores`. The moves to make now; the next call sees their outcome.
  std::vector<ThreadMove> decide(const std::vector<ThreadLoad>& threads, const std::vector<CoreLoad>& cores, unsigned scheduling_core);
  // After decide(): every thread is idle and where it should be. As long as no thread gets busy, no further call would move anything.
  bool at_rest() const { return at_rest_; }

 private:
  struct History {
    bool busy = false;
    unsigned calm_periods = 0;
    unsigned stays_for = 0;  // periods
  };
  class Plan;

  void judge(const std::vector<ThreadLoad>& threads);
  void gather_idle(Plan& plan, unsigned scheduling_core);
  void relieve(Plan& plan);

  DynamicOptions options_;
  std::map<std::uint64_t, History> history_;  // by thread id
  bool at_rest_ = false;
};

}  // namespace catnap
