// raid1 when something goes wrong: members and bitmaps that refuse what must be recorded, remote disks that were away, what is told of it; and what
// an array does not do: copy in one go, leave anything behind, ask a remote member where a local one would do. Crashes and orders of events are the
// simulation's (tests/sim/raid1_test.cpp).
#include <gtest/gtest.h>

#include <algorithm>

#include "bdev/error/error.h"
#include "bdev/passthru/passthru.h"
#include "bdev/raid/raid1_pace.h"
#include "tests/unit/bdev/raid1_bench.h"

namespace catnap::bdev {
namespace {

constexpr std::uint64_t superblock_and_bitmap_blocks = 2048;  // what stands before the data

class Raid1Trouble : public Raid1Test {
 protected:
  Raid1Trouble() {
    RaidArray::set_listener([this](std::string_view type, const std::string& context) {
      const auto array = RaidArrays::instance().find("R");
      std::string how;
      if (array != nullptr && type == RaidArray::state_event) how = raid_state_name(array->state());
      if (array != nullptr && type == RaidArray::member_event) {
        for (const auto& member : array->members()) {
          if (context == "R/" + member->name) how = member_state_name(member->state);
        }
      }
      told_.push_back(std::string(type).substr(10) + " " + context + (how.empty() ? "" : " " + how));
    });
  }
  ~Raid1Trouble() override { raid_settings() = RaidSettings(); }

  // EE_NAME, over a new malloc bdev.
  std::shared_ptr<ErrorBdev> add_faulty(const std::string& name) {
    add_disk(name);
    bench_.on_thread([&] {
      ErrorOptions options;
      options.base_name = name;
      ASSERT_TRUE(VirtualBdevs::instance().create(ErrorBdev::recipe(options)).has_value());
    });
    return std::dynamic_pointer_cast<ErrorBdev>(Registry::instance().find("EE_" + name));
  }
  // From now on superblocks and bitmap cannot be written there.
  static void refuse_metadata(ErrorBdev& disk) {
    Injection injection;
    injection.count = ~std::uint32_t{0};
    injection.num_blocks = superblock_and_bitmap_blocks;
    disk.injections().set(Op::write, injection);
  }
  // A little of a turn's work at a time, without waiting for any deadline.
  bool turn() { return bench_.reactor.turn(0) > 0; }

  std::vector<std::string> told_;
};

TEST_F(Raid1Trouble, AMemberThatRefusesItsMetadataIsLeftOutAndWritesGoOn) {
  add_disk("A");
  const auto faulty = add_faulty("B");
  RaidOptions options = mirror({"A", "EE_B"}, true);
  options.bitmap_region_kib = 64;
  ASSERT_TRUE(create_array(options).has_value());
  until_whole();
  refuse_metadata(*faulty);
  open_top("R");
  EXPECT_EQ(run(Op::write, 0, 8, 1), Status::ok);
  EXPECT_EQ(state_of(1), MemberState::failed);
  EXPECT_EQ(run(Op::write, 4000, 8, 2), Status::ok);
  EXPECT_EQ(value_of(4000), 2);
  EXPECT_FALSE(info("R").isMember("frozen"));
  close_top();
  ASSERT_TRUE(remove_array("R").has_value());
  forget(ErrorBdev::product, "EE_B");
}

// Each member in turn cannot read a block; what the first one said before the blocks were held need not be so any more.
TEST_F(Raid1Trouble, ABlockThatNobodyCouldReadIsAskedForOnceMoreBeforeThatIsSaid) {
  const std::shared_ptr<ErrorBdev> disks[] = {add_faulty("A"), add_faulty("B")};
  RaidOptions options = mirror({"EE_A", "EE_B"});
  options.assume_clean = true;
  ASSERT_TRUE(create_array(options).has_value());
  open_top("R");
  ASSERT_EQ(run(Op::write, 40, 4, 7), Status::ok);
  struct Row {
    std::uint32_t bad_reads_of_a, bad_reads_of_b;
    Status outcome;
  };
  constexpr std::uint32_t always = ~std::uint32_t{0};
  constexpr Row rows[] = {{1, 0, Status::ok},      {0, 1, Status::ok},      {1, 1, Status::ok},
                          {1, always, Status::ok}, {always, 1, Status::ok}, {always, always, Status::media_error},
                          {always, 0, Status::ok}};
  for (const Row& row : rows) {
    const std::uint32_t counts[] = {row.bad_reads_of_a, row.bad_reads_of_b};
    for (std::size_t i = 0; i < 2; ++i) {
      Injection injection;
      injection.count = counts[i];
      injection.status = Status::media_error;
      disks[i]->injections().set(Op::read, injection);
    }
    EXPECT_EQ(run(Op::read, 41, 1), row.outcome) << row.bad_reads_of_a << " of A, " << row.bad_reads_of_b << " of B";
    EXPECT_EQ(state_of(0), MemberState::in_sync);
    EXPECT_EQ(state_of(1), MemberState::in_sync);
  }
  for (const auto& disk : disks) disk->injections().clear();
  EXPECT_EQ(value_of(41), 7);
  close_top();
  ASSERT_TRUE(remove_array("R").has_value());
  forget(ErrorBdev::product, "EE_A");
  forget(ErrorBdev::product, "EE_B");
}

TEST_F(Raid1Trouble, ANewMemberIsRecordedAsHoldingNothingBeforeAnythingIsWrittenToIt) {
  add_disk("A");
  add_disk("B");
  const auto faulty = add_faulty("C");
  ASSERT_TRUE(create_array(mirror({"A", "B"}, true)).has_value());
  until_whole();
  const auto recorded = [this] {
    open_top("A");
    TestIo area(Op::read, 0, superblock_area_bytes / 512);
    EXPECT_EQ(run(area), Status::ok);
    close_top();
    const auto found = newest_superblock(area.bytes);
    EXPECT_TRUE(found.has_value());
    return found ? found->superblock.slots[1] : SuperblockSlot();
  };
  const SuperblockSlot before = recorded();
  EXPECT_EQ(before.state, SlotState::in_sync);
  remove("B");
  bench_.until([] { return state_of(1) == MemberState::missing; });
  refuse_metadata(*faulty);
  EXPECT_FALSE(wait_for([] { return array("R")->add_member("EE_C"); }).has_value());
  EXPECT_EQ(recorded().state, SlotState::blank);  // and not as B was left
  EXPECT_NE(recorded().member_uuid, before.member_uuid);
  ASSERT_TRUE(remove_array("R").has_value());
  forget(ErrorBdev::product, "EE_C");
}

TEST_F(Raid1Trouble, TheLastMemberThatRefusesItsMetadataGivesErrorsUntilItTakesThemAgain) {
  add_disk("A");
  const auto faulty = add_faulty("B");
  RaidOptions options = mirror({"A", "EE_B"}, true);
  options.bitmap_region_kib = 64;
  ASSERT_TRUE(create_array(options).has_value());
  until_whole();
  open_top("R");
  EXPECT_EQ(run(Op::write, 0, 8, 1), Status::ok);
  ASSERT_TRUE(wait_for([] { return array("R")->remove_member(0); }).has_value());
  refuse_metadata(*faulty);
  EXPECT_EQ(run(Op::write, 4000, 8, 2), Status::write_error);
  EXPECT_EQ(run(Op::write, 0, 8, 3), Status::write_error);  // its region is marked, and yet: who could say what becomes of the array?
  EXPECT_EQ(info("R")["frozen"], true);
  EXPECT_EQ(told_.back(), "state R online");
  EXPECT_EQ(value_of(0), 1);
  EXPECT_EQ(state_of(1), MemberState::in_sync);
  EXPECT_EQ(array("R")->state(), RaidState::online);
  faulty->injections().clear();
  EXPECT_EQ(run(Op::write, 4000, 8, 2), Status::ok);  // the first one that comes finds out
  EXPECT_FALSE(info("R").isMember("frozen"));
  EXPECT_EQ(bitmap()["marked_regions"], 2);
  close_top();
  // And all of it is on disk.
  ASSERT_TRUE(remove_array("R").has_value());
  bench_.on_thread([] { ASSERT_TRUE(Registry::instance().examine("EE_B").has_value()); });
  until_state("R", RaidState::online);
  EXPECT_EQ(bitmap()["marked_regions"], 2);
  EXPECT_EQ(value_on("R", 4000), 2);
  ASSERT_TRUE(remove_array("R").has_value());
  forget(ErrorBdev::product, "EE_B");
}

TEST_F(Raid1Trouble, ABitmapThatIsRemovedStopsWritesUntilItIsBack) {
  const TestFile marks(1 << 20), other(1 << 20);
  add_disk("A");
  add_disk("B");
  add_file("M", marks);
  RaidOptions options = mirror({"A", "B"});
  options.bitmap_bdev = "M";
  ASSERT_TRUE(create_array(options).has_value());
  open_top("R");
  EXPECT_EQ(run(Op::write, 0, 8, 1), Status::ok);
  remove("M");
  bench_.settle();
  EXPECT_EQ(run(Op::write, 4000, 8, 2), Status::write_error);
  EXPECT_EQ(value_of(0), 1);
  EXPECT_EQ(info("R")["bitmap"], "bdev");
  add_file("M", other);  // another disk of that name
  bench_.settle();
  EXPECT_EQ(run(Op::write, 4000, 8, 2), Status::write_error);
  remove("M");
  add_file("M", marks);
  bench_.until([this] { return run(Op::write, 4000, 8, 2) == Status::ok; });
  EXPECT_EQ(bitmap()["marked_regions"], 2);
  EXPECT_FALSE(info("R").isMember("frozen"));
}

// It is still recorded as in sync: after a crash it could say something else where members may differ.
TEST_F(Raid1Trouble, WhileTheLossOfAMemberCannotBeRecordedNobodyIsToldWhatItMayContradict) {
  add_disk("A");
  add_disk("B");
  const auto marks = add_faulty("M");
  RaidOptions options = mirror({"A", "B"});
  options.bitmap_bdev = "EE_M";
  options.bitmap_region_kib = 64;
  options.assume_clean = true;
  ASSERT_TRUE(create_array(options).has_value());
  open_top("R");
  EXPECT_EQ(run(Op::write, 0, 8, 1), Status::ok);
  Injection injection;
  injection.count = ~std::uint32_t{0};
  marks->injections().set(Op::write, injection);
  remove("B");
  bench_.until([] { return state_of(1) == MemberState::missing; });
  EXPECT_EQ(info("R")["frozen"], true);
  EXPECT_EQ(run(Op::read, 0, 8), Status::read_error);     // marked
  EXPECT_EQ(run(Op::read, 4000, 8), Status::ok);          // the same on both
  EXPECT_EQ(run(Op::read, 120, 16), Status::read_error);  // partly
  marks->injections().clear();
  bench_.until([this] { return run(Op::read, 0, 8) == Status::ok; });  // a read has it tried again as well
  EXPECT_EQ(value_of(0), 1);
  EXPECT_EQ(run(Op::write, 4000, 8, 2), Status::ok);
  EXPECT_FALSE(info("R").isMember("frozen"));
  close_top();
  ASSERT_TRUE(remove_array("R").has_value());
  forget(ErrorBdev::product, "EE_M");
}

TEST_F(Raid1Trouble, AResyncOverMembersThatAnswerAtOnceLetsOthersHaveTheirTurn) {
  add_disk("A", 64 * 512);
  add_disk("B", 64 * 512);
  write_on("A", 0, 1, 7);  // else there is nothing to be copied
  RaidOptions options = mirror({"A", "B"});
  options.bitmap_region_kib = 64;  // 256 regions
  ASSERT_TRUE(create_array(options).has_value());
  ASSERT_TRUE(array("R")->level().progress().has_value());
  std::uint64_t most = 0, turns = 0;
  for (std::uint64_t before = array("R")->level().progress()->blocks_copied; array("R")->level().progress().has_value(); ++turns) {
    const std::uint64_t copied = array("R")->level().progress()->blocks_copied;
    most = std::max(most, copied - std::min(before, copied));
    before = copied;
    turn();
    ASSERT_LT(turns, 100'000u);
  }
  EXPECT_LE(most, 8 * 128u);  // blocks: two copies at a time, asked a few times a turn at most
  EXPECT_GE(turns, 256u / 8);
  until_whole();
  EXPECT_EQ(value_on("B", 0), 7);
  // One region that is larger than a step.
  ASSERT_TRUE(remove_array("R").has_value());
  options.bitmap_region_kib = 16 << 10;
  ASSERT_TRUE(create_array(options).has_value());
  turns = 0;
  while (array("R")->level().progress().has_value()) turns += turn() ? 1 : 0;
  EXPECT_GE(turns, 8u);  // 16 MiB in steps of 1 MiB, two I/Os each
}

TEST_F(Raid1Trouble, TheSpeedLimitCountsAtOnceAlsoForWhatRuns) {
  const auto set_limit = [this](std::uint32_t mib_per_second) {
    raid_settings().process_max_bandwidth_mib_sec = mib_per_second;
    if (array("R") != nullptr) bench_.on_thread([] { array("R")->level().settings_changed(); });
    bench_.settle();
  };
  add_disk("A", 64 * 512);
  add_disk("B", 64 * 512);
  write_on("A", 0, 1, 7);
  set_limit(1);
  ASSERT_TRUE(create_array(mirror({"A", "B"})).has_value());
  bench_.settle();
  ASSERT_TRUE(array("R")->level().progress().has_value());  // 16 MiB take seconds, for which nobody waits here
  const std::uint64_t copied = array("R")->level().progress()->blocks_copied;
  EXPECT_LT(copied, 32u * 512);
  set_limit(0);
  EXPECT_TRUE(is_whole());
  // And the other way round: at its end it is limited again.
  ASSERT_TRUE(remove_array("R").has_value());
  set_limit(1);
  ASSERT_TRUE(create_array(mirror({"A", "B"})).has_value());
  bench_.settle();
  raid_settings().process_max_bandwidth_mib_sec = 0;
  bench_.on_thread([] { array("R")->level().settings_changed(); });
  for (int i = 0; i < 4; ++i) turn();
  set_limit(1);
  ASSERT_TRUE(array("R")->level().progress().has_value());
  bench_.leap_over_waits();
  until_whole();
}

TEST(Raid1Pace, FollowsItsLimitAndStaysOutOfTheWayOfUsers) {
  raid1::Pace pace;
  constexpr std::uint64_t ms = 1'000'000, mib = 1 << 20;
  std::uint64_t now = 1'000 * ms;
  EXPECT_EQ(pace.ask(now, mib), 0u);
  EXPECT_EQ(pace.ask(now, mib), 0u);  // no limit
  pace.set_limit(10 * mib);
  EXPECT_EQ(pace.ask(now, mib), 0u);
  EXPECT_EQ(pace.ask(now, mib) / ms, 0u) << "what was not used in the past is good for one step";
  EXPECT_EQ(pace.ask(now, mib) / ms, 100u);
  now += 100 * ms;
  EXPECT_EQ(pace.ask(now, mib), 0u);
  EXPECT_GT(pace.ask(now, mib), 0u);
  pace.set_limit(0);
  EXPECT_EQ(pace.ask(now, mib), 0u) << "another limit counts at once";
  // A step of 10 ms: nobody else was about, so the next one goes at once; else it is followed by three times as much.
  pace.step_took(now, now + 10 * ms, 0);
  now += 10 * ms;
  EXPECT_EQ(pace.ask(now, mib), 0u);
  pace.step_took(now, now + 10 * ms, 5);
  now += 10 * ms;
  EXPECT_EQ(pace.ask(now, mib) / ms, 30u);
  pace.step_took(now, now + 10 * ms, 5);
  now += 40 * ms;
  EXPECT_EQ(pace.ask(now, mib), 0u) << "users have done nothing since";
  pace.step_took(now - 500 * ms, now, 6);
  EXPECT_EQ(pace.ask(now, mib), raid1::Pace::longest_pause_ns) << "a copy comes to its end whatever users do";
  now += raid1::Pace::longest_pause_ns;
  pace.step_took(now, now, 7);
  EXPECT_EQ(pace.ask(now, mib), raid1::Pace::shortest_step_ns * raid1::Pace::pauses_per_step) << "a step in memory takes time as well";
}

TEST_F(Raid1Trouble, UsersThatAreBusyHaveACopyPause) {
  add_disk("A", 64 * 512);
  add_disk("B", 64 * 512);
  write_on("A", 0, 1, 7);
  raid_settings().process_max_bandwidth_mib_sec = 1;
  ASSERT_TRUE(create_array(mirror({"A", "B"})).has_value());
  open_top("R");
  raid_settings().process_max_bandwidth_mib_sec = 0;
  bench_.on_thread([] { array("R")->level().settings_changed(); });
  // A user who always has something to do, and never waits for a copy, which waits for a deadline now and then.
  std::uint64_t turns_of_user = 0, fastest = 0;
  while (array("R")->level().progress().has_value()) {
    TestIo io(Op::read, 8000, 8);
    const std::uint64_t before = array("R")->level().progress()->blocks_copied;
    bench_.on_thread([&] { channel_->submit(io.io); });
    EXPECT_EQ(io.times_done, 1);
    ++turns_of_user;
    const auto now = array("R")->level().progress();
    if (!now) break;
    fastest = std::max(fastest, now->blocks_copied - before);
    if (!turn()) bench_.clock.leap_to(bench_.thread->nearest_deadline_ns());
  }
  EXPECT_LE(fastest, 8 * 512u);  // regions between two of the user's turns
  EXPECT_GE(turns_of_user, 3u);
}

TEST_F(Raid1Trouble, EveryChangeOfStateIsTold) {
  const TestFile f1(4 << 20), f2(4 << 20);
  add_file("A", f1);
  add_file("B", f2);
  add_disk("C");
  write_on("A", 4096, 1, 7);
  ASSERT_TRUE(create_array(mirror({"A", "B"}, true)).has_value());
  until_whole();
  // Once more with another reason is no other state.
  const auto told = [this] {
    told_.erase(std::unique(told_.begin(), told_.end()), told_.end());
    return std::exchange(told_, {});
  };
  using Events = std::vector<std::string>;
  EXPECT_EQ(told(), (Events{"member_state R/A waiting", "member_state R/B waiting", "process_start R/resync", "member_state R/A in_sync",
                            "member_state R/B in_sync", "state R online", "process_end R/resync"}));
  open_top("R");
  remove("B");
  EXPECT_EQ(run(Op::write, 0, 8, 1), Status::ok);
  add_file("B", f2);
  until_whole();
  EXPECT_EQ(told(), (Events{"member_state R/B failed", "member_state R/B missing", "member_state R/B waiting", "member_state R/B rebuilding",
                            "process_start R/rebuild", "member_state R/B in_sync", "process_end R/rebuild"}));
  bench_.on_thread([] { ASSERT_TRUE(array("R")->level().start_scrub({}).has_value()); });
  bench_.until([] { return info("R")["scrub"]["finished"].asBool(); });
  EXPECT_EQ(told(), (Events{"process_start R/scrub", "process_end R/scrub"}));
  EXPECT_TRUE(wait_for([] { return array("R")->remove_member(0); }).has_value());
  EXPECT_EQ(told().front(), "member_state R/A failed");
  close_top();
  remove("B");
  bench_.settle();
  const Events last = told();
  EXPECT_NE(std::ranges::find(last, "state R offline"), last.end());
  EXPECT_NE(std::ranges::find(last, "member_state R/B missing"), last.end());
  ASSERT_TRUE(remove_array("R").has_value());
}

TEST_F(Raid1Trouble, DeletionLeavesNothingBehind) {
  for (const bool superblock : {false, true}) {
    add_disk("A");
    add_disk("B");
    write_on("A", 4096, 1, 7);
    ASSERT_TRUE(create_array(mirror({"A", "B"}, superblock)).has_value());
    const std::weak_ptr<RaidArray> whole = array("R");
    const std::weak_ptr<Bdev> top = Registry::instance().find("R");
    // In the middle of its resync, with I/O under way, marks to be cleared and a scrub.
    open_top("R");
    TestIo io(Op::write, 100, 8, 5);
    submit(io);
    bench_.on_thread([] { (void)array("R")->level().start_scrub({}); });
    close_top();
    ASSERT_TRUE(remove_array("R", true).has_value());
    EXPECT_EQ(io.times_done, 1);
    bench_.settle();
    EXPECT_TRUE(whole.expired());
    EXPECT_TRUE(top.expired());
    EXPECT_TRUE(bench_.idle());
    for (const char* name : {"A", "B"}) {
      const auto member = Registry::instance().find(name);
      EXPECT_EQ(Registry::instance().claimed_by(*member), "");
      EXPECT_FALSE(member->is_open());
      EXPECT_TRUE(member->channel_stats().empty());
      if (superblock) {
        EXPECT_EQ(value_on(name, 0), 0);
      }
      bench_.on_thread([name] { ASSERT_TRUE(Registry::instance().examine(name).has_value()); });
      bench_.settle();
      EXPECT_EQ(array("R"), nullptr);
      remove(name);
    }
  }
}

TEST_F(Raid1Trouble, ItDoesNotGrowBeyondTheRoomOfItsBitmap) {
  const TestFile f1(4 << 20), f2(4 << 20);
  add_file("A", f1);
  add_file("B", f2);
  RaidOptions options = mirror({"A", "B"}, true);
  options.bitmap_region_kib = 4;  // 750 regions: one page of 3,968 would do, two are there
  ASSERT_TRUE(create_array(options).has_value());
  const std::uint64_t before = array("R")->bdev()->num_blocks();
  for (const auto& [name, file] : {std::pair{"A", &f1}, std::pair{"B", &f2}}) {
    file->resize(64 << 20);
    bench_.on_thread([name] { static_cast<FileBdev&>(*Registry::instance().find(name)).take_size((64 << 20) / 512); });
    bench_.settle();
  }
  const auto grown = wait_for([] { return array("R")->grow(); });
  ASSERT_FALSE(grown.has_value());
  EXPECT_EQ(grown.error().err, ENOSPC);
  EXPECT_EQ(array("R")->bdev()->num_blocks(), before);
  EXPECT_EQ(array("R")->state(), RaidState::online);
}

TEST_F(Raid1Trouble, ReadsPreferALocalMemberAndTakeTurnsAmongEquals) {
  add_disk("A");
  const auto remote = add_remote("B");
  ASSERT_TRUE(create_array(mirror({"B", "A"})).has_value());
  until_whole();
  open_top("R");
  for (const char* name : {"A", "B"}) Registry::instance().find(name)->reset_stats();
  const auto reads_of = [](const std::string& name) { return Registry::instance().find(name)->stats().ops[static_cast<std::size_t>(Op::read)]; };
  for (int i = 0; i < 50; ++i) EXPECT_EQ(run(Op::read, 8 * i, 8), Status::ok);
  EXPECT_EQ(reads_of("A"), 50u);
  EXPECT_EQ(reads_of("B"), 0u);
  close_top();
  ASSERT_TRUE(remove_array("R").has_value());
  add_disk("C");
  ASSERT_TRUE(create_array(mirror({"A", "C"})).has_value());
  until_whole();
  open_top("R");
  for (const char* name : {"A", "C"}) Registry::instance().find(name)->reset_stats();
  for (int i = 0; i < 50; ++i) EXPECT_EQ(run(Op::read, 8 * i, 8), Status::ok);
  EXPECT_EQ(reads_of("A"), 25u);
  EXPECT_EQ(reads_of("C"), 25u);
}

TEST_F(Raid1Trouble, UnmapGoesDownWhereItLeavesZeroesAndElsewhereZeroesAreWritten) {
  add_disk("A");
  add_remote("B", false);
  ASSERT_TRUE(create_array(mirror({"A", "B"})).has_value());
  until_whole();
  open_top("R");
  EXPECT_EQ(run(Op::write, 0, 64, 7), Status::ok);
  EXPECT_EQ(run(Op::unmap, 8, 16), Status::ok);
  const auto count = [](const char* name, Op op) { return Registry::instance().find(name)->stats().ops[static_cast<std::size_t>(op)]; };
  EXPECT_EQ(count("A", Op::unmap), 1u);
  EXPECT_EQ(count("A", Op::write_zeroes), 0u);
  EXPECT_EQ(count("B", Op::unmap), 0u);
  EXPECT_EQ(count("B", Op::write_zeroes), 1u);
  EXPECT_EQ(value_of(10), 0);
  close_top();
  EXPECT_EQ(value_on("B_there", 10), 0);
  EXPECT_EQ(value_on("B_there", 30), 7);
}

// What was written to a remote member since its last flush may be lost when it was away, and nobody has an error of it.
TEST_F(Raid1Trouble, AMemberThatWasAwayBetweenTwoIosGetsWhatItMayHaveLost) {
  for (const bool below_another : {false, true}) {
    SCOPED_TRACE(below_another ? "below a passthru bdev" : "itself");
    add_disk("A");
    const auto remote = add_remote("B");
    std::string member = "B";
    if (below_another) {
      member = "P";
      bench_.on_thread([] {
        PassthruOptions options;
        options.name = "P";
        options.base_bdev_name = "B";
        ASSERT_TRUE(VirtualBdevs::instance().create(PassthruBdev::recipe(options)).has_value());
      });
    }
    RaidOptions options = mirror({"A", member}, true);
    options.bitmap_region_kib = 64;
    ASSERT_TRUE(create_array(options).has_value());
    until_whole();
    const std::uint64_t first = array("R")->member(0).data_offset_blocks;
    open_top("R");
    EXPECT_EQ(run(Op::write, 200, 8, 1), Status::ok);
    write_on("B_there", first + 200, 8, 0);  // gone with the cache of the target
    told_.clear();
    bench_.on_thread([&] { remote->found_again(); });
    bench_.settle();
    until_whole();
    EXPECT_EQ(value_on("B_there", first + 203), 1);
    EXPECT_NE(std::ranges::find(told_, "member_state R/" + member + " rebuilding"), told_.end());
    EXPECT_EQ(info("R")["last_rebuild"]["copied_blocks"], 128);
    // Found again by an I/O, before anybody told.
    open_top("R");
    EXPECT_EQ(run(Op::write, 4000, 8, 2), Status::ok);
    write_on("B_there", first + 4000, 8, 0);
    bench_.on_thread([&] { remote->found_again(false); });
    EXPECT_EQ(run(Op::write, 0, 8, 3), Status::ok);
    EXPECT_NE(state_of(1), MemberState::in_sync);
    until_whole();
    EXPECT_EQ(value_on("B_there", first + 4001), 2);
    // Another disk came in its place: it is not taken, and never asked.
    open_top("R");
    EXPECT_EQ(run(Op::write, 4000, 8, 4), Status::ok);
    for (std::uint64_t block = 0; block < blocks; block += 512) write_on("B_there", block, 512, 0);
    bench_.on_thread([&] { remote->found_again(); });
    bench_.settle();
    EXPECT_EQ(state_of(1), MemberState::failed);
    EXPECT_EQ(array("R")->member(1).reason, "what is there is not the member that left");
    for (int i = 0; i < 4; ++i) EXPECT_EQ(value_of(4000), 4);
    EXPECT_TRUE(wait_for([&] { return array("R")->add_member(member); }).has_value());
    until_whole();
    EXPECT_EQ(value_on("B_there", first + 4000), 4);
    close_top();
    ASSERT_TRUE(remove_array("R").has_value());
    if (below_another) forget(PassthruBdev::product, "P");
    for (const char* name : {"B", "B_there", "A"}) remove(name);
  }
}

}  // namespace
}  // namespace catnap::bdev
