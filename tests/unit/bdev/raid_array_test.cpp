// An array's life: members that come in any order, go, come back and grow; superblocks that are found; deletion under I/O; what is told and shown.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "bdev/delay/delay.h"
#include "bdev/uring/uring.h"
#include "tests/unit/bdev/raid_bench.h"

namespace catnap::bdev {
namespace {

class ArrayTest : public RaidTest {
 protected:
  ArrayTest() {
    RaidArray::set_listener([this](std::string_view type, const std::string& context) { told_.push_back(std::string(type) + " " + context); });
  }
  bool was_told(const std::string& what) const { return std::ranges::find(told_, what) != told_.end(); }
  // Every 16 blocks have a value of their own.
  void fill(std::uint64_t num_blocks) {
    for (std::uint64_t block = 0; block < num_blocks; block += 16)
      ASSERT_EQ(run(Op::write, block, 16, static_cast<int>(block / 16 % 251)), Status::ok);
  }
  void check(std::uint64_t num_blocks) {
    for (std::uint64_t block = 0; block < num_blocks; block += 16) ASSERT_EQ(value_of(block + block / 16 % 16), static_cast<int>(block / 16 % 251));
  }

  std::vector<std::string> told_;
};

TEST_F(ArrayTest, MembersMayComeInAnyOrder) {
  const std::vector<std::string> names{"A", "B", "C"};
  std::vector<std::string> order = names;
  do {
    ASSERT_TRUE(create_array(options_of(RaidKind::raid0, "R", names)).has_value());
    EXPECT_EQ(array("R")->state(), RaidState::configuring);
    EXPECT_EQ(Registry::instance().find("R"), nullptr);
    for (const std::string& name : order) {
      EXPECT_EQ(array("R")->state(), RaidState::configuring);
      EXPECT_NE(array("R")->info_json().find("\"configuring\""), std::string::npos);
      add_disk(name, 64);
      bench_.settle();
    }
    EXPECT_EQ(array("R")->state(), RaidState::online);
    ASSERT_NE(Registry::instance().find("R"), nullptr);
    EXPECT_EQ(Registry::instance().find("R")->num_blocks(), 192u);
    ASSERT_TRUE(remove_array("R").has_value());
    EXPECT_EQ(Registry::instance().find("R"), nullptr);
    for (const std::string& name : names) {
      EXPECT_EQ(Registry::instance().claimed_by(*Registry::instance().find(name)), "");
      remove(name);
    }
  } while (std::ranges::next_permutation(order).found);
  EXPECT_TRUE(was_told("bdev_raid_state R"));
  EXPECT_TRUE(was_told("bdev_raid_member_state R/B"));
}

TEST_F(ArrayTest, ADeletedArrayDoesNotComeWithItsMembers) {
  add_disk("A", 64);
  ASSERT_TRUE(create_array(options_of(RaidKind::concat, "R", {"A", "B"})).has_value());
  ASSERT_TRUE(remove_array("R").has_value());
  add_disk("B", 64);
  bench_.settle();
  EXPECT_EQ(Registry::instance().find("R"), nullptr);
  EXPECT_EQ(Registry::instance().claimed_by(*Registry::instance().find("A")), "");
  EXPECT_EQ(Registry::instance().claimed_by(*Registry::instance().find("B")), "");
  const auto again = remove_array("R");
  ASSERT_FALSE(again.has_value());
  EXPECT_EQ(again.error().message, "raid bdev R not found");
}

TEST_F(ArrayTest, AMemberThatDoesNotFitLeavesTheArrayWaitingAndSaysWhy) {
  add_disk("A", 64);
  ASSERT_TRUE(create_array(options_of(RaidKind::raid0, "R", {"A", "B"})).has_value());
  EXPECT_EQ(info("R")["waits_for"], "base bdev 'B'");
  add_disk("B", 64, 4096);
  bench_.settle();
  EXPECT_EQ(array("R")->state(), RaidState::configuring);
  EXPECT_NE(info("R")["waits_for"].asString().find("'B' has blocks of 4096 bytes"), std::string::npos);
  remove("B");
  bench_.settle();
  add_disk("B2", 64);
  EXPECT_TRUE(wait_for([&] { return array("R")->add_member("B2"); }).has_value());
  EXPECT_EQ(array("R")->state(), RaidState::online);
}

TEST_F(ArrayTest, ALostMemberTakesTheArrayOfflineAndItsReturnBringsItBack) {
  const std::string uuid = "11111111-2222-4333-8444-555555555555";
  add_disk("A", 64);
  add_disk("B", 64, 512, uuid);
  ASSERT_TRUE(create_array(options_of(RaidKind::raid0, "R", {"A", "B"})).has_value());
  open_top("R");
  // The user keeps its channel a while, and is served; then the member is let go.
  bool removed = false;
  bench_.on_thread([&] { Registry::instance().remove("B", [&](Result<void>) { removed = true; }); });
  until_state("R", RaidState::offline);
  EXPECT_EQ(info("R")["base_bdevs_list"][1]["state"], "missing");
  EXPECT_EQ(info("R")["base_bdevs_list"][1]["reason"], "bdev 'B' was removed");
  EXPECT_EQ(Registry::instance().find("R"), nullptr);
  EXPECT_EQ(run(Op::write, 0, 64, 1), Status::ok);
  EXPECT_FALSE(removed);
  close_top();
  bench_.until([&] { return removed; });
  bench_.settle();
  EXPECT_EQ(array("R")->bdev(), nullptr);
  EXPECT_EQ(info("R")["state"], "offline");
  EXPECT_EQ(info("R")["base_bdevs_list"][0]["state"], "waiting");
  // Another disk of that name is not the member.
  add_disk("B", 64);
  bench_.settle();
  EXPECT_EQ(array("R")->state(), RaidState::offline);
  EXPECT_NE(info("R")["base_bdevs_list"][1]["reason"].asString().find("the member had " + uuid), std::string::npos);
  remove("B");
  add_disk("B", 64, 512, uuid);
  until_state("R", RaidState::online);
  open_top("R");
  EXPECT_EQ(run(Op::write, 0, 64, 3), Status::ok);
}

TEST_F(ArrayTest, ADifferentDiskIsTakenInWhenTheUserSaysSo) {
  add_disk("A", 64);
  add_disk("B", 64);
  ASSERT_TRUE(create_array(options_of(RaidKind::concat, "R", {"A", "B"})).has_value());
  remove("B");
  bench_.settle();
  EXPECT_EQ(array("R")->state(), RaidState::offline);
  add_disk("B", 64);
  bench_.settle();
  EXPECT_EQ(array("R")->state(), RaidState::offline);
  EXPECT_TRUE(wait_for([&] { return array("R")->add_member("B"); }).has_value());
  EXPECT_EQ(array("R")->state(), RaidState::online);
  const auto full = wait_for([&] { return array("R")->add_member("B"); });
  ASSERT_FALSE(full.has_value());
  EXPECT_EQ(full.error().err, EEXIST);
  const auto needed = wait_for([&] { return array("R")->remove_member(0); });
  ASSERT_FALSE(needed.has_value());
  EXPECT_EQ(needed.error().err, EBUSY);
}

TEST_F(ArrayTest, Raid0GrowsWhenAllMembersHaveAndConcatWithItsLast) {
  add_disk("A", 64);
  // Members that can grow: files.
  const auto add_file = [this](const std::string& name, const TestFile& of) {
    std::shared_ptr<Bdev> made;
    bench_.on_thread([&] {
      UringOptions options;
      options.name = name;
      options.filename = of.path();
      options.block_size = 512;
      auto created = UringBdev::create(options, bench_.workers);
      ASSERT_TRUE(created.has_value()) << created.error().message;
      ASSERT_TRUE(Registry::instance().add(*created).has_value());
    });
  };
  TestFile f1(64 << 10), f2(64 << 10);
  add_file("F1", f1);
  add_file("F2", f2);
  const auto resize = [this](const std::string& name, const TestFile& of, std::uint64_t kib) {
    of.resize(kib << 10);
    bench_.on_thread([&] { static_cast<FileBdev&>(*Registry::instance().find(name)).take_size(kib * 2); });
    bench_.settle();
  };
  ASSERT_TRUE(create_array(options_of(RaidKind::raid0, "R", {"F1", "F2"})).has_value());
  EXPECT_EQ(array("R")->bdev()->num_blocks(), 256u);
  open_top("R");
  fill(256);
  resize("F1", f1, 128);
  EXPECT_EQ(array("R")->bdev()->num_blocks(), 256u);
  resize("F2", f2, 96);
  EXPECT_EQ(array("R")->bdev()->num_blocks(), 384u);
  check(256);
  EXPECT_EQ(run(Op::write, 380, 4, 5), Status::ok);
  close_top();
  ASSERT_TRUE(remove_array("R").has_value());
  ASSERT_TRUE(create_array(options_of(RaidKind::concat, "R", {"A", "F1", "F2"})).has_value());
  EXPECT_EQ(array("R")->bdev()->num_blocks(), 64u + 256 + 192);
  resize("F1", f1, 256);
  EXPECT_EQ(array("R")->bdev()->num_blocks(), 64u + 256 + 192);
  resize("F2", f2, 128);
  EXPECT_EQ(array("R")->bdev()->num_blocks(), 64u + 256 + 256);
  resize("F2", f2, 64);  // smaller: the array stays, what is behind the end is an error of the member's
  EXPECT_EQ(array("R")->bdev()->num_blocks(), 64u + 256 + 256);
  open_top("R");
  EXPECT_NE(run(Op::read, 64 + 256 + 200, 1), Status::ok);
  EXPECT_EQ(run(Op::read, 64 + 256 + 100, 1), Status::ok);
}

TEST_F(ArrayTest, SuperblocksAreFoundInAnyOrderAndGiveTheArrayBack) {
  for (const RaidKind kind : {RaidKind::raid0, RaidKind::concat}) {
    for (const char* name : {"A", "B", "C"}) add_disk(name, 8192);
    RaidOptions options = options_of(kind, "R", {"A", "B", "C"});
    options.superblock = true;
    ASSERT_TRUE(create_array(options).has_value());
    const std::string uuid = array("R")->uuid();
    const std::uint64_t size = array("R")->bdev()->num_blocks();
    EXPECT_EQ(size, 3 * (8192u - 2048));
    EXPECT_EQ(info("R")["base_bdevs_list"][0]["data_offset"], 2048);
    open_top("R");
    fill(size);
    close_top();
    EXPECT_TRUE(RaidArrays::instance().config_calls().empty());
    ASSERT_TRUE(remove_array("R").has_value());
    // Whatever they are called now, and in whatever order they come.
    for (const char* name : {"C", "A", "B"}) {
      bench_.on_thread([&] { ASSERT_TRUE(Registry::instance().examine(name).has_value()); });
      bench_.settle();
    }
    until_state("R", RaidState::online);
    EXPECT_EQ(array("R")->uuid(), uuid);
    EXPECT_EQ(array("R")->member(2).name, "C");
    open_top("R");
    EXPECT_EQ(channel_->bdev().num_blocks(), size);
    check(size);
    close_top();
    ASSERT_TRUE(remove_array("R", true).has_value());
    bench_.on_thread([] { ASSERT_TRUE(Registry::instance().examine("A").has_value()); });
    bench_.settle();
    EXPECT_EQ(array("R"), nullptr);  // cleared: nothing finds it again
    for (const char* name : {"A", "B", "C"}) remove(name);
  }
}

TEST_F(ArrayTest, DeletionUnderIoEndsEveryIoAndLeavesNothing) {
  for (int round = 0; round < 10; ++round) {
    add_disk("A", 64);
    add_disk("B", 64);
    ASSERT_TRUE(create_array(options_of(RaidKind::raid0, "R", {"A", "B"})).has_value());
    open_top("R");
    std::vector<std::unique_ptr<TestIo>> many;
    for (std::uint64_t i = 0; i < 30; ++i) many.push_back(std::make_unique<TestIo>(i % 2 == 0 ? Op::write : Op::read, i * 3, 20, 4));
    bool gone = false;
    bench_.on_thread([&] {
      for (const auto& one : many) channel_->submit(one->io);
      spawn<Result<void>>(RaidArrays::instance().remove("R", false), [&gone](Result<void> outcome) { gone = outcome.has_value(); });
      for (const auto& one : many) {
        if (one->done()) channel_->submit(one->io);
      }
    });
    bench_.settle();
    EXPECT_FALSE(gone);  // the user's channel
    close_top();
    bench_.until([&] { return gone; });
    for (const auto& one : many) EXPECT_GE(one->times_done, 1);
    for (const char* name : {"A", "B"}) {
      EXPECT_EQ(Registry::instance().claimed_by(*Registry::instance().find(name)), "");
      remove(name);
    }
  }
}

TEST_F(ArrayTest, AnArrayOverAnArrayAndWhatItSaysOfItself) {
  for (const char* name : {"A", "B", "C", "D"}) add_disk(name, 64);
  ASSERT_TRUE(create_array(options_of(RaidKind::concat, "Top", {"Left", "Right"})).has_value());  // before those it stands on
  ASSERT_TRUE(create_array(options_of(RaidKind::raid0, "Left", {"A", "B"})).has_value());
  ASSERT_TRUE(create_array(options_of(RaidKind::raid0, "Right", {"C", "D"})).has_value());
  until_state("Top", RaidState::online);
  open_top("Top");
  fill(256);
  check(256);
  EXPECT_EQ(array("Top")->bdev()->level(), 2u);
  const Json::Value json = info("Left");
  EXPECT_EQ(json["state"], "online");
  EXPECT_EQ(json["raid_level"], "raid0");
  EXPECT_EQ(json["strip_size_kb"], 4);
  EXPECT_EQ(json["num_base_bdevs"], 2);
  EXPECT_EQ(json["num_base_bdevs_discovered"], 2);
  EXPECT_EQ(json["num_base_bdevs_operational"], 2);
  EXPECT_EQ(json["superblock"], false);
  EXPECT_EQ(json["base_bdevs_list"][1]["name"], "B");
  EXPECT_EQ(json["base_bdevs_list"][1]["is_configured"], true);
  EXPECT_EQ(json["base_bdevs_list"][1]["data_offset"], 0);
  EXPECT_EQ(json["base_bdevs_list"][1]["data_size"], 64);
  EXPECT_EQ(parse_json(Registry::instance().find("Left")->driver_specific_json())["raid"], json);
  close_top();
  // The lowest goes: all that stand on it go, and I/O of others goes on.
  remove("A");
  bench_.settle();
  EXPECT_EQ(array("Left")->state(), RaidState::offline);
  EXPECT_EQ(array("Top")->state(), RaidState::offline);
  EXPECT_EQ(array("Right")->state(), RaidState::online);
}

TEST_F(ArrayTest, TooManyLevelsAreRefused) {
  add_disk("L0", 64);
  for (std::uint32_t level = 1; level <= max_stack_levels; ++level) {
    ASSERT_TRUE(create_array(options_of(RaidKind::concat, "L" + std::to_string(level), {"L" + std::to_string(level - 1)})).has_value());
  }
  const auto outcome = create_array(options_of(RaidKind::concat, "Last", {"L" + std::to_string(max_stack_levels)}));
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().err, ELOOP);
}

TEST_F(ArrayTest, AbortTakesPartsBackFromSlowMembers) {
  add_disk("A", 64);
  add_disk("B", 64);
  DelayOptions slow;
  slow.name = "S";
  slow.base_bdev_name = "B";
  for (auto& us : slow.latencies->us) us = 3'600'000'000;
  bench_.on_thread([&] { ASSERT_TRUE(VirtualBdevs::instance().create(DelayBdev::recipe(slow)).has_value()); });
  ASSERT_TRUE(create_array(options_of(RaidKind::raid0, "R", {"A", "S"})).has_value());
  open_top("R");
  TestIo wide(Op::write, 0, 32, 1);
  TestIo narrow(Op::read, 8, 4);
  submit(wide);
  submit(narrow);
  bench_.settle();
  EXPECT_FALSE(wide.done());
  EXPECT_TRUE(abort(wide));
  EXPECT_TRUE(abort(narrow));
  EXPECT_EQ(wide.io.status, Status::aborted);
  EXPECT_EQ(narrow.io.status, Status::aborted);
  EXPECT_EQ(wide.times_done, 1);
  EXPECT_EQ(run(Op::read, 0, 8), Status::ok);
  close_top();
  forget(DelayBdev::product, "S");
}

}  // namespace
}  // namespace catnap::bdev
