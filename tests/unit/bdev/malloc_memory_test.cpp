// Memory of a malloc bdev: taken only as it is written, given back by zeroing, locked by stripes.
#include "bdev/malloc/malloc_memory.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <vector>

#include "bdev/malloc/malloc.h"
#include "tests/unit/reactor/by_hand.h"

namespace catnap::bdev {
namespace {

std::uint64_t pages_taken(const MallocMemory& memory) {
  struct stat info{};
  EXPECT_EQ(fstat(memory.memfd(), &info), 0);
  return static_cast<std::uint64_t>(info.st_blocks) * 512 / MallocMemory::page_bytes;
}

TEST(MallocMemory, ZeroingGivesWholePagesBackAndKeepsTheRest) {
  constexpr std::uint64_t page = MallocMemory::page_bytes;
  const auto memory = std::move(*MallocMemory::create(1 << 20));
  for (const auto& [from, to] : {std::pair{page, 4 * page}, std::pair{page + 512, 4 * page - 512}, std::pair{page + 512, page + 1024},
                                 std::pair{2 * page - 512, 2 * page + 512}, std::pair{std::uint64_t{0}, 16 * page}}) {
    memory->mark_written(0, 16 * page);
    std::memset(memory->base(), 0x77, 16 * page);
    memory->zero_within_stripe(from, to - from);
    for (std::uint64_t i = 0; i < 16 * page; ++i) {
      ASSERT_EQ(memory->base()[i], i >= from && i < to ? std::byte{0} : std::byte{0x77}) << from << ".." << to << " at " << i;
    }
  }
  memory->mark_written(0, 16 * page);  // the look above has taken pages
  memory->zero_within_stripe(0, 16 * page);
  EXPECT_EQ(pages_taken(*memory), 0u);
  EXPECT_EQ(memory->written_pages(), 0u);
}

TEST(MallocMemory, ADiskThatEndsWithinAPageIsClearedToItsEnd) {
  const auto memory = std::move(*MallocMemory::create(3 * 512));
  memory->mark_written(0, 3 * 512);
  std::memset(memory->base(), 0x77, 3 * 512);
  memory->zero_within_stripe(512, 1024);
  EXPECT_EQ(memory->base()[511], std::byte{0x77});
  EXPECT_EQ(memory->base()[512], std::byte{0});
  memory->zero_within_stripe(0, 3 * 512);
  EXPECT_EQ(pages_taken(*memory), 0u);
}

TEST(StripeLock, ReadersShareAndAWriterIsAlone) {
  StripeLock lock;
  lock.lock_shared();
  lock.lock_shared();
  EXPECT_FALSE(lock.try_lock());
  lock.unlock_shared();
  EXPECT_FALSE(lock.try_lock());
  lock.unlock_shared();
  EXPECT_TRUE(lock.try_lock());
  EXPECT_FALSE(lock.try_lock());
  lock.unlock();
  lock.lock_shared();
  lock.unlock_shared();
}

class MallocByHand : public testing::Test {
 protected:
  void SetUp() override {
    MallocOptions options;
    options.name = "M0";
    options.num_blocks = std::uint64_t{1} << 21;  // 1 GiB
    bdev_ = std::move(*MallocBdev::create(options, nullptr));
    hand_.on_thread([&] { channel_ = std::move(*bdev_->get_channel()); });
  }
  void TearDown() override {
    hand_.on_thread([&] { channel_ = {}; });
    hand_.settle();
  }
  // Submits, and comes back without waiting for the end.
  void submit(BdevIo& io, Op op, std::uint64_t offset, std::uint64_t blocks, iovec* iov) {
    io.op = op;
    io.offset_blocks = offset;
    io.num_blocks = blocks;
    io.iov = iov;
    io.iov_count = iov != nullptr ? 1 : 0;
    io.context = nullptr;
    io.done = [](BdevIo& ended) { ended.context = &ended; };
    const Thread::Scope scope(hand_.thread);
    channel_->submit(io);
  }
  void submit(BdevIo& io, Op op, std::uint64_t offset, std::vector<std::byte>& bytes) {
    iov_ = {bytes.data(), bytes.size()};
    submit(io, op, offset, bytes.size() / 512, &iov_);
  }

  ByHand hand_;
  std::shared_ptr<MallocBdev> bdev_;
  ChannelRef channel_;
  iovec iov_{};
};

TEST_F(MallocByHand, ReadingTakesNoMemory) {
  std::vector<std::byte> bytes(1 << 20, std::byte{1});
  BdevIo io;
  submit(io, Op::read, 0, bytes);
  EXPECT_NE(io.context, nullptr);
  EXPECT_EQ(bytes, std::vector<std::byte>(1 << 20));
  submit(io, Op::compare, 4096, bytes);
  EXPECT_EQ(io.status, Status::ok);
  io.accepts_lease = true;
  submit(io, Op::read, 0, 2048, nullptr);
  EXPECT_EQ(io.lease.base[12345], std::byte{0});
  EXPECT_EQ(pages_taken(bdev_->memory()), 0u);
  io.accepts_lease = false;
  bytes.resize(512);
  submit(io, Op::write, 0, bytes);
  EXPECT_EQ(pages_taken(bdev_->memory()), 1u);
  bytes.resize(1 << 20);
  submit(io, Op::read, 0, bytes);
  EXPECT_EQ(pages_taken(bdev_->memory()), 1u);
}

TEST_F(MallocByHand, WhatIsExpectedTakesNoMemoryAndMayBeAnywhere) {
  for (const Op op : {Op::read, Op::write}) {
    for (const std::uint64_t offset : {std::uint64_t{0}, bdev_->num_blocks() - 1, bdev_->num_blocks(), ~std::uint64_t{0}}) {
      for (const std::uint64_t blocks : {std::uint64_t{1}, std::uint64_t{8}, ~std::uint64_t{0}}) channel_->expect(op, offset, blocks);
    }
  }
  EXPECT_EQ(pages_taken(bdev_->memory()), 0u);
}

TEST_F(MallocByHand, AWriterThatFindsItsStripeTakenKeepsTheDataAndComesBack) {
  std::vector<std::byte> bytes(256 * 512, std::byte{0x42});  // two stripes
  BdevIo io;
  auto& lender = const_cast<MallocMemory&>(bdev_->memory());
  lender.lock_for_send(65536, 512);
  submit(io, Op::write, 0, bytes);
  EXPECT_EQ(io.context, nullptr);
  std::ranges::fill(bytes, std::byte{0});  // ours again at once
  hand_.reactor.turn(0);
  EXPECT_EQ(io.context, nullptr);
  EXPECT_TRUE(hand_.thread->has_ready_work());
  lender.unlock_after_send(65536, 512);
  hand_.settle();
  EXPECT_NE(io.context, nullptr);
  EXPECT_FALSE(hand_.thread->has_ready_work());
  submit(io, Op::read, 0, bytes);
  EXPECT_EQ(bytes, std::vector<std::byte>(256 * 512, std::byte{0x42}));
}

TEST_F(MallocByHand, ALargeUnmapLetsOthersIn) {
  std::vector<std::byte> bytes(512, std::byte{0x42});
  BdevIo io;
  for (std::uint64_t stripe = 0; stripe < 1000; ++stripe) submit(io, Op::write, stripe * 128, bytes);
  EXPECT_EQ(pages_taken(bdev_->memory()), 1000u);
  submit(io, Op::unmap, 0, bdev_->num_blocks(), nullptr);
  EXPECT_EQ(io.context, nullptr);  // goes on from the ready list
  EXPECT_TRUE(hand_.thread->has_ready_work());
  hand_.settle();
  EXPECT_NE(io.context, nullptr);
  EXPECT_EQ(pages_taken(bdev_->memory()), 0u);
}

}  // namespace
}  // namespace catnap::bdev
