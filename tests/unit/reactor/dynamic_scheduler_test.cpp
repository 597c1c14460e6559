// The dynamic scheduler's policy over tables of loads, and that a steady load comes to rest.
#include "reactor/dynamic_scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace catnap {
namespace {

CpuMask mask_of(std::initializer_list<unsigned> cpus) {
  CpuMask mask;
  for (const unsigned cpu : cpus) mask.set(cpu);
  return mask;
}

const CpuMask any = mask_of({0, 1, 2, 3, 4, 5, 6, 7});

ThreadLoad thread(std::uint64_t id, unsigned cpu, unsigned percent, CpuMask mask = any) { return {id, cpu, percent * 10, mask}; }

std::vector<CoreLoad> cores(unsigned count) {
  std::vector<CoreLoad> list;
  for (unsigned cpu = 0; cpu < count; ++cpu) list.push_back({cpu, false, 0});
  return list;
}

using Moves = std::vector<ThreadMove>;

struct Row {
  const char* what;
  std::vector<ThreadLoad> threads;
  unsigned core_count;
  Moves expected;
};

class FirstDecision : public testing::TestWithParam<Row> {};

TEST_P(FirstDecision, IsTheExpectedOne) {
  DynamicPolicy policy;
  EXPECT_EQ(policy.decide(GetParam().threads, cores(GetParam().core_count), 0), GetParam().expected) << GetParam().what;
}

INSTANTIATE_TEST_SUITE_P(
    Table, FirstDecision,
    testing::Values(Row{"nothing there", {}, 2, {}},
                    Row{"idle threads gather on the scheduling core", {thread(1, 0, 0), thread(2, 1, 1), thread(3, 2, 5)}, 3, {{2, 1, 0}, {3, 2, 0}}},
                    Row{"busy threads stay where they are", {thread(1, 0, 60), thread(2, 1, 30)}, 2, {}},
                    Row{"below load_limit is idle", {thread(1, 1, 19)}, 2, {{1, 1, 0}}}, Row{"at load_limit is busy", {thread(1, 1, 20)}, 2, {}},
                    Row{"idle ones do not go where it is full", {thread(1, 0, 80), thread(2, 1, 3)}, 2, {}},
                    Row{"two that fill a core part", {thread(1, 0, 50), thread(2, 0, 50)}, 2, {{1, 0, 1}}},
                    Row{"a core that is busy but not overloaded keeps them", {thread(1, 0, 45), thread(2, 0, 45)}, 2, {}},
                    Row{"one alone has nowhere better", {thread(1, 0, 100)}, 2, {}},
                    Row{"the emptiest core gets it", {thread(1, 0, 50), thread(2, 0, 50), thread(3, 1, 40)}, 3, {{1, 0, 2}}},
                    Row{"all full: nobody moves", {thread(1, 0, 50), thread(2, 0, 50), thread(3, 1, 100)}, 2, {}},
                    Row{"the larger load goes when that evens them best", {thread(1, 0, 60), thread(2, 0, 38)}, 2, {{1, 0, 1}}},
                    Row{"four on one core, four cores", {thread(1, 0, 25), thread(2, 0, 25), thread(3, 0, 25), thread(4, 0, 25)}, 4, {{1, 0, 1}}},
                    Row{"the mask forbids", {thread(1, 0, 50, mask_of({0})), thread(2, 0, 50, mask_of({0}))}, 2, {}},
                    Row{"the mask forbids gathering", {thread(1, 1, 0, mask_of({1}))}, 2, {}},
                    Row{"the one that may go goes", {thread(1, 0, 50, mask_of({0})), thread(2, 0, 50)}, 2, {{2, 0, 1}}},
                    Row{"a thread of a CPU that is no reactor's is left alone", {thread(1, 7, 0)}, 2, {}}),
    [](const auto& row) { return "Row" + std::to_string(row.index); });

TEST(DynamicPolicy, IsolatedCoresKeepTheirThreadsAndGetNoOthers) {
  DynamicPolicy policy;
  auto list = cores(3);
  list[1].isolated = true;
  EXPECT_EQ(policy.decide({thread(1, 1, 0), thread(2, 0, 50), thread(3, 0, 50)}, list, 0), (Moves{{2, 0, 2}}));
  DynamicPolicy second;
  EXPECT_EQ(second.decide({thread(1, 1, 50), thread(2, 1, 50)}, list, 0), Moves{});
}

TEST(DynamicPolicy, TheSchedulingCoreMayBeAnyOther) {
  DynamicPolicy policy;
  EXPECT_EQ(policy.decide({thread(1, 0, 0), thread(2, 1, 0)}, cores(2), 1), (Moves{{1, 0, 1}}));
}

TEST(DynamicPolicy, APauseIsNoEnd) {
  DynamicPolicy policy;
  EXPECT_EQ(policy.decide({thread(1, 1, 60)}, cores(2), 0), Moves{});
  EXPECT_EQ(policy.decide({thread(1, 1, 0)}, cores(2), 0), Moves{}) << "one calm period";
  EXPECT_EQ(policy.decide({thread(1, 1, 60)}, cores(2), 0), Moves{});
  EXPECT_EQ(policy.decide({thread(1, 1, 0)}, cores(2), 0), Moves{});
  EXPECT_EQ(policy.decide({thread(1, 1, 15)}, cores(2), 0), Moves{}) << "above half of the limit is not calm";
  EXPECT_EQ(policy.decide({thread(1, 1, 0)}, cores(2), 0), Moves{});
  EXPECT_FALSE(policy.at_rest());
  EXPECT_EQ(policy.decide({thread(1, 1, 0)}, cores(2), 0), (Moves{{1, 1, 0}})) << "the second in a row";
}

TEST(DynamicPolicy, AMovedThreadStaysForAWhile) {
  DynamicPolicy policy;
  ASSERT_EQ(policy.decide({thread(1, 0, 50), thread(2, 0, 50)}, cores(3), 0), (Moves{{1, 0, 1}}));
  // It got busier than expected, beside one that did as well.
  const std::vector<ThreadLoad> worse = {thread(1, 1, 60), thread(3, 1, 40, mask_of({1}))};
  EXPECT_EQ(policy.decide(worse, cores(3), 0), Moves{});
  EXPECT_EQ(policy.decide(worse, cores(3), 0), (Moves{{1, 1, 0}}));
}

TEST(DynamicPolicy, RestsOnlyWhenNothingIsBusyAndAllHaveGathered) {
  DynamicPolicy policy;
  EXPECT_FALSE(policy.at_rest());
  policy.decide({thread(1, 0, 0), thread(2, 1, 0)}, cores(2), 0);
  EXPECT_FALSE(policy.at_rest()) << "one moves now";
  const std::vector<ThreadLoad> gathered = {thread(1, 0, 0), thread(2, 0, 0)};
  for (int i = 0; i < 3; ++i) policy.decide(gathered, cores(2), 0);
  EXPECT_TRUE(policy.at_rest());
  policy.decide({thread(1, 0, 50), thread(2, 0, 0)}, cores(2), 0);
  EXPECT_FALSE(policy.at_rest());
}

// Threads want so much of a CPU each; a core gives what it has, in proportion. Loads as a real machine would measure them.
struct Machine {
  struct Job {
    unsigned cpu;
    unsigned wanted_permille;
    CpuMask mask;
  };
  std::vector<Job> jobs;
  unsigned core_count;

  std::vector<ThreadLoad> measure() const {
    std::map<unsigned, unsigned> wanted;
    for (const Job& job : jobs) wanted[job.cpu] += job.wanted_permille;
    std::vector<ThreadLoad> loads;
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      const unsigned sum = wanted[jobs[i].cpu];
      const unsigned got = sum > 1000 ? jobs[i].wanted_permille * 1000 / sum : jobs[i].wanted_permille;
      loads.push_back({i + 1, jobs[i].cpu, got, jobs[i].mask});
    }
    return loads;
  }
};

TEST(DynamicPolicy, ASteadyLoadComesToRestWithinAFewPeriods) {
  constexpr unsigned periods_to_settle = 40;
  for (unsigned seed = 1; seed <= 500; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](unsigned bound) { return static_cast<unsigned>(random() % bound); };
    Machine machine;
    machine.core_count = 1 + below(8);
    const unsigned jobs = 1 + below(24);
    for (unsigned i = 0; i < jobs; ++i) {
      CpuMask mask;
      for (unsigned cpu = 0; cpu < machine.core_count; ++cpu) {
        if (below(4) != 0) mask.set(cpu);
      }
      const unsigned cpu = below(machine.core_count);
      mask.set(cpu);
      machine.jobs.push_back({cpu, below(3) == 0 ? below(30) : below(1001), mask});
    }
    DynamicPolicy policy;
    auto list = cores(machine.core_count);
    for (CoreLoad& core : list) core.isolated = core.cpu != 0 && below(8) == 0;
    const auto isolated = [&](unsigned cpu) { return list[cpu].isolated; };
    for (unsigned period = 0; period < periods_to_settle + 100; ++period) {
      const Moves moves = policy.decide(machine.measure(), list, 0);
      ASSERT_TRUE(moves.empty() || period < periods_to_settle) << "seed " << seed << " still moves in period " << period;
      for (const ThreadMove& move : moves) {
        Machine::Job& job = machine.jobs[move.id - 1];
        ASSERT_EQ(job.cpu, move.from);
        ASSERT_TRUE(job.mask.has(move.to)) << "seed " << seed;
        ASSERT_FALSE(isolated(move.from) || isolated(move.to)) << "seed " << seed;
        job.cpu = move.to;
      }
    }
  }
}

// Loads that swing by themselves within what move_gain covers do not make threads wander.
TEST(DynamicPolicy, NoiseDoesNotMoveAnything) {
  std::mt19937 random(7);
  DynamicPolicy policy;
  std::vector<ThreadLoad> loads = {thread(1, 0, 0), thread(2, 1, 0)};
  for (int period = 0; period < 1000; ++period) {
    for (ThreadLoad& load : loads) load.load_permille = 950 + static_cast<unsigned>(random() % 50);
    ASSERT_EQ(policy.decide(loads, cores(2), 0), Moves{}) << period;
  }
}

}  // namespace
}  // namespace catnap
