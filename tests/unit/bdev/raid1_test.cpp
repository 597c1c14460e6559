// raid1 as a bdev over real bdevs: both members hold what was written, members go and come back, bad blocks are repaired, a scrub finds differences.
// Crashes and orders of events are the simulation's (tests/sim/raid1_test.cpp).
#include "bdev/raid/raid1.h"

#include <gtest/gtest.h>

#include "tests/unit/bdev/raid1_bench.h"

namespace catnap::bdev {
namespace {

TEST_F(Raid1Test, WithoutSuperblockBothMembersHoldTheDataFromBlockZeroOn) {
  add_disk("A", 1024);
  add_disk("B", 2048);
  ASSERT_TRUE(create_array(mirror({"A", "B"})).has_value());
  ASSERT_EQ(array("R")->state(), RaidState::online);
  EXPECT_EQ(array("R")->bdev()->num_blocks(), 1024u);
  EXPECT_EQ(info("R")["bitmap"], "none");
  until_whole();
  open_top("R");
  for (std::uint64_t block = 0; block < 1024; block += 64) ASSERT_EQ(run(Op::write, block, 64, static_cast<int>(block / 64 + 1)), Status::ok);
  EXPECT_EQ(run(Op::flush, 0, 0), Status::ok);
  EXPECT_EQ(run(Op::unmap, 64, 64), Status::ok);
  EXPECT_EQ(run(Op::write_zeroes, 128, 64), Status::ok);
  EXPECT_EQ(run(Op::reset, 0, 0), Status::ok);
  EXPECT_EQ(value_of(70), 0);
  EXPECT_EQ(value_of(200), 4);
  close_top();
  ASSERT_TRUE(remove_array("R").has_value());
  for (const char* name : {"A", "B"}) {
    EXPECT_EQ(value_on(name, 0), 1);
    EXPECT_EQ(value_on(name, 70), 0);
    EXPECT_EQ(value_on(name, 130), 0);
    EXPECT_EQ(value_on(name, 1023), 16);
  }
}

TEST_F(Raid1Test, MembersOfOtherBlockSizesAndOptionsThatCannotBeAreRefusedByName) {
  add_disk("A", 1024);
  add_disk("B", 128, 4096);
  const auto outcome = create_array(mirror({"A", "B"}));
  ASSERT_FALSE(outcome.has_value());
  EXPECT_NE(outcome.error().message.find("'B' has blocks of 4096 bytes"), std::string::npos) << outcome.error().message;
}

TEST_F(Raid1Test, AMemberThatWasAwayGetsWhatChangedAndNoMore) {
  const TestFile f1(16 << 20), f2(16 << 20);
  add_file("F1", f1);
  add_file("F2", f2);
  RaidOptions options = mirror({"F1", "F2"}, true);
  options.bitmap_region_kib = 64;
  options.assume_clean = true;
  ASSERT_TRUE(create_array(options).has_value());
  const std::uint64_t size = array("R")->bdev()->num_blocks();
  open_top("R");
  EXPECT_EQ(run(Op::write, 0, 64, 1), Status::ok);
  EXPECT_EQ(bitmap()["kind"], "superblock");
  EXPECT_EQ(bitmap()["marked_regions"], 1);
  EXPECT_EQ(bitmap()["ranges"][0]["num_blocks"], 128);
  remove("F2");
  bench_.settle();
  EXPECT_EQ(array("R")->state(), RaidState::online);
  EXPECT_EQ(array("R")->member(1).state, MemberState::missing);
  EXPECT_EQ(run(Op::write, 4096, 64, 2), Status::ok);
  EXPECT_EQ(run(Op::write, size - 8, 8, 3), Status::ok);
  EXPECT_EQ(bitmap()["marked_regions"], 3);
  add_file("F2", f2);  // found by its superblock
  until_whole();
  EXPECT_EQ(value_of(4096), 2);
  close_top();
  // Only what it has: it must be on the member itself.
  ASSERT_TRUE(remove_array("R").has_value());
  const std::uint64_t offset = size > 0 ? (16 << 20) / 512 - size : 0;
  EXPECT_EQ(value_on("F2", offset), 1);
  EXPECT_EQ(value_on("F2", offset + 4096), 2);
  EXPECT_EQ(value_on("F2", offset + size - 1), 3);
}

TEST_F(Raid1Test, ANewMemberIsCopiedWholeAndTheLastOneStays) {
  for (const char* name : {"A", "B", "C"}) add_disk(name, 2048);
  RaidOptions options = mirror({"A", "B"});
  options.assume_clean = true;
  ASSERT_TRUE(create_array(options).has_value());
  open_top("R");
  for (std::uint64_t block = 0; block < 2048; block += 64) ASSERT_EQ(run(Op::write, block, 64, static_cast<int>(block / 64 + 1)), Status::ok);
  EXPECT_TRUE(wait_for([&] { return array("R")->remove_member(0); }).has_value());
  const auto last = wait_for([&] { return array("R")->remove_member(1); });
  ASSERT_FALSE(last.has_value());
  EXPECT_EQ(last.error().err, EBUSY);
  EXPECT_TRUE(wait_for([&] { return array("R")->add_member("C"); }).has_value());
  EXPECT_EQ(run(Op::write, 100, 8, 99), Status::ok);  // while it is copied, or after
  until_whole();
  EXPECT_TRUE(wait_for([&] { return array("R")->remove_member(1); }).has_value());
  EXPECT_EQ(value_of(0), 1);
  EXPECT_EQ(value_of(103), 99);
  EXPECT_EQ(value_of(2047), 32);
}

// That one is in sync is seen before it is recorded on all members; until then the other one's word would count alone.
TEST_F(Raid1Test, AMemberMayGoAsSoonAsTheOtherIsSeenInSync) {
  const TestFile f1(16 << 20), f2(16 << 20);
  add_file("F1", f1);
  add_file("F2", f2);
  RaidOptions options = mirror({"F1", "F2"}, true);
  options.assume_clean = true;
  ASSERT_TRUE(create_array(options).has_value());
  for (const std::uint32_t slot : {0u, 1u, 0u}) {
    ASSERT_TRUE(wait_for([&] { return array("R")->remove_member(slot); }).has_value());
    ASSERT_TRUE(wait_for([&] { return array("R")->add_member(slot == 0 ? "F1" : "F2"); }).has_value());
    bench_.until([slot] { return state_of(slot) == MemberState::in_sync; });
  }
}

TEST_F(Raid1Test, ItGrowsWhenAllItsMembersHaveGrown) {
  TestFile f1(4 << 20), f2(4 << 20);
  add_file("F1", f1);
  add_file("F2", f2);
  ASSERT_TRUE(create_array(mirror({"F1", "F2"}, true)).has_value());
  const std::uint64_t before = array("R")->bdev()->num_blocks();
  const auto resize = [this](const std::string& name, const TestFile& of) {
    of.resize(8 << 20);
    bench_.on_thread([&] { static_cast<FileBdev&>(*Registry::instance().find(name)).take_size((8 << 20) / 512); });
    bench_.settle();
  };
  resize("F1", f1);
  EXPECT_TRUE(wait_for([] { return array("R")->grow(); }).has_value());
  EXPECT_EQ(array("R")->bdev()->num_blocks(), before);
  resize("F2", f2);
  EXPECT_TRUE(wait_for([] { return array("R")->grow(); }).has_value());
  EXPECT_EQ(array("R")->bdev()->num_blocks(), before + (4 << 20) / 512);
  until_whole();
  open_top("R");
  EXPECT_EQ(run(Op::write, before + 100, 8, 5), Status::ok);
  close_top();
  // The superblocks say so too.
  ASSERT_TRUE(remove_array("R").has_value());
  bench_.on_thread([] { ASSERT_TRUE(Registry::instance().examine("F1").has_value()); });
  bench_.on_thread([] { ASSERT_TRUE(Registry::instance().examine("F2").has_value()); });
  until_state("R", RaidState::online);
  EXPECT_EQ(array("R")->bdev()->num_blocks(), before + (4 << 20) / 512);
  open_top("R");
  EXPECT_EQ(value_of(before + 101), 5);
}

TEST_F(Raid1Test, ABlockThatOneMemberCannotReadComesFromTheOtherAndIsRewritten) {
  add_disk("A", 1024);
  add_disk("B", 1024);
  open_top("A");
  ASSERT_EQ(run(Op::write_uncorrectable, 40, 4), Status::ok);
  close_top();
  open_top("B");
  ASSERT_EQ(run(Op::write, 40, 4, 7), Status::ok);
  close_top();
  RaidOptions options = mirror({"A", "B"});
  options.assume_clean = true;
  ASSERT_TRUE(create_array(options).has_value());
  open_top("R");
  for (int i = 0; i < 4; ++i) EXPECT_EQ(value_of(41), 7);
  EXPECT_EQ(info("R")["repaired_reads"], 1);
  EXPECT_EQ(array("R")->member(0).state, MemberState::in_sync);
  close_top();
  ASSERT_TRUE(remove_array("R").has_value());
  open_top("A");
  EXPECT_EQ(value_of(41), 7);
}

// Blocks that no single member can give as a whole, of a read and of a scrub's step.
TEST_F(Raid1Test, EachMemberMayHaveBadBlocksElsewhere) {
  add_disk("A", 1024);
  add_disk("B", 1024);
  const auto spoil = [this](const char* name, std::uint64_t block) {
    open_top(name);
    ASSERT_EQ(run(Op::write, 0, 512, 7), Status::ok);
    ASSERT_EQ(run(Op::write_uncorrectable, block, 2), Status::ok);
    ASSERT_EQ(run(Op::write_uncorrectable, block + 200, 2), Status::ok);
    close_top();
  };
  spoil("A", 40);
  spoil("B", 42);
  RaidOptions options = mirror({"A", "B"});
  options.assume_clean = true;
  ASSERT_TRUE(create_array(options).has_value());
  open_top("R");
  EXPECT_EQ(run(Op::read, 38, 10), Status::ok);
  for (std::uint64_t block = 38; block < 48; ++block) EXPECT_EQ(value_of(block), 7) << block;
  EXPECT_GE(info("R")["repaired_reads"].asUInt(), 1U);
  ScrubOptions how;
  how.repair = true;
  bench_.on_thread([&] { ASSERT_TRUE(array("R")->level().start_scrub(how).has_value()); });
  bench_.until([] { return info("R")["scrub"]["finished"].asBool(); });
  EXPECT_EQ(info("R")["scrub"]["blocks_different"], 0);
  EXPECT_EQ(state_of(0), MemberState::in_sync);
  EXPECT_EQ(state_of(1), MemberState::in_sync);
  close_top();
  ASSERT_TRUE(remove_array("R").has_value());
  for (const char* name : {"A", "B"}) {
    open_top(name);
    for (const std::uint64_t block : {40, 42, 240, 242}) EXPECT_EQ(value_of(block), 7) << name << ", block " << block;
    close_top();
  }
}

TEST_F(Raid1Test, AScrubFindsWhatDiffersAndRepairsItWhenAsked) {
  add_disk("A", 4096);
  add_disk("B", 4096);
  open_top("B");
  ASSERT_EQ(run(Op::write, 1000, 3, 9), Status::ok);
  close_top();
  RaidOptions options = mirror({"A", "B"});
  options.assume_clean = true;  // which is not true
  ASSERT_TRUE(create_array(options).has_value());
  const auto scrub = [this](bool repair) {
    ScrubOptions how;
    how.repair = repair;
    bench_.on_thread([&] { ASSERT_TRUE(array("R")->level().start_scrub(how).has_value()); });
    bench_.until([] { return info("R")["scrub"]["finished"].asBool(); });
    return info("R")["scrub"];
  };
  Json::Value report = scrub(false);
  EXPECT_EQ(report["blocks_compared"], 4096);
  EXPECT_EQ(report["blocks_different"], 3);
  EXPECT_EQ(report["first_different_block"], 1000);
  EXPECT_EQ(report["blocks_repaired"], 0);
  EXPECT_EQ(scrub(true)["blocks_different"], 3);
  EXPECT_EQ(scrub(true)["blocks_different"], 0);
  ASSERT_TRUE(remove_array("R").has_value());
  EXPECT_EQ(value_on("B", 1001), 0);
}

TEST_F(Raid1Test, ABitmapBdevRemembersWhoWasLeftOut) {
  const TestFile f1(4 << 20), f2(4 << 20), marks(1 << 20);
  add_file("F1", f1);
  add_file("F2", f2);
  add_file("M", marks);
  RaidOptions options = mirror({"F1", "F2"});
  options.bitmap_bdev = "M";
  options.assume_clean = true;
  ASSERT_TRUE(create_array(options).has_value());
  EXPECT_EQ(info("R")["bitmap"], "bdev");
  open_top("R");
  EXPECT_EQ(run(Op::write, 0, 8, 1), Status::ok);
  remove("F1");
  bench_.settle();
  EXPECT_EQ(run(Op::write, 0, 8, 2), Status::ok);
  close_top();
  ASSERT_TRUE(remove_array("R").has_value());
  add_file("F1", f1);  // as it was left
  ASSERT_TRUE(create_array(options).has_value());
  until_whole();
  open_top("R");
  for (int i = 0; i < 4; ++i) EXPECT_EQ(value_of(0), 2);
}

}  // namespace
}  // namespace catnap::bdev
