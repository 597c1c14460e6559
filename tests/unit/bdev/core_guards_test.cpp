// What an I/O may have to wait for: range locks, compare-and-write, resets; and I/Os that are taken back.
#include <cstring>
#include <random>

#include "bdev/range_lock.h"
#include "tests/unit/bdev/toy_bdev.h"

namespace catnap::bdev {
namespace {

class Guards : public ToyTest {
 protected:
  // Compares `blocks` blocks with bytes of `expected` and writes bytes of `next`.
  Request& prepare_caw(std::uint64_t offset, std::uint64_t blocks, int expected, int next) {
    auto& bytes = *memory_.emplace_back(std::make_unique<std::vector<std::byte>>(2 * blocks * 512, static_cast<std::byte>(expected)));
    std::memset(bytes.data() + blocks * 512, next, blocks * 512);
    return prepare(Op::compare_and_write, offset, blocks, bytes.data());
  }
  std::vector<std::unique_ptr<std::vector<std::byte>>> memory_;
};

TEST_F(Guards, AbortTakesBackWhatTheModuleGivesBack) {
  make();
  bdev_->inline_completion = false;
  Request& request = submit(Op::write, 0, 1);
  EXPECT_TRUE(abort(request));
  EXPECT_EQ(request.ended, 1);
  EXPECT_EQ(request.io.status, Status::aborted);
  EXPECT_FALSE(abort(request));  // over
  bdev_->gives_back = false;
  Request& kept = submit(Op::write, 0, 1);
  EXPECT_FALSE(abort(kept));
  EXPECT_EQ(kept.ended, 0);
  finish_one();
  EXPECT_EQ(kept.io.status, Status::ok);
}

TEST_F(Guards, AbortTakesBackWhatWaitsForResourcesAndTheOthersKeepTheirOrder) {
  make();
  bdev_->inline_completion = false;
  bdev_->slots = 1;
  for (std::uint64_t i = 0; i < 4; ++i) submit(Op::write, i, 1);
  EXPECT_TRUE(abort(*requests_[2]));
  EXPECT_EQ(order_, std::vector<std::uint64_t>{2});
  finish_all();
  EXPECT_EQ(order_, (std::vector<std::uint64_t>{2, 0, 1, 3}));
  EXPECT_EQ(bdev_->seen, (std::vector<std::uint64_t>{0, 1, 3}));
}

TEST_F(Guards, ALockWaitsForWhatIsUnderWayAndHoldsWhatComes) {
  make();
  bdev_->inline_completion = false;
  submit(Op::write, 10, 4);
  submit(Op::read, 100, 1);
  bool granted = false;
  std::shared_ptr<RangeHold> hold;
  hand_.on_thread([&] { hold = bdev_->range_locks().lock(12, 10, nullptr, [&] { granted = true; }); });
  EXPECT_FALSE(granted);
  Request& inside = submit(Op::read, 15, 1);
  Request& outside = submit(Op::read, 22, 1);
  Request& copy = prepare(Op::copy, 500, 2);
  copy.io.source_offset_blocks = 20;
  start(copy);
  EXPECT_EQ(bdev_->seen, (std::vector<std::uint64_t>{10, 100, 22}));
  finish_one();  // the write that overlaps
  EXPECT_TRUE(granted);
  finish_all();
  EXPECT_EQ(outside.ended, 1);
  EXPECT_EQ(inside.ended, 0);
  hand_.on_thread([&] { bdev_->range_locks().unlock(hold); });
  finish_all();
  EXPECT_EQ(inside.ended, 1);
  EXPECT_EQ(copy.ended, 1);
}

TEST_F(Guards, LocksHoldOnEveryThreadAndOverlappingOnesComeInOrder) {
  make();
  bdev_->inline_completion = false;
  User& other = add_user();
  submit(other, Op::write, 0, 8);
  std::vector<int> granted;
  std::shared_ptr<RangeHold> first, second, apart;
  hand_.on_thread([&] { first = bdev_->range_locks().lock(4, 8, nullptr, [&] { granted.push_back(1); }); });
  on(*other.thread, [&] { second = bdev_->range_locks().lock(0, 5, nullptr, [&] { granted.push_back(2); }); });
  hand_.on_thread([&] { apart = bdev_->range_locks().lock(50, 1, nullptr, [&] { granted.push_back(3); }); });
  EXPECT_EQ(granted, std::vector<int>{3});
  finish_one();
  EXPECT_EQ(granted, (std::vector<int>{3, 1}));
  // A thread that comes now finds the lock there.
  User& late = add_user();
  Request& held = submit(late, Op::write, 11, 1);
  EXPECT_TRUE(bdev_->held.empty());
  hand_.on_thread([&] { bdev_->range_locks().unlock(first); });
  EXPECT_EQ(granted, (std::vector<int>{3, 1, 2}));
  EXPECT_EQ(bdev_->held.size(), 1u);
  finish_all();
  EXPECT_EQ(held.ended, 1);
  on(*other.thread, [&] { bdev_->range_locks().unlock(second); });
  hand_.on_thread([&] { bdev_->range_locks().unlock(apart); });
}

TEST_F(Guards, ALockGivenUpBeforeItWasGrantedIsNotGranted) {
  make();
  bdev_->inline_completion = false;
  submit(Op::write, 0, 8);
  bool granted = false;
  hand_.on_thread([&] {
    const auto hold = bdev_->range_locks().lock(0, 1, nullptr, [&] { granted = true; });
    const auto behind = bdev_->range_locks().lock(0, 1, nullptr, [&] { granted = true; });
    bdev_->range_locks().unlock(behind);
    bdev_->range_locks().unlock(hold);
  });
  finish_all();
  EXPECT_FALSE(granted);
  submit(Op::write, 0, 1);
  EXPECT_EQ(bdev_->held.size(), 1u);  // nothing is locked
  finish_all();
}

TEST_F(Guards, HeldIosCanBeTakenBack) {
  make();
  std::shared_ptr<RangeHold> hold;
  hand_.on_thread([&] { hold = bdev_->range_locks().lock(0, 10, nullptr, [] {}); });
  Request& request = submit(Op::write, 3, 1);
  EXPECT_EQ(request.ended, 0);
  EXPECT_TRUE(abort(request));
  EXPECT_EQ(request.io.status, Status::aborted);
  hand_.on_thread([&] { bdev_->range_locks().unlock(hold); });
  EXPECT_TRUE(bdev_->seen.empty());
}

// Proves: command | Fused Compare and Write | NVMe Base 2.0c 3.4.2
TEST_F(Guards, CompareAndWriteWritesOnlyIfAllIsAsExpected) {
  make();
  std::memset(block(5), 7, 300 * 512);
  EXPECT_EQ(start(prepare_caw(5, 300, 7, 8)).io.status, Status::ok);
  EXPECT_EQ(block(5)[0], std::byte{8});
  EXPECT_EQ(block(304)[511], std::byte{8});
  block(304)[511] = std::byte{9};
  EXPECT_EQ(start(prepare_caw(5, 300, 8, 1)).io.status, Status::compare_failed);
  EXPECT_EQ(block(5)[0], std::byte{8});
  EXPECT_EQ(bdev_->stats().ops[static_cast<std::size_t>(Op::compare_and_write)], 1u);
  EXPECT_EQ(bdev_->stats().errors[static_cast<std::size_t>(Op::compare_and_write)], 1u);
  EXPECT_EQ(submit(Op::compare_and_write, 4095, 2).io.status, Status::out_of_range);
}

TEST_F(Guards, CompareAndWriteHasItsBlocksForItself) {
  make();
  bdev_->inline_completion = false;
  User& other = add_user();
  Request& caw = start(prepare_caw(0, 2, 0, 1));
  ASSERT_EQ(bdev_->held.size(), 1u);  // its read
  Request& rival = start(prepare_caw(1, 2, 0, 2), other);
  std::vector<std::byte> third(512, std::byte{3});
  Request& write = submit(Op::write, 1, 1, third.data());
  Request& reader = submit(other, Op::read, 0, 1);
  EXPECT_EQ(bdev_->held.size(), 1u);
  finish_one();
  ASSERT_EQ(bdev_->held.size(), 1u);  // its write
  EXPECT_EQ(bdev_->ops.back(), Op::write);
  finish_all();
  EXPECT_EQ(caw.io.status, Status::ok);
  EXPECT_EQ(rival.ended, 1);
  EXPECT_EQ(rival.io.status, Status::compare_failed);  // block 1 was written before it was compared
  EXPECT_EQ(write.ended, 1);
  EXPECT_EQ(reader.ended, 1);
}

TEST_F(Guards, CompareAndWriteCanBeTakenBackAtEveryStep) {
  make();
  bdev_->inline_completion = false;
  submit(Op::write, 0, 1);
  Request& waits_for_lock = start(prepare_caw(0, 1, 0, 1));
  EXPECT_TRUE(abort(waits_for_lock));
  EXPECT_EQ(waits_for_lock.ended, 1);
  finish_all();
  Request& compares = start(prepare_caw(0, 1, 0, 1));
  EXPECT_EQ(bdev_->held.size(), 1u);
  EXPECT_TRUE(abort(compares));
  EXPECT_EQ(compares.io.status, Status::aborted);
  EXPECT_TRUE(bdev_->held.empty());
  // The lock is gone each time.
  Request& write = submit(Op::write, 0, 1);
  finish_all();
  EXPECT_EQ(write.ended, 1);
}

// Many on several threads, on few blocks, with completions in random order: each success is one step of a counter that nobody else made.
TEST_F(Guards, CompareAndWriteIsAtomicAgainstEverythingElse) {
  make();
  bdev_->inline_completion = false;
  std::vector<User*> all;
  for (int i = 0; i < 4; ++i) all.push_back(&add_user());
  std::mt19937 random(4711);
  std::uint64_t successes = 0;
  std::uint64_t open = 0;
  int value = 0;  // what block 0 and 1 hold
  for (int round = 0; round < 400; ++round) {
    if (open < 6) {
      ++open;
      Request& request = prepare_caw(0, 2, value % 256, (value + 1) % 256);
      request.then = [&](Request& ended) {
        --open;
        if (ended.io.status != Status::ok) return;
        ++successes;
        value = static_cast<int>((value + 1) % 256);
      };
      start(request, *all[random() % all.size()]);
    }
    if (random() % 3 == 0) submit(*all[random() % all.size()], Op::read, random() % 3, 1);
    if (!bdev_->held.empty() && random() % 2 == 0) {
      std::swap(bdev_->held[random() % bdev_->held.size()], bdev_->held.front());
      finish_one();
    }
    ASSERT_EQ(block(0)[0] == block(1)[511] || !bdev_->held.empty(), true);
  }
  finish_all();
  EXPECT_EQ(open, 0u);
  EXPECT_GT(successes, 10u);
  EXPECT_EQ(block(0)[0], static_cast<std::byte>(successes % 256));
  EXPECT_EQ(block(1)[511], static_cast<std::byte>(successes % 256));
}

TEST_F(Guards, AResetEndsWhatCanBeEndedWaitsForTheRestAndHoldsWhatComes) {
  make();
  bdev_->inline_completion = false;
  bdev_->gives_back = false;
  bdev_->slots = 2;
  User& other = add_user();
  Request& stubborn = submit(Op::write, 0, 1);
  Request& far = submit(other, Op::write, 1, 1);
  Request& queued = submit(Op::write, 2, 1);
  Request& reset = submit(Op::reset, 0, 0);
  EXPECT_EQ(queued.io.status, Status::aborted);
  EXPECT_EQ(reset.ended, 0);
  Request& newcomer = submit(other, Op::read, 3, 1);
  EXPECT_EQ(newcomer.ended, 0);
  finish_all();
  EXPECT_EQ(stubborn.io.status, Status::ok);
  EXPECT_EQ(far.io.status, Status::ok);
  ASSERT_EQ(bdev_->ops.back(), Op::read);  // the reset was before it
  EXPECT_EQ(std::ranges::count(bdev_->ops, Op::reset), 1);
  EXPECT_EQ(reset.ended, 1);
  EXPECT_EQ(reset.io.status, Status::ok);
  EXPECT_EQ(newcomer.ended, 1);
}

TEST_F(Guards, ResetsComeOneAfterAnother) {
  make();
  bdev_->inline_completion = false;
  User& other = add_user();
  Request& held = submit(Op::write, 0, 1);
  Request& first = submit(Op::reset, 0, 0);
  EXPECT_EQ(held.io.status, Status::aborted);
  Request& second = submit(other, Op::reset, 0, 0);
  EXPECT_FALSE(abort(first));
  ASSERT_EQ(bdev_->held.size(), 1u);
  finish_one();
  EXPECT_EQ(first.ended, 1);
  EXPECT_EQ(second.ended, 0);
  finish_all();
  EXPECT_EQ(second.ended, 1);
}

// Users that submit again from within each done, resets in between, all I/Os end exactly once and the bench comes to rest.
TEST_F(Guards, ResetsUnderLoad) {
  make();
  bdev_->inline_completion = false;
  bdev_->slots = 5;
  std::vector<User*> all;
  for (int i = 0; i < 3; ++i) all.push_back(&add_user());
  std::mt19937 random(99);
  std::uint64_t left = 600;
  std::uint64_t ended = 0;
  std::uint64_t started = 0;
  for (int i = 0; i < 24; ++i) {
    User& user = *all[static_cast<std::size_t>(i) % all.size()];
    Request& request = i % 6 == 5 ? prepare_caw(static_cast<std::uint64_t>(i), 1, 0, 0)
                                  : prepare(i % 2 == 0 ? Op::write : Op::read, static_cast<std::uint64_t>(i), 1);
    ChannelRef& channel = user.channel;
    request.then = [&](Request& again) {
      ++ended;
      ASSERT_TRUE(again.io.status == Status::ok || again.io.status == Status::aborted || again.io.status == Status::compare_failed);
      if (left == 0) return;
      --left;
      ++started;
      channel->submit(again.io);
    };
    ++started;
    start(request, user);
  }
  int resets = 0;
  for (int round = 0; round < 20'000 && (ended < started || left > 0); ++round) {
    if (round % 40 == 7) {
      bdev_->gives_back = random() % 2 == 0;
      submit(*all[random() % all.size()], Op::reset, 0, 0).then = [&resets](Request&) { ++resets; };
    }
    if (!bdev_->held.empty()) {
      std::swap(bdev_->held[random() % bdev_->held.size()], bdev_->held.front());
      finish_one();
    } else {
      hand_.advance_us(starved_retry_us);
    }
  }
  finish_all();
  EXPECT_EQ(left, 0u);
  EXPECT_EQ(ended, started);
  for (User* user : all) EXPECT_EQ(user->channel->in_flight(), 0u);
  EXPECT_FALSE(any_deadline());
}

}  // namespace
}  // namespace catnap::bdev
