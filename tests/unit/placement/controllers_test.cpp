// Homes of a controller's queues on described machines: the table of machine sizes, and what holds after any history.
// Owner: the test. Left out: accepted connections (connections_test.cpp).
#include <gtest/gtest.h>

#include <cstdio>
#include <numeric>
#include <ostream>
#include <set>

#include "tests/unit/placement/machine.h"

namespace catnap::test {
namespace {

using Kind = QueueChoice::Kind;

struct Row {
  const char* name;
  unsigned nodes;
  unsigned cpus_per_node;
  unsigned controllers;
  unsigned queues;
  std::optional<unsigned> controller_node;
};
void PrintTo(const Row& row, std::ostream* out) { *out << row.nodes * row.cpus_per_node << " CPUs x " << row.controllers << " x " << row.queues; }

// What the table shows of one machine.
struct Seen {
  LoadTable load;
  unsigned overlaps_early = 0;      // controllers that met another on a CPU while a CPU of their node was free
  unsigned off_node = 0;            // queues away from their controller's node
  unsigned doubled = 0;             // queues on a CPU that has one of the same controller already
  unsigned fallbacks_too_soon = 0;  // CPUs that shared although a queue was unused
  unsigned sharing_cpus = 0;        // of all controllers
  unsigned cpus_per_queue = 0;      // most CPUs that one queue serves, its own included
};

// Everybody does I/O, in a random order: who gets a queue of his own?
void use_from_all_cpus(const Topology& topology, ControllerPlan plan, std::mt19937& random, Seen& seen) {
  LoadTable load;
  load.add(plan);
  std::vector<unsigned> cpus = topology.reactor_cpus();
  std::shuffle(cpus.begin(), cpus.end(), random);
  for (const unsigned cpu : cpus) {
    const auto choice = queue_for_cpu(topology, plan, cpu);
    ASSERT_TRUE(choice.has_value());
    const bool unused_left = std::any_of(plan.queues.begin(), plan.queues.end(), [](const auto& queue) { return !queue.created; });
    if (choice->kind == Kind::shared && unused_left) ++seen.fallbacks_too_soon;
    seen.sharing_cpus += choice->kind == Kind::shared ? 1 : 0;
    apply_choice(plan, load, *choice, cpu);
    ASSERT_TRUE(plan.queues[choice->queue].created);
    ASSERT_TRUE(choice->kind == Kind::shared || plan.queues[choice->queue].home == cpu);
  }
}

// All queues created at their planned homes: how evenly do the other CPUs share them?
void share_from_all_cpus(const Topology& topology, ControllerPlan plan, Seen& seen) {
  for (PlannedQueue& queue : plan.queues) queue.created = true;
  std::vector<unsigned> served(plan.queues.size());
  for (const unsigned cpu : topology.reactor_cpus()) ++served[queue_for_cpu(topology, plan, cpu)->queue];
  seen.cpus_per_queue = std::max(seen.cpus_per_queue, *std::max_element(served.begin(), served.end()));
}

Seen look_at(const Row& row, const Topology& topology) {
  Seen seen;
  std::mt19937 random(seed());
  for (unsigned index = 0; index < row.controllers; ++index) {
    const auto plan = plan_controller(topology, seen.load, {row.controller_node, row.queues, index});
    EXPECT_EQ(plan.queues.size(), row.queues);
    std::set<unsigned> homes;
    bool overlap = false;
    for (const PlannedQueue& queue : plan.queues) {
      if (!homes.insert(queue.home).second) ++seen.doubled;
      if (row.controller_node && topology.node_of(queue.home) != row.controller_node) ++seen.off_node;
      overlap |= seen.load.on(queue.home) > 0;
    }
    seen.load.add(plan);
    const auto near = topology.reactor_cpus(row.controller_node);
    const bool free_left = std::any_of(near.begin(), near.end(), [&](unsigned cpu) { return seen.load.on(cpu) == 0; });
    if (overlap && free_left) ++seen.overlaps_early;
    use_from_all_cpus(topology, plan, random, seen);
    share_from_all_cpus(topology, plan, seen);
  }
  return seen;
}

class PlacementTable : public testing::TestWithParam<Row> {
 protected:
  static void SetUpTestSuite() {
    std::printf("%-14s %5s %11s %6s | %-17s %9s %8s | %12s %14s\n", "machine", "CPUs", "controllers", "queues", "queues per CPU", "overlaps",
                "off node", "CPUs sharing", "CPUs per queue");
  }
};

TEST_P(PlacementTable, SpreadsEvenlyOverlapsLastAndSharesOnlyWhatIsShort) {
  const Row& row = GetParam();
  const Topology topology = machine(row.nodes, row.cpus_per_node);
  const Seen seen = look_at(row, topology);
  const unsigned reactors = row.nodes * row.cpus_per_node;

  std::string per_node;
  for (const unsigned node : topology.nodes()) {
    const Spread spread = spread_on(topology, seen.load, node);
    EXPECT_LE(spread.difference(), 1U) << "on node " << node;
    per_node += (per_node.empty() ? "" : ", ") + std::to_string(spread.fewest) + " to " + std::to_string(spread.most);
  }
  std::printf("%-14s %5u %11u %6u | %-17s %9u %8u | %12u %14u\n", row.name, reactors, row.controllers, row.queues, per_node.c_str(),
              seen.overlaps_early, seen.off_node, seen.sharing_cpus, seen.cpus_per_queue);

  EXPECT_EQ(seen.overlaps_early, 0U);
  EXPECT_EQ(seen.off_node, 0U);
  EXPECT_EQ(seen.doubled, 0U);
  EXPECT_EQ(seen.fallbacks_too_soon, 0U);
  // With as many queues as reactors nobody shares; with fewer, exactly those do for whom none is left.
  EXPECT_EQ(seen.sharing_cpus, row.controllers * (reactors - std::min(reactors, row.queues)));
  // What is short is shared evenly: exactly so by the first controller; later ones find gaps, and at worst a queue serves twice its part.
  const unsigned part = (reactors + row.queues - 1) / row.queues;
  EXPECT_LE(seen.cpus_per_queue, row.controllers == 1 ? part : 2 * part);
}

INSTANTIATE_TEST_SUITE_P(Machines, PlacementTable,
                         testing::Values(Row{"one node", 1, 96, 8, 11, 0}, Row{"one node", 1, 10, 8, 10, 0}, Row{"one node", 1, 4, 1, 4, 0},
                                         Row{"one node", 1, 32, 1, 8, 0}, Row{"one node", 1, 64, 1, 8, 0}, Row{"2 nodes", 2, 48, 8, 11, 0},
                                         Row{"2, no matter", 2, 48, 8, 11, std::nullopt}));

// --- the rules, one by one ---

std::vector<unsigned> homes_of(const ControllerPlan& plan) {
  std::vector<unsigned> homes;
  for (const PlannedQueue& queue : plan.queues) homes.push_back(queue.home);
  return homes;
}

TEST(PlanController, StridesOverTheNode) {
  EXPECT_EQ(homes_of(plan_controller(machine(1, 32), {}, {0, 8, 0})), (std::vector<unsigned>{0, 4, 8, 12, 16, 20, 24, 28}));
  EXPECT_EQ(homes_of(plan_controller(machine(2, 8), {}, {1, 2, 0})), (std::vector<unsigned>{8, 12}));
}

TEST(PlanController, EachControllerBeginsElsewhere) {
  const Topology topology = machine(1, 10);
  LoadTable load;
  std::set<unsigned> first_homes;
  for (unsigned index = 0; index < 10; ++index) {
    const auto plan = plan_controller(topology, load, {0, 10, index});
    first_homes.insert(plan.queues.front().home);
    load.add(plan);
  }
  EXPECT_EQ(first_homes.size(), 10U) << "queue 1 of every controller on a CPU of its own";
}

TEST(PlanController, TheNodeBeatsLoadUntilItIsFull) {
  const Topology topology = machine(2, 4);
  LoadTable load;
  for (unsigned index = 0; index < 5; ++index) {
    const auto plan = plan_controller(topology, load, {0, 4, index});
    load.add(plan);
    for (const PlannedQueue& queue : plan.queues)
      EXPECT_EQ(topology.node_of(queue.home), 0U) << "node 1 has no load, and is the wrong one all the same";
  }
  const auto wide = plan_controller(topology, load, {0, 6, 5});
  std::multiset<unsigned> nodes;
  for (const PlannedQueue& queue : wide.queues) nodes.insert(*topology.node_of(queue.home));
  EXPECT_EQ(nodes.count(0), 4U) << "each CPU of the node has a queue of this controller: full";
  EXPECT_EQ(nodes.count(1), 2U) << "the rest goes on";
}

TEST(PlanController, SpillsToTheNearestNodeFirst) {
  std::vector<Topology::Cpu> cpus;
  for (unsigned cpu = 0; cpu < 6; ++cpu) cpus.push_back({cpu, cpu / 2, true});
  const Topology topology(cpus, {{{0, 1}, 31}, {{0, 2}, 21}});
  EXPECT_EQ(homes_of(plan_controller(topology, {}, {0, 5, 0})), (std::vector<unsigned>{0, 1, 4, 5, 2}));
}

TEST(PlanController, ANodeWithoutReactorsIsFull) {
  const Topology topology({{0, 0, true}, {1, 0, false}, {2, 1, false}, {3, 1, false}});
  EXPECT_EQ(homes_of(plan_controller(topology, {}, {1, 2, 7})), (std::vector<unsigned>{0, 0}));
  EXPECT_EQ(homes_of(plan_controller(topology, {}, {9, 1, 0})), (std::vector<unsigned>{0})) << "a node the machine does not have";
}

TEST(PlanController, NoReactorsOrNoQueuesGiveAnEmptyPlan) {
  const Topology bare({{0, 0, false}});
  EXPECT_TRUE(plan_controller(bare, {}, {0, 4, 0}).queues.empty());
  EXPECT_TRUE(plan_controller({}, {}, {std::nullopt, 4, 0}).queues.empty());
  EXPECT_TRUE(plan_controller(machine(1, 4), {}, {0, 0, 0}).queues.empty());
  EXPECT_FALSE(queue_for_cpu(machine(1, 4), {}, 0).has_value());
}

TEST(PlanController, MoreQueuesThanReactorsGoRoundAgainEvenly) {
  const Topology topology = machine(2, 3);
  LoadTable load;
  load.add(plan_controller(topology, load, {0, 15, 4}));
  EXPECT_EQ(spread_on(topology, load, 0).fewest, 3U);
  EXPECT_EQ(spread_on(topology, load, 0).most, 3U) << "near CPUs get the odd ones";
  EXPECT_EQ(spread_on(topology, load, 1).most, 2U);
}

TEST(QueueForCpu, ACpuWithoutAHomeTakesTheNearestUnusedQueueAndKeepsIt) {
  const Topology topology = machine(1, 8);
  LoadTable load;
  auto plan = plan_controller(topology, load, {0, 2, 0});
  load.add(plan);
  ASSERT_EQ(homes_of(plan), (std::vector<unsigned>{0, 4}));

  const auto taken = queue_for_cpu(topology, plan, 5);
  ASSERT_TRUE(taken.has_value());
  EXPECT_EQ(taken->kind, Kind::taken);
  EXPECT_EQ(taken->queue, 1U);
  EXPECT_FALSE(plan.queues[1].created) << "choosing alone changes nothing";
  apply_choice(plan, load, *taken, 5);
  EXPECT_EQ(homes_of(plan), (std::vector<unsigned>{0, 5}));
  EXPECT_EQ(load.on(4), 0U);
  EXPECT_EQ(load.on(5), 1U);
  EXPECT_EQ(queue_for_cpu(topology, plan, 5)->kind, Kind::own);

  // The CPU whose planned queue went has no better claim than any other: it takes the next.
  const auto next = queue_for_cpu(topology, plan, 4);
  EXPECT_EQ(next->kind, Kind::taken);
  EXPECT_EQ(next->queue, 0U);
  apply_choice(plan, load, *next, 4);
  const auto late = queue_for_cpu(topology, plan, 0);
  EXPECT_EQ(late->kind, Kind::shared) << "none is left";
  apply_choice(plan, load, *late, 0);
  EXPECT_EQ(homes_of(plan), (std::vector<unsigned>{4, 5})) << "sharing moves nothing";
  EXPECT_EQ(load.on(0), 0U);
}

TEST(QueueForCpu, SharesOnItsOwnNodeIfThereIsAHome) {
  const Topology topology = machine(2, 4);
  ControllerPlan plan{{{3, true}, {6, true}}};
  EXPECT_EQ(queue_for_cpu(topology, plan, 4)->queue, 1U) << "CPU 3 is next to it by number, but on the other node";
  EXPECT_EQ(queue_for_cpu(topology, plan, 0)->queue, 0U);
}

TEST(QueueForCpu, AnotherNodesCpusSpreadOverTheHomesToo) {
  const Topology topology = machine(2, 48);
  auto plan = plan_controller(topology, {}, {0, 4, 0});
  for (PlannedQueue& queue : plan.queues) queue.created = true;
  std::vector<unsigned> served(4);
  for (unsigned cpu = 48; cpu < 96; ++cpu) ++served[queue_for_cpu(topology, plan, cpu)->queue];
  EXPECT_EQ(served, (std::vector<unsigned>{12, 12, 12, 12}));
}

// --- any history ---

struct Controller {
  std::optional<unsigned> node;
  ControllerPlan plan;
};

// Controllers of random sizes come and go on random machines. A plan never makes a node less even than it was (or than one), never overlaps while its
// node has free CPUs, never doubles while a reactor has none; and what goes leaves no trace in the load table.
TEST(PlanController, NoHistoryMakesAPlanUneven) {
  std::mt19937 random(seed());
  for (unsigned round = 0; round < 200; ++round) {
    const unsigned nodes = 1 + draw(random, 4);
    const Topology topology = machine(nodes, 1 + draw(random, 24));
    LoadTable load;
    std::vector<Controller> there;
    for (unsigned step = 0; step < 40; ++step) {
      SCOPED_TRACE(testing::Message() << "CATNAP_SEED=" << seed() << " round " << round << " step " << step);
      if (!there.empty() && draw(random, 3) == 0) {
        const auto gone = there.begin() + draw(random, there.size());
        load.remove(gone->plan);
        there.erase(gone);
        continue;
      }
      const unsigned node = draw(random, nodes);
      const auto near = topology.reactor_cpus(node);
      const auto queues = 1 + draw(random, near.size());
      const Spread before = spread_on(topology, load, node);
      const auto plan = plan_controller(topology, load, {node, queues, step});
      LoadTable after = load;
      after.add(plan);
      std::set<unsigned> homes;
      for (const PlannedQueue& queue : plan.queues) {
        ASSERT_EQ(topology.node_of(queue.home), node);
        ASSERT_TRUE(homes.insert(queue.home).second) << "two queues of one controller on CPU " << queue.home;
        ASSERT_TRUE(load.on(queue.home) == 0 || spread_on(topology, after, node).fewest > 0) << "an overlap beside a free CPU";
      }
      ASSERT_LE(spread_on(topology, after, node).difference(), std::max(1U, before.difference()));
      load = after;
      there.push_back({node, plan});
    }
    for (const Controller& controller : there) load.remove(controller.plan);
    for (const unsigned cpu : topology.reactor_cpus()) ASSERT_EQ(load.on(cpu), 0U);
  }
}

}  // namespace
}  // namespace catnap::test
