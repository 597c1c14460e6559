// The sleep contract over thousands of interleavings of its steps, and the proof that the model finds a wake-up that gets lost.
//
// A failure prints its seed; CATNAP_SIM_SEED=<seed> runs that one alone and prints its steps.
#include "tests/sim/sleep_model.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <cstdlib>

#include "reactor/base/log.h"

namespace catnap::sim {
namespace {

constexpr std::uint64_t seeds_in_ci = 400;
constexpr std::uint64_t seeds_in_soak = 20'000;

std::uint64_t seeds_to_run() { return std::getenv("CATNAP_SOAK") != nullptr ? seeds_in_soak : seeds_in_ci; }

class SleepModelTest : public testing::Test {
 protected:
  // Actors take turns, so a second CPU only makes their turns slower.
  void SetUp() override {
    ASSERT_EQ(sched_getaffinity(0, sizeof before_, &before_), 0);
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &before_)) continue;
      CPU_SET(cpu, &one);
      break;
    }
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  }
  void TearDown() override { sched_setaffinity(0, sizeof before_, &before_); }

 private:
  cpu_set_t before_{};
};

TEST_F(SleepModelTest, NoInterleavingLosesAWakeUp) {
  if (const char* chosen = std::getenv("CATNAP_SIM_SEED")) {
    const auto outcome = SleepModel(std::strtoull(chosen, nullptr, 10)).run();
    printf("%s", outcome.tail.c_str());
    ASSERT_EQ(outcome.failure, "");
    return;
  }
  std::uint64_t steps = 0, events = 0;
  for (std::uint64_t seed = 1; seed <= seeds_to_run(); ++seed) {
    const auto outcome = SleepModel(seed).run();
    ASSERT_EQ(outcome.failure, "") << "CATNAP_SIM_SEED=" << seed << " replays it; the last steps:\n" << outcome.tail;
    steps += outcome.steps;
    events += outcome.events;
  }
  printf("%llu seeds, %llu steps, %llu events\n", static_cast<unsigned long long>(seeds_to_run()), static_cast<unsigned long long>(steps),
         static_cast<unsigned long long>(events));
  EXPECT_GT(events, seeds_to_run());
}

TEST_F(SleepModelTest, ASeedGivesTheSameStepsAgain) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    const auto first = SleepModel(seed).run();
    const auto second = SleepModel(seed).run();
    EXPECT_EQ(first.steps, second.steps) << "seed " << seed;
    EXPECT_EQ(first.tail, second.tail) << "seed " << seed;
  }
}

// With a step of the protocol left out, the model finds it, and the seed that found it finds it again.
class WithoutAStep : public SleepModelTest, public testing::WithParamInterface<Step> {};

TEST_P(WithoutAStep, TheModelFindsTheLostWakeUp) {
  constexpr std::uint64_t enough_seeds = 1'000;
  for (std::uint64_t seed = 1; seed <= enough_seeds; ++seed) {
    const auto outcome = SleepModel(seed, GetParam()).run();
    if (outcome.failure.empty()) continue;
    printf("seed %llu, after %llu steps: %s\n", static_cast<unsigned long long>(seed), static_cast<unsigned long long>(outcome.steps),
           outcome.failure.c_str());
    EXPECT_NE(outcome.failure.find("nobody will wake it"), std::string::npos) << outcome.failure;
    const auto again = SleepModel(seed, GetParam()).run();
    EXPECT_EQ(again.failure, outcome.failure);
    EXPECT_EQ(again.tail, outcome.tail);
    return;
  }
  FAIL() << "none of " << enough_seeds << " seeds";
}

std::string name_of(const testing::TestParamInfo<Step>& step) {
  switch (step.param) {
    case Step::recheck_messages:
      return "LookingAgainForMessages";
    case Step::recheck_arrivals:
      return "LookingAgainForArrivals";
    case Step::notify_after_push:
      return "NotifyingAfterThePush";
    case Step::home_after_push:
      return "AskingForTheHomeAfterThePush";
  }
  return {};
}

INSTANTIATE_TEST_SUITE_P(Steps, WithoutAStep,
                         testing::Values(Step::recheck_messages, Step::recheck_arrivals, Step::notify_after_push, Step::home_after_push), name_of);

}  // namespace
}  // namespace catnap::sim
