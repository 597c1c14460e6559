// The core's half of an ordinary I/O: the queue for resources, buffers, statistics.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>

#include "bdev/bdev.h"
#include "reactor/reactor.h"
#include "tests/unit/bdev/toy_bdev.h"

namespace catnap::bdev {
namespace {

class Core : public ToyTest {};

TEST_F(Core, IosWithoutResourcesWaitInOrderAndGoOnWithEachCompletion) {
  make();
  bdev_->inline_completion = false;
  bdev_->slots = 2;
  for (std::uint64_t i = 0; i < 6; ++i) submit(Op::write, i, 1);
  EXPECT_EQ(bdev_->seen, (std::vector<std::uint64_t>{0, 1}));
  EXPECT_EQ(channel_->in_flight(), 6u);
  hand_.on_thread([&] { bdev_->finish_one(); });
  EXPECT_EQ(bdev_->seen, (std::vector<std::uint64_t>{0, 1, 2}));
  // A newcomer does not overtake those that wait.
  bdev_->slots = 3;
  submit(Op::write, 9, 1);
  EXPECT_EQ(bdev_->seen, (std::vector<std::uint64_t>{0, 1, 2}));
  for (int i = 0; i < 6; ++i) hand_.on_thread([&] { bdev_->finish_one(); });
  EXPECT_EQ(order_, (std::vector<std::uint64_t>{0, 1, 2, 3, 4, 5, 9}));
}

TEST_F(Core, AModuleWithNothingUnderWayIsAskedAgainByADeadline) {
  make();
  bdev_->slots = 0;
  const Request& request = submit(Op::read, 5, 1);
  EXPECT_EQ(request.ended, 0);
  EXPECT_NE(hand_.thread->nearest_deadline_ns(), TimerHeap::never_ns);
  hand_.advance_us(starved_retry_us);
  EXPECT_EQ(request.ended, 0);
  bdev_->slots = 1;
  hand_.advance_us(starved_retry_us);
  EXPECT_EQ(request.ended, 1);
  EXPECT_EQ(request.io.status, Status::ok);
  EXPECT_EQ(hand_.thread->nearest_deadline_ns(), TimerHeap::never_ns);
}

TEST_F(Core, UnalignedMemoryGoesThroughABufferInParts) {
  BdevInfo info;
  info.buffer_alignment = 4096;
  make(std::move(info));
  constexpr std::uint64_t blocks = 2000;  // several parts
  std::vector<std::byte> source(blocks * 512 + 1);
  for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 7);
  EXPECT_EQ(submit(Op::write, 3, blocks, source.data() + 1).io.status, Status::ok);
  EXPECT_EQ(std::memcmp(bdev_->bytes.data() + 3 * 512, source.data() + 1, blocks * 512), 0);
  EXPECT_GT(bdev_->seen.size(), 1u);
  std::vector<std::byte> target(blocks * 512 + 1);
  EXPECT_EQ(submit(Op::read, 3, blocks, target.data() + 1).io.status, Status::ok);
  EXPECT_EQ(std::memcmp(target.data() + 1, source.data() + 1, blocks * 512), 0);
  EXPECT_EQ(bdev_->stats().ops[static_cast<std::size_t>(Op::write)], 1u);  // parts are no operations of the user
}

TEST_F(Core, StagedIoSharesTheChannelsReserveWhenThePoolIsAtItsCap) {
  BdevInfo info;
  info.buffer_alignment = 4096;
  make(std::move(info));
  bdev_->inline_completion = false;
  std::vector<Buffer> hoard;
  hand_.on_thread([&] {
    for (;;) {
      Buffer buffer = hand_.reactor.buffers().try_get(BufferPool::max_size_bytes);
      if (!buffer) break;
      hoard.push_back(std::move(buffer));
    }
  });
  std::vector<std::byte> memory(3 * 512 + 1);
  for (std::uint64_t i = 0; i < 3; ++i) submit(Op::write, i, 1, memory.data() + 1);
  while (!bdev_->held.empty()) hand_.on_thread([&] { bdev_->finish_one(); });
  EXPECT_EQ(order_, (std::vector<std::uint64_t>{0, 1, 2}));
  hand_.on_thread([&] { hoard.clear(); });
}

TEST_F(Core, APartThatFailsEndsTheWhole) {
  BdevInfo info;
  info.core_compares = true;
  make(std::move(info));
  bdev_->answer = Status::read_error;
  const Request& request = submit(Op::compare, 0, 2000);
  EXPECT_EQ(request.io.status, Status::read_error);
  EXPECT_EQ(request.ended, 1);
  EXPECT_EQ(bdev_->seen.size(), 1u);
}

TEST_F(Core, WritesZeroesWhereTheModuleCannot) {
  make();
  bdev_->refuses_zeroes = true;
  std::memset(bdev_->bytes.data(), 0x55, bdev_->bytes.size());
  EXPECT_EQ(submit(Op::write_zeroes, 1, 3000).io.status, Status::ok);
  EXPECT_EQ(bdev_->bytes[511], std::byte{0x55});
  EXPECT_EQ(bdev_->bytes[512], std::byte{0});
  EXPECT_EQ(bdev_->bytes[3001 * 512 - 1], std::byte{0});
  EXPECT_EQ(bdev_->bytes[3001 * 512], std::byte{0x55});
}

TEST_F(Core, RefusesWhatTheModuleDoesNotSupport) {
  make();
  EXPECT_EQ(submit(Op::unmap, 0, 1).io.status, Status::not_supported);
  EXPECT_TRUE(bdev_->seen.empty());
}

TEST_F(Core, LatencyIsTimeFromSubmitToDone) {
  make();
  bdev_->inline_completion = false;
  for (const std::uint64_t wait_us : {30u, 10u, 20u}) {
    submit(Op::read, 0, 1);
    hand_.clock.advance_us(wait_us);
    hand_.on_thread([&] { bdev_->finish_one(); });
  }
  const IoStats stats = bdev_->stats();
  const auto read = static_cast<std::size_t>(Op::read);
  EXPECT_EQ(stats.latency_ns[read], 60 * ns_per_us);
  EXPECT_EQ(stats.max_latency_ns[read], 30 * ns_per_us);
  EXPECT_EQ(stats.min_latency_ns[read], 10 * ns_per_us);
}

// Whatever the n at which the module has no resources, everything is carried out, once, and in order.
TEST_F(Core, OutOfResourcesAtEveryNthExecutionLosesNothing) {
  for (std::uint32_t n = 2; n <= 9; ++n) {
    make();
    bdev_->refuse_every = n;
    bdev_->inline_completion = n % 2 == 0;
    bdev_->slots = 3;
    order_.clear();
    std::vector<std::uint64_t> expected;
    for (std::uint64_t i = 0; i < 64; ++i) {
      submit(i % 3 == 0 ? Op::read : Op::write, i, 1);
      expected.push_back(i);
    }
    for (int round = 0; round < 10'000 && order_.size() < 64; ++round) {
      if (bdev_->held.empty()) {
        hand_.advance_us(starved_retry_us);
      } else {
        finish_one();
      }
    }
    EXPECT_EQ(order_, expected) << n;
    EXPECT_EQ(bdev_->seen, expected) << n;
    EXPECT_FALSE(any_deadline());
    release();
  }
}

TEST_F(Core, BorrowedBytesAreCopiedWhenTheIoHasToWait) {
  BdevInfo info;
  info.consumes_inline = true;
  make(std::move(info));
  bdev_->slots = 0;
  std::vector<std::byte> bytes(512, std::byte{0x11});
  Request& request = prepare(Op::write, 7, 1, bytes.data());
  request.io.borrowed = true;
  const iovec* users = request.io.iov;
  start(request);
  std::memset(bytes.data(), 0xEE, bytes.size());
  bdev_->slots = 1;
  hand_.advance_us(starved_retry_us);
  EXPECT_EQ(request.io.status, Status::ok);
  EXPECT_EQ(request.io.iov, users);
  EXPECT_EQ(block(7)[0], std::byte{0x11});
  EXPECT_EQ(block(7)[511], std::byte{0x11});
  // Nothing to copy from or into: only writes and compares may say so.
  Request& wrong = prepare(Op::read, 7, 1);
  wrong.io.borrowed = true;
  EXPECT_EQ(start(wrong).io.status, Status::invalid);
}

TEST_F(Core, ExtremesAndErrorsAreResetApart) {
  make();
  submit(Op::read, 5000, 1);
  bdev_->inline_completion = false;
  submit(Op::read, 0, 1);
  hand_.clock.advance_us(50);
  finish_one();
  const auto read = static_cast<std::size_t>(Op::read);
  bdev_->reset_stats(Bdev::StatsReset::maxmin);
  EXPECT_EQ(bdev_->stats().max_latency_ns[read], 0u);
  EXPECT_EQ(bdev_->stats().min_latency_ns[read], IoStats::no_minimum);
  EXPECT_EQ(bdev_->stats().ops[read], 1u);
  EXPECT_EQ(bdev_->stats().errors[read], 1u);
  submit(Op::read, 0, 1);
  hand_.clock.advance_us(20);
  finish_one();
  EXPECT_EQ(bdev_->stats().max_latency_ns[read], 20 * ns_per_us);
  EXPECT_EQ(bdev_->stats().min_latency_ns[read], 20 * ns_per_us);
  EXPECT_EQ(bdev_->stats().latency_ns[read], 70 * ns_per_us);
  bdev_->reset_stats(Bdev::StatsReset::error);
  EXPECT_EQ(bdev_->stats().errors[read], 0u);
  EXPECT_EQ(bdev_->stats().ops[read], 2u);
  bdev_->reset_stats();
  EXPECT_EQ(bdev_->stats().ops[read], 0u);
}

TEST(Status, ErrnosBecomeWhatTheServerCanTell) {
  EXPECT_EQ(status_from_errno(ENOSPC, Op::write), Status::no_space);
  EXPECT_EQ(status_from_errno(EIO, Op::write), Status::write_error);
  EXPECT_EQ(status_from_errno(EIO, Op::read), Status::read_error);
  EXPECT_EQ(status_from_errno(EIO, Op::flush), Status::write_error);
  EXPECT_EQ(status_from_errno(ENODEV, Op::read), Status::removed);
  EXPECT_EQ(status_from_errno(0, Op::read), Status::ok);
}

}  // namespace
}  // namespace catnap::bdev
