// Whether looking pays, found out by trial: against senders played with numbers. Left out: real reactors (reactor_test, sharing_test), CPU figures
// (tests/bench/run --set rates).
#include "reactor/spin_trial.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

#include "reactor/spin_tuner.h"

namespace catnap {
namespace {

constexpr std::uint64_t us = 1000;
constexpr std::uint64_t ms = 1'000'000;

// A reactor and who sends to it. What is seen while looking is done 4 us later; a sleep costs 12 us more until then.
struct Play {
  static constexpr std::uint64_t work_ns = 4 * us;
  static constexpr std::uint64_t wake_ns = 12 * us;

  SpinTuner tuner{50 * us};
  std::uint64_t now_ns = 0;
  std::uint64_t spun_ns = 0;
  std::uint64_t progress = 0;

  // Work arrives at `at_ns` (or is there already): looked for or slept for as the tuner says; then `commands` are done.
  void serve(std::uint64_t at_ns, std::uint64_t commands) {
    const std::uint64_t idle_since_ns = now_ns;
    SpinTuner::Idle idle;
    if (at_ns > now_ns) {
      const std::uint64_t gap_ns = at_ns - now_ns;
      const std::uint64_t budget_ns = tuner.budget_ns(now_ns);
      idle.spun_ns = std::min(budget_ns, gap_ns);
      idle.slept_ns = gap_ns > budget_ns ? gap_ns - budget_ns + wake_ns : 0;
      spun_ns += idle.spun_ns;
      now_ns += idle.spun_ns + idle.slept_ns;
    }
    idle.gap_ns = now_ns - idle_since_ns;
    const std::uint64_t began_ns = now_ns;
    now_ns += work_ns * (commands == 1 ? 1 : commands / 4);
    progress += commands;
    idle.progress = progress;
    if (idle.spun_ns + idle.slept_ns > 0) tuner.learn(idle, began_ns);
  }

  // The share of the time from now until `end_ns` that was looked through.
  double share_looked(std::uint64_t end_ns, const std::function<void()>& send) {
    const std::uint64_t began_ns = now_ns;
    const std::uint64_t spun_before_ns = spun_ns;
    while (now_ns < end_ns) send();
    return static_cast<double>(spun_ns - spun_before_ns) / static_cast<double>(now_ns - began_ns);
  }
};

TEST(SpinTrial, WhoWaitsForEachAnswerIsLookedFor) {
  for (const std::uint64_t round_trip_ns : {8 * us, 20 * us, 40 * us}) {
    Play play;
    const auto answer = [&] { play.serve(play.now_ns + round_trip_ns, 1); };
    play.share_looked(1'000 * ms, answer);
    const std::uint64_t before = play.progress;
    const double looked = play.share_looked(11'000 * ms, answer);
    EXPECT_TRUE(play.tuner.trial().pays()) << round_trip_ns;
    EXPECT_GT(looked, 0.6) << round_trip_ns;
    const double best = 10'000.0 * ms / static_cast<double>(round_trip_ns + Play::work_ns);
    EXPECT_GT(static_cast<double>(play.progress - before), 0.99 * best) << round_trip_ns << ": trials cost next to nothing";
    EXPECT_GE(play.tuner.trial().trials(), 4u);
    EXPECT_LE(play.tuner.trial().trials(), 16u);
  }
}

TEST(SpinTrial, WhoSendsAtARateOfItsOwnIsSleptFor) {
  for (const std::uint64_t period_ns : {20 * us, 33 * us, 48 * us}) {
    Play play;
    std::uint64_t next_ns = 0;
    const auto send = [&] { play.serve(next_ns += period_ns, 1); };
    play.share_looked(200 * ms, send);
    EXPECT_FALSE(play.tuner.trial().pays()) << period_ns;
    EXPECT_LT(play.share_looked(10'200 * ms, send), 0.05) << period_ns;
    EXPECT_NEAR(static_cast<double>(play.progress), 10'200.0 * ms / static_cast<double>(period_ns), 10) << "and nothing was left behind";
  }
}

TEST(SpinTrial, BurstsAreSleptForToo) {
  for (const std::uint64_t period_ns : {60 * us, 90 * us, 110 * us}) {
    Play play;
    std::uint64_t next_ns = 0;
    const auto send = [&] { play.serve(next_ns += period_ns, 16); };
    play.share_looked(500 * ms, send);
    EXPECT_LT(play.share_looked(10'500 * ms, send), 0.08) << period_ns;
  }
}

TEST(SpinTrial, ArrivalsAtRandomAreSleptForMostOfTheTime) {
  Play play;
  std::mt19937_64 random(7);
  std::exponential_distribution<double> gap(1.0 / (30.0 * us));
  double next_ns = 0;
  const auto send = [&] { play.serve(static_cast<std::uint64_t>(next_ns += gap(random)), 1); };
  play.share_looked(500 * ms, send);
  EXPECT_LT(play.share_looked(20'500 * ms, send), 0.3);
}

TEST(SpinTrial, NoisyMachinesDoNotChangeTheAnswerForLong) {
  std::mt19937_64 random(11);
  Play waits;
  const auto answer = [&] { waits.serve(waits.now_ns + (random() % 4000 == 0 ? 1'000 * us : 8 * us), 1); };
  waits.share_looked(500 * ms, answer);
  EXPECT_GT(waits.share_looked(20'500 * ms, answer), 0.5);
  Play sends;
  std::uint64_t next_ns = 0;
  const auto send = [&] {
    if (random() % 4000 == 0) sends.now_ns += 1'000 * us;  // the host of the machine took the CPU
    sends.serve(next_ns += 25 * us, 1);
  };
  sends.share_looked(500 * ms, send);
  EXPECT_LT(sends.share_looked(20'500 * ms, send), 0.15);
}

TEST(SpinTrial, AnotherLoadIsTriedAtOnce) {
  Play play;
  std::uint64_t next_ns = 0;
  play.share_looked(10'000 * ms, [&] { play.serve(next_ns += 45 * us, 1); });
  ASSERT_FALSE(play.tuner.trial().pays());
  // A host that waits for each answer comes instead.
  play.share_looked(10'050 * ms, [&] { play.serve(play.now_ns + 8 * us, 1); });
  EXPECT_TRUE(play.tuner.trial().pays()) << "within 50 ms, not when the rest after the last trial is over";
  const std::uint64_t before = play.now_ns;
  next_ns = play.now_ns;
  play.share_looked(before + 3'600 * ms, [&] { play.serve(next_ns += 45 * us, 1); });
  EXPECT_FALSE(play.tuner.trial().pays());
}

TEST(SpinTrial, CheapGapsAreLookedThroughWithoutATrial) {
  Play play;
  play.share_looked(1'000 * ms, [&] { play.serve(play.now_ns + 3 * us, 1); });
  EXPECT_EQ(play.tuner.trial().trials(), 0u);
  EXPECT_GT(play.tuner.budget_ns(play.now_ns), 0u);
}

TEST(SpinTrial, NoTrialWhileSomebodyElseHasTheCpu) {
  SpinTrial trial;
  for (std::uint64_t i = 1; i < 10'000; ++i)
    trial.learn({.now_ns = i * 20 * us, .gap_ns = 16 * us, .progress = i, .max_ns = 50 * us, .disturbed = true});
  EXPECT_EQ(trial.trials(), 0u);
  EXPECT_TRUE(trial.looking());
}

// While this thread pauses, gaps are as long as sleeping makes them: that is no other load, and afterwards nothing is tried anew.
TEST(SpinTrial, PausesDoNotMakeTheLoadAnother) {
  SpinTrial trial;
  std::uint64_t now_ns = 0;
  std::uint64_t progress = 0;
  const auto go_on = [&](std::uint64_t until_ns, bool disturbed) {
    while (now_ns < until_ns) {
      const std::uint64_t gap_ns = disturbed || !trial.looking() ? 25 * us : 8 * us;
      now_ns += gap_ns + 6 * us;
      trial.learn({.now_ns = now_ns, .gap_ns = gap_ns, .progress = ++progress, .max_ns = 50 * us, .disturbed = disturbed});
    }
  };
  go_on(5'000 * ms, false);
  const std::uint64_t trials = trial.trials();
  for (std::uint64_t i = 0; i < 40; ++i) {
    go_on(now_ns + 10 * ms, true);
    go_on(now_ns + 15 * ms, false);
  }
  EXPECT_LE(trial.trials(), trials + 1);
}

// Others on the same host take the CPU of who sends, for 300 us in each of four commands, once in 2,000 commands.
TEST(SpinTrial, LateCommandsNowAndThenDoNotMakeTheLoadAnother) {
  Play play;
  std::mt19937_64 random(13);
  int late = 0;
  const auto answer = [&] {
    if (late == 0 && random() % 2000 == 0) late = 4;
    play.serve(play.now_ns + (late > 0 ? 300 * us : 8 * us), 1);
    late = std::max(0, late - 1);
  };
  play.share_looked(1'000 * ms, answer);
  const std::uint64_t trials = play.tuner.trial().trials();
  play.share_looked(11'000 * ms, answer);
  EXPECT_LE(play.tuner.trial().trials(), trials + 10) << "one in 3.2 s, and a few that noise called for";
}

TEST(SpinTrial, ALoadThatStopsInTheMiddleDecidesNothing) {
  SpinTrial trial;
  std::uint64_t now_ns = 0;
  std::uint64_t progress = 0;
  for (int burst = 0; burst < 100; ++burst) {
    for (int i = 0; i < 60; ++i) trial.learn({.now_ns = now_ns += 20 * us, .gap_ns = 16 * us, .progress = ++progress, .max_ns = 50 * us});
    now_ns += 500 * ms;
  }
  EXPECT_EQ(trial.trials(), 0u);
}

// Nobody counts what is done here: then looking is as good as it was before anybody asked.
TEST(SpinTrial, WithoutProgressLookingGoesOn) {
  SpinTrial trial;
  for (std::uint64_t i = 1; i < 100'000; ++i) trial.learn({.now_ns = i * 20 * us, .gap_ns = 16 * us, .max_ns = 50 * us});
  EXPECT_GT(trial.trials(), 0u);
  EXPECT_TRUE(trial.pays());
}

}  // namespace
}  // namespace catnap
