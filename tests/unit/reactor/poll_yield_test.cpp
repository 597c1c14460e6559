// When a polling reactor gives its CPU away, with numbers.
#include "reactor/poll_yield.h"

#include <gtest/gtest.h>

namespace catnap {
namespace {

constexpr std::uint64_t us = 1'000;
constexpr std::uint64_t nobody = 1 * us;
constexpr std::uint64_t somebody = 20 * us;
constexpr int shared_limit = PollYield::shared_score / PollYield::somebody_counts;

class PollYieldTest : public testing::Test {
 protected:
  // Idle until a yield is due, which then takes so long.
  void yield(std::uint64_t took_ns) {
    const std::uint64_t idle_since = now;
    while (!tested.due(idle_since, now)) now += us;
    const std::uint64_t began = now;
    now += took_ns;
    tested.yielded(began, now);
  }

  PollYield tested;
  std::uint64_t now = 1'000'000'000;
};

TEST_F(PollYieldTest, ABusyReactorDoesNotYield) {
  for (int i = 0; i < 100; ++i, now += 50 * us) EXPECT_FALSE(tested.due(now, now + 50 * us));
}

TEST_F(PollYieldTest, AnIdleOneYieldsTenThousandTimesASecond) {
  const std::uint64_t began = now;
  for (int i = 0; i < 100; ++i) yield(nobody);
  EXPECT_LE(now - began, 100 * (PollYield::yield_every_ns + 2 * us));
  EXPECT_FALSE(tested.shared(now));
}

TEST_F(PollYieldTest, KernelWorkNowAndThenIsNoReasonToSleep) {
  for (int i = 0; i < 100; ++i) {
    yield(somebody);
    for (int quiet = 0; quiet < PollYield::somebody_counts; ++quiet) yield(nobody);
    ASSERT_FALSE(tested.shared(now));
  }
}

TEST_F(PollYieldTest, WhoIsAlwaysThereSharesTheCpu) {
  for (int i = 0; i < shared_limit; ++i) {
    EXPECT_FALSE(tested.shared(now));
    yield(somebody);
  }
  EXPECT_TRUE(tested.shared(now));
  EXPECT_TRUE(tested.shared(now + PollYield::first_pause_ns - 1));
  EXPECT_FALSE(tested.shared(now + PollYield::first_pause_ns));
}

TEST_F(PollYieldTest, ManyYieldsThatReturnAtOnceDoNotHideWhoIsThere) {
  for (int i = 0; i < 30 && !tested.shared(now); ++i) yield(i % 2 == 0 ? nobody : somebody);
  EXPECT_TRUE(tested.shared(now));
}

TEST_F(PollYieldTest, WholeTimeSlicesOfAnotherProgramAreEnoughAtOnce) {
  yield(PollYield::slice_ns);
  EXPECT_TRUE(tested.shared(now));
}

TEST_F(PollYieldTest, PausesDoubleToABoundWhileItStaysAndBeginAnewWhenItWent) {
  for (int i = 0; i < shared_limit; ++i) yield(somebody);
  std::uint64_t pause = PollYield::first_pause_ns;
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(tested.shared(now + pause - 1));
    EXPECT_FALSE(tested.shared(now + pause));
    now += pause;
    yield(somebody);  // one look is enough
    pause = std::min(2 * pause, PollYield::longest_pause_ns);
  }
  now += pause;
  for (int i = 0; i < PollYield::shared_score; ++i) yield(nobody);
  EXPECT_FALSE(tested.shared(now));
  for (int i = 0; i < shared_limit; ++i) yield(somebody);
  EXPECT_FALSE(tested.shared(now + PollYield::first_pause_ns));
}

}  // namespace
}  // namespace catnap
