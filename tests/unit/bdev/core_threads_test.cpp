// The core's features between real OS threads, all at once: compare-and-write as a counter, resets, limits, time-outs, histograms and depth that come
// and go, channels too. What ThreadSanitizer is for.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <random>

#include "bdev/histogram.h"
#include "bdev/malloc/malloc.h"
#include "reactor/runtime.h"
#include "tests/unit/bdev/bench.h"

namespace catnap::bdev {
namespace {

constexpr std::uint64_t counter_block = 3;
constexpr int users_count = 4;
constexpr int steps_per_user = 1500;

// Adds one to a number on the disk, again and again: reads it, then compares and writes it; in between other reads and writes, and sometimes a reset.
class Incrementer {
 public:
  Incrementer(std::shared_ptr<Bdev> bdev, std::uint32_t seed, std::function<void()> ended)
      : bdev_(std::move(bdev)), random_(seed), ended_(std::move(ended)), block_(bdev_->block_size()), bytes_(2 * block_) {
    io_.context = this;
    io_.done = [](BdevIo& io) { static_cast<Incrementer*>(io.context)->done(); };
  }
  void start() {
    open();
    next();
  }
  std::uint64_t successes() const { return successes_; }
  // Compare-and-writes that were aborted: each may have written.
  std::uint64_t aborted() const { return aborted_; }

 private:
  void open() {
    auto channel = bdev_->get_channel();
    ASSERT_TRUE(channel.has_value());
    channel_ = std::move(*channel);
  }
  void submit(Op op, std::uint64_t offset, std::size_t bytes) {
    io_.op = op;
    io_.offset_blocks = offset;
    io_.num_blocks = op == Op::reset ? 0 : 1;
    iov_ = {bytes_.data(), bytes};
    io_.iov = bytes > 0 ? &iov_ : nullptr;
    io_.iov_count = bytes > 0 ? 1 : 0;
    channel_->submit(io_);
  }
  void next() {
    if (left_-- == 0) {
      channel_ = {};
      ended_();
      return;
    }
    if (left_ % 200 == 0) {  // a channel that ends and one that begins in the middle of it all
      channel_ = {};
      open();
    }
    switch (random_() % 64) {
      case 0:
        submit(Op::reset, 0, 0);
        break;
      case 1:
        submit(Op::write, 8 + random_() % 8, block_);
        break;
      default:
        submit(Op::read, counter_block, block_);
        break;
    }
  }
  void done() {
    if (io_.op == Op::read && io_.status == Status::ok) {
      std::uint64_t value = 0;
      std::memcpy(&value, bytes_.data(), sizeof value);
      ++value;
      std::memcpy(bytes_.data() + block_, bytes_.data(), block_);
      std::memcpy(bytes_.data() + block_, &value, sizeof value);
      submit(Op::compare_and_write, counter_block, 2 * block_);
      return;
    }
    if (io_.op == Op::compare_and_write) {
      ASSERT_TRUE(io_.status == Status::ok || io_.status == Status::compare_failed || io_.status == Status::aborted) << status_name(io_.status);
      if (io_.status == Status::ok) ++successes_;
      if (io_.status == Status::aborted) ++aborted_;
    }
    ASSERT_TRUE(io_.status == Status::ok || io_.status == Status::aborted || io_.status == Status::compare_failed) << status_name(io_.status);
    next();
  }

  std::shared_ptr<Bdev> bdev_;
  std::mt19937 random_;
  std::function<void()> ended_;
  std::size_t block_;
  std::vector<std::byte> bytes_;
  iovec iov_{};
  BdevIo io_;
  ChannelRef channel_;
  int left_ = steps_per_user;
  std::uint64_t successes_ = 0;
  std::uint64_t aborted_ = 0;
};

// Changes on app_thread everything that can be changed, one thing a turn, until told to end.
class Meddler {
 public:
  explicit Meddler(std::shared_ptr<Bdev> bdev) : bdev_(std::move(bdev)), again_([this] { meddle(); }) {}
  void start() { meddle(); }
  void stop() {
    again_.disarm();
    bdev_->set_rate_limits({});
    bdev_->set_timeout(0);
  }

 private:
  void meddle() {
    RateLimits limits;
    switch (step_++ % 6) {
      case 0:
        limits.rw_ios_per_sec = 20'000 + step_;
        bdev_->set_rate_limits(limits);
        break;
      case 1:
        bdev_->set_timeout(step_ % 2 == 0 ? 1'000'000 : 0);
        break;
      case 2:
        bdev_->set_histogram(step_ % 4 == 0 ? nullptr : std::make_shared<const HistogramShape>());
        break;
      case 3:
        bdev_->set_depth_period(step_ % 4 == 0 ? 0 : 10);
        break;
      case 4:
        bdev_->set_rate_limits({});
        break;
      default:
        bdev_->reset_stats(Bdev::StatsReset::maxmin);
        (void)bdev_->stats();
        (void)bdev_->histogram();
        (void)bdev_->depth(Thread::current()->now_ns());
        (void)bdev_->timed_out_ios();
        break;
    }
    Thread::current()->arm_in_us(again_, 500);
  }

  std::shared_ptr<Bdev> bdev_;
  Timer again_;
  std::uint64_t step_ = 0;
};

TEST(CoreThreads, CompareAndWriteIsAtomicWhileEverythingElseGoesOn) {
  RuntimeOptions options;
  options.cpumask = CpuMask::of_process();
  options.mode = ReactorMode::interrupt;
  auto started = Runtime::start(options);
  ASSERT_TRUE(started.has_value());
  const auto runtime = std::move(*started);
  std::shared_ptr<Bdev> bdev;
  std::vector<std::unique_ptr<Incrementer>> users;
  std::unique_ptr<Meddler> meddler;
  std::atomic<int> running{users_count};
  std::uint64_t counted = 0;
  const auto end = [&] {
    meddler->stop();
    meddler.reset();
    std::memcpy(&counted, static_cast<MallocBdev&>(*bdev).memory().base() + counter_block * 512, sizeof counted);
    Registry::instance().remove(bdev->name(), [&](Result<void> removed) {
      EXPECT_TRUE(removed.has_value());
      bdev.reset();
      runtime->request_stop();
    });
  };
  runtime->run([&] {
    MallocOptions malloc;
    malloc.name = "M0";
    malloc.num_blocks = 64;
    bdev = std::move(*MallocBdev::create(malloc, nullptr));
    ASSERT_TRUE(Registry::instance().add(bdev).has_value());
    meddler = std::make_unique<Meddler>(bdev);
    meddler->start();
    const auto reactors = runtime->reactors();
    for (std::size_t i = 0; i < users_count; ++i) {
      Thread& thread = runtime->create_thread(*reactors[i % reactors.size()], "user");
      users.push_back(std::make_unique<Incrementer>(bdev, static_cast<std::uint32_t>(i), [&] {
        if (running.fetch_sub(1) == 1) runtime->app_thread().send(end);
      }));
      thread.send([user = users.back().get()] { user->start(); });
    }
  });
  std::uint64_t successes = 0;
  std::uint64_t aborted = 0;
  for (const auto& user : users) {
    successes += user->successes();
    aborted += user->aborted();
  }
  EXPECT_GT(successes, 0u);
  EXPECT_GE(counted, successes);
  EXPECT_LE(counted, successes + aborted);
}

}  // namespace
}  // namespace catnap::bdev
