// What is particular to delay, error and split; and how virtual bdevs come, go and come back with their bases.
#include <gtest/gtest.h>

#include <memory>

#include "bdev/delay/delay.h"
#include "bdev/error/error.h"
#include "bdev/passthru/passthru.h"
#include "bdev/split/split.h"
#include "reactor/clock.h"
#include "tests/unit/bdev/stack_bench.h"

namespace catnap::bdev {
namespace {

constexpr std::uint64_t hour_us = 3'600'000'000;

class DelayTest : public StackTest {
 protected:
  void SetUp() override {
    StackTest::SetUp();
    options_.name = "D0";
    options_.base_bdev_name = "M0";
    make(DelayBdev::recipe(options_), "D0");
  }
  void TearDown() override {
    forget(DelayBdev::product, "D0");
    StackTest::TearDown();
  }
  void set(DelayLatencies::Kind kind, std::uint64_t us) { options_.latencies->us[kind] = us; }

  DelayOptions options_;
};

TEST_F(DelayTest, AnswersNoSoonerThanItIsTold) {
  set(DelayLatencies::avg_write, 2'000);
  set(DelayLatencies::p99_write, 2'000);
  const std::uint64_t before_ns = system_clock().now_ns();
  EXPECT_EQ(run(Op::write, 0, 8, 1), Status::ok);
  EXPECT_GE(system_clock().now_ns() - before_ns, 2'000'000u);
  EXPECT_EQ(run(Op::read, 0, 8), Status::ok);
}

TEST_F(DelayTest, AKeptAnswerHoldsNothingUpAndIsTakenBackByAbort) {
  set(DelayLatencies::avg_read, hour_us);
  set(DelayLatencies::p99_read, hour_us);
  TestIo slow(Op::read, 0, 1);
  submit(slow);
  bench_.settle();
  EXPECT_FALSE(slow.done());
  EXPECT_FALSE(bench_.idle());  // one deadline
  EXPECT_EQ(run(Op::write, 0, 1, 5), Status::ok);
  // Changed under load: the kept one stays, later ones are fast, and stand before it.
  set(DelayLatencies::avg_read, 0);
  set(DelayLatencies::p99_read, 0);
  EXPECT_EQ(value_of(0), 5);
  set(DelayLatencies::avg_read, 50);
  set(DelayLatencies::p99_read, 50);
  EXPECT_EQ(value_of(0), 5);
  bench_.settle();
  EXPECT_FALSE(slow.done());
  EXPECT_TRUE(abort(slow));
  EXPECT_EQ(slow.times_done, 1);
  EXPECT_EQ(slow.io.status, Status::aborted);
  bench_.settle();
  EXPECT_TRUE(bench_.idle());
}

TEST_F(DelayTest, ResetTakesBackWhatIsKept) {
  set(DelayLatencies::avg_write, hour_us);
  set(DelayLatencies::p99_write, hour_us);
  std::vector<std::unique_ptr<TestIo>> kept;
  for (std::uint64_t i = 0; i < 20; ++i) {
    kept.push_back(std::make_unique<TestIo>(Op::write, i, 1, 3));
    submit(*kept.back());
  }
  EXPECT_EQ(run(Op::reset, 0, 0), Status::ok);
  for (const auto& one : kept) {
    EXPECT_EQ(one->times_done, 1);
    EXPECT_EQ(one->io.status, Status::aborted);
  }
  EXPECT_EQ(run(Op::flush, 0, 0), Status::ok);
}

// One in a hundred, by chance: of 10,000 some 100 ± 10, and never outside of what 20 standard deviations allow.
TEST_F(DelayTest, OneInAHundredGetsTheP99) {
  set(DelayLatencies::p99_read, hour_us);
  std::vector<std::unique_ptr<TestIo>> all;
  bench_.on_thread([&] {
    for (int i = 0; i < 10'000; ++i) {
      all.push_back(std::make_unique<TestIo>(Op::read, 0, 1));
      channel_->submit(all.back()->io);
    }
  });
  bench_.settle();
  const auto kept = std::ranges::count_if(all, [](const auto& one) { return !one->done(); });
  EXPECT_GT(kept, 20);
  EXPECT_LT(kept, 300);
  EXPECT_EQ(run(Op::reset, 0, 0), Status::ok);
  EXPECT_TRUE(std::ranges::all_of(all, [](const auto& one) { return one->times_done == 1; }));
}

class ErrorTest : public StackTest {
 protected:
  void SetUp() override {
    StackTest::SetUp();
    ErrorOptions options;
    options.base_name = "M0";
    make(ErrorBdev::recipe(options), "EE_M0");
    bdev_ = std::dynamic_pointer_cast<ErrorBdev>(Registry::instance().find("EE_M0"));
  }
  void TearDown() override {
    bdev_.reset();
    forget(ErrorBdev::product, "EE_M0");
    StackTest::TearDown();
  }
  static Injection of(Fault fault, std::uint32_t count) {
    Injection injection;
    injection.fault = fault;
    injection.count = count;
    return injection;
  }
  std::shared_ptr<ErrorBdev> bdev_;
};

TEST_F(ErrorTest, FailsAsManyAsItIsTold) {
  bdev_->injections().set(Op::read, of(Fault::failure, 2));
  EXPECT_EQ(run(Op::write, 0, 1, 1), Status::ok);
  EXPECT_EQ(run(Op::read, 0, 1), Status::read_error);
  EXPECT_EQ(run(Op::read, 0, 1), Status::read_error);
  EXPECT_EQ(run(Op::read, 0, 1), Status::ok);
  EXPECT_FALSE(bdev_->injections().any());
  Injection removed = of(Fault::failure, 100);
  removed.status = Status::removed;
  bdev_->injections().set(Op::write, removed);
  EXPECT_EQ(run(Op::write, 0, 1, 2), Status::removed);
  bdev_->injections().clear();
  EXPECT_EQ(value_of(0), 1);
}

TEST_F(ErrorTest, MeetsOnlyTheBlocksItIsTold) {
  Injection injection = of(Fault::failure, 100);
  injection.offset_blocks = 10;
  injection.num_blocks = 5;
  bdev_->injections().set(Op::write, injection);
  EXPECT_EQ(run(Op::write, 0, 10, 1), Status::ok);
  EXPECT_EQ(run(Op::write, 15, 10, 1), Status::ok);
  EXPECT_EQ(run(Op::write, 9, 2, 1), Status::write_error);
  EXPECT_EQ(run(Op::write, 14, 2, 1), Status::write_error);
  EXPECT_EQ(run(Op::write, 0, 100, 1), Status::write_error);
}

TEST_F(ErrorTest, CorruptsOneByteAndLeavesTheWritersMemory) {
  Injection injection = of(Fault::corrupt_data, 1);
  injection.corrupt_offset_bytes = 700;
  injection.corrupt_value = 0x0F;
  bdev_->injections().set(Op::write, injection);
  TestIo io(Op::write, 0, 2, 0x10);
  ASSERT_EQ(run(io), Status::ok);
  EXPECT_EQ(io.bytes, std::vector<std::byte>(1024, std::byte{0x10}));
  TestIo back(Op::read, 0, 2);
  ASSERT_EQ(run(back), Status::ok);
  auto expected = io.bytes;
  expected[700] = std::byte{0x1F};
  EXPECT_EQ(back.bytes, expected);
  bdev_->injections().set(Op::read, injection);
  ASSERT_EQ(run(back), Status::ok);
  EXPECT_EQ(back.bytes, io.bytes);  // corrupted twice
  injection.corrupt_offset_bytes = 5000;
  bdev_->injections().set(Op::read, injection);
  ASSERT_EQ(run(back), Status::ok);
  EXPECT_EQ(back.bytes, expected);
}

TEST_F(ErrorTest, HoldsBackUntilResumedAbortedOrReset) {
  bdev_->injections().set(Op::write, of(Fault::pending, 3));
  TestIo first(Op::write, 0, 1, 1), second(Op::write, 1, 1, 2), third(Op::write, 2, 1, 3);
  submit(first);
  EXPECT_TRUE(abort(first));
  EXPECT_EQ(first.io.status, Status::aborted);
  submit(second);
  bench_.settle();
  EXPECT_TRUE(bench_.idle());  // nothing wakes for it
  EXPECT_FALSE(second.done());
  EXPECT_EQ(value_of(1), 0);
  bool resumed = false;
  bench_.on_thread([&] { bdev_->resume_pending([&resumed] { resumed = true; }); });
  bench_.until([&] { return resumed && second.done(); });
  EXPECT_EQ(second.io.status, Status::ok);
  EXPECT_EQ(value_of(1), 2);
  submit(third);
  EXPECT_EQ(run(Op::reset, 0, 0), Status::ok);
  EXPECT_EQ(third.io.status, Status::aborted);
  EXPECT_EQ(value_of(2), 0);
}

TEST_F(ErrorTest, OutOfResourcesIsTriedAgainAndNeverSeen) {
  bdev_->injections().set(Op::write, of(Fault::nomem, 3));
  EXPECT_EQ(run(Op::write, 0, 1, 7), Status::ok);
  EXPECT_EQ(value_of(0), 7);
}

TEST_F(ErrorTest, BeginsAtAQueueDepth) {
  Injection injection = of(Fault::failure, 100);
  injection.queue_depth = 2;
  bdev_->injections().set(Op::flush, injection);
  EXPECT_EQ(run(Op::flush, 0, 0), Status::ok);
  bdev_->injections().set(Op::write, of(Fault::pending, 2));
  TestIo first(Op::write, 0, 1, 1), second(Op::write, 1, 1, 2);
  submit(first);
  submit(second);
  EXPECT_EQ(run(Op::flush, 0, 0), Status::write_error);  // behind two others
  EXPECT_EQ(run(Op::reset, 0, 0), Status::ok);
}

SplitOptions split_of(const std::string& base, std::uint32_t count, std::uint64_t size_mib) {
  SplitOptions options;
  options.base_bdev_name = base;
  options.count = count;
  options.size_mib = size_mib;
  return options;
}

using SplitTest = StackTest;

TEST_F(SplitTest, PartsDoNotTouchEachOther) {
  make(SplitBdev::recipe(split_of("M0", 4, 0)), "M0p0");
  for (int part = 0; part < 4; ++part) {
    bench_.on_thread([&] { open("M0p" + std::to_string(part)); });
    EXPECT_EQ(channel_->bdev().num_blocks(), blocks / 4);
    EXPECT_EQ(run(Op::write, 0, blocks / 4, part + 1), Status::ok);
    EXPECT_EQ(run(Op::write, blocks / 4 - 1, 2, 9), Status::out_of_range);
  }
  for (int part = 0; part < 4; ++part) {
    bench_.on_thread([&] { open("M0p" + std::to_string(part)); });
    EXPECT_EQ(value_of(0), part + 1);
    EXPECT_EQ(value_of(blocks / 4 - 1), part + 1);
  }
  forget(SplitBdev::product, "M0");
}

TEST_F(SplitTest, SizesThatDoNotFitAreNamedAndLeaveNothing) {
  bench_.on_thread([&] {
    for (const auto& [count, size, says] :
         {std::tuple{3u, std::uint64_t{2}, "3 parts of split_size_mb 2"}, std::tuple{1u, ~std::uint64_t{0}, "split_size_mb 18446744073709551615"}}) {
      const auto made = VirtualBdevs::instance().create(SplitBdev::recipe(split_of("M0", count, size)));
      ASSERT_FALSE(made.has_value());
      EXPECT_EQ(made.error().err, EINVAL);
      EXPECT_NE(made.error().message.find(says), std::string::npos) << made.error().message;
      EXPECT_FALSE(VirtualBdevs::instance().knows(SplitBdev::product, "M0"));
      EXPECT_TRUE(Registry::instance().claimed_by(*Registry::instance().find("M0")).empty());
    }
    EXPECT_TRUE(VirtualBdevs::instance().create(SplitBdev::recipe(split_of("M0", 2, 2))).has_value());
    EXPECT_EQ(VirtualBdevs::instance().create(SplitBdev::recipe(split_of("M0", 4, 1))).error().err, EEXIST);
  });
  forget(SplitBdev::product, "M0");
}

PassthruOptions passthru_of(const std::string& name, const std::string& base) {
  PassthruOptions options;
  options.name = name;
  options.base_bdev_name = base;
  return options;
}

using VirtualBdevsTest = StackTest;

TEST_F(VirtualBdevsTest, ComeWithTheirBaseInAnyOrder) {
  bench_.on_thread([&] {
    // The top first, its base next, the base of that last.
    auto& all = VirtualBdevs::instance();
    ASSERT_TRUE(all.create(PassthruBdev::recipe(passthru_of("Top", "Middlep1"))).has_value());
    ASSERT_TRUE(all.create(SplitBdev::recipe(split_of("Middle", 2, 0))).has_value());
    ASSERT_TRUE(all.create(PassthruBdev::recipe(passthru_of("Middle", "Late"))).has_value());
    EXPECT_TRUE(all.waits(PassthruBdev::product, "Top"));
    EXPECT_EQ(Registry::instance().find("Top"), nullptr);
    EXPECT_EQ(all.config_calls().size(), 3u);
    add_malloc("Late");
  });
  bool examined = false;
  bench_.on_thread([&] { Registry::instance().when_examined([&examined] { examined = true; }); });
  bench_.until([&examined] { return examined; });
  ASSERT_NE(Registry::instance().find("Top"), nullptr);
  EXPECT_EQ(Registry::instance().find("Top")->num_blocks(), blocks / 2);
  bench_.on_thread([&] { open("Top"); });
  EXPECT_EQ(run(Op::write, 0, 8, 4), Status::ok);
  EXPECT_EQ(value_of(7), 4);

  // All go with the lowest, are still wished for, and come back with the same identity.
  const std::string uuid = Registry::instance().find("Middlep1")->info().uuid;
  bench_.on_thread([&] { channel_ = {}; });
  remove("Late");
  bench_.settle();
  EXPECT_EQ(Registry::instance().all().size(), 1u);
  EXPECT_EQ(VirtualBdevs::instance().config_calls().size(), 3u);
  bench_.on_thread([&] {
    MallocOptions options;
    options.name = "Late";
    options.num_blocks = blocks;
    ASSERT_TRUE(Registry::instance().add(*MallocBdev::create(options, nullptr)).has_value());
  });
  bench_.until([] { return Registry::instance().find("Top") != nullptr; });
  EXPECT_NE(Registry::instance().find("Middlep1")->info().uuid, uuid);  // another base: its UUID is another
  for (const auto& [product, name] :
       {std::pair{PassthruBdev::product, "Top"}, std::pair{SplitBdev::product, "Middle"}, std::pair{PassthruBdev::product, "Middle"}}) {
    forget(product, name);
  }
}

TEST_F(VirtualBdevsTest, ABaseServesOneOnly) {
  bench_.on_thread([&] {
    auto& all = VirtualBdevs::instance();
    ASSERT_TRUE(all.create(PassthruBdev::recipe(passthru_of("P0", "M0"))).has_value());
    const auto second = all.create(PassthruBdev::recipe(passthru_of("P1", "M0")));
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error().err, EBUSY);
    EXPECT_FALSE(all.knows(PassthruBdev::product, "P1"));
    EXPECT_EQ(all.create(PassthruBdev::recipe(passthru_of("P0", "elsewhere"))).error().err, EEXIST);
    EXPECT_EQ(all.create(PassthruBdev::recipe(passthru_of("P2", "P2"))).error().err, EINVAL);
    EXPECT_FALSE(Registry::instance().open("M0", "NVMe-oF Target", true, {}).has_value());
    // Whoever has the base for writing keeps it.
    auto opened = Registry::instance().open("P0", "NVMe-oF Target", true, {});
    ASSERT_TRUE(opened.has_value());
    EXPECT_EQ(all.create(PassthruBdev::recipe(passthru_of("P3", "P0"))).error().err, EBUSY);
  });
  forget(PassthruBdev::product, "P0");
}

TEST_F(VirtualBdevsTest, TowersEndSomewhere) {
  bench_.on_thread([&] {
    auto& all = VirtualBdevs::instance();
    std::string base = "M0";
    for (std::uint32_t level = 1; level <= max_stack_levels; ++level) {
      const std::string name = "P" + std::to_string(level);
      ASSERT_TRUE(all.create(PassthruBdev::recipe(passthru_of(name, base))).has_value()) << level;
      base = name;
    }
    EXPECT_EQ(all.create(PassthruBdev::recipe(passthru_of("P99", base))).error().err, ELOOP);
    open(base);
  });
  EXPECT_EQ(run(Op::write, 3, 8, 6), Status::ok);
  EXPECT_EQ(value_of(5), 6);
  for (std::uint32_t level = 1; level <= max_stack_levels; ++level) forget(PassthruBdev::product, "P" + std::to_string(level));
}

}  // namespace
}  // namespace catnap::bdev
