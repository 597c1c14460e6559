// Rate limits, exactly, on a clock that the test moves: reactors turn every step, as they would be woken, and deadlines do the rest.
#include <algorithm>
#include <random>

#include "tests/unit/bdev/toy_bdev.h"

namespace catnap::bdev {
namespace {

class Limits : public ToyTest {
 protected:
  // A user with so many I/Os of that size open at all times, over some channels.
  void load(std::size_t channels, std::size_t depth, Op op, std::uint64_t blocks) {
    make();
    for (std::size_t i = 0; i < channels; ++i) add_user();
    done_.assign(channels, 0);
    for (std::size_t i = 0; i < channels; ++i) {
      for (std::size_t k = 0; k < depth; ++k) keep_busy(i, op, blocks);
    }
  }
  void keep_busy(std::size_t user, Op op, std::uint64_t blocks) {
    Request& request = prepare(op, 0, blocks);
    ChannelRef& channel = users_[user]->channel;
    request.then = [this, user, &channel](Request& again) {
      ++done_[user];
      if (running_ && again.io.status == Status::ok) channel->submit(again.io);
    };
    waiting_.emplace_back(&request, user);
  }
  void begin() {
    for (const auto& [request, user] : waiting_) start(*request, *users_[user]);
    waiting_.clear();
  }
  void set(const RateLimits& limits) {
    hand_.on_thread([&] { bdev_->set_rate_limits(limits); });
  }
  // Moves the clock to one deadline after another, a little late each time.
  void pass(std::uint64_t for_us, std::uint64_t late_us) {
    const std::uint64_t end_ns = hand_.clock.now_ns() + for_us * ns_per_us;
    while (hand_.clock.now_ns() < end_ns) {
      std::uint64_t next_ns = end_ns;
      for (const auto& user : users_) next_ns = std::min(next_ns, user->thread->nearest_deadline_ns());
      const std::uint64_t now_ns = hand_.clock.now_ns();
      hand_.clock.advance_ns(std::min(end_ns, std::max(next_ns, now_ns) + late_us * ns_per_us) - now_ns);
      hand_.settle();
    }
  }
  std::uint64_t total() const {
    std::uint64_t sum = 0;
    for (const std::uint64_t one : done_) sum += one;
    return sum;
  }
  void stop() {
    running_ = false;
    set({});
  }
  void TearDown() override {
    if (bdev_ != nullptr) stop();
    release();
  }

  std::vector<std::uint64_t> done_;
  std::vector<std::pair<Request*, std::size_t>> waiting_;
  bool running_ = true;
};

RateLimits ios(std::uint64_t per_second) {
  RateLimits limits;
  limits.rw_ios_per_sec = per_second;
  return limits;
}

// Within 5 %, or one I/O, over ten seconds, from one and from eight channels, with wake-ups that come late; and everybody gets as much.
TEST_F(Limits, IosPerSecondHoldAndAreShared) {
  for (const std::uint64_t rate : {1u, 10u, 1'000u, 100'000u}) {
    for (const std::size_t channels : {1u, 8u}) {
      SCOPED_TRACE(std::to_string(rate) + " I/Os per second, " + std::to_string(channels) + " channels");
      const std::uint64_t seconds = rate > 10'000 ? 1 : 10;
      running_ = true;
      load(channels, 16, Op::read, 1);
      set(ios(rate));
      begin();
      pass(seconds * 1'000'000, rate > 10'000 ? 30 : 300);
      const std::uint64_t due = rate * seconds;
      const std::uint64_t slack = std::max<std::uint64_t>(1, due / 20);
      EXPECT_LE(total(), due + slack);
      EXPECT_GE(total() + slack, due);
      const auto [fewest, most] = std::ranges::minmax(done_);
      EXPECT_LE(most - fewest, std::max<std::uint64_t>(2, due / channels / 10)) << "of " << due / channels;
      stop();
      release();
    }
  }
}

TEST_F(Limits, MegabytesPerSecondHoldForTheirDirection) {
  struct Case {
    RateLimits limits;
    Op op;
    bool limited;
  };
  RateLimits rw, reads, writes;
  rw.rw_mbytes_per_sec = 100;
  reads.r_mbytes_per_sec = 1;
  writes.w_mbytes_per_sec = 1;
  for (const auto& [limits, op, limited] :
       {Case{rw, Op::read, true}, Case{rw, Op::write, true}, Case{reads, Op::read, true}, Case{writes, Op::write, true}}) {
    running_ = true;
    load(8, 4, op, 8);  // 4 KiB
    set(limits);
    begin();
    const std::uint64_t seconds = limits.rw_mbytes_per_sec > 0 ? 2 : 10;
    pass(seconds * 1'000'000, 100);
    const std::uint64_t bytes = total() * 4096;
    const std::uint64_t due = seconds * (limits.rw_mbytes_per_sec + limits.r_mbytes_per_sec + limits.w_mbytes_per_sec) * 1048576;
    EXPECT_TRUE(limited);
    EXPECT_LE(bytes, due + due / 20);
    EXPECT_GE(bytes, due - due / 20);
    stop();
    release();
  }
  // The other direction is free.
  make();
  set(reads);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(submit(Op::write, 0, 4096).ended, 1);
}

// One with large I/Os and one with small ones get about as many bytes.
TEST_F(Limits, BytesAreSharedAsBytes) {
  make();
  add_user();
  add_user();
  done_.assign(2, 0);
  for (int k = 0; k < 4; ++k) keep_busy(0, Op::read, 2048);  // 1 MiB
  for (int k = 0; k < 512; ++k) keep_busy(1, Op::read, 8);
  RateLimits limits;
  limits.rw_mbytes_per_sec = 100;
  set(limits);
  begin();
  pass(10'000'000, 100);
  const std::uint64_t large = done_[0] * 1048576;
  const std::uint64_t small = done_[1] * 4096;
  EXPECT_NEAR(static_cast<double>(large + small), 1000.0 * 1048576, 50.0 * 1048576);
  EXPECT_GT(small, large / 2);
  EXPECT_GT(large, small / 2);
}

// A user with a deep queue does not keep out one that has a single I/O at a time.
TEST_F(Limits, ShallowQueuesGetTheirTurns) {
  for (const std::uint64_t rate : {100u, 1'000u}) {
    make();
    add_user();
    add_user();
    running_ = true;
    done_.assign(2, 0);
    for (int k = 0; k < 128; ++k) keep_busy(0, Op::read, 1);
    keep_busy(1, Op::read, 1);
    set(ios(rate));
    begin();
    pass(10'000'000, 100);
    EXPECT_NEAR(static_cast<double>(total()), static_cast<double>(10 * rate), static_cast<double>(rate) / 2);
    EXPECT_GE(done_[1] * 10, 4 * total()) << done_[0] << " " << done_[1];
    stop();
    release();
  }
}

TEST_F(Limits, ChangedAnyNumberOfTimesUnderLoadTheRateFollowsAtOnce) {
  load(4, 32, Op::read, 1);
  set(ios(1));
  begin();
  pass(3'000'000, 0);
  EXPECT_LE(total(), 4u);
  set(ios(100'000));  // does not wait for what was reserved at one per second
  const std::uint64_t slow = total();
  pass(100'000, 10);
  EXPECT_NEAR(static_cast<double>(total() - slow), 10'000.0, 500.0);
  // A hundred changes of a low limit are no hundred presents.
  set(ios(10));
  const std::uint64_t before = total();
  for (int i = 0; i < 100; ++i) {
    set(ios(10 + static_cast<std::uint64_t>(i % 2)));
    pass(20'000, 0);
  }
  EXPECT_NEAR(static_cast<double>(total() - before), 21.0, 3.0);
  // Off: what waits goes at once, and no deadline stays.
  running_ = false;
  set({});
  for (const auto& user : users_) EXPECT_EQ(user->channel->in_flight(), 0u);
  EXPECT_FALSE(any_deadline());
}

TEST_F(Limits, NoDeadlineWhileNothingWaits) {
  make();
  set(ios(1));
  EXPECT_FALSE(any_deadline());
  EXPECT_EQ(submit(Op::read, 0, 1).ended, 1);
  EXPECT_FALSE(any_deadline());
  Request& waits = submit(Op::read, 0, 1);
  EXPECT_EQ(waits.ended, 0);
  EXPECT_TRUE(any_deadline());
  hand_.advance_us(1'000'000);
  EXPECT_EQ(waits.ended, 1);
  EXPECT_FALSE(any_deadline());
}

TEST_F(Limits, WhatIsNotReadOrWrittenIsNotLimited) {
  make();
  set(ios(1));
  submit(Op::write, 0, 1);
  Request& waits = submit(Op::write, 0, 1);
  for (const Op op : {Op::flush, Op::write_zeroes}) EXPECT_EQ(submit(op, 0, op == Op::flush ? 0 : 1).ended, 1) << op_name(op);
  EXPECT_EQ(waits.ended, 0);
}

TEST_F(Limits, AnotherBdevIsFree) {
  load(2, 8, Op::read, 1);
  set(ios(10));
  begin();
  BdevInfo info;
  info.name = "free";
  info.num_blocks = 16;
  auto free = std::make_shared<ToyBdev>(std::move(info));
  ChannelRef channel;
  int ended = 0;
  on(*users_[0]->thread, [&] { channel = std::move(*free->get_channel()); });
  std::vector<BdevIo> reads(100);
  const iovec iov{scratch_.data(), 512};
  for (BdevIo& io : reads) {
    io.num_blocks = 1;
    io.iov = &iov;
    io.iov_count = 1;
    io.context = &ended;
    io.done = [](BdevIo& done) { ++*static_cast<int*>(done.context); };
    on(*users_[0]->thread, [&] { channel->submit(io); });
  }
  EXPECT_EQ(ended, 100);
  on(*users_[0]->thread, [&] { channel = {}; });
}

TEST_F(Limits, WhatWaitsCanBeTakenBackAndItsTurnIsTheNextOnes) {
  make();
  set(ios(1));
  submit(Op::read, 0, 1);
  Request& first = submit(Op::read, 1, 1);
  Request& second = submit(Op::read, 2, 1);
  EXPECT_TRUE(abort(first));
  EXPECT_EQ(first.io.status, Status::aborted);
  hand_.advance_us(1'000'000);
  EXPECT_EQ(second.ended, 1);
  Request& only = submit(Op::read, 3, 1);
  EXPECT_TRUE(abort(only));
  EXPECT_FALSE(any_deadline());
  hand_.advance_us(1'000'000);
  EXPECT_EQ(submit(Op::read, 4, 1).ended, 1);  // its turn was given back
}

TEST_F(Limits, RemovalFailsWhatWaits) {
  make();
  hand_.on_thread([&] { ASSERT_TRUE(Registry::instance().add(bdev_).has_value()); });
  set(ios(1));
  submit(Op::read, 0, 1);
  Request& waits = submit(Op::read, 1, 1);
  bool removed = false;
  hand_.on_thread([&] { Registry::instance().remove("toy", [&](Result<void>) { removed = true; }); });
  EXPECT_EQ(waits.io.status, Status::removed);
  EXPECT_FALSE(removed);
  hand_.on_thread([&] { channel_ = {}; });
  hand_.settle();
  EXPECT_TRUE(removed);
}

TEST_F(Limits, BorrowedBytesAreCopiedWhileTheyWait) {
  BdevInfo info;
  info.consumes_inline = true;
  make(std::move(info));
  EXPECT_TRUE(bdev_->consumes_inline());
  set(ios(1));
  EXPECT_FALSE(bdev_->consumes_inline());  // so that users do not rely on it
  submit(Op::write, 0, 1);
  std::vector<std::byte> bytes(512, std::byte{0x22});
  Request& request = prepare(Op::write, 3, 1, bytes.data());
  request.io.borrowed = true;  // decided before the limit was there
  start(request);
  std::ranges::fill(bytes, std::byte{0xEE});
  hand_.advance_us(1'000'000);
  EXPECT_EQ(request.io.status, Status::ok);
  EXPECT_EQ(block(3)[0], std::byte{0x22});
}

}  // namespace
}  // namespace catnap::bdev
