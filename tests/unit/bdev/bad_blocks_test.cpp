// Blocks of a malloc bdev that a user has marked as unreadable: the set by itself, and what I/O says about it.
#include "bdev/malloc/bad_blocks.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "bdev/malloc/malloc.h"
#include "tests/unit/reactor/by_hand.h"

namespace catnap::bdev {
namespace {

TEST(BadBlocks, AgreeWithASetOfNumbers) {
  BadBlocks bad;
  std::set<std::uint64_t> model;
  std::mt19937 random(20261121);
  for (int round = 0; round < 5000; ++round) {
    const std::uint64_t offset = random() % 100;
    const std::uint64_t blocks = 1 + random() % 12;
    const auto any_in_model = [&] { return model.lower_bound(offset) != model.lower_bound(offset + blocks); };
    switch (random() % 3) {
      case 0:
        bad.mark(offset, blocks);
        for (std::uint64_t i = 0; i < blocks; ++i) model.insert(offset + i);
        break;
      case 1:
        bad.clear(offset, blocks);
        model.erase(model.lower_bound(offset), model.lower_bound(offset + blocks));
        break;
      default:
        ASSERT_EQ(bad.touches(offset, blocks), any_in_model()) << offset << " " << blocks;
        break;
    }
    ASSERT_EQ(bad.any(), !model.empty());
  }
}

class BadBlocksOfMalloc : public testing::Test {
 protected:
  BadBlocksOfMalloc() {
    MallocOptions options;
    options.name = "M0";
    options.num_blocks = 1024;
    bdev_ = *MallocBdev::create(options, nullptr);
    hand_.on_thread([&] { channel_ = std::move(*bdev_->get_channel()); });
  }
  ~BadBlocksOfMalloc() override {
    hand_.on_thread([&] { channel_ = {}; });
    hand_.settle();
  }
  Status run(Op op, std::uint64_t offset, std::uint64_t blocks, bool lease = false) {
    std::vector<std::byte> bytes(blocks * 1024);
    iovec iov{bytes.data(), blocks * bdev_->block_size() * (op == Op::compare_and_write ? 2 : 1)};
    BdevIo io;
    io.op = op;
    io.offset_blocks = offset;
    io.num_blocks = blocks;
    io.accepts_lease = lease;
    if (!lease) io.iov = &iov;
    io.iov_count = lease ? 0 : 1;
    if (op == Op::copy) io.source_offset_blocks = offset + 500;
    bool done = false;
    io.context = &done;
    io.done = [](BdevIo& ended) { *static_cast<bool*>(ended.context) = true; };
    hand_.on_thread([&] { channel_->submit(io); });
    hand_.settle();
    EXPECT_TRUE(done);
    return io.status;
  }

  ByHand hand_;
  std::shared_ptr<MallocBdev> bdev_;
  ChannelRef channel_;
};

// Proves: command | Write Uncorrectable | NVM Command Set 1.0c 3.2.7
TEST_F(BadBlocksOfMalloc, CannotBeReadUntilTheyAreWritten) {
  EXPECT_EQ(run(Op::write_uncorrectable, 10, 5), Status::ok);
  EXPECT_EQ(run(Op::read, 14, 1), Status::media_error);
  EXPECT_EQ(run(Op::read, 0, 16, true), Status::media_error);
  EXPECT_EQ(run(Op::verify, 10, 1), Status::media_error);
  EXPECT_EQ(run(Op::compare, 12, 1), Status::media_error);
  EXPECT_EQ(run(Op::compare_and_write, 12, 1), Status::media_error);
  EXPECT_EQ(run(Op::read, 15, 8), Status::ok);
  EXPECT_EQ(run(Op::read, 2, 8), Status::ok);
  EXPECT_EQ(run(Op::write, 11, 1), Status::ok);
  EXPECT_EQ(run(Op::read, 11, 1), Status::ok);
  EXPECT_EQ(run(Op::read, 10, 2), Status::media_error);
  EXPECT_EQ(run(Op::write_zeroes, 10, 1), Status::ok);
  EXPECT_EQ(run(Op::unmap, 12, 1), Status::ok);
  EXPECT_EQ(run(Op::copy, 13, 2), Status::ok);
  EXPECT_EQ(run(Op::verify, 0, 1024), Status::ok);
  EXPECT_EQ(run(Op::write_uncorrectable, 1020, 5), Status::out_of_range);
  EXPECT_EQ(run(Op::write_uncorrectable, 510, 1), Status::ok);
  EXPECT_EQ(run(Op::copy, 10, 1), Status::media_error);  // from 510
}

TEST_F(BadBlocksOfMalloc, AnOptimalBoundaryCutsAndLosesNothing) {
  MallocOptions options;
  options.name = "M1";
  options.num_blocks = 1024;
  options.optimal_io_boundary_blocks = 8;
  auto cut = *MallocBdev::create(options, nullptr);
  ChannelRef channel;
  hand_.on_thread([&] { channel = std::move(*cut->get_channel()); });
  std::vector<std::byte> source(100 * 512), target(100 * 512);
  std::mt19937 random(1);
  for (auto& byte : source) byte = static_cast<std::byte>(random());
  for (const Op op : {Op::write, Op::read}) {
    iovec iov{op == Op::write ? source.data() : target.data(), source.size()};
    BdevIo io;
    io.op = op;
    io.offset_blocks = 3;
    io.num_blocks = 100;
    io.iov = &iov;
    io.iov_count = 1;
    io.done = [](BdevIo&) {};
    hand_.on_thread([&] { channel->submit(io); });
    EXPECT_EQ(io.status, Status::ok);
  }
  EXPECT_EQ(source, target);
  hand_.on_thread([&] { channel = {}; });
  hand_.settle();
}

}  // namespace
}  // namespace catnap::bdev
