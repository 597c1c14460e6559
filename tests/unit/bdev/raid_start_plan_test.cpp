// Whose word counts when a raid1 starts: tables of superblocks as members may be found with them. Owner: the test's thread. Left out: reading them.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "bdev/raid/start_plan.h"

namespace catnap::bdev {
namespace {

using Verdict = StartPlan::Verdict;

// The superblock of `slot` in a mirror whose members are in these states.
Superblock superblock_of(std::uint32_t slot, std::uint64_t events, const std::vector<SlotState>& states, std::uint64_t fork_id = 7) {
  Superblock made;
  made.events = events;
  made.fork_id = fork_id;
  made.this_slot = slot;
  for (std::size_t i = 0; i < states.size(); ++i) {
    SuperblockSlot entry;
    entry.member_uuid[0] = static_cast<std::uint8_t>(i + 1);
    entry.state = states[i];
    made.slots.push_back(entry);
  }
  return made;
}

FoundMember found(const Superblock& superblock) {
  FoundMember member;
  member.present = true;
  member.superblock = superblock;
  return member;
}

constexpr SlotState in_sync = SlotState::in_sync, failed = SlotState::failed, rebuilding = SlotState::rebuilding, blank = SlotState::blank;

TEST(StartPlan, AllThereAndAgreed) {
  const StartPlan plan = plan_start({found(superblock_of(0, 5, {in_sync, in_sync})), found(superblock_of(1, 5, {in_sync, in_sync}))}, false);
  EXPECT_EQ(plan.verdict, Verdict::start);
  EXPECT_EQ(plan.states, (std::vector{in_sync, in_sync}));
  EXPECT_FALSE(plan.must_write);
}

TEST(StartPlan, WaitsForWhoIsRecordedInSync) {
  const std::vector<FoundMember> alone{found(superblock_of(0, 5, {in_sync, in_sync})), FoundMember()};
  const StartPlan plan = plan_start(alone, false);
  EXPECT_EQ(plan.verdict, Verdict::wait);
  EXPECT_EQ(plan.waits_for, (std::vector<std::uint32_t>{1}));
  const StartPlan forced = plan_start(alone, true);
  EXPECT_EQ(forced.verdict, Verdict::start);
  EXPECT_TRUE(forced.forked);
}

TEST(StartPlan, StartsWithoutWhoIsRecordedAsFailed) {
  const StartPlan plan = plan_start({found(superblock_of(0, 6, {in_sync, failed})), FoundMember()}, false);
  EXPECT_EQ(plan.verdict, Verdict::start);
  EXPECT_FALSE(plan.forked);
}

// Slot 0 was left out without its knowledge; slot 1 is not there to say so, but slot 2, which was being rebuilt, knows it.
TEST(StartPlan, WhoWasLeftOutHasNoSay) {
  const StartPlan plan = plan_start(
      {found(superblock_of(0, 4, {in_sync, failed, in_sync})), FoundMember(), found(superblock_of(2, 9, {failed, in_sync, rebuilding}))}, false);
  EXPECT_EQ(plan.verdict, Verdict::wait);
  EXPECT_EQ(plan.waits_for, (std::vector<std::uint32_t>{1}));
  // With slot 1 there, its word counts.
  const StartPlan whole =
      plan_start({found(superblock_of(0, 4, {in_sync, failed, in_sync})), found(superblock_of(1, 9, {failed, in_sync, rebuilding})),
                  found(superblock_of(2, 9, {failed, in_sync, rebuilding}))},
                 false);
  EXPECT_EQ(whole.verdict, Verdict::start);
  EXPECT_EQ(whole.states, (std::vector{failed, in_sync, rebuilding}));
}

// What stands in the slot of a member that is recorded in sync is another member: the right one may have gone on elsewhere.
TEST(StartPlan, AnotherMemberInASlotIsNotTheOneThatIsMeant) {
  Superblock other = superblock_of(1, 2, {failed, blank});
  other.slots[1].member_uuid[0] = 99;
  const StartPlan plan = plan_start({found(superblock_of(0, 5, {in_sync, in_sync})), found(other)}, false);
  EXPECT_EQ(plan.verdict, Verdict::wait);
  EXPECT_EQ(plan.waits_for, (std::vector<std::uint32_t>{1}));
}

// A disk that was taken out of the array, and was left where it is.
TEST(StartPlan, WhoWasRemovedHoldsNobodyUp) {
  Superblock running = superblock_of(0, 6, {in_sync, SlotState::empty});
  running.slots[1].member_uuid = {};
  const StartPlan plan = plan_start({found(running), found(superblock_of(1, 5, {in_sync, in_sync}))}, false);
  EXPECT_EQ(plan.verdict, Verdict::start) << plan.reason;
  EXPECT_EQ(plan.states[1], SlotState::empty);
  EXPECT_EQ(plan.diverged, (std::vector<std::uint32_t>{1})) << "it is not used";
  // It went on by itself.
  const StartPlan both = plan_start({found(running), found(superblock_of(1, 7, {failed, in_sync}, 12))}, false);
  EXPECT_EQ(both.verdict, Verdict::refuse);
}

TEST(StartPlan, TwoThatWentOnWithoutEachOtherAreRefused) {
  const StartPlan plan = plan_start({found(superblock_of(0, 8, {in_sync, failed}, 11)), found(superblock_of(1, 8, {failed, in_sync}, 12))}, true);
  EXPECT_EQ(plan.verdict, Verdict::refuse);
  EXPECT_NE(plan.reason.find("diverged"), std::string::npos) << plan.reason;
}

// Started by force without slot 1, which comes back as it was before: an ancestor, so what is marked is enough.
TEST(StartPlan, AnAncestorBeforeAForkIsTakenBack) {
  Superblock running = superblock_of(0, 9, {in_sync, failed}, 12);
  running.slots[1].left_events = 6;
  running.earlier_forks.push_back({});
  running.earlier_forks.back().id = 7;
  running.earlier_forks.back().last_events = 5;
  EXPECT_EQ(judge_return(running, 1, superblock_of(1, 5, {in_sync, in_sync})), Returning::delta);
  EXPECT_EQ(judge_return(running, 1, superblock_of(1, 6, {failed, in_sync})), Returning::diverged) << "it has gone on on the old line";
  EXPECT_EQ(judge_return(running, 1, superblock_of(1, 3, {in_sync, in_sync})), Returning::full) << "it was set back";
  EXPECT_EQ(judge_return(running, 1, std::nullopt), Returning::stranger);
}

}  // namespace
}  // namespace catnap::bdev
