// Fused Compare and Write: what makes a pair, in which order its data may come, and how each half ends when the other does (Base 2.0 section 3.4.2,
// NVM Command Set 1.0 section 2.1.3).
#include <gtest/gtest.h>

#include <vector>

#include "server/io_limits.h"
#include "tests/unit/server/controller_bench.h"

namespace catnap::server {
namespace {

using nvme::Fuse;
using nvme::IoOpcode;

constexpr nvme::Status failed_fused = nvme::GenericStatus::failed_fused;
constexpr nvme::Status missing_fused = nvme::GenericStatus::missing_fused;
constexpr nvme::Status invalid_field = nvme::GenericStatus::invalid_field;

std::vector<std::byte> bytes_of(std::size_t size, std::uint8_t value) { return std::vector<std::byte>(size, std::byte{value}); }

nvme::SubmissionEntry half(Fuse fuse, std::uint64_t slba, std::uint32_t blocks, std::uint32_t nsid = 1) {
  nvme::SubmissionEntry sqe = io_sqe(fuse == Fuse::first ? IoOpcode::compare : IoOpcode::write, slba, blocks, nsid);
  sqe.flags = static_cast<std::uint8_t>(sqe.flags | static_cast<unsigned>(fuse));
  return sqe;
}

class FusedTest : public testing::Test {
 protected:
  FusedTest() : pair_(bench_.connect_io()) {}

  Command& run(const nvme::SubmissionEntry& sqe, std::uint8_t fill) {
    return bench_.run(*pair_.io, sqe, bytes_of(std::size_t{sqe.block_count()} * 512, fill));
  }
  // As a transport whose data has not come: planned, not executed.
  Command& plan(const nvme::SubmissionEntry& sqe, std::uint8_t fill) {
    Command& command = late_.emplace_back();
    command.request.sqe = sqe;
    command.request.sqe.cid = static_cast<std::uint16_t>(0x8000 + late_.size());
    command.host_bytes = bytes_of(std::size_t{sqe.block_count()} * 512, fill);
    bench_.on(*bench_.thread, [&] { pair_.io->plan_only(command); });
    return command;
  }
  void data_comes(Command& command) {
    bench_.on(*bench_.thread, [&] { pair_.io->execute_planned(command); });
  }
  std::uint8_t block(std::uint64_t lba) const { return static_cast<std::uint8_t>(bench_.disk->memory[lba * 512]); }
  std::size_t seen() const { return bench_.disk->seen.size(); }

  ControllerBench bench_;
  ControllerBench::Pair pair_;
  std::deque<Command> late_;
};

// Proves: command | Fused Compare and Write | Base 2.0c 3.4.2
TEST_F(FusedTest, EqualDataIsReplacedInOneOperation) {
  Command& compare = run(half(Fuse::first, 8, 2), 0);
  EXPECT_FALSE(compare.done);
  EXPECT_EQ(seen(), 0U) << "nothing happens before the second half is there";
  Command& write = run(half(Fuse::second, 8, 2), 0xAB);
  EXPECT_TRUE(compare.done && compare.status().is_success());
  EXPECT_TRUE(write.done && write.status().is_success());
  ASSERT_EQ(seen(), 1U) << "one unit";
  EXPECT_EQ(bench_.disk->seen[0].op, bdev::Op::compare_and_write);
  EXPECT_EQ(block(8), 0xAB);
  EXPECT_EQ(block(9), 0xAB);
  EXPECT_EQ(block(10), 0);
  EXPECT_EQ(bench_.group->stats().pending_bdev_io, 0U);
}

TEST_F(FusedTest, UnequalDataFailsTheCompareAndTheWriteWithIt) {
  Command& compare = run(half(Fuse::first, 8, 1), 7);
  Command& write = run(half(Fuse::second, 8, 1), 0xAB);
  EXPECT_TRUE(compare.status().same_code(nvme::MediaStatus::compare_failure));
  EXPECT_TRUE(compare.status().dnr);
  EXPECT_TRUE(write.status().same_code(failed_fused));
  EXPECT_EQ(block(8), 0);
}

TEST_F(FusedTest, DataMayComeInAnyOrder) {
  for (const bool first_comes_first : {true, false}) {
    Command& compare = plan(half(Fuse::first, 4, 1), first_comes_first ? 0 : 1);
    Command& write = plan(half(Fuse::second, 4, 1), first_comes_first ? 1 : 2);
    EXPECT_FALSE(compare.request.consumes_inline || write.request.consumes_inline);
    EXPECT_TRUE(write.request.never_waits) << "or pairs could wait for each other's buffers";
    EXPECT_FALSE(compare.request.never_waits);
    data_comes(first_comes_first ? compare : write);
    EXPECT_FALSE(compare.done || write.done);
    data_comes(first_comes_first ? write : compare);
    EXPECT_TRUE(compare.done && compare.status().is_success());
    EXPECT_TRUE(write.done && write.status().is_success());
  }
  EXPECT_EQ(block(4), 2);
}

TEST_F(FusedTest, PairsOfOneQueueDoNotMix) {
  Command& compare1 = plan(half(Fuse::first, 0, 1), 0);
  Command& write1 = plan(half(Fuse::second, 0, 1), 1);
  Command& compare2 = plan(half(Fuse::first, 1, 1), 9);
  Command& write2 = plan(half(Fuse::second, 1, 1), 2);
  data_comes(write2);
  data_comes(compare1);
  data_comes(write1);
  EXPECT_TRUE(write1.done && write1.status().is_success());
  EXPECT_TRUE(compare1.status().is_success());
  EXPECT_FALSE(compare2.done || write2.done);
  data_comes(compare2);
  EXPECT_TRUE(compare2.status().same_code(nvme::MediaStatus::compare_failure));
  EXPECT_TRUE(write2.status().same_code(failed_fused));
}

// Proves: command | Fused Compare and Write | Base 2.0c 3.4.2
TEST_F(FusedTest, AFirstHalfThatIsNotFollowedByItsSecond) {
  const nvme::SubmissionEntry followers[] = {io_sqe(IoOpcode::read, 0, 1), half(Fuse::first, 20, 1), make_sqe(0x00, 1), make_sqe(0x7E)};
  for (const auto& follower : followers) {
    for (const bool data_was_there : {true, false}) {
      Command& compare = plan(half(Fuse::first, 8, 1), 0);
      if (data_was_there) data_comes(compare);
      Command& next = bench_.run(*pair_.io, follower, bytes_of(512, 0));
      if (!data_was_there) {
        EXPECT_FALSE(compare.done) << "its data is on the way";
        data_comes(compare);
      }
      EXPECT_TRUE(compare.done && compare.status().same_code(missing_fused)) << int(follower.opcode);
      if (follower.fuse() == Fuse::first) {
        EXPECT_FALSE(next.done);
        EXPECT_TRUE(run(half(Fuse::second, 20, 1), 0).status().is_success()) << "the second first half has its own second";
      }
    }
  }
}

TEST_F(FusedTest, ASecondHalfAlone) {
  EXPECT_TRUE(run(half(Fuse::second, 8, 1), 1).status().same_code(missing_fused));
  run(half(Fuse::first, 8, 1), 0);
  run(half(Fuse::second, 8, 1), 1);
  EXPECT_TRUE(run(half(Fuse::second, 8, 1), 2).status().same_code(missing_fused)) << "a pair has two halves";
  EXPECT_EQ(block(8), 1);
}

// Proves: command | Fused Compare and Write | Base 2.0c 3.4.2
TEST_F(FusedTest, ARefusedFirstHalfTakesTheSecondWithIt) {
  const nvme::SubmissionEntry bad[] = {half(Fuse::first, 4096, 1), half(Fuse::first, 0, 1, 9), half(Fuse::first, 0, max_fused_bytes / 512 + 1)};
  const nvme::Status why[] = {nvme::GenericStatus::lba_out_of_range, nvme::GenericStatus::invalid_namespace_or_format,
                              nvme::GenericStatus::atomic_write_unit_exceeded};
  for (std::size_t i = 0; i < std::size(bad); ++i) {
    Command& compare = run(bad[i], 0);
    EXPECT_TRUE(compare.status().same_code(why[i])) << i;
    EXPECT_TRUE(run(half(Fuse::second, 0, 1), 1).status().same_code(failed_fused)) << i;
  }
  nvme::SubmissionEntry read = half(Fuse::first, 0, 1);
  read.opcode = static_cast<std::uint8_t>(IoOpcode::read);
  EXPECT_TRUE(run(read, 0).status().same_code(invalid_field)) << "only Compare and Write are a pair";
  EXPECT_TRUE(run(half(Fuse::second, 0, 1), 1).status().same_code(failed_fused));
  EXPECT_EQ(seen(), 0U);
}

TEST_F(FusedTest, ASecondHalfThatDoesNotFit) {
  nvme::SubmissionEntry zeroes = half(Fuse::second, 8, 2);
  zeroes.opcode = static_cast<std::uint8_t>(IoOpcode::write_zeroes);
  const nvme::SubmissionEntry bad[] = {half(Fuse::second, 9, 2), half(Fuse::second, 8, 1), half(Fuse::second, 8, 3), half(Fuse::second, 8, 2, 2),
                                       zeroes};
  for (const auto& second : bad) {
    Command& compare = run(half(Fuse::first, 8, 2), 0);
    EXPECT_TRUE(run(second, 1).status().same_code(invalid_field));
    EXPECT_TRUE(compare.done && compare.status().same_code(failed_fused));
  }
  EXPECT_EQ(seen(), 0U);
}

TEST_F(FusedTest, ReservedFuseIsAnInvalidField) {
  nvme::SubmissionEntry sqe = io_sqe(IoOpcode::read, 0, 1);
  sqe.flags |= 3;
  EXPECT_TRUE(run(sqe, 0).status().same_code(invalid_field));
}

// Proves: command | Fused Compare and Write | NVM 1.0c 4.1.5.1
// Proves: command | Atomicity | NVM 1.0c 2.1.4
TEST_F(FusedTest, IdentifyTellsWhatIsTaken) {
  const auto space = bench_.identify(*pair_.admin, 0x00, 1).page<nvme::IdentifyNamespace>();
  EXPECT_EQ(space.nacwu, max_fused_bytes / 512 - 1);
  EXPECT_NE(space.nsfeat & nvme::nsfeat_atomics, 0);
  const auto controller = bench_.identify(*pair_.admin, 0x01).page<nvme::IdentifyController>();
  EXPECT_EQ(controller.fuses, nvme::fuses_compare_and_write);
  EXPECT_EQ(controller.acwu, 0U);
  run(half(Fuse::first, 0, max_fused_bytes / 512), 0);
  EXPECT_TRUE(run(half(Fuse::second, 0, max_fused_bytes / 512), 1).status().is_success()) << "as large as NACWU says";
}

TEST_F(FusedTest, MediaErrorsEndTheHalfTheyBelongTo) {
  bench_.disk->answer = bdev::Status::write_error;
  Command& compare = run(half(Fuse::first, 8, 1), 0);
  Command& write = run(half(Fuse::second, 8, 1), 1);
  EXPECT_TRUE(compare.status().is_success());
  EXPECT_TRUE(write.status().same_code(nvme::MediaStatus::write_fault));
  bench_.disk->answer = bdev::Status::read_error;
  Command& compare2 = run(half(Fuse::first, 8, 1), 0);
  EXPECT_TRUE(run(half(Fuse::second, 8, 1), 1).status().same_code(failed_fused));
  EXPECT_TRUE(compare2.status().same_code(nvme::MediaStatus::unrecovered_read_error));
}

TEST_F(FusedTest, ANamespaceThatGoesUnderAPair) {
  Command& compare = plan(half(Fuse::first, 8, 1), 0);
  Command& write = plan(half(Fuse::second, 8, 1), 1);
  data_comes(write);
  bench_.publish([](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.namespaces.clear(); });
  data_comes(compare);
  EXPECT_TRUE(compare.done && compare.status().same_code(nvme::GenericStatus::invalid_namespace_or_format));
  EXPECT_TRUE(write.done && write.status().same_code(failed_fused));
}

TEST_F(FusedTest, AConnectionThatDiesUnderAPairLeavesNothing) {
  enum class When { first_planned, first_held, second_held, submitted };
  for (const When when : {When::first_planned, When::first_held, When::second_held, When::submitted}) {
    ControllerBench bench;
    const auto pair = bench.connect_io();
    bench.disk->hold = true;
    Command compare, write;
    compare.request.sqe = half(Fuse::first, 8, 1);
    write.request.sqe = half(Fuse::second, 8, 1);
    write.request.sqe.cid = std::uint16_t{1};
    compare.host_bytes = write.host_bytes = bytes_of(512, 0);
    bench.on(*bench.thread, [&] {
      pair.io->plan_only(compare);
      if (when == When::first_held || when == When::submitted) pair.io->execute_planned(compare);
      if (when == When::second_held || when == When::submitted) {
        pair.io->plan_only(write);
        pair.io->execute_planned(write);
      }
    });
    bench.close(*pair.io);
    bench.on(*bench.thread, [&] { bench.disk->release(); });
    bench.settle();
    EXPECT_TRUE(pair.io->closed) << static_cast<int>(when);
    EXPECT_EQ(bench.disk->channels, 0) << static_cast<int>(when);
  }
}

TEST_F(FusedTest, AbortOfAHalf) {
  const auto abort = [this](const Command& command) -> Command& {
    nvme::SubmissionEntry sqe = make_sqe(0x08);
    sqe.cdw10 = 1U | std::uint32_t{command.request.sqe.cid} << 16;
    return bench_.run(*pair_.admin, sqe);
  };
  // Held, alone: what was to be its second ends with it.
  Command& compare = run(half(Fuse::first, 8, 1), 0);
  EXPECT_EQ(abort(compare).dw0(), 0U);
  EXPECT_TRUE(compare.done && compare.status().same_code(nvme::GenericStatus::abort_requested));
  EXPECT_TRUE(run(half(Fuse::second, 8, 1), 1).status().same_code(failed_fused));
  // One of two.
  Command& compare2 = plan(half(Fuse::first, 8, 1), 0);
  Command& write2 = plan(half(Fuse::second, 8, 1), 1);
  data_comes(compare2);
  EXPECT_EQ(abort(write2).dw0(), 0U);
  EXPECT_TRUE(compare2.done && compare2.status().same_code(failed_fused));
  // With the block device: both, whichever was named.
  for (const bool name_first : {true, false}) {
    bench_.disk->hold = true;
    Command& compare3 = run(half(Fuse::first, 8, 1), 0);
    Command& write3 = run(half(Fuse::second, 8, 1), 1);
    EXPECT_EQ(abort(name_first ? compare3 : write3).dw0(), 0U);
    EXPECT_TRUE(compare3.done && compare3.status().same_code(nvme::GenericStatus::abort_requested));
    EXPECT_TRUE(write3.done && write3.status().same_code(nvme::GenericStatus::abort_requested));
  }
  EXPECT_EQ(block(8), 0);
}

}  // namespace
}  // namespace catnap::server
