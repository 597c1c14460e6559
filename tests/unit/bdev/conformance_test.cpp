// What every bdev module must do, in every manner it comes in, alone and in stacks: one suite, each test one promise of bdev.h.
// Left out: what happens in trouble and in a crowd (conformance_trouble_test.cpp).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>

#include "bdev/null/null.h"
#include "tests/unit/bdev/conformance_fixture.h"

namespace catnap::bdev {
namespace {

TEST_P(Conformance, EverySizeReadsBackAsWritten) {
  for (std::uint64_t blocks = 1; blocks * block_ <= (1 << 20); blocks = blocks * 2 + (blocks % 3 == 1 ? 1 : 0)) {
    const Bytes bytes = pattern(blocks * block_, static_cast<std::uint32_t>(blocks));
    ASSERT_EQ(write(7, bytes), Status::ok) << blocks;
    ASSERT_EQ(read(7, blocks), expected(bytes)) << blocks;
  }
  const Bytes mebibyte = pattern(1 << 20, 1);
  ASSERT_EQ(write(bdev_->num_blocks() - (1 << 20) / block_, mebibyte), Status::ok);
  ASSERT_EQ(read(bdev_->num_blocks() - (1 << 20) / block_, (1 << 20) / block_), expected(mebibyte));
}

// Any cut of the memory, at any address: also where the module asks for alignment.
TEST_P(Conformance, EveryScatterShapeReadsBackAsWritten) {
  std::mt19937 random(20261121);
  const int rounds = GetParam().bottom.is_file && !GetParam().layers.empty() ? 12 : 40;
  for (int round = 0; round < rounds; ++round) {
    const std::uint64_t blocks = 1 + random() % 80;
    const std::size_t length = blocks * block_;
    Bytes source = pattern(length + 8, static_cast<std::uint32_t>(round));
    Bytes target(length + 8, std::byte{0xEE});
    const auto cut = [&](std::byte* base) {
      std::vector<iovec> iov;
      for (std::size_t at = 0; at < length;) {
        const std::size_t piece = std::min<std::size_t>(length - at, round % 4 == 0 ? block_ : 1 + random() % (2 * block_));
        iov.push_back({base + at, piece});
        if (random() % 8 == 0) iov.push_back({base, 0});
        at += piece;
      }
      return iov;
    };
    const std::size_t skew = random() % 8;
    const std::uint64_t offset = random() % (bdev_->num_blocks() - blocks);
    ASSERT_EQ(run(Op::write, offset, blocks, cut(source.data() + skew)), Status::ok);
    ASSERT_EQ(run(Op::read, offset, blocks, cut(target.data() + skew)), Status::ok);
    ASSERT_EQ(Bytes(target.begin() + static_cast<std::ptrdiff_t>(skew), target.begin() + static_cast<std::ptrdiff_t>(skew + length)),
              expected(Bytes(source.begin() + static_cast<std::ptrdiff_t>(skew), source.begin() + static_cast<std::ptrdiff_t>(skew + length))))
        << "round " << round;
  }
}

TEST_P(Conformance, RefusesWhatLiesBehindTheEnd) {
  Bytes bytes(2 * block_);
  const std::vector<iovec> one{{bytes.data(), block_}};
  const std::vector<iovec> two{{bytes.data(), 2 * block_}};
  const std::uint64_t end = bdev_->num_blocks();
  for (const Op op : {Op::read, Op::write, Op::compare, Op::unmap, Op::write_zeroes}) {
    if (!bdev_->supports(op)) continue;
    EXPECT_EQ(run(op, end, 1, one), Status::out_of_range) << op_name(op);
    EXPECT_EQ(run(op, end - 1, 2, two), Status::out_of_range) << op_name(op);
    EXPECT_EQ(run(op, ~std::uint64_t{0}, 2, two), Status::out_of_range) << op_name(op);
    EXPECT_EQ(run(op, 1, ~std::uint64_t{0}, two), Status::out_of_range) << op_name(op);
  }
  EXPECT_EQ(bdev_->stats().errors[static_cast<std::size_t>(Op::read)], 4u);
  EXPECT_EQ(count_of(Op::read), 0u);
}

TEST_P(Conformance, RefusesNoBlocksAndMemoryThatDoesNotFit) {
  Bytes bytes(2 * block_);
  const std::vector<iovec> one{{bytes.data(), block_}};
  for (const Op op : {Op::read, Op::write, Op::compare}) {
    EXPECT_EQ(run(op, 0, 0, one), Status::invalid);
    EXPECT_EQ(run(op, 0, 2, one), Status::invalid);
    EXPECT_EQ(run(op, 0, 1), Status::invalid);
  }
  EXPECT_EQ(run(Op::write_zeroes, 0, 0), Status::invalid);
}

TEST_P(Conformance, FlushResetAndFuaAnswer) {
  const Bytes bytes = pattern(8 * block_, 3);
  EXPECT_EQ(write(3, bytes, true), Status::ok);
  EXPECT_EQ(run(Op::flush, 0, 0), Status::ok);
  EXPECT_EQ(run(Op::write_zeroes, 4, 2, {}, true), Status::ok);
  EXPECT_EQ(run(Op::reset, 0, 0), Status::ok);
  EXPECT_EQ(read(3, 1), expected(Bytes(bytes.begin(), bytes.begin() + block_)));
  EXPECT_EQ(read(4, 2), Bytes(2 * block_, std::byte{0}));
}

TEST_P(Conformance, ClearedBlocksReadZeroAndTheirNeighboursStay) {
  const Bytes original = pattern(400 * block_, 9);
  for (const Op op : {Op::unmap, Op::write_zeroes}) {
    if (op == Op::unmap && !GetParam().bottom.unmaps) {
      EXPECT_EQ(run(op, 0, 1), Status::not_supported);
      continue;
    }
    for (const auto& [offset, blocks] : {std::pair{1, 1}, std::pair{3, 10}, std::pair{8, 8}, std::pair{5, 300}, std::pair{0, 400}}) {
      Bytes bytes = original;
      ASSERT_EQ(write(0, bytes), Status::ok);
      ASSERT_EQ(run(op, static_cast<std::uint64_t>(offset), static_cast<std::uint64_t>(blocks)), Status::ok);
      std::fill_n(bytes.begin() + offset * static_cast<int>(block_), blocks * static_cast<int>(block_), std::byte{0});
      if (op == Op::unmap && !bdev_->info().unmap_reads_zeroes) {  // the neighbours stay in any case
        const Bytes found = read(0, 400);
        std::copy_n(found.begin() + offset * static_cast<int>(block_), blocks * static_cast<int>(block_),
                    bytes.begin() + offset * static_cast<int>(block_));
      }
      ASSERT_EQ(read(0, 400), expected(bytes)) << op_name(op) << " " << offset << " " << blocks;
    }
  }
}

TEST_P(Conformance, CompareFindsOneBitAnywhere) {
  Bytes bytes = expected(pattern(300 * block_, 5));
  ASSERT_EQ(write(11, bytes), Status::ok);
  const auto compare = [&] { return run(Op::compare, 11, 300, {{bytes.data(), 5}, {bytes.data() + 5, bytes.size() - 5}}); };
  EXPECT_EQ(compare(), Status::ok);
  for (const std::size_t at : {std::size_t{0}, std::size_t{4}, bytes.size() / 2, bytes.size() - 1}) {
    bytes[at] ^= std::byte{1};
    EXPECT_EQ(compare(), Status::compare_failed) << at;
    bytes[at] ^= std::byte{1};
  }
  EXPECT_EQ(bdev_->stats().errors[static_cast<std::size_t>(Op::compare)], 4u);
}

TEST_P(Conformance, LendsWhatItReads) {
  if (!bdev_->info().lends_reads) return;
  const Bytes bytes = pattern(32 * block_, 6);
  ASSERT_EQ(write(16, bytes), Status::ok);
  BdevIo io;
  io.op = Op::read;
  io.accepts_lease = true;
  for (const auto& [offset, blocks, what] : {std::tuple{16, 32, expected(bytes)}, std::tuple{1024, 64, Bytes(64 * block_, std::byte{0})}}) {
    io.offset_blocks = static_cast<std::uint64_t>(offset);
    io.num_blocks = static_cast<std::uint64_t>(blocks);
    ASSERT_EQ(run(io), Status::ok);
    ASSERT_NE(io.lease.base, nullptr);
    io.lease.lender->lock_for_send(io.lease.offset_bytes, what.size());
    EXPECT_EQ(std::memcmp(io.lease.base, what.data(), what.size()), 0);
    io.lease.lender->unlock_after_send(io.lease.offset_bytes, what.size());
  }
}

// consumes_inline: the bytes are the caller's again when submit() returns.
TEST_P(Conformance, IsDoneWithInlineDataWhenSubmitReturns) {
  if (!bdev_->info().consumes_inline) return;
  const Bytes bytes = pattern(64 * block_, 8);
  Bytes lent = bytes;
  const iovec iov{lent.data(), lent.size()};
  bool done = false;
  BdevIo io;
  io.op = Op::write;
  io.num_blocks = 64;
  io.iov = &iov;
  io.iov_count = 1;
  io.borrowed = true;
  io.context = &done;
  io.done = [](BdevIo& ended) { *static_cast<bool*>(ended.context) = true; };
  bench_.on_thread([&] {
    channel_->submit(io);
    std::ranges::fill(lent, std::byte{0xAA});
  });
  bench_.until([&done] { return done; });
  EXPECT_EQ(read(0, 64), expected(bytes));
}

// Seeded random operations against a picture of the disk in memory.
TEST_P(Conformance, RandomOperationsAgreeWithAModel) {
  std::mt19937 random(4711);
  fill_with_zeroes();
  const bool unmaps = GetParam().bottom.unmaps && bdev_->info().unmap_reads_zeroes;
  Bytes model(module_size_bytes, std::byte{0});
  const int rounds = GetParam().layers.empty() ? 400 : 40;  // stacks have random_model_test besides
  for (int round = 0; round < rounds; ++round) {
    const std::uint64_t blocks = 1 + random() % (65536 / block_);
    const std::uint64_t offset = random() % (bdev_->num_blocks() - blocks + 1);
    const auto at = model.begin() + static_cast<std::ptrdiff_t>(offset * block_);
    const auto length = static_cast<std::ptrdiff_t>(blocks * block_);
    switch (random() % 4) {
      case 0: {
        const Bytes bytes = pattern(blocks * block_, random());
        ASSERT_EQ(write(offset, bytes, random() % 8 == 0), Status::ok);
        if (GetParam().keeps_data()) std::ranges::copy(bytes, at);
        break;
      }
      case 1:
        ASSERT_EQ(run(unmaps && random() % 2 == 0 ? Op::unmap : Op::write_zeroes, offset, blocks), Status::ok);
        std::fill_n(at, length, std::byte{0});
        break;
      case 2:
        ASSERT_EQ(run(Op::compare, offset, blocks, {{&*at, blocks * block_}}), Status::ok);
        break;
      default:
        ASSERT_EQ(read(offset, blocks), Bytes(at, at + length));
        break;
    }
  }
}

TEST_P(Conformance, EndlessChainsDoNotEatTheStack) {
  Chain chain;
  bench_.on_thread([&] { chain.start(*channel_.get(), Op::write, 0, GetParam().is_slow() ? 200 : 20'000); });
  bench_.until([&] { return chain.ended; });
  EXPECT_LE(chain.deepest, max_completion_depth);
}

TEST_P(Conformance, ManyAtOnceAllComeBack) {
  // More than the file modules have slots; a layer over one has no table of its own, and disks take their time.
  const std::uint64_t count = GetParam().bottom.is_file && !GetParam().layers.empty() ? 150 : 600;
  std::vector<std::unique_ptr<Chain>> chains;
  bench_.on_thread([&] {
    for (std::uint64_t i = 0; i < count; ++i) {
      chains.push_back(std::make_unique<Chain>());
      chains.back()->start(*channel_.get(), i % 3 == 0 ? Op::read : Op::write, i, 2);
    }
  });
  bench_.until([&] { return std::ranges::all_of(chains, [](const auto& chain) { return chain->ended; }); });
  EXPECT_EQ(count_of(Op::read), count / 3 * 2);
  EXPECT_EQ(count_of(Op::write), count / 3 * 4);
  EXPECT_EQ(channel_->in_flight(), 0u);
}

TEST_P(Conformance, CountsEveryOperation) {
  const Bytes bytes = pattern(4 * block_, 2);
  ASSERT_EQ(write(0, bytes), Status::ok);
  read(0, 4);
  read(0, 1);
  ASSERT_EQ(run(Op::flush, 0, 0), Status::ok);
  ASSERT_EQ(run(Op::write_zeroes, 0, 2), Status::ok);
  EXPECT_EQ(count_of(Op::write), 1u);
  EXPECT_EQ(count_of(Op::read), 2u);
  EXPECT_EQ(count_of(Op::flush), 1u);
  EXPECT_EQ(count_of(Op::write_zeroes), 1u);
  const IoStats stats = bdev_->stats();
  EXPECT_EQ(stats.bytes[static_cast<std::size_t>(Op::read)], 5u * block_);
  EXPECT_EQ(stats.bytes[static_cast<std::size_t>(Op::write)], 4u * block_);
  ASSERT_EQ(bdev_->channel_stats().size(), 1u);
  EXPECT_EQ(bdev_->channel_stats()[0].thread_id, bench_.thread->id());
  bdev_->reset_stats();
  EXPECT_EQ(count_of(Op::read), 0u);
  read(0, 1);
  EXPECT_EQ(count_of(Op::read), 1u);
  // What a channel counted outlives it.
  bench_.on_thread([&] { channel_ = {}; });
  bench_.settle();
  EXPECT_TRUE(bdev_->channel_stats().empty());
  EXPECT_EQ(count_of(Op::read), 1u);
}

TEST_P(Conformance, OneChannelPerThreadAndItEndsWithItsLastReference) {
  bench_.on_thread([&] {
    auto second = bdev_->get_channel();
    ASSERT_TRUE(second.has_value());
    EXPECT_EQ(second->get(), channel_.get());
  });
  bench_.settle();
  ASSERT_EQ(bdev_->channel_stats().size(), 1u);
  bench_.on_thread([&] {
    channel_ = {};
    auto again = bdev_->get_channel();  // before the message that ends it has run: it lives on
    ASSERT_TRUE(again.has_value());
    channel_ = std::move(*again);
  });
  bench_.settle();
  EXPECT_EQ(bdev_->channel_stats().size(), 1u);
  read(0, 1);
}

TEST_P(Conformance, AChannelLetGoUnderIoEndsAfterIt) {
  Chain chain;
  bench_.on_thread([&] {
    chain.start(*channel_.get(), Op::read, 0, 50);
    channel_ = {};
  });
  bench_.until([&] { return chain.ended; });
  bench_.settle();
  EXPECT_TRUE(bdev_->channel_stats().empty());
}

TEST_P(Conformance, RemovalUnderLoadWaitsForTheUserAndLosesNothing) {
  std::vector<std::unique_ptr<Chain>> chains;
  std::unique_ptr<Descriptor> descriptor;
  bool told = false;
  bool removed = false;
  bench_.on_thread([&] {
    auto opened = Registry::instance().open(bdev_->name(), "test", true, [&](Event event) { told = event == Event::removed; });
    ASSERT_TRUE(opened.has_value());
    descriptor = std::move(*opened);
    for (std::uint64_t i = 0; i < 32; ++i) {
      chains.push_back(std::make_unique<Chain>());
      chains.back()->start(*channel_.get(), Op::write, i, 20);
    }
    Registry::instance().remove(bdev_->name(), [&](Result<void> result) { removed = result.has_value(); });
    EXPECT_EQ(Registry::instance().find(bdev_->name()), nullptr);
    EXPECT_FALSE(Registry::instance().open(bdev_->name(), "late", false, {}).has_value());
  });
  bench_.until([&] { return told; });
  EXPECT_FALSE(removed);
  EXPECT_NE(Registry::instance().removal_waits_for(bdev_->name()).find("opener test"), std::string::npos);
  bench_.on_thread([&] { channel_ = {}; });
  bench_.until([&] { return std::ranges::all_of(chains, [](const auto& chain) { return chain->ended; }); });
  bench_.settle();
  EXPECT_FALSE(removed);
  bench_.on_thread([&] {
    EXPECT_FALSE(bdev_->get_channel().has_value());
    descriptor.reset();
  });
  bench_.until([&] { return removed; });
}

// The state that lets a reactor sleep for ever, after each kind of work.
TEST_P(Conformance, SleepsAfterWork) {
  const Bytes bytes = pattern(128 * block_, 1);
  ASSERT_EQ(write(0, bytes, true), Status::ok);
  read(0, 128);
  ASSERT_EQ(run(Op::flush, 0, 0), Status::ok);
  ASSERT_EQ(run(Op::write_zeroes, 0, 64), Status::ok);
  ASSERT_EQ(run(Op::compare, 0, 1, {{read(0, 1).data(), block_}}), Status::ok);
  bench_.settle();
  // Marks are cleared a while after the last write; then nothing is left to do.
  if (GetParam().has("raid1")) {
    ChannelRef below;
    bench_.on_thread([&] { below = std::move(*bottom_->get_channel()); });
    bench_.leap_over_waits();
    bench_.until([&] { return bench_.idle() && no_marks() && below->in_flight() == 0; });
    bench_.on_thread([&] { below = {}; });
    bench_.settle();
  }
  EXPECT_TRUE(bench_.idle());
  const auto before = bench_.reactor.stats();
  EXPECT_EQ(bench_.reactor.turn(0), 0u);  // nor is any fd ready
  EXPECT_EQ(bench_.reactor.stats().wakeups_fd, before.wakeups_fd);
}

TEST_P(Conformance, TellsItsOpenersOfAnotherSize) {
  const auto file_bdev = std::dynamic_pointer_cast<FileBdev>(bottom_);
  const auto null_bdev = std::dynamic_pointer_cast<NullBdev>(bottom_);
  if (file_bdev == nullptr && null_bdev == nullptr) return;  // malloc has one size
  int told = 0;
  std::unique_ptr<Descriptor> descriptor;
  bench_.on_thread([&] {
    descriptor = std::move(*Registry::instance().open(bdev_->name(), "test", false, [&](Event event) { told += event == Event::resized ? 1 : 0; }));
  });
  const std::uint64_t before = bdev_->num_blocks();
  file_.resize(2 * file_.size_bytes());
  bench_.on_thread([&] {
    if (null_bdev != nullptr) {
      ASSERT_TRUE(null_bdev->resize(2 * null_bdev->num_blocks()).has_value());
    } else {
      file_bdev->take_size(*file_bdev->target().measure_blocks());
    }
  });
  if (GetParam().keeps_its_size()) {
    bench_.settle();
    EXPECT_EQ(told, 0);
    EXPECT_EQ(bdev_->num_blocks(), before);
  } else {
    bench_.until([&] { return told == 1; });
    EXPECT_EQ(bdev_->num_blocks(), 2 * before);
    const Bytes bytes = pattern(block_, 1);
    EXPECT_EQ(write(2 * before - 1, bytes), Status::ok);
    EXPECT_EQ(read(2 * before - 1, 1), expected(bytes));
  }
  if (file_bdev != nullptr && !GetParam().keeps_its_size()) {
    // A file that was cut short under us gives errors, no data made up.
    file_.resize(file_.size_bytes());
    Bytes behind(block_);
    EXPECT_EQ(run(Op::read, before, 1, {{behind.data(), behind.size()}}), Status::read_error);
  }
  bench_.on_thread([&] { descriptor.reset(); });
}

// Far fewer request slots than requests: the core's queue holds the others, in order, and none is lost.
class FewSlots : public Conformance {
 protected:
  void SetUp() override { set_up(true); }
};

TEST_P(FewSlots, NothingIsLostAndNothingStarves) {
  std::vector<std::unique_ptr<Chain>> chains;
  bench_.on_thread([&] {
    for (std::uint64_t i = 0; i < 100; ++i) {
      chains.push_back(std::make_unique<Chain>());
      chains.back()->start(*channel_.get(), i % 2 == 0 ? Op::read : Op::write, i, 5);
    }
  });
  bench_.until([&] { return std::ranges::all_of(chains, [](const auto& chain) { return chain->ended; }); });
  EXPECT_EQ(count_of(Op::read) + count_of(Op::write), 500u);
}

INSTANTIATE_TEST_SUITE_P(All, Conformance, testing::ValuesIn(all_stacks()), stack_name);
INSTANTIATE_TEST_SUITE_P(All, FewSlots, testing::ValuesIn(all_stacks()), stack_name);

}  // namespace
}  // namespace catnap::bdev
