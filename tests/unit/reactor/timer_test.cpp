// The timer heap against a sorted list.
#include "reactor/timer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

namespace catnap {
namespace {

TEST(TimerHeap, FiresInOrderAndOnlyWhatIsDue) {
  TimerHeap heap;
  std::vector<int> fired;
  Timer late([&] { fired.push_back(3); }), early([&] { fired.push_back(1); }), middle([&] { fired.push_back(2); });
  heap.arm(late, 300);
  heap.arm(early, 100);
  heap.arm(middle, 200);
  EXPECT_EQ(heap.nearest_ns(), 100u);
  EXPECT_EQ(heap.fire_due(250), 2u);
  EXPECT_EQ(fired, (std::vector{1, 2}));
  EXPECT_TRUE(late.armed());
  EXPECT_EQ(heap.fire_due(300), 1u);
  EXPECT_EQ(heap.nearest_ns(), TimerHeap::never_ns);
}

TEST(TimerHeap, ATimerThatRearmsItselfForThePastRunsOncePerCall) {
  TimerHeap heap;
  int runs = 0;
  Timer* self = nullptr;
  Timer timer([&] {
    ++runs;
    heap.arm(*self, 0);
  });
  self = &timer;
  heap.arm(timer, 0);
  EXPECT_EQ(heap.fire_due(10), 1u);
  EXPECT_EQ(runs, 1);
}

TEST(TimerHeap, ACallbackMayDisarmAndDestroyOthers) {
  TimerHeap heap;
  int runs = 0;
  auto victim = std::make_unique<Timer>([&] { ++runs; });
  Timer killer([&] { victim.reset(); });
  heap.arm(killer, 1);
  heap.arm(*victim, 2);
  heap.fire_due(10);
  EXPECT_EQ(runs, 0);
  EXPECT_EQ(heap.size(), 0u);
}

TEST(TimerHeap, RandomArmDisarmMoveAgreesWithASortedList) {
  std::mt19937 random(7);
  TimerHeap heap;
  std::vector<std::uint64_t> fired;
  std::vector<std::unique_ptr<Timer>> timers;
  for (int i = 0; i < 200; ++i) {
    timers.push_back(std::make_unique<Timer>([&fired, &timers, i] { fired.push_back(timers[static_cast<std::size_t>(i)]->deadline_ns()); }));
  }
  for (int step = 0; step < 5000; ++step) {
    Timer& timer = *timers[random() % timers.size()];
    if (random() % 4 == 0 && timer.armed()) {
      timer.disarm();
    } else {
      heap.arm(timer, random() % 10000);
    }
  }
  std::vector<std::uint64_t> expected;
  for (const auto& timer : timers) {
    if (timer->armed()) expected.push_back(timer->deadline_ns());
  }
  std::ranges::sort(expected);
  heap.fire_due(10000);
  EXPECT_EQ(fired, expected);
}

}  // namespace
}  // namespace catnap
