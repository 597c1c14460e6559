// Which path gets the next I/O: tables per policy and selector, failover and failback, and a random run against what the policies promise.
// Owner: the test. Left out: real paths (the initiator's tests).
#include "bdev/nvme/path_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <vector>

namespace catnap::bdev {
namespace {

constexpr PathClass down = PathClass::unusable, slow = PathClass::non_optimized, fast = PathClass::optimized;

// Paths with their classes and queue depths.
struct Paths {
  explicit Paths(std::vector<PathClass> classes) : outstanding(classes.size(), 0) {
    for (std::size_t at = 0; at < classes.size(); ++at) views.push_back({classes[at], &outstanding[at]});
  }
  std::vector<std::uint32_t> outstanding;
  std::vector<PathView> views;
};

MultipathOptions round_robin(std::uint32_t min_io) { return {MultipathPolicy::active_active, MultipathSelector::round_robin, min_io}; }
const MultipathOptions queue_depth{MultipathPolicy::active_active, MultipathSelector::queue_depth, 1};

std::vector<std::uint32_t> take(PathChooser& chooser, const Paths& paths, std::size_t count) {
  std::vector<std::uint32_t> taken;
  for (std::size_t at = 0; at < count; ++at) taken.push_back(chooser.next(paths.views));
  return taken;
}
using Taken = std::vector<std::uint32_t>;
constexpr std::uint32_t none = PathChooser::none;

TEST(PathClassTable, OnlyTwoAnaStatesOfAConnectedPathTakeIo) {
  for (unsigned byte = 0; byte < 256; ++byte) {
    const PathClass expected = (byte & 0xF) == 1 ? fast : (byte & 0xF) == 2 ? slow : down;
    EXPECT_EQ(path_class(true, true, false, ana_state_of_byte(static_cast<std::uint8_t>(byte))), expected) << byte;
  }
  EXPECT_EQ(path_class(false, true, false, AnaState::optimized), down);
  EXPECT_EQ(path_class(true, false, false, AnaState::optimized), down);
  EXPECT_EQ(path_class(true, true, true, AnaState::optimized), down) << "its state is being read";
}

struct ChoiceRow {
  const char* what;
  MultipathOptions options;
  std::vector<PathClass> classes;
  Taken taken;
};

const ChoiceRow choice_rows[] = {
    {"no path at all", {}, {}, {none, none}},
    {"one that is down", {}, {down}, {none, none}},
    {"the first optimized one stays", {}, {slow, fast, fast}, {1, 1, 1}},
    {"the first non-optimized one when there is no better", {}, {down, slow, slow}, {1, 1, 1}},
    {"the preferred one is the first", {}, {fast, fast}, {0, 0, 0}},
    {"in turn", round_robin(1), {fast, fast, fast}, {0, 1, 2, 0, 1, 2}},
    {"in turn, two each", round_robin(2), {fast, fast}, {0, 0, 1, 1, 0, 0, 1, 1}},
    {"in turn among the optimized ones", round_robin(1), {slow, fast, down, fast}, {1, 3, 1, 3}},
    {"in turn among the non-optimized ones when there is no better", round_robin(1), {slow, down, slow}, {0, 2, 0, 2}},
    {"one path alone", round_robin(3), {down, fast}, {1, 1, 1, 1}},
    {"none", round_robin(3), {down, down}, {none, none}},
    {"queue depth without load", queue_depth, {slow, fast, fast}, {1, 1}},
    {"queue depth, none", queue_depth, {down}, {none}},
    {"queue depth, nothing there", queue_depth, {}, {none}},
};

TEST(PathChooserTable, GivesEachIoItsPath) {
  for (const ChoiceRow& row : choice_rows) {
    PathChooser chooser;
    chooser.set_options(row.options);
    const Paths paths(row.classes);
    EXPECT_EQ(take(chooser, paths, row.taken.size()), row.taken) << row.what;
  }
}

TEST(PathChooser, QueueDepthTakesTheLeastBusyOfTheBestClass) {
  Paths paths({slow, fast, fast, down});
  PathChooser chooser;
  chooser.set_options(queue_depth);
  paths.outstanding = {0, 5, 3, 0};
  EXPECT_EQ(chooser.next(paths.views), 2U);
  paths.outstanding = {0, 3, 3, 0};
  EXPECT_EQ(chooser.next(paths.views), 1U) << "the first among equals";
  // Each I/O goes out and none comes back: it evens them out.
  paths.outstanding = {0, 0, 0, 0};
  for (int io = 0; io < 100; ++io) ++paths.outstanding[chooser.next(paths.views)];
  EXPECT_EQ(paths.outstanding, (std::vector<std::uint32_t>{0, 50, 50, 0}));
  paths.views[1].path_class = paths.views[2].path_class = down;
  EXPECT_EQ(chooser.next(paths.views), 0U);
}

TEST(PathChooser, ActivePassiveFailsOverAndBack) {
  Paths paths({fast, fast});
  PathChooser chooser;
  EXPECT_EQ(chooser.next(paths.views), 0U);
  paths.views[0].path_class = down;
  EXPECT_EQ(chooser.next(paths.views), 1U) << "also when nobody told it";
  paths.views[0].path_class = fast;
  EXPECT_EQ(chooser.next(paths.views), 1U);
  chooser.path_came_back(false);
  EXPECT_EQ(chooser.next(paths.views), 1U) << "disable_auto_failback: stays while it works";
  chooser.path_came_back(true);
  EXPECT_EQ(chooser.next(paths.views), 0U) << "back to the preferred one";
}

TEST(PathChooser, ANonOptimizedPathGivesWayWhenABetterOneIsAnnounced) {
  Paths paths({slow, down});
  PathChooser chooser;
  EXPECT_EQ(chooser.next(paths.views), 0U);
  paths.views[1].path_class = fast;
  chooser.forget();
  EXPECT_EQ(chooser.next(paths.views), 1U);
}

TEST(PathChooser, AListThatGotShorterIsNoDanger) {
  Paths paths({down, down, fast});
  PathChooser chooser;
  EXPECT_EQ(chooser.next(paths.views), 2U);
  paths.views.pop_back();
  EXPECT_EQ(chooser.next(paths.views), none);
  EXPECT_EQ(chooser.next({}), none);
}

// What holds after any history: a usable path is named if there is one, it is of the best class, and round robin is fair.
TEST(PathChooser, KeepsItsPromisesOverRandomHistories) {
  std::mt19937 random(20260);
  for (int round = 0; round < 300; ++round) {
    const std::size_t count = 1 + random() % 8;
    Paths paths(std::vector<PathClass>(count, down));
    PathChooser chooser;
    const std::array<MultipathOptions, 4> choices{MultipathOptions{}, round_robin(1), round_robin(7), queue_depth};
    const MultipathOptions options = choices[random() % choices.size()];
    chooser.set_options(options);
    for (int step = 0; step < 50; ++step) {
      paths.views[random() % count].path_class = static_cast<PathClass>(random() % 3);
      chooser.forget();
      const PathClass best = std::ranges::max(paths.views, {}, &PathView::path_class).path_class;
      std::vector<unsigned> given(count, 0);
      const unsigned ios = options.rr_min_io * static_cast<unsigned>(count) * 10;
      for (unsigned io = 0; io < ios; ++io) {
        const std::uint32_t chosen = chooser.next(paths.views);
        if (best == down) {
          ASSERT_EQ(chosen, none);
          continue;
        }
        ASSERT_LT(chosen, count);
        ASSERT_EQ(paths.views[chosen].path_class, best);
        ++given[chosen];
      }
      if (best == down || options.policy != MultipathPolicy::active_active || options.selector != MultipathSelector::round_robin) continue;
      unsigned least = ios, most = 0;
      for (std::size_t at = 0; at < count; ++at) {
        if (paths.views[at].path_class != best) continue;
        least = std::min(least, given[at]);
        most = std::max(most, given[at]);
      }
      EXPECT_LE(most - least, options.rr_min_io);
    }
  }
}

TEST(MultipathOptionsCheck, MeaninglessCombinationsAreRefusedWithTheirReason) {
  using Policy = MultipathPolicy;
  using Selector = MultipathSelector;
  EXPECT_EQ(make_multipath_options(Policy::active_passive, {}, {}).value(), MultipathOptions{});
  EXPECT_EQ(make_multipath_options(Policy::active_active, {}, {}).value(), round_robin(1));
  EXPECT_EQ(make_multipath_options(Policy::active_active, Selector::round_robin, 32).value(), round_robin(32));
  EXPECT_EQ(make_multipath_options(Policy::active_active, Selector::queue_depth, {}).value(), queue_depth);
  EXPECT_EQ(make_multipath_options(Policy::active_passive, Selector::queue_depth, {}).error().message,
            "selector queue_depth has a meaning only with policy active_active");
  EXPECT_EQ(make_multipath_options(Policy::active_passive, {}, 4).error().message, "rr_min_io 4 has a meaning only with policy active_active");
  EXPECT_EQ(make_multipath_options(Policy::active_active, Selector::queue_depth, 4).error().message,
            "rr_min_io 4 has a meaning only with selector round_robin");
  EXPECT_EQ(make_multipath_options(Policy::active_active, {}, 0).error().message, "rr_min_io 0: a path must get at least 1 I/O per turn");
  EXPECT_EQ(multipath_policy_from_name("both").error().message, "policy \"both\" is none of active_passive, active_active");
  EXPECT_EQ(multipath_selector_from_name("rr").error().message, "selector \"rr\" is none of round_robin, queue_depth");
  for (auto policy : {Policy::active_passive, Policy::active_active})
    EXPECT_EQ(multipath_policy_from_name(multipath_policy_name(policy)).value(), policy);
  for (auto selector : {Selector::round_robin, Selector::queue_depth}) {
    EXPECT_EQ(multipath_selector_from_name(multipath_selector_name(selector)).value(), selector);
  }
}

}  // namespace
}  // namespace catnap::bdev
