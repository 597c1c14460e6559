// A controller that was stopped or starved beyond its keep-alive time carries out nothing that it then finds in its sockets: its host has gone on
// without it (NVMe Base 2.1, section 9.6).
#include "server/keep_alive.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "server/controller.h"
#include "tests/unit/server/controller_bench.h"

namespace catnap::server {
namespace {

constexpr std::uint64_t second_ns = 1'000'000'000;

TEST(KeepAliveTimeTest, EachCommandOfTheAdminQueueCountsAnew) {
  KeepAlive keep_alive;
  keep_alive.start(0, 6 * second_ns);
  EXPECT_TRUE(keep_alive.heard(5 * second_ns));
  EXPECT_FALSE(keep_alive.over(11 * second_ns - 1));
  EXPECT_TRUE(keep_alive.heard(11 * second_ns - 1));
  EXPECT_TRUE(keep_alive.over(17 * second_ns));
}

TEST(KeepAliveTimeTest, WhatIsOverStaysOver) {
  KeepAlive keep_alive;
  keep_alive.start(0, 6 * second_ns);
  EXPECT_FALSE(keep_alive.heard(6 * second_ns)) << "read too late";
  EXPECT_TRUE(keep_alive.over(1)) << "also for a queue whose turn began before";
  keep_alive.note_traffic();
  keep_alive.start(7 * second_ns, 6 * second_ns);
  EXPECT_TRUE(keep_alive.over(8 * second_ns));
}

TEST(KeepAliveTimeTest, TrafficIsGoodForOneLimitAtLeastAndTwoAtMost) {
  for (const std::uint64_t last : {std::uint64_t{0}, second_ns, 5 * second_ns, 6 * second_ns - 1}) {
    KeepAlive keep_alive;
    keep_alive.start(0, 6 * second_ns);
    ASSERT_FALSE(keep_alive.over(last));
    keep_alive.note_traffic();
    EXPECT_FALSE(keep_alive.over(last + 6 * second_ns));
    EXPECT_TRUE(keep_alive.over(last + 12 * second_ns));
  }
}

// However late somebody looks: the traffic was in the period in which it was noted.
TEST(KeepAliveTimeTest, OldTrafficDoesNotCarryOverALongSilence) {
  KeepAlive keep_alive;
  keep_alive.start(0, 6 * second_ns);
  keep_alive.note_traffic();
  EXPECT_TRUE(keep_alive.over(100 * second_ns));
}

TEST(KeepAliveTimeTest, WithoutALimitItNeverEnds) {
  KeepAlive keep_alive;
  keep_alive.start(0, 0);
  EXPECT_FALSE(keep_alive.over(KeepAlive::never_ns - 1));
  EXPECT_TRUE(keep_alive.heard(1'000'000 * second_ns));
}

// A target that was stopped for `stopped_ms`: what came meanwhile is read in one turn, before any timer.
class StarvedTest : public testing::Test {
 protected:
  StarvedTest() : pair_(bench_.connect_io()) { bench_.set_feature(*pair_.admin, nvme::Feature::keep_alive_timer, 5000); }

  Command& prepare(const nvme::SubmissionEntry& sqe, std::vector<std::byte> bytes = {}) {
    Command& command = commands_.emplace_back();
    command.request.sqe = sqe;
    command.request.sqe.cid = static_cast<std::uint16_t>(40'000 + commands_.size());
    command.host_bytes = std::move(bytes);
    return command;
  }
  Command& write(std::uint64_t lba, std::byte value) { return prepare(io_sqe(nvme::IoOpcode::write, lba, 1), std::vector<std::byte>(512, value)); }
  void wake_up_after(std::uint64_t stopped_ms, const std::function<void()>& found) {
    bench_.clock.advance_us(stopped_ms * 1000);
    bench_.on(*bench_.thread, found);
  }
  std::byte block(std::uint64_t lba) const { return bench_.disk->memory[lba * 512]; }

  ControllerBench bench_;
  ControllerBench::Pair pair_;
  std::deque<Command> commands_;
};

TEST_F(StarvedTest, AWriteThatIsReadTooLateIsNotCarriedOut) {
  Command& stale = write(3, std::byte{0x5A});
  wake_up_after(20'000, [&] { pair_.io->start(stale); });
  ASSERT_TRUE(stale.done);
  EXPECT_TRUE(stale.status().same_code(nvme::GenericStatus::aborted_sq_deletion)) << "a host that is still there tries again";
  EXPECT_EQ(block(3), std::byte{0});
  EXPECT_TRUE(pair_.io->disconnected && pair_.admin->disconnected);
}

TEST_F(StarvedTest, NorWhenItsHostsKeepAlivesAreReadFirst) {
  Command& keep_alive = prepare(make_sqe(static_cast<std::uint8_t>(nvme::AdminOpcode::keep_alive)));
  Command& stale = write(3, std::byte{0x5A});
  wake_up_after(20'000, [&] {
    pair_.admin->start(keep_alive);
    pair_.io->start(stale);
  });
  EXPECT_FALSE(keep_alive.status().is_success());
  EXPECT_EQ(block(3), std::byte{0});
  EXPECT_TRUE(pair_.io->disconnected && pair_.admin->disconnected);
}

TEST_F(StarvedTest, NorWhenItsDataCameLate) {
  Command& begun = write(3, std::byte{0x5A});
  bench_.on(*bench_.thread, [&] { pair_.io->plan_only(begun); });
  wake_up_after(20'000, [&] { pair_.io->execute_planned(begun); });
  ASSERT_TRUE(begun.done);
  EXPECT_FALSE(begun.status().is_success());
  EXPECT_EQ(block(3), std::byte{0});
}

// The turn had begun before the process was stopped.
TEST_F(StarvedTest, NorWhenItWasStoppedWithinATurn) {
  Command& stale = write(3, std::byte{0x5A});
  bench_.on(*bench_.thread, [&] {
    bench_.clock.advance_us(20'000'000);
    pair_.io->start(stale);
  });
  EXPECT_FALSE(stale.status().is_success());
  EXPECT_EQ(block(3), std::byte{0});
}

TEST_F(StarvedTest, NorAPair) {
  nvme::SubmissionEntry compare = io_sqe(nvme::IoOpcode::compare, 3, 1);
  nvme::SubmissionEntry swap = io_sqe(nvme::IoOpcode::write, 3, 1);
  compare.flags = static_cast<std::uint8_t>(compare.flags | static_cast<unsigned>(nvme::Fuse::first));
  swap.flags = static_cast<std::uint8_t>(swap.flags | static_cast<unsigned>(nvme::Fuse::second));
  Command& first = prepare(compare, std::vector<std::byte>(512, std::byte{0}));
  Command& second = prepare(swap, std::vector<std::byte>(512, std::byte{0x5A}));
  bench_.on(*bench_.thread, [&] {
    pair_.io->plan_only(first);
    pair_.io->plan_only(second);
  });
  wake_up_after(20'000, [&] {
    pair_.io->execute_planned(first);
    pair_.io->execute_planned(second);
  });
  ASSERT_TRUE(first.done && second.done);
  EXPECT_FALSE(first.status().is_success() || second.status().is_success());
  EXPECT_EQ(block(3), std::byte{0});
}

TEST_F(StarvedTest, AShortStopHarmsNobody) {
  Command& late = write(3, std::byte{0x5A});
  wake_up_after(5'500, [&] { pair_.io->start(late); });
  EXPECT_TRUE(late.done && late.status().is_success());
  EXPECT_EQ(block(3), std::byte{0x5A});
  EXPECT_FALSE(pair_.io->disconnected || pair_.admin->disconnected);
}

// Proves: controller | Command Quiesce Time | Base 2.1 9.6
TEST_F(StarvedTest, TheControllerSaysHowLongItTakesToComeToRest) {
  const auto data = bench_.identify(*pair_.admin, 1).page<nvme::IdentifyController>();
  EXPECT_EQ(data.cqt, command_quiesce_ms);
}

}  // namespace
}  // namespace catnap::server
