// No wake-up is lost between real OS threads; and with the second look left out, the observer notices.
#include "tests/sim/wake_up_stress.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "reactor/base/sim_point.h"

namespace catnap::sim {
namespace {

#ifndef CATNAP_SIM

constexpr std::uint64_t events_in_ci = 200'000;
constexpr std::uint64_t events_in_soak = 10'000'000;

TEST(WakeUpStressTest, NoReactorIsTwiceInTheSameWaitWithWorkThatIsDue) {
  const bool soak = std::getenv("CATNAP_SOAK") != nullptr;
  std::uint64_t seed = 1;
  if (const char* chosen = std::getenv("CATNAP_SIM_SEED")) seed = std::strtoull(chosen, nullptr, 10);
  WakeUpStress stress(seed);
  const auto report = stress.run(soak ? events_in_soak : events_in_ci);
  printf(
      "%llu events, %llu sleeps, %llu mode switches, %llu nestings, %llu moves; %llu samples, %llu seen once with work due; worst wait: message %.2f "
      "ms, fd "
      "%.2f ms, timer %.2f ms\n",
      static_cast<unsigned long long>(report.events), static_cast<unsigned long long>(report.sleeps),
      static_cast<unsigned long long>(report.mode_switches), static_cast<unsigned long long>(report.nestings),
      static_cast<unsigned long long>(report.moves), static_cast<unsigned long long>(report.samples),
      static_cast<unsigned long long>(report.suspects), static_cast<double>(report.worst_message_ns) / 1e6,
      static_cast<double>(report.worst_fd_ns) / 1e6, static_cast<double>(report.worst_timer_ns) / 1e6);
  EXPECT_EQ(report.lost, "");
  EXPECT_EQ(report.left, 0U) << "events that never came";
  EXPECT_GT(report.sleeps, 1000U) << "reactors that never sleep lose no wake-up";
  EXPECT_GT(report.nestings, 100U);
  EXPECT_GT(report.moves, 100U);
  EXPECT_GT(report.mode_switches, 100U);
}

#else

// The proof that the observer can fail: the same stress, on a reactor that does not look again after it has said that it sleeps.
TEST(WakeUpStressTest, WithoutTheSecondLookTheObserverFindsALostWakeUp) {
  constexpr std::uint64_t many = 50'000'000;
  WakeUpStress stress(1);
  const auto report = stress.run(many);
  printf("after %llu events: %s\n", static_cast<unsigned long long>(report.events), report.lost.c_str());
  EXPECT_NE(report.lost, "");
}

#endif

}  // namespace

#ifdef CATNAP_SIM
// No model here: only the step is missing, and the window in which it matters is wide enough to be met.
void point(Point point) {
  if (point == Point::about_to_sleep || point == Point::flag_seen_set) std::this_thread::yield();
}
bool left_out(Step step) { return step == Step::recheck_messages; }
std::int64_t wait(int, std::int64_t timeout_ns) { return timeout_ns; }
#endif

}  // namespace catnap::sim
