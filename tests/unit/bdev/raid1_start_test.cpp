// What an array knows when it starts: whether there is anything to be copied (zeroes, a clean stop), who does not hold all data, and whose it is.
// Starts from superblocks after crashes are the simulation's (tests/sim/raid1_test.cpp) and raid_start_plan_test.cpp's.
#include <gtest/gtest.h>

#include "bdev/raid/clean_stops.h"
#include "bdev/raid/member_notes.h"
#include "bdev/raid/raid_host.h"
#include "bdev/raid/superblock_io.h"
#include "tests/unit/bdev/raid1_bench.h"

namespace catnap::bdev {
namespace {

constexpr const char* uuid_of_array = "11111111-2222-4333-8444-000000000001";
constexpr const char* uuid_of_a = "11111111-2222-4333-8444-00000000000a";
constexpr const char* uuid_of_b = "11111111-2222-4333-8444-00000000000b";

class Raid1Start : public Raid1Test {
 protected:
  ~Raid1Start() override {
    set_raid_host({});
    MemberNotes::instance().begin(nullptr, "");
    CleanStops::instance().load("");
    Registry::instance().set_auto_examine(true);
  }
  static RaidOptions bare() {
    RaidOptions options = mirror({"A", "B"});
    options.uuid = uuid_of_array;
    return options;
  }
  // Blocks that a start has copied; 0: it did not copy.
  std::uint64_t copied() {
    until_whole();
    return info("R").isMember("last_resync") ? info("R")["last_resync"]["copied_blocks"].asUInt64() : 0;
  }
  // As at the end of a process: the bdev is removed, the array's object stays.
  void end_bdev() {
    bench_.on_thread([] { Registry::instance().remove("R", [](Result<void>) {}); });
    bench_.until([] { return array("R")->bdev() == nullptr; });
  }
};

TEST_F(Raid1Start, MembersThatPromiseZeroesNeedNotBeCopied) {
  const TestFile f1(4 << 20), f2(4 << 20);
  add_disk("A");
  add_disk("B");
  ASSERT_TRUE(create_array(mirror({"A", "B"})).has_value());
  EXPECT_EQ(copied(), 0u);
  ASSERT_TRUE(remove_array("R").has_value());
  write_on("B", 5, 1, 7);
  ASSERT_TRUE(create_array(mirror({"A", "B"})).has_value());
  EXPECT_EQ(copied(), blocks);
  ASSERT_TRUE(remove_array("R").has_value());
  // Sparse files are known for what they are; with superblocks as well.
  add_file("F1", f1);
  add_file("F2", f2);
  ASSERT_TRUE(create_array(mirror({"F1", "F2"}, true)).has_value());
  EXPECT_EQ(copied(), 0u);
  ASSERT_TRUE(remove_array("R", true).has_value());
  ASSERT_TRUE(create_array(mirror({"F1", "F2"}, true)).has_value());  // they hold something by now, if only zeroes
  EXPECT_GT(copied(), 0u);
  ASSERT_TRUE(remove_array("R").has_value());
  // A remote disk's word about itself may be old.
  add_remote("D");
  add_disk("E");
  ASSERT_TRUE(create_array(mirror({"D", "E"})).has_value());
  EXPECT_EQ(copied(), blocks);
}

TEST_F(Raid1Start, WithoutARecordOnlyACleanStopLeavesNothingToCopy) {
  const TestFile f1(4 << 20), f2(4 << 20);
  const auto add_files = [&](const char* second = uuid_of_b) {
    add_file("A", f1, uuid_of_a);
    add_file("B", f2, second);
  };
  const auto forget_all = [this] {
    ASSERT_TRUE(remove_array("R").has_value());
    remove("A");
    remove("B");
  };
  add_files();
  write_on("A", 5, 1, 7);
  ASSERT_TRUE(create_array(bare()).has_value());
  EXPECT_EQ(copied(), blocks);
  EXPECT_EQ(CleanStops::collect(), "") << "it is not stopped";
  end_bdev();
  const std::string whole = CleanStops::collect();
  EXPECT_NE(whole.find(uuid_of_array), std::string::npos);
  forget_all();
  EXPECT_EQ(CleanStops::collect(), "");
  // The next process.
  CleanStops::instance().load(whole);
  add_files();
  ASSERT_TRUE(create_array(bare()).has_value());
  EXPECT_EQ(copied(), 0u);
  forget_all();
  add_files();
  ASSERT_TRUE(create_array(bare()).has_value());
  EXPECT_EQ(copied(), blocks) << "the sign counts once";
  forget_all();
  CleanStops::instance().load(whole);
  add_files("11111111-2222-4333-8444-00000000000c");
  ASSERT_TRUE(create_array(bare()).has_value());
  EXPECT_EQ(copied(), blocks) << "another disk of that name";
  // A stop in the middle of a copy, or without a member, is none.
  CleanStops::instance().load("");
  forget_all();
  add_files();
  raid_settings().process_max_bandwidth_mib_sec = 1;
  ASSERT_TRUE(create_array(bare()).has_value());
  end_bdev();
  raid_settings() = RaidSettings();
  EXPECT_EQ(CleanStops::collect(), "");
  forget_all();
  add_files();
  ASSERT_TRUE(create_array(bare()).has_value());
  until_whole();
  remove("B");
  bench_.settle();
  end_bdev();
  EXPECT_EQ(CleanStops::collect(), "");
}

TEST_F(Raid1Start, WhatDoesNotOutliveTheProcessIsCopiedWhateverWasSaid) {
  add_disk("A", blocks, 512, uuid_of_a);
  add_disk("B", blocks, 512, uuid_of_b);
  ASSERT_TRUE(create_array(bare()).has_value());
  until_whole();
  end_bdev();
  const std::string whole = CleanStops::collect();
  ASSERT_NE(whole, "");
  ASSERT_TRUE(remove_array("R").has_value());
  CleanStops::instance().load(whole);
  write_on("A", 5, 1, 7);
  ASSERT_TRUE(create_array(bare()).has_value());
  EXPECT_EQ(copied(), blocks);
}

TEST_F(Raid1Start, WhoDoesNotHoldAllDataIsNotWaitedForAndNotAsked) {
  add_disk("A");
  write_on("A", 0, 8, 1);  // stale
  RaidOptions options = bare();
  options.out_of_sync = {"A"};
  ASSERT_TRUE(create_array(options).has_value());
  EXPECT_EQ(array("R")->state(), RaidState::configuring);
  ASSERT_TRUE(remove_array("R").has_value());
  add_disk("B");
  write_on("B", 0, 8, 2);
  ASSERT_TRUE(create_array(options).has_value());
  EXPECT_EQ(array("R")->state(), RaidState::online);
  EXPECT_EQ(value_on("R", 3), 2);
  until_whole();
  EXPECT_EQ(info("R")["last_rebuild"]["copied_blocks"].asUInt64(), blocks);
  EXPECT_EQ(value_on("A", 3), 2);
  EXPECT_EQ(array("R")->config_json().find("out_of_sync"), std::string::npos);
  const auto refused = [this](std::vector<std::string> out_of_sync) {
    RaidOptions wrong = bare();
    wrong.name = "W";
    wrong.uuid = "";
    wrong.out_of_sync = std::move(out_of_sync);
    return create_array(wrong).error().message;
  };
  EXPECT_NE(refused({"C"}).find("'C', which is not one of base_bdevs"), std::string::npos);
  EXPECT_NE(refused({"A", "B"}).find("names all"), std::string::npos);
  // Without it there, and with it later.
  ASSERT_TRUE(remove_array("R").has_value());
  remove("A");
  ASSERT_TRUE(create_array(options).has_value());
  EXPECT_EQ(array("R")->state(), RaidState::online);
  EXPECT_NE(array("R")->config_json().find("\"out_of_sync\":[\"A\"]"), std::string::npos);
  add_disk("A");
  until_whole();
  EXPECT_EQ(value_on("A", 3), 2);
}

TEST_F(Raid1Start, AMemberThatIsLeftOutIsNotedBeforeAnythingIsAnswered) {
  std::function<void()> kept;
  std::string notes;
  const auto keeper = [&](std::string text, std::function<void()> done) {
    notes = std::move(text);
    kept = std::move(done);
  };
  MemberNotes::instance().begin(keeper, "");
  add_disk("A");
  add_disk("B");
  ASSERT_TRUE(create_array(bare()).has_value());
  EXPECT_FALSE(kept);  // nobody is missing
  open_top("R");
  bench_.on_thread([] { Registry::instance().remove("B", [](Result<void>) {}); });
  bench_.settle();
  ASSERT_TRUE(kept);
  EXPECT_EQ(notes, std::string(uuid_of_array) + " \"B\"\n");
  TestIo io(Op::write, 0, 8, 1);
  submit(io);
  bench_.settle();
  EXPECT_FALSE(io.done());  // a crash now would let B speak, which lacks it
  bench_.on_thread(std::exchange(kept, nullptr));
  bench_.until([&io] { return io.done(); });
  EXPECT_EQ(io.io.status, Status::ok);
  close_top();
  // The process dies, and the next one has the notes, and both disks.
  const std::string left = notes;
  const auto at_once = [&](std::string text, std::function<void()> done) {
    notes = std::move(text);
    done();
  };
  MemberNotes::instance().begin(at_once, "");
  ASSERT_TRUE(remove_array("R").has_value());
  add_disk("B");
  write_on("B", 0, 8, 9);
  MemberNotes::instance().begin(at_once, left);
  ASSERT_TRUE(create_array(bare()).has_value());
  EXPECT_EQ(value_on("R", 3), 1);
  until_whole();
  EXPECT_EQ(value_on("B", 3), 1);
  EXPECT_EQ(notes, "");
  // What is deleted is forgotten.
  MemberNotes::instance().begin(at_once, left);
  ASSERT_TRUE(remove_array("R").has_value());
  EXPECT_FALSE(MemberNotes::instance().lacks_data(uuid_of_array, "B"));
}

// What nobody can write down is shown, and stands in saved configurations instead.
TEST_F(Raid1Start, ARecordThatCannotBeKeptIsShown) {
  const auto keeper = [](const std::string&, const std::function<void()>& done) { done(); };
  MemberNotes::instance().begin(keeper, "");
  add_disk("A");
  add_disk("B");
  ASSERT_TRUE(create_array(bare()).has_value());
  bench_.on_thread([] { Registry::instance().remove("B", [](Result<void>) {}); });
  bench_.settle();
  EXPECT_EQ(array("R")->info_json().find("record_problem"), std::string::npos);
  EXPECT_EQ(array("R")->config_json().find("out_of_sync"), std::string::npos);
  MemberNotes::instance().outcome(fail(ENOSPC, "no room"));
  EXPECT_NE(array("R")->info_json().find("\"record_problem\":\"no room\""), std::string::npos) << array("R")->info_json();
  EXPECT_NE(array("R")->config_json().find("\"out_of_sync\":[\"B\"]"), std::string::npos) << array("R")->config_json();
  MemberNotes::instance().outcome({});
  EXPECT_EQ(array("R")->info_json().find("record_problem"), std::string::npos);
  ASSERT_TRUE(remove_array("R").has_value());
}

TEST_F(Raid1Start, AnArrayThatAnotherHostHasOfOurDisksIsLeftAloneUntilItIsTakenOver) {
  const Uuid here = raid_host_of("machine", "/run/one.sock"), there = raid_host_of("machine", "/run/other.sock");
  EXPECT_NE(here, there);
  EXPECT_EQ(here, raid_host_of("machine", "/run/one.sock"));
  EXPECT_NE(here, raid_host_of("another", "/run/one.sock"));
  const auto find_again = [this](const std::vector<std::string>& names) {
    for (const std::string& name : names) bench_.on_thread([&name] { ASSERT_TRUE(Registry::instance().examine(name).has_value()); });
    bench_.settle();
  };
  const auto take_over = [this](const std::string& name) { return wait_for([&name] { return RaidArrays::instance().take_over(name); }); };
  const std::vector<std::string> remote = {"A", "B"}, local = {"A_there", "B_there"};
  for (const RaidKind kind : {RaidKind::raid1, RaidKind::raid0}) {
    for (const std::string& name : remote) add_remote(name);
    add_disk("empty");
    RaidOptions options = options_of(kind, "R", remote);
    options.superblock = true;
    set_raid_host(there);
    ASSERT_TRUE(create_array(options).has_value());
    ASSERT_TRUE(remove_array("R").has_value());
    // A host of another name, which reaches them as well: it was moved.
    set_raid_host(here);
    find_again(remote);
    EXPECT_EQ(array("R")->state(), RaidState::online);
    ASSERT_TRUE(remove_array("R").has_value());
    set_raid_host(there);
    // The one that has the disks.
    for (const std::string& name : remote) remove(name);
    find_again(local);
    EXPECT_EQ(array("R"), nullptr);
    EXPECT_EQ(Registry::instance().claimed_by(*Registry::instance().find("A_there")), "");
    EXPECT_EQ(take_over("nobody").error().err, ENODEV);
    EXPECT_EQ(take_over("empty").error().err, ENOENT);
    EXPECT_TRUE(take_over("B_there").has_value());
    until_state("R", RaidState::online);
    EXPECT_EQ(take_over("B_there").error().err, EEXIST);
    ASSERT_TRUE(remove_array("R").has_value());
    // It belongs here now: also under another name it is found, since its members are local ones.
    find_again(local);
    EXPECT_EQ(array("R")->state(), RaidState::online);
    ASSERT_TRUE(remove_array("R").has_value());
    set_raid_host(here);
    find_again(local);
    EXPECT_EQ(array("R")->state(), RaidState::online);
    ASSERT_TRUE(remove_array("R", true).has_value());
    for (const std::string& name : local) remove(name);
    remove("empty");
  }
}

// Who turned examination off and names what is to be looked at means it.
TEST_F(Raid1Start, WhoNamesABdevToBeExaminedGetsItsArrayWhoseverItIs) {
  set_raid_host(raid_host_of("machine", "/run/one.sock"));
  for (const char* name : {"A", "B"}) add_remote(name);
  ASSERT_TRUE(create_array(mirror({"A", "B"}, true)).has_value());
  ASSERT_TRUE(remove_array("R").has_value());
  for (const char* name : {"A", "B"}) remove(name);
  set_raid_host(raid_host_of("machine", "/run/other.sock"));
  Registry::instance().set_auto_examine(false);
  for (const char* name : {"A_there", "B_there"}) bench_.on_thread([name] { ASSERT_TRUE(Registry::instance().examine(name).has_value()); });
  until_state("R", RaidState::online);
  Registry::instance().set_auto_examine(true);
}

}  // namespace
}  // namespace catnap::bdev
