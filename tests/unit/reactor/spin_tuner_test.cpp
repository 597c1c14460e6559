// The adaptive budget, with numbers instead of time.
#include "reactor/spin_tuner.h"

#include <gtest/gtest.h>

namespace catnap {
namespace {

constexpr std::uint64_t us = 1000;

TEST(SpinTuner, FallsToZeroWhenWorkComesRarely) {
  SpinTuner tuner(50 * us);
  std::uint64_t now = 0;
  for (int i = 0; i < 10; ++i) {
    now += 1000 * us;
    tuner.learn({.gap_ns = 1000 * us, .spun_ns = tuner.budget_ns(now), .slept_ns = 990 * us}, now);
  }
  EXPECT_EQ(tuner.budget_ns(now), 0u);
}

TEST(SpinTuner, GrowsWhenASleepWasShort) {
  SpinTuner tuner(50 * us);
  std::uint64_t now = 0;
  for (int i = 0; i < 10; ++i) tuner.learn({.gap_ns = 1000 * us, .spun_ns = 0, .slept_ns = 1000 * us}, now += 1000 * us);
  ASSERT_EQ(tuner.budget_ns(now), 0u);
  tuner.learn({.gap_ns = 20 * us, .spun_ns = 0, .slept_ns = 20 * us}, now);
  EXPECT_EQ(tuner.budget_ns(now), 40 * us);
}

TEST(SpinTuner, NeverAboveItsBound) {
  SpinTuner tuner(50 * us);
  for (int i = 0; i < 10; ++i) tuner.learn({.gap_ns = 45 * us, .spun_ns = 45 * us}, 0);
  EXPECT_EQ(tuner.budget_ns(0), 50 * us);
  SpinTuner off(0);
  off.learn({.gap_ns = 0, .spun_ns = 0, .slept_ns = 1}, 0);
  EXPECT_EQ(off.budget_ns(0), 0u);
}

TEST(SpinTuner, ABoundThatFallsHoldsAtOnceAndOneThatRisesIsGrownInto) {
  SpinTuner tuner(50 * us);
  tuner.learn({.gap_ns = 45 * us, .spun_ns = 45 * us}, 0);
  ASSERT_EQ(tuner.budget_ns(0), 50 * us);
  tuner.set_max_ns(10 * us);
  EXPECT_EQ(tuner.budget_ns(0), 10 * us);
  tuner.set_max_ns(100 * us);
  EXPECT_EQ(tuner.budget_ns(0), 10 * us);
  tuner.learn({.gap_ns = 45 * us, .spun_ns = 45 * us}, 0);
  EXPECT_EQ(tuner.budget_ns(0), 90 * us);
}

constexpr SpinTuner::Idle preempted{.gap_ns = 10 * us, .spun_ns = 10 * us, .slept_ns = 0, .preempted = true, .stolen_ns = 8 * us};

// What is short may be the kernel's own work; who wants the CPU takes it again and again.
void take_often(SpinTuner& tuner, std::uint64_t now_ns) {
  for (int i = 0; i < 4; ++i) tuner.learn(preempted, now_ns);
}

TEST(SpinTuner, PausesWhenTheKernelTakesTheCpuAwayAgainAndAgain) {
  SpinTuner tuner(50 * us);
  take_often(tuner, 0);
  EXPECT_EQ(tuner.budget_ns(9'000 * us), 0u);
  EXPECT_GT(tuner.budget_ns(11'000 * us), 0u);
}

// A host that waits for each answer would get half as much done for 10 ms each time that a kernel thread ran for 10 us.
TEST(SpinTuner, TheKernelsOwnWorkNowAndThenIsNoReasonToPause) {
  for (const int each : {17, 100, 1000}) {
    SpinTuner tuner(50 * us);
    for (int i = 1; i < 100'000; ++i) {
      tuner.learn(i % each == 0 ? preempted : SpinTuner::Idle{.gap_ns = 4 * us, .spun_ns = 4 * us}, 14 * us * static_cast<std::uint64_t>(i));
      ASSERT_GT(tuner.budget_ns(14 * us * static_cast<std::uint64_t>(i)), 0u) << i;
    }
  }
  SpinTuner shared(50 * us);
  bool paused = false;
  for (int i = 1; i < 100; ++i) {
    shared.learn(i % 4 == 0 ? preempted : SpinTuner::Idle{.gap_ns = 4 * us, .spun_ns = 4 * us}, 0);
    paused = paused || shared.budget_ns(0) == 0;
  }
  EXPECT_TRUE(paused) << "one of four";
}

TEST(SpinTuner, PausesWhenItsPeerWaitsForThisCpu) {
  SpinTuner tuner(50 * us);
  // Looking never finds anything, and as soon as the CPU is free the work is there.
  for (int i = 0; i < 3; ++i) tuner.learn({.gap_ns = 58 * us, .spun_ns = 50 * us, .slept_ns = 8 * us}, 0);
  EXPECT_EQ(tuner.budget_ns(1), 0u);
}

// A sender on this CPU with 32 commands outstanding: it works on the answers for 30 us or 130 us once it has the CPU, however long this side looked.
TEST(SpinTuner, PausesWhenLookingNeverPays) {
  SpinTuner tuner(50 * us);
  std::uint64_t now = 0;
  int looks = 0;
  for (int i = 0; i < 10'000; ++i) {
    const std::uint64_t spun = tuner.budget_ns(now);
    const std::uint64_t slept = i % 2 == 0 ? 30 * us : 130 * us;
    looks += spun > 0;
    now += spun + slept;
    tuner.learn({.gap_ns = spun + slept, .spun_ns = spun, .slept_ns = slept}, now);
  }
  EXPECT_LT(looks, 150) << "0.8 s of such work: 16 looks each time that it tries again, after 10, 20, 40 ms and so on";
}

TEST(SpinTuner, LooksThatPayNowAndThenGoOn) {
  SpinTuner tuner(50 * us);
  std::uint64_t now = 0;
  int found = 0;
  for (int i = 0; i < 10'000; ++i) {
    const bool late = i % 3 != 0;
    const std::uint64_t slept = late ? 30 * us : 0;
    found += tuner.budget_ns(now) > 0 && !late;
    now += 60 * us;
    tuner.learn({.gap_ns = late ? 80 * us : 30 * us, .spun_ns = late ? 50 * us : 30 * us, .slept_ns = slept}, now);
  }
  EXPECT_GT(found, 3'200) << "one of three finds work, which is worth two in vain; a trial without looking (spin_trial.h) takes some";
}

TEST(SpinTuner, PausesGrowUntilLookingPaysAgain) {
  SpinTuner tuner(50 * us);
  take_often(tuner, 0);
  take_often(tuner, 0);
  EXPECT_EQ(tuner.budget_ns(15'000 * us), 0u) << "the second pause is twice the first";
  tuner.learn({.gap_ns = 5 * us, .spun_ns = 5 * us}, 30'000 * us);
  take_often(tuner, 30'000 * us);
  EXPECT_GT(tuner.budget_ns(41'000 * us), 0u) << "and the first again after it paid";
}

// A quota of 20 ms in 100 ms: looking uses it up, the CPU is gone for 80 ms, and so on. Between, looking does find work.
TEST(SpinTuner, ALostTimeSliceIsNotForgottenBecauseLookingPaysBetween) {
  SpinTuner tuner(50 * us);
  const auto lose = [&](std::uint64_t now_ns) {
    tuner.learn({.gap_ns = 80'000 * us, .spun_ns = 80'000 * us, .slept_ns = 0, .preempted = true, .stolen_ns = 80'000 * us}, now_ns);
  };
  lose(0);
  EXPECT_EQ(tuner.budget_ns(1'279'000 * us), 0u) << "16 times what was lost";
  EXPECT_GT(tuner.budget_ns(1'281'000 * us), 0u);
  tuner.learn({.gap_ns = 5 * us, .spun_ns = 5 * us}, 1'290'000 * us);
  lose(1'300'000 * us);
  EXPECT_EQ(tuner.budget_ns(1'300'000 * us + 2'559'000 * us), 0u) << "again so soon: twice as long";
  for (std::uint64_t i = 1; i < 10; ++i) lose(i * 4'000'000 * us);
  EXPECT_EQ(tuner.budget_ns(36'000'000 * us + 9'999'000 * us), 0u);
  EXPECT_GT(tuner.budget_ns(36'000'000 * us + 10'001'000 * us), 0u) << "10 s at most";
  lose(200'000'000 * us);
  EXPECT_GT(tuner.budget_ns(200'000'000 * us + 1'281'000 * us), 0u) << "after a long time without, it is a first one";
}

}  // namespace
}  // namespace catnap
