// Publication: a change is committed when every group has it, waits are bounded, and removal waits for what was removed.
// Owner: the test's thread; groups and app_thread are turned by hand.
#include <gmock/gmock.h>

#include "tests/unit/server/config_fixture.h"

namespace catnap::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

class PublisherTest : public TargetTest {
 protected:
  PublisherTest() : first(add_group("group_000")), second(add_group("group_001")) {
    turn_all();
    commits.clear();
  }
  // Spawns a wait on app_thread; its outcome comes into `outcome`.
  void wait_for(std::uint64_t generation) {
    app.on_thread([this, generation] { spawn<Result<void>>(target->settled(generation), [this](Result<void> result) { outcome = result; }); });
  }
  void wait_for_release(std::uint64_t generation, Target::Watch watch, std::string ended) {
    app.on_thread(
        [&] { spawn<Result<void>>(target->settled_and_released(generation, watch, ended), [this](Result<void> result) { outcome = result; }); });
  }

  HandGroup& first;
  HandGroup& second;
  std::optional<Result<void>> outcome;
};

TEST_F(PublisherTest, CommitsWhenTheLastGroupHasIt) {
  const auto change = create();
  ASSERT_TRUE(change.has_value());
  wait_for(*change);
  EXPECT_FALSE(outcome.has_value());
  first.turn();
  app.settle();
  EXPECT_FALSE(outcome.has_value());
  EXPECT_TRUE(commits.empty());
  second.turn();
  app.settle();
  ASSERT_TRUE(outcome.has_value());
  EXPECT_TRUE(outcome->has_value());
  EXPECT_THAT(commits, ElementsAre(Pair(*change - 1, *change)));
}

TEST_F(PublisherTest, EachGenerationIsCommittedOnceAndInOrder) {
  const std::uint64_t begin = generation();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(create("nqn.2026-11.io.catnap:" + std::to_string(i)).has_value());
  second.turn();  // takes all three up while the other has none
  app.settle();
  EXPECT_TRUE(commits.empty());
  first.turn();
  app.settle();
  EXPECT_THAT(commits, ElementsAre(Pair(begin, begin + 1), Pair(begin + 1, begin + 2), Pair(begin + 2, begin + 3)));
  EXPECT_EQ(first.held, second.held);
}

TEST_F(PublisherTest, WaitingForWhatIsCommittedReturnsAtOnce) {
  wait_for(generation());
  ASSERT_TRUE(outcome.has_value());
  EXPECT_TRUE(outcome->has_value());
}

TEST_F(PublisherTest, AGroupThatDoesNotAnswerIsNamedAndTheChangeStands) {
  const auto change = create();
  ASSERT_TRUE(change.has_value());
  wait_for(*change);
  second.turn();
  app.advance_us(target->limits().commit_timeout_us - 1);
  EXPECT_FALSE(outcome.has_value());
  app.advance_us(1);
  ASSERT_TRUE(outcome.has_value());
  ASSERT_FALSE(outcome->has_value());
  EXPECT_EQ(outcome->error().err, ETIMEDOUT);
  EXPECT_THAT(outcome->error().message, HasSubstr("group_000"));
  EXPECT_EQ(outcome->error().message.find("group_001"), std::string::npos);
  EXPECT_NE(target->current().find(nqn), nullptr);
  first.turn();
  app.settle();
  EXPECT_EQ(target->publisher().committed_generation(), *change);
}

TEST_F(PublisherTest, AStuckGroupHoldsUpNoLaterChange) {
  const auto stuck = create();
  ASSERT_TRUE(stuck.has_value());
  const auto next = create(other_nqn);
  ASSERT_TRUE(next.has_value());
  second.turn();
  EXPECT_NE(second.held->find(other_nqn), nullptr) << "the healthy group serves the second change although the first is not committed";
}

TEST_F(PublisherTest, RemovalWaitsForTheNamespaceAndIsBounded) {
  add_bdev("a", uuid_1);
  ASSERT_TRUE(create().has_value());
  ASSERT_TRUE(add_ns("a").has_value());
  turn_all();
  Target::Watch watch = on_app([&] { return target->watch_namespace(nqn, 1); });
  ASSERT_EQ(watch.size(), 1U);
  std::shared_ptr<const NamespaceConfig> in_flight = watch[0].lock();  // as a group's slot holds it while I/O is in flight
  const auto change = on_app([&] { return target->remove_namespace(nqn, 1); });
  ASSERT_TRUE(change.has_value());
  wait_for_release(*change, watch, "");
  turn_all();
  EXPECT_FALSE(outcome.has_value()) << "committed, but still in use";
  in_flight.reset();
  app.advance_us(10'000);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_TRUE(outcome->has_value());
}

TEST_F(PublisherTest, RemovalAnswersAllTheSameWhenIoIsStuck) {
  add_bdev("a", uuid_1);
  ASSERT_TRUE(create().has_value());
  ASSERT_TRUE(add_ns("a").has_value());
  turn_all();
  Target::Watch watch = on_app([&] { return target->watch_namespace(nqn, 1); });
  const std::shared_ptr<const NamespaceConfig> stuck = watch[0].lock();
  const auto change = on_app([&] { return target->remove_namespace(nqn, 1); });
  wait_for_release(*change, watch, "");
  turn_all();
  for (std::uint64_t waited_us = 0; waited_us < target->limits().release_timeout_us; waited_us += 100'000) {
    EXPECT_FALSE(outcome.has_value()) << waited_us;
    app.advance_us(100'000);
  }
  ASSERT_TRUE(outcome.has_value());
  EXPECT_TRUE(outcome->has_value()) << "it is applied";
  EXPECT_EQ(bdev::Registry::instance().claimed_by(*bdevs[0]), bdev_opener);
}

TEST_F(PublisherTest, DeletingASubsystemWaitsForItsControllers) {
  ASSERT_TRUE(create().has_value());
  turn_all();
  controllers_left = true;
  const auto change = on_app([&] { return target->delete_subsystem(nqn); });
  ASSERT_TRUE(change.has_value());
  wait_for_release(*change, {}, nqn);
  turn_all();
  app.advance_us(10'000);
  EXPECT_FALSE(outcome.has_value());
  controllers_left = false;
  app.advance_us(10'000);
  ASSERT_TRUE(outcome.has_value());
}

}  // namespace
}  // namespace catnap::server
