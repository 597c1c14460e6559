// Time-outs, queue depth over time, and latency histograms, on a clock that the test moves.
#include <algorithm>
#include <numeric>

#include "bdev/histogram.h"
#include "tests/unit/bdev/toy_bdev.h"

namespace catnap::bdev {
namespace {

class Watch : public ToyTest {
 protected:
  void make_slow() {
    make();
    bdev_->inline_completion = false;
  }
  template <typename Call>
  void on_app(Call call) {
    hand_.on_thread(call);
  }
};

TEST_F(Watch, AnIoThatIsNotAnsweredInTimeIsCountedOnceAndLeftAlone) {
  make_slow();
  on_app([&] { bdev_->set_timeout(1000); });
  EXPECT_FALSE(any_deadline());
  Request& request = submit(Op::write, 0, 1);
  EXPECT_TRUE(any_deadline());
  hand_.advance_us(999);
  EXPECT_EQ(bdev_->timed_out_ios(), 0u);
  hand_.advance_us(1);
  EXPECT_EQ(bdev_->timed_out_ios(), 1u);
  EXPECT_FALSE(any_deadline());  // nothing is left to report
  hand_.advance_us(100'000);
  EXPECT_EQ(bdev_->timed_out_ios(), 1u);
  Request& second = submit(Op::read, 0, 1);
  hand_.advance_us(500);
  Request& third = submit(Op::read, 1, 1);
  hand_.advance_us(500);
  EXPECT_EQ(bdev_->timed_out_ios(), 2u);
  finish_all();
  EXPECT_EQ(request.io.status, Status::ok);
  EXPECT_EQ(second.io.status, Status::ok);
  EXPECT_EQ(third.io.status, Status::ok);
  EXPECT_FALSE(any_deadline());
  EXPECT_EQ(bdev_->timed_out_ios(), 2u);
}

TEST_F(Watch, NoDeadlineWhileNothingIsInFlight) {
  make_slow();
  on_app([&] { bdev_->set_timeout(1000); });
  for (int i = 0; i < 3; ++i) {
    submit(Op::write, 0, 1);
    submit(Op::write, 1, 1);
    finish_all();
    EXPECT_FALSE(any_deadline());
  }
}

TEST_F(Watch, TimeOutsCountIosThatAreUnderWayWhenTheyAreSetAndEndWithTheirChannels) {
  make_slow();
  User& user = add_user();
  submit(user, Op::write, 0, 1);
  hand_.advance_us(5000);
  on_app([&] { bdev_->set_timeout(1000); });
  EXPECT_EQ(bdev_->timed_out_ios(), 1u);
  on_app([&] { bdev_->set_timeout(0); });
  submit(user, Op::write, 0, 1);
  EXPECT_FALSE(any_deadline());
  finish_all();
  on(*user.thread, [&] { user.channel = {}; });
  EXPECT_EQ(bdev_->timed_out_ios(), 1u);
}

TEST_F(Watch, DepthIsAnIntegral) {
  make_slow();
  EXPECT_EQ(bdev_->depth(hand_.clock.now_ns()).period_us, 0u);
  on_app([&] { bdev_->set_depth_period(10); });
  EXPECT_FALSE(any_deadline());
  User& other = add_user();
  submit(Op::write, 0, 1);  // 1
  hand_.advance_us(100);
  submit(other, Op::write, 1, 1);  // 2
  submit(other, Op::write, 2, 1);  // 3
  hand_.advance_us(50);
  Bdev::Depth depth = bdev_->depth(hand_.clock.now_ns());
  EXPECT_EQ(depth.now, 3u);
  EXPECT_EQ(depth.peak, 3u);
  EXPECT_EQ(depth.io_time_ns, 150 * ns_per_us);
  EXPECT_EQ(depth.weighted_io_time_ns, 250 * ns_per_us);
  finish_one();
  hand_.advance_us(10);  // 2
  finish_all();
  hand_.advance_us(1000);  // idle
  depth = bdev_->depth(hand_.clock.now_ns());
  EXPECT_EQ(depth.now, 0u);
  EXPECT_EQ(depth.io_time_ns, 160 * ns_per_us);
  EXPECT_EQ(depth.weighted_io_time_ns, 270 * ns_per_us);
  bdev_->reset_stats(Bdev::StatsReset::maxmin);
  EXPECT_EQ(bdev_->depth(hand_.clock.now_ns()).peak, 0u);
  // What a channel saw outlives it.
  on(*other.thread, [&] { other.channel = {}; });
  EXPECT_EQ(bdev_->depth(hand_.clock.now_ns()).weighted_io_time_ns, 270 * ns_per_us);
  EXPECT_EQ(bdev_->depth(hand_.clock.now_ns()).period_us, 10u);
}

TEST_F(Watch, DepthCanBeSwitchedUnderLoad) {
  make_slow();
  submit(Op::write, 0, 1);
  submit(Op::write, 1, 1);
  on_app([&] { bdev_->set_depth_period(10); });
  hand_.advance_us(10);
  EXPECT_EQ(bdev_->depth(hand_.clock.now_ns()).weighted_io_time_ns, 20 * ns_per_us);
  on_app([&] { bdev_->set_depth_period(0); });
  finish_one();
  on_app([&] { bdev_->set_depth_period(10); });
  EXPECT_EQ(bdev_->depth(hand_.clock.now_ns()).now, 1u);
  finish_all();
  EXPECT_EQ(bdev_->depth(hand_.clock.now_ns()).now, 0u);
}

// The shape that SPDK's clients decode: each value lies below the end of its bucket and not below the end of the one before.
TEST(HistogramShapes, EveryValueIsInItsBucket) {
  for (const std::uint32_t granularity : {1u, 4u, 7u, 11u}) {
    auto shape = std::make_shared<HistogramShape>();
    shape->granularity = granularity;
    shape->min_ns = 0;
    shape->max_ns = ~std::uint64_t{0};
    for (const std::uint64_t value : {0ull, 1ull, 127ull, 128ull, 255ull, 256ull, 1000ull, 123456789ull, 1ull << 40, (1ull << 63) + 5}) {
      Histogram histogram(shape);
      histogram.count(Op::read, value);
      const auto buckets = histogram.buckets();
      const auto at = static_cast<std::size_t>(std::ranges::find(buckets, 1u) - buckets.begin());
      ASSERT_LT(at, buckets.size());
      EXPECT_LT(value, histogram.end_of(at) == 0 ? ~std::uint64_t{0} : histogram.end_of(at)) << granularity;
      EXPECT_GE(value, at > 0 ? histogram.end_of(at - 1) : 0) << granularity;
    }
  }
}

TEST(HistogramShapes, WhatIsOutsideCountsAtTheEnds) {
  auto shape = std::make_shared<HistogramShape>();
  shape->min_ns = 1000;
  shape->max_ns = 1'000'000;
  Histogram histogram(shape);
  histogram.count(Op::read, 3);
  histogram.count(Op::read, 5'000'000'000);
  EXPECT_EQ(histogram.buckets().front(), 1u);
  EXPECT_EQ(histogram.buckets().back(), 1u);
  // 1000 is in range 3 of 2^7 buckets (512 to 1023), 999'999 in range 13 (524'288 to 1'048'575).
  EXPECT_EQ(shape->min_range(), 3u);
  EXPECT_EQ(shape->max_range(), 13u);
  EXPECT_EQ(histogram.buckets().size(), 11u * 128u);
}

TEST_F(Watch, HistogramsCountOverChannelsAndAfterTheirEnd) {
  make_slow();
  EXPECT_EQ(bdev_->histogram(), nullptr);
  const auto total = [&] {
    const auto buckets = bdev_->histogram()->buckets();
    return std::accumulate(buckets.begin(), buckets.end(), std::uint64_t{0});
  };
  on_app([&] { bdev_->set_histogram(std::make_shared<const HistogramShape>()); });
  EXPECT_EQ(total(), 0u);
  User& user = add_user();
  submit(Op::read, 0, 1);
  submit(user, Op::write, 0, 1);
  hand_.advance_us(10);
  finish_all();
  bdev_->answer = Status::read_error;
  submit(Op::read, 0, 1);
  finish_all();
  bdev_->answer = Status::ok;
  EXPECT_EQ(total(), 2u);  // failures take their own time
  on(*user.thread, [&] { user.channel = {}; });
  EXPECT_EQ(total(), 2u);
  // Again, from zero, and reads only.
  HistogramShape reads;
  reads.only = Op::read;
  on_app([&] { bdev_->set_histogram(std::make_shared<const HistogramShape>(reads)); });
  EXPECT_EQ(total(), 0u);
  submit(Op::read, 0, 1);
  submit(Op::write, 0, 1);
  finish_all();
  EXPECT_EQ(total(), 1u);
  on_app([&] { bdev_->set_histogram(nullptr); });
  EXPECT_EQ(bdev_->histogram(), nullptr);
}

}  // namespace
}  // namespace catnap::bdev
