// What every bdev, alone and in stacks, must do in a crowd and in trouble: overlapping I/O, the operations the core makes of reads and writes, abort,
// reset, removal from below, and a buffer pool with nothing left. The other half of the conformance suite.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <random>

#include "tests/unit/bdev/conformance_fixture.h"

namespace catnap::bdev {
namespace {

// An I/O of one value in every byte, and what became of it.
struct Single {
  explicit Single(std::size_t size_bytes) : bytes(size_bytes) {
    iov = {bytes.data(), bytes.size()};
    io.iov = &iov;
    io.iov_count = 1;
    io.context = this;
    io.done = [](BdevIo& ended) { ++static_cast<Single*>(ended.context)->times_done; };
  }
  void aim(Op op, std::uint64_t offset, std::uint64_t blocks, int value) {
    io.op = op;
    io.offset_blocks = offset;
    io.num_blocks = blocks;
    std::ranges::fill(bytes, static_cast<std::byte>(value));
  }
  BdevIo io;
  Bytes bytes;
  iovec iov{};
  int times_done = 0;
};

class Trouble : public Conformance {
 protected:
  std::vector<std::unique_ptr<Single>> singles(std::size_t count, std::uint64_t blocks) {
    std::vector<std::unique_ptr<Single>> made;
    for (std::size_t i = 0; i < count; ++i) made.push_back(std::make_unique<Single>(blocks * block_));
    return made;
  }
  static bool all_done(const std::vector<std::unique_ptr<Single>>& all) {
    return std::ranges::all_of(all, [](const auto& one) { return one->times_done > 0; });
  }
  // The value of a block whose bytes are all the same; none: it was torn.
  std::optional<int> whole(const std::byte* block) const {
    return std::memcmp(block, block + 1, block_ - 1) == 0 ? std::optional(std::to_integer<int>(*block)) : std::nullopt;
  }
  // The bdev still works, and nothing is left over.
  void still_works() {
    const Bytes bytes = pattern(16 * block_, 77);
    ASSERT_EQ(write(8, bytes), Status::ok);
    ASSERT_EQ(read(8, 16), expected(bytes));
    EXPECT_EQ(channel_->in_flight(), 0u);
  }
};

TEST_P(Trouble, IoLargerThanAnyTransportSendsInManyPieces) {
  const std::uint64_t blocks = (3 << 20) / block_ / (GetParam().has("split") ? 2 : 1) + 1;
  const Bytes bytes = pattern(blocks * block_, 3);
  Bytes target(bytes.size(), std::byte{0xEE});
  const auto cut = [&](const std::byte* base) {
    std::vector<iovec> iov;
    std::mt19937 random(5);
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t piece = std::min<std::size_t>(bytes.size() - at, 1 + random() % 9000);
      iov.push_back({const_cast<std::byte*>(base) + at, piece});
      at += piece;
    }
    return iov;
  };
  ASSERT_EQ(run(Op::write, 5, blocks, cut(bytes.data())), Status::ok);
  ASSERT_EQ(run(Op::read, 5, blocks, cut(target.data())), Status::ok);
  EXPECT_EQ(target, expected(bytes));
  if (GetParam().keeps_data()) {
    EXPECT_EQ(run(Op::compare, 5, blocks, cut(bytes.data())), Status::ok);
  }
}

TEST_P(Trouble, OverlappingWritesLeaveWholeBlocksOfOneOfThem) {
  constexpr std::uint64_t area = 64;
  fill_with_zeroes();
  auto writes = singles(48, 24);
  std::mt19937 random(9);
  bench_.on_thread([&] {
    for (std::size_t i = 0; i < writes.size(); ++i) {
      writes[i]->aim(Op::write, random() % (area - 24), 24, static_cast<int>(i) + 1);
      channel_->submit(writes[i]->io);
    }
  });
  bench_.until([&] { return all_done(writes); });
  for (const auto& one : writes) EXPECT_EQ(one->io.status, Status::ok);
  const Bytes found = read(0, area);
  for (std::uint64_t block = 0; block < area; ++block) {
    const auto value = whole(found.data() + block * block_);
    ASSERT_TRUE(value.has_value()) << "block " << block << " is torn";
    const bool covers = *value > 0 && writes[static_cast<std::size_t>(*value) - 1]->io.offset_blocks <= block &&
                        block < writes[static_cast<std::size_t>(*value) - 1]->io.offset_blocks + 24;
    const bool untouched =
        std::ranges::none_of(writes, [block](const auto& one) { return one->io.offset_blocks <= block && block < one->io.offset_blocks + 24; });
    EXPECT_TRUE(covers || (*value == 0 && (untouched || !GetParam().keeps_data()))) << "block " << block << " has " << *value;
  }
}

// A read that is submitted when a write was answered sees it, from within that answer too.
TEST_P(Trouble, WhatIsAnsweredIsSeenByTheNext) {
  struct Pair {
    explicit Pair(std::size_t size_bytes) : write(size_bytes), read(size_bytes) {}
    Single write, read;
  };
  Pair pair(8 * block_);
  pair.write.aim(Op::write, 40, 8, 0x5A);
  pair.read.aim(Op::read, 40, 8, 0);
  pair.write.io.context = &pair;
  pair.write.io.done = [](BdevIo& ended) { ended.channel->submit(static_cast<Pair*>(ended.context)->read.io); };
  bench_.on_thread([&] { channel_->submit(pair.write.io); });
  bench_.until([&] { return pair.read.times_done > 0; });
  EXPECT_EQ(pair.read.bytes, expected(pair.write.bytes));
}

TEST_P(Trouble, CompareAndWriteWritesAllOrNothing) {
  if (!bdev_->supports(Op::compare_and_write)) return;
  Bytes old_bytes = expected(pattern(8 * block_, 1));
  const Bytes new_bytes = pattern(8 * block_, 2);
  ASSERT_EQ(write(32, old_bytes), Status::ok);
  const auto attempt = [&](const Bytes& there) {
    return run(Op::compare_and_write, 32, 8,
               {{const_cast<std::byte*>(there.data()), 7},
                {const_cast<std::byte*>(there.data()) + 7, there.size() - 7},
                {const_cast<std::byte*>(new_bytes.data()), new_bytes.size()}});
  };
  Bytes wrong = old_bytes;
  wrong.back() ^= std::byte{1};
  EXPECT_EQ(attempt(wrong), Status::compare_failed);
  EXPECT_EQ(read(32, 8), old_bytes);
  EXPECT_EQ(attempt(old_bytes), Status::ok);
  EXPECT_EQ(read(32, 8), expected(new_bytes));
}

// Many that expect the same: one finds it, the others find what that one wrote.
TEST_P(Trouble, OfManyComparesAndWritesOneWins) {
  if (!bdev_->supports(Op::compare_and_write) || !GetParam().keeps_data()) return;
  constexpr int rivals = 12;
  for (int round = 0; round < 4; ++round) {
    const int there = round * 16;
    const Bytes before(block_, static_cast<std::byte>(there));
    ASSERT_EQ(write(20, before), Status::ok);
    auto all = singles(rivals, 2);
    bench_.on_thread([&] {
      for (int i = 0; i < rivals; ++i) {
        auto& one = *all[static_cast<std::size_t>(i)];
        one.aim(Op::compare_and_write, 20, 1, there);
        std::fill_n(one.bytes.begin() + block_, block_, static_cast<std::byte>(there + 1 + i));
        channel_->submit(one.io);
      }
    });
    bench_.until([&] { return all_done(all); });
    int winner = -1;
    for (int i = 0; i < rivals; ++i) {
      const Status status = all[static_cast<std::size_t>(i)]->io.status;
      EXPECT_TRUE(status == Status::ok || status == Status::compare_failed) << status_name(status);
      if (status != Status::ok) continue;
      EXPECT_EQ(winner, -1);
      winner = i;
    }
    ASSERT_NE(winner, -1);
    EXPECT_EQ(read(20, 1), Bytes(block_, static_cast<std::byte>(there + 1 + winner)));
  }
}

TEST_P(Trouble, CopiesAlsoOntoThemselvesAndVerifies) {
  if (!bdev_->supports(Op::copy)) return;
  const Bytes bytes = pattern(80 * block_, 4);
  for (const auto& [from, to] : {std::pair{100, 300}, std::pair{100, 107}, std::pair{107, 100}}) {
    ASSERT_EQ(write(static_cast<std::uint64_t>(from), bytes), Status::ok);
    BdevIo io;
    io.op = Op::copy;
    io.offset_blocks = static_cast<std::uint64_t>(to);
    io.source_offset_blocks = static_cast<std::uint64_t>(from);
    io.num_blocks = 80;
    ASSERT_EQ(run(io), Status::ok);
    EXPECT_EQ(read(static_cast<std::uint64_t>(to), 80), expected(bytes)) << from << " to " << to;
  }
  BdevIo outside;
  outside.op = Op::copy;
  outside.source_offset_blocks = bdev_->num_blocks() - 1;
  outside.num_blocks = 2;
  EXPECT_EQ(run(outside), Status::out_of_range);
  EXPECT_EQ(run(Op::verify, 100, 80), Status::ok);
}

TEST_P(Trouble, UncorrectableBlocksFailUntilWritten) {
  if (!bdev_->supports(Op::write_uncorrectable)) return;
  const Bytes bytes = pattern(8 * block_, 6);
  ASSERT_EQ(write(0, bytes), Status::ok);
  ASSERT_EQ(run(Op::write_uncorrectable, 3, 2), Status::ok);
  Bytes target(8 * block_);
  EXPECT_EQ(run(Op::read, 0, 8, {{target.data(), target.size()}}), Status::media_error);
  EXPECT_EQ(run(Op::verify, 4, 1), Status::media_error);
  EXPECT_EQ(read(5, 3), expected(Bytes(bytes.begin() + 5 * static_cast<std::ptrdiff_t>(block_), bytes.end())));
  ASSERT_EQ(write(0, bytes), Status::ok);
  EXPECT_EQ(read(0, 8), expected(bytes));
}

TEST_P(Trouble, AbortedIoEndsOnceAndLeavesWholeBlocks) {
  constexpr std::uint64_t each = 4;
  fill_with_zeroes();
  auto writes = singles(64, each);
  std::size_t taken_back = 0;
  bench_.on_thread([&] {
    for (std::size_t i = 0; i < writes.size(); ++i) {
      writes[i]->aim(Op::write, i * each, each, static_cast<int>(i) + 1);
      channel_->submit(writes[i]->io);
      if (i % 3 == 0 && channel_->abort(writes[i / 2]->io)) ++taken_back;
    }
    for (std::size_t i = 0; i < writes.size(); i += 2) {
      if (writes[i]->times_done == 0 && channel_->abort(writes[i]->io)) ++taken_back;
    }
  });
  bench_.until([&] { return all_done(writes); });
  const Bytes found = read(0, writes.size() * each);
  for (std::size_t i = 0; i < writes.size(); ++i) {
    EXPECT_EQ(writes[i]->times_done, 1);
    const Status status = writes[i]->io.status;
    ASSERT_TRUE(status == Status::ok || status == Status::aborted) << status_name(status);
    for (std::uint64_t block = i * each; block < (i + 1) * each; ++block) {
      const auto value = whole(found.data() + block * block_);
      ASSERT_TRUE(value.has_value()) << "block " << block << " is torn";
      if (!GetParam().keeps_data()) continue;
      EXPECT_TRUE(*value == static_cast<int>(i) + 1 || (status == Status::aborted && *value == 0)) << block << " has " << *value;
    }
  }
  EXPECT_LE(static_cast<std::size_t>(std::ranges::count_if(writes, [](const auto& one) { return one->io.status == Status::aborted; })), taken_back);
  still_works();
}

// Users that go on whatever happens to their I/O.
struct Stubborn {
  Stubborn(Channel& on, std::size_t size_bytes, int rounds) : channel(&on), single(size_bytes), left(rounds) {
    single.io.context = this;
    single.io.done = [](BdevIo& io) { static_cast<Stubborn*>(io.context)->done(); };
  }
  void go(Op op, std::uint64_t offset, std::uint64_t blocks, int value) {
    single.aim(op, offset, blocks, value);
    channel->submit(single.io);
  }
  void done() {
    const Status status = single.io.status;
    (status == Status::ok ? good : status == Status::aborted ? aborted : bad) += 1;
    if (--left > 0) channel->submit(single.io);
  }
  Channel* channel;
  Single single;
  int left;
  int good = 0, aborted = 0, bad = 0;
};

TEST_P(Trouble, ResetUnderLoadTakesBackOrFinishesEverything) {
  std::vector<std::unique_ptr<Stubborn>> users;
  auto resets = singles(3, 1);
  bench_.on_thread([&] {
    for (int i = 0; i < 40; ++i) users.push_back(std::make_unique<Stubborn>(*channel_.get(), 4 * block_, 12));
    for (int i = 0; i < 40; ++i) {
      users[static_cast<std::size_t>(i)]->go(i % 4 == 0 ? Op::read : Op::write, static_cast<std::uint64_t>(i) * 4, 4, i);
      if (i % 15 == 7) {
        resets[static_cast<std::size_t>(i) / 15]->aim(Op::reset, 0, 0, 0);
        channel_->submit(resets[static_cast<std::size_t>(i) / 15]->io);
      }
    }
  });
  bench_.until([&] { return all_done(resets) && std::ranges::all_of(users, [](const auto& user) { return user->left == 0; }); });
  for (const auto& one : resets) {
    EXPECT_EQ(one->io.status, Status::ok);
    EXPECT_EQ(one->times_done, 1);
  }
  for (const auto& user : users) EXPECT_EQ(user->bad, 0);
  still_works();
}

TEST_P(Trouble, RemovalOfTheBottomUnderLoadReachesTheTopAndLosesNothing) {
  std::vector<std::unique_ptr<Stubborn>> users;
  std::unique_ptr<Descriptor> descriptor;
  bool told = false;
  bool removed = false;
  bench_.on_thread([&] {
    auto opened = Registry::instance().open(bdev_->name(), "test", true, [&](Event event) { told = event == Event::removed; });
    ASSERT_TRUE(opened.has_value());
    descriptor = std::move(*opened);
    for (int i = 0; i < 32; ++i) {
      users.push_back(std::make_unique<Stubborn>(*channel_.get(), block_, 20));
      users.back()->go(Op::write, static_cast<std::uint64_t>(i), 1, i);
    }
    Registry::instance().remove(bottom_->name(), [&](Result<void> result) { removed = result.has_value(); });
  });
  bench_.until([&] { return told; });
  EXPECT_EQ(Registry::instance().find(bdev_->name()), nullptr);
  bench_.until([&] { return std::ranges::all_of(users, [](const auto& user) { return user->left == 0; }); });
  for (const auto& user : users) EXPECT_EQ(user->good, 20);
  EXPECT_FALSE(removed);
  bench_.on_thread([&] {
    channel_ = {};
    descriptor.reset();
  });
  bench_.until([&] { return removed; });
  EXPECT_TRUE(Registry::instance().all().empty());
}

// Whoever needs memory for an I/O has a reserve of its own, or waits for one that is under way: never for a buffer that nobody gives back.
TEST_P(Trouble, GoesOnWithoutAnyBufferInThePool) {
  std::vector<Buffer> hoard;
  std::vector<std::unique_ptr<Stubborn>> users;
  const std::uint64_t large = (1 << 20) / block_;
  Bytes odd(4 * block_ + 1);
  const iovec skewed{odd.data() + 1, 4 * block_};
  Single unaligned(block_);
  bench_.on_thread([&] {
    BufferPool& pool = bench_.reactor.buffers();
    for (const std::size_t size : {std::size_t{BufferPool::max_size_bytes}, std::size_t{4096}}) {
      for (Buffer buffer = pool.try_get(size); buffer; buffer = pool.try_get(size)) hoard.push_back(std::move(buffer));
    }
    for (int i = 0; i < 6; ++i) {
      users.push_back(std::make_unique<Stubborn>(*channel_.get(), large * block_, 2));
      users.back()->go(i % 2 == 0 ? Op::write : Op::read, 0, large, i);
    }
    unaligned.aim(Op::write, 2 * large - 8, 4, 0);
    unaligned.io.iov = &skewed;
    channel_->submit(unaligned.io);
  });
  bench_.until([&] { return unaligned.times_done > 0 && std::ranges::all_of(users, [](const auto& user) { return user->left == 0; }); });
  EXPECT_EQ(unaligned.io.status, Status::ok);
  for (const auto& user : users) EXPECT_EQ(user->good, 2);
  EXPECT_EQ(run(Op::write_zeroes, 0, large), Status::ok);
  Bytes zeroes(block_);
  EXPECT_EQ(run(Op::compare, 0, 1, {{zeroes.data(), zeroes.size()}}), Status::ok);
  bench_.on_thread([&] { hoard.clear(); });
}

INSTANTIATE_TEST_SUITE_P(All, Trouble, testing::ValuesIn(all_stacks()), stack_name);

}  // namespace
}  // namespace catnap::bdev
