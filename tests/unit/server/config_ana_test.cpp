// ANA in the target's configuration, on a virtual clock: states and groups by call, what is no change, and the end of the state `change`.
#include "server/ana.h"
#include "tests/unit/server/config_fixture.h"

namespace catnap::server {
namespace {

class AnaConfigTest : public TargetTest {
 protected:
  AnaConfigTest() {
    EXPECT_TRUE(create_transport().has_value());
    EXPECT_TRUE(on_app([&] {
                  SubsystemOptions options;
                  options.nqn = nqn;
                  options.ana_reporting = true;
                  options.max_namespaces = 8;
                  return target->create_subsystem(options);
                }).has_value());
    add_bdev("Silent0", uuid_1);
    EXPECT_TRUE(add_ns("Silent0", 1).has_value());
    EXPECT_TRUE(add_listener("127.0.0.1").has_value());
    EXPECT_TRUE(add_listener("127.0.0.2").has_value());
  }

  auto set_state(AnaState state, std::optional<std::uint32_t> group = {}, const std::string& traddr = "127.0.0.1") {
    return on_app([&] { return target->set_ana_state(nqn, address(traddr), state, group); });
  }
  auto move(std::uint32_t nsid, std::uint32_t group) {
    return on_app([&] { return target->set_namespace_ana_group(nqn, nsid, group); });
  }
  const SubsystemSnapshot::ListenerEntry& listener(std::size_t index = 0) { return target->current().find(nqn)->listeners.at(index); }
  AnaState state_of(std::uint32_t group, std::size_t index = 0) { return ana_state_of(&listener(index), group); }
};

TEST_F(AnaConfigTest, OneGroupAndAllGroups) {
  ASSERT_TRUE(set_state(AnaState::inaccessible, 3).has_value());
  EXPECT_EQ(state_of(3), AnaState::inaccessible);
  EXPECT_EQ(state_of(1), AnaState::optimized);
  EXPECT_EQ(state_of(3, 1), AnaState::optimized) << "another listener";
  ASSERT_TRUE(set_state(AnaState::non_optimized).has_value());
  for (std::uint32_t group = 1; group <= 8; ++group) EXPECT_EQ(state_of(group), AnaState::non_optimized);
}

TEST_F(AnaConfigTest, WhatIsSoAlreadyIsNoChange) {
  ASSERT_TRUE(set_state(AnaState::inaccessible, 1).has_value());
  const std::uint64_t before = generation();
  const std::uint64_t count = listener().ana_change_count;
  EXPECT_TRUE(set_state(AnaState::inaccessible, 1).has_value());
  EXPECT_TRUE(move(1, 1).has_value());
  EXPECT_EQ(generation(), before);
  EXPECT_EQ(listener().ana_change_count, count);
}

TEST_F(AnaConfigTest, CountsPerListener) {
  const std::uint64_t here = listener(0).ana_change_count;
  const std::uint64_t there = listener(1).ana_change_count;
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(set_state(i % 2 == 0 ? AnaState::inaccessible : AnaState::optimized, 1).has_value());
  EXPECT_EQ(listener(0).ana_change_count, here + 100);
  EXPECT_EQ(listener(1).ana_change_count, there);
  ASSERT_TRUE(move(1, 2).has_value());
  EXPECT_EQ(listener(0).ana_change_count, here + 101);
  EXPECT_EQ(listener(1).ana_change_count, there + 1);
}

TEST_F(AnaConfigTest, RefusesWhatIsNotThere) {
  EXPECT_EQ(set_state(AnaState::optimized, 9).error().err, EINVAL);
  EXPECT_EQ(set_state(AnaState::optimized, 0).error().err, EINVAL);
  EXPECT_EQ(set_state(AnaState::optimized, 1, "127.0.0.9").error().err, ENODEV);
  EXPECT_EQ(move(7, 1).error().err, ENODEV);
  EXPECT_EQ(move(1, 9).error().err, EINVAL);
  ASSERT_TRUE(create(other_nqn).has_value());
  EXPECT_EQ(on_app([&] { return target->set_namespace_ana_group(other_nqn, 1, 1); }).error().err, EINVAL) << "without ana_reporting";
}

// Proves: ana | Transition time | Base 8.1.3
TEST_F(AnaConfigTest, ChangeEndsAfterTheTimeThatWasPromised) {
  constexpr std::uint64_t limit_us = std::uint64_t{ana_transition_limit_s} * 1'000'000;
  ASSERT_TRUE(set_state(AnaState::change, 2).has_value());
  app.advance_us(limit_us / 2);
  ASSERT_TRUE(set_state(AnaState::change).has_value());
  app.advance_us(limit_us / 2 - 1000);
  EXPECT_EQ(state_of(2), AnaState::change);
  // All groups entered it at half time; that replaced the one group's.
  app.advance_us(limit_us / 2 + 2000);
  for (std::uint32_t group = 1; group <= 8; ++group) EXPECT_EQ(state_of(group), AnaState::inaccessible);
}

TEST_F(AnaConfigTest, ChangeThatWasEndedInTimeIsLeftAlone) {
  constexpr std::uint64_t limit_us = std::uint64_t{ana_transition_limit_s} * 1'000'000;
  ASSERT_TRUE(set_state(AnaState::change, 1).has_value());
  app.advance_us(limit_us - 1000);
  ASSERT_TRUE(set_state(AnaState::optimized, 1).has_value());
  const std::uint64_t before = generation();
  app.advance_us(10 * limit_us);
  EXPECT_EQ(state_of(1), AnaState::optimized);
  EXPECT_EQ(generation(), before) << "no timer is left";
}

}  // namespace
}  // namespace catnap::server
