// The Abort command: what can be taken back, what cannot, and that the answer says which (Base 2.0 section 5.1).
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "server/controller.h"
#include "tests/unit/server/controller_bench.h"
#include "transport/nvme/copy.h"
#include "transport/nvme/dsm.h"

namespace catnap::server {
namespace {

constexpr nvme::Status abort_requested = nvme::GenericStatus::abort_requested;
using nvme::IoOpcode;

class AbortTest : public testing::Test {
 protected:
  AbortTest() : pair_(bench_.connect_io()) {}

  Command& abort(std::uint16_t sqid, std::uint16_t cid) {
    nvme::SubmissionEntry sqe = make_sqe(0x08);
    sqe.cdw10 = sqid | std::uint32_t{cid} << 16;
    return bench_.run(*pair_.admin, sqe);
  }
  Command& abort(const Command& command, std::uint16_t sqid = 1) { return abort(sqid, command.request.sqe.cid); }
  void release() {
    bench_.on(*bench_.thread, [this] { bench_.disk->release(); });
  }

  ControllerBench bench_;
  ControllerBench::Pair pair_;
};

// Proves: admin | Abort | Base 2.0c 5.1
TEST_F(AbortTest, WhatABlockDeviceGivesBackIsAborted) {
  bench_.disk->hold = true;
  Command& read = bench_.run(*pair_.io, io_sqe(IoOpcode::read, 0, 8));
  Command& other = bench_.run(*pair_.io, io_sqe(IoOpcode::read, 8, 8));
  Command& answer = abort(read);
  EXPECT_TRUE(answer.done && answer.status().is_success());
  EXPECT_EQ(answer.dw0() & 1, 0U) << "aborted";
  EXPECT_TRUE(read.done && read.status().same_code(abort_requested));
  EXPECT_FALSE(read.status().dnr);
  EXPECT_FALSE(other.done);
  release();
  EXPECT_TRUE(other.status().is_success());
  EXPECT_EQ(bench_.group->stats().pending_bdev_io, 0U);
}

TEST_F(AbortTest, WhatABlockDeviceKeepsIsNotAndTheAnswerSaysSo) {
  bench_.disk->hold = true;
  bench_.disk->gives_back = false;
  Command& write = bench_.run(*pair_.io, io_sqe(IoOpcode::write, 0, 8), std::vector<std::byte>(4096));
  Command& answer = abort(write);
  EXPECT_TRUE(answer.done) << "the answer does not wait for the block device";
  EXPECT_EQ(answer.dw0() & 1, 1U);
  EXPECT_FALSE(write.done);
  release();
  EXPECT_TRUE(write.status().is_success()) << "it was said that it is not aborted";
}

TEST_F(AbortTest, ACommandThatWaitsForItsDataIsTakenBack) {
  Command write;
  write.request.sqe = io_sqe(IoOpcode::write, 0, 8);
  write.request.sqe.cid = std::uint16_t{0x7777};
  bench_.on(*bench_.thread, [&] { pair_.io->plan_only(write); });
  EXPECT_EQ(abort(1, 0x7777).dw0(), 0U);
  EXPECT_TRUE(write.done && write.status().same_code(abort_requested));
  EXPECT_TRUE(bench_.disk->seen.empty());
}

TEST_F(AbortTest, NothingToAbort) {
  Command& read = bench_.run(*pair_.io, io_sqe(IoOpcode::read, 0, 8));
  EXPECT_EQ(abort(read).dw0(), 1U) << "done already";
  EXPECT_EQ(abort(1, 0x5555).dw0(), 1U) << "never there";
  EXPECT_EQ(abort(2, 1).dw0(), 1U) << "no such queue";
  EXPECT_EQ(abort(0, 0x5555).dw0(), 1U);
  EXPECT_TRUE(abort(0xFFFF, 0xFFFF).status().is_success());
}

TEST_F(AbortTest, QueuesOfOtherControllersAreOutOfReach) {
  const auto others = bench_.connect_io();
  bench_.disk->hold = true;
  Command& read = bench_.run(*others.io, io_sqe(IoOpcode::read, 0, 8));
  EXPECT_EQ(abort(read).dw0(), 1U);
  EXPECT_FALSE(read.done);
  release();
}

TEST_F(AbortTest, TheQueueNamedIsTheOneMeant) {
  FakeQueue& second = bench_.connect_another(pair_, 2);
  bench_.disk->hold = true;
  Command& first_read = bench_.run(*pair_.io, io_sqe(IoOpcode::read, 0, 8));
  Command second_read;
  second_read.request.sqe = io_sqe(IoOpcode::read, 8, 8);
  second_read.request.sqe.cid = first_read.request.sqe.cid;
  bench_.on(*bench_.thread, [&] { second.start(second_read); });
  EXPECT_EQ(abort(first_read, 2).dw0(), 0U);
  EXPECT_FALSE(first_read.done);
  EXPECT_TRUE(second_read.done && second_read.status().same_code(abort_requested));
  release();
}

TEST_F(AbortTest, CommandsOfManyStepsStopBetweenThem) {
  std::vector<nvme::DsmRange> ranges(4);
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    ranges[i].slba = i * 8;
    ranges[i].blocks = 8U;
  }
  std::vector<std::byte> dsm(ranges.size() * sizeof(nvme::DsmRange));
  std::memcpy(dsm.data(), ranges.data(), dsm.size());
  nvme::SubmissionEntry unmap = make_sqe(0x09, 1, 64);
  unmap.cdw10 = 3U;
  unmap.cdw11 = nvme::dsm_deallocate;
  std::vector<nvme::CopyRange> sources(4);
  std::vector<std::byte> copy_bytes(sources.size() * sizeof(nvme::CopyRange));
  for (std::size_t i = 0; i < sources.size(); ++i) sources[i].slba = i;
  std::memcpy(copy_bytes.data(), sources.data(), copy_bytes.size());
  nvme::SubmissionEntry copy = make_sqe(0x19, 1, 128);
  copy.set_slba(100);
  copy.cdw12 = 3U;
  for (const bool gives_back : {true, false}) {
    for (const auto& [sqe, bytes] : {std::pair(unmap, dsm), std::pair(copy, copy_bytes)}) {
      bench_.disk->hold = true;
      bench_.disk->gives_back = gives_back;
      bench_.disk->seen.clear();
      Command& command = bench_.run(*pair_.io, sqe, bytes);
      bench_.on(*bench_.thread, [this] { bench_.disk->release_one(); });  // the first step
      Command& answer = abort(command);
      EXPECT_EQ(answer.done, gives_back) << "it waits for the step under way";
      release();
      EXPECT_TRUE(command.done && command.status().same_code(abort_requested)) << int(sqe.opcode);
      EXPECT_TRUE(answer.done);
      EXPECT_EQ(answer.dw0(), 0U);
      EXPECT_EQ(bench_.disk->seen.size(), 2U);
      if (sqe.opcode == 0x19) {
        EXPECT_EQ(command.dw0(), gives_back ? 1U : 2U) << "ranges that were copied";
      }
    }
  }
}

TEST_F(AbortTest, TheLastStepOfManyIsTooLate) {
  nvme::SubmissionEntry unmap = make_sqe(0x09, 1, 16);
  unmap.cdw11 = nvme::dsm_deallocate;
  nvme::DsmRange range;
  range.blocks = 8U;
  std::vector<std::byte> bytes(sizeof(range));
  std::memcpy(bytes.data(), &range, sizeof(range));
  bench_.disk->hold = true;
  bench_.disk->gives_back = false;
  Command& command = bench_.run(*pair_.io, unmap, bytes);
  Command& answer = abort(command);
  release();
  EXPECT_TRUE(command.status().is_success());
  EXPECT_TRUE(answer.done);
  EXPECT_EQ(answer.dw0(), 1U);
}

TEST_F(AbortTest, AsynchronousEventRequests) {
  Command& event = bench_.async_event(*pair_.admin);
  EXPECT_FALSE(event.done);
  EXPECT_EQ(abort(event, 0).dw0(), 0U);
  EXPECT_TRUE(event.done && event.status().same_code(abort_requested));
  EXPECT_EQ(abort(event, 0).dw0(), 1U);
}

// Proves: admin | Abort | Base 2.0c 5.1
TEST_F(AbortTest, MoreAbortsThanAcl) {
  nvme::SubmissionEntry unmap = make_sqe(0x09, 1, 32);
  unmap.cdw10 = 1U;
  unmap.cdw11 = nvme::dsm_deallocate;
  std::vector<nvme::DsmRange> ranges(2);
  for (auto& range : ranges) range.blocks = 8U;
  std::vector<std::byte> bytes(32);
  std::memcpy(bytes.data(), ranges.data(), bytes.size());
  bench_.disk->hold = true;
  bench_.disk->gives_back = false;
  Command& slow = bench_.run(*pair_.io, unmap, bytes);
  std::vector<Command*> aborts;
  for (std::size_t i = 0; i < max_abort_commands; ++i) aborts.push_back(&abort(slow));
  for (const Command* each : aborts) EXPECT_FALSE(each->done);
  EXPECT_TRUE(abort(slow).status().same_code(nvme::CommandStatus::abort_limit_exceeded));
  release();
  EXPECT_TRUE(slow.status().same_code(abort_requested));
  for (const Command* each : aborts) {
    EXPECT_TRUE(each->done);
    EXPECT_EQ(each->dw0(), 0U);
  }
  EXPECT_TRUE(abort(slow).status().is_success()) << "the places are free again";
}

TEST_F(AbortTest, AnAbortOutlivesNeitherQueue) {
  bench_.disk->hold = true;
  bench_.disk->gives_back = false;
  nvme::SubmissionEntry flush_all = make_sqe(0x00, nvme::broadcast_nsid);
  Command& flush = bench_.run(*pair_.io, flush_all);
  Command& answer = abort(flush);
  EXPECT_FALSE(answer.done);
  bench_.close(*pair_.io);
  bench_.close(*pair_.admin);
  EXPECT_FALSE(pair_.admin->closed) << "an Abort is in execution";
  release();
  bench_.settle();
  EXPECT_TRUE(answer.done && flush.done);
  EXPECT_TRUE(pair_.admin->closed && pair_.io->closed);
}

}  // namespace
}  // namespace catnap::server
