// Messages, ready work, turn ends, pollers and sleeping of a lightweight thread on a reactor turned by hand.
#include "reactor/thread.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tests/unit/reactor/by_hand.h"

namespace catnap {
namespace {

TEST(Thread, AMessageNeverRunsWithinSend) {
  ByHand hand;
  std::vector<int> order;
  hand.on_thread([&] {
    Thread::current()->send([&] { order.push_back(2); });
    order.push_back(1);
  });
  EXPECT_EQ(order, (std::vector{1, 2}));
}

TEST(Thread, MessagesKeepTheirOrder) {
  ByHand hand;
  std::vector<int> order;
  for (int i = 0; i < 100; ++i) hand.thread->send([&order, i] { order.push_back(i); });
  hand.settle();
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST(Thread, TurnEndRunsAfterEverythingElseOfTheTurn) {
  ByHand hand;
  std::vector<std::string> order;
  Deferred at_end([&] { order.emplace_back("end"); });
  Deferred ready([&] { order.emplace_back("ready"); });
  Timer timer([&] { order.emplace_back("timer"); });
  hand.thread->send([&] {
    hand.thread->at_turn_end(at_end);
    hand.thread->make_ready(ready);
    hand.thread->arm_at(timer, 0);
    order.emplace_back("message");
  });
  hand.reactor.turn(0);
  EXPECT_EQ(order, (std::vector<std::string>{"message", "timer", "ready", "end"}));
}

TEST(Thread, ReadyWorkForbidsSleeping) {
  ByHand hand;
  int runs = 0;
  Deferred* self = nullptr;
  Deferred again([&] {
    if (++runs < 3) hand.thread->make_ready(*self);
  });
  self = &again;
  hand.on_thread([&] { hand.thread->make_ready(again); });
  EXPECT_EQ(runs, 3);
  EXPECT_FALSE(hand.thread->has_ready_work());
}

TEST(Thread, ADestroyedDeferredDoesNotRun) {
  ByHand hand;
  bool ran = false;
  {
    Deferred gone([&] { ran = true; });
    hand.thread->make_ready(gone);
  }
  hand.settle();
  EXPECT_FALSE(ran);
}

TEST(Thread, TimersFireByTheVirtualClock) {
  ByHand hand;
  int fired = 0;
  Timer timer([&] { ++fired; });
  hand.on_thread([&] { hand.thread->arm_in_us(timer, 100); });
  hand.advance_us(99);
  EXPECT_EQ(fired, 0);
  hand.advance_us(1);
  EXPECT_EQ(fired, 1);
}

TEST(Thread, CoarseTimersShareADeadline) {
  ByHand hand;
  Timer one([] {}), two([] {});
  hand.on_thread([&] { hand.thread->arm_coarse(one, 1000, 500'000); });
  hand.clock.advance_us(100);
  hand.on_thread([&] { hand.thread->arm_coarse(two, 1000, 500'000); });
  EXPECT_EQ(one.deadline_ns(), two.deadline_ns());
  EXPECT_EQ(one.deadline_ns() % (500'000 * ns_per_us), 0u);
}

TEST(Poller, TimedOnesRunOnTheirPeriodAndSleepBetween) {
  ByHand hand;
  Poller* poller = nullptr;
  hand.on_thread([&] { poller = &hand.thread->add_poller("tick", [] { return 1; }, 10); });
  for (int i = 0; i < 5; ++i) hand.advance_us(10);
  EXPECT_EQ(poller->run_count(), 5u);
  EXPECT_FALSE(hand.thread->has_busy_poller());
  hand.on_thread([&] { poller->pause(); });
  hand.advance_us(100);
  EXPECT_EQ(poller->run_count(), 5u);
  EXPECT_EQ(hand.thread->nearest_deadline_ns(), TimerHeap::never_ns);
  hand.on_thread([&] {
    poller->resume();
    poller->set_period_us(1);
  });
  hand.advance_us(1);
  EXPECT_EQ(poller->run_count(), 6u);
}

TEST(Poller, ABusyOneKeepsTheReactorAwakeAndIsNamed) {
  ByHand hand;
  hand.on_thread([&] { hand.thread->add_poller("spinner", [] { return 0; }, 0); });
  hand.reactor.turn(-1);  // would sleep for ever if it were allowed to
  EXPECT_EQ(hand.reactor.awake_because(), "poller spinner of thread first");
}

TEST(Poller, MayRemoveItselfWhileItRuns) {
  ByHand hand;
  for (const std::uint64_t period_us : {0u, 10u}) {
    Poller* poller = nullptr;
    int runs = 0;
    hand.on_thread([&] {
      poller = &hand.thread->add_poller(
          "once",
          [&] {
            ++runs;
            hand.thread->remove_poller(*poller);
            return 1;
          },
          period_us);
    });
    hand.advance_us(50);
    EXPECT_EQ(runs, 1) << period_us;
    EXPECT_TRUE(hand.thread->pollers().empty());
    EXPECT_FALSE(hand.thread->has_busy_poller());
  }
}

TEST(Thread, LeavesOnlyWhenItsMessagesAreDone) {
  ByHand hand;
  Thread& second = hand.add_thread("second");
  bool ran = false;
  second.send([&] { ran = true; });
  second.request_exit();
  hand.settle();
  EXPECT_TRUE(ran);
  EXPECT_TRUE(second.exited());
  const auto dropped_before = Thread::dropped_messages();
  EXPECT_FALSE(second.send([] {}));
  EXPECT_EQ(Thread::dropped_messages(), dropped_before + 1);
  EXPECT_EQ(hand.reactor.threads().size(), 1u);
}

TEST(Thread, CurrentIsTheOneWhoseCallbackRuns) {
  ByHand hand;
  Thread& second = hand.add_thread("second");
  const int bell = eventfd(1, EFD_NONBLOCK);
  std::vector<const Thread*> seen;
  second.send([&] {
    seen.push_back(Thread::current());
    ASSERT_TRUE(second.fds().add(bell, EPOLLIN, "bell", [&](std::uint32_t) { seen.push_back(Thread::current()); }, FdKind::eventfd));
  });
  hand.thread->send([&] { seen.push_back(Thread::current()); });
  hand.settle();
  hand.settle();
  EXPECT_EQ(seen, (std::vector<const Thread*>{hand.thread, &second, &second}));
  EXPECT_EQ(Thread::current(), nullptr);
  second.send([&] { ASSERT_TRUE(second.fds().remove(bell)); });
  hand.settle();
  close(bell);
}

TEST(Thread, ACriticalMessageNeedsNoMemoryAndOneIsUnderWayAtATime) {
  ByHand hand;
  int ran = 0;
  const CriticalMessage count{[](void* argument) { ++*static_cast<int*>(argument); }, &ran};
  EXPECT_TRUE(hand.thread->send_critical(count));
  EXPECT_FALSE(hand.thread->send_critical(count)) << "the slot is taken";
  hand.settle();
  EXPECT_EQ(ran, 1);
  EXPECT_TRUE(hand.thread->send_critical(count)) << "and free again";
  hand.settle();
  EXPECT_EQ(ran, 2);
}

TEST(Reactor, SleepsUntilTheNearestDeadlineAndSaysSo) {
  // The real clock: the wait itself is what is tested, by the reason it gives, not by its length.
  Reactor reactor(ByHand::options(ReactorMode::interrupt));
  auto made = std::make_unique<Thread>("sleeper", CpuMask::of_cpu(0));
  Thread& thread = *made;
  reactor.adopt(std::move(made));
  reactor.turn(0);
  bool fired = false;
  Timer timer([&] { fired = true; });
  thread.send([&] { thread.arm_in_us(timer, 500); });
  while (!fired) reactor.turn(-1);
  EXPECT_EQ(reactor.stats().wakeups_timer, 1u);
  EXPECT_EQ(reactor.stats().wakeups_spurious, 0u);
}

TEST(Reactor, SaysThatItWorksWhileACallbackRunsAndNotWhatItDidBefore) {
  Reactor reactor(ByHand::options(ReactorMode::adaptive));
  auto made = std::make_unique<Thread>("worker", CpuMask::of_cpu(0));
  Thread& thread = *made;
  reactor.adopt(std::move(made));
  reactor.turn(0);
  std::string within;
  Timer timer([&] { within = reactor.awake_because(); });
  // Once after a sleep, once after a deadline so near that it is awaited looking.
  for (const std::uint64_t after_us : {500, 2}) {
    within.clear();
    thread.send([&] { thread.arm_in_us(timer, after_us); });
    while (within.empty()) reactor.turn(-1);
    EXPECT_EQ(within, "work");
  }
  EXPECT_NE(reactor.awake_because(), "work") << "the callback is over";
}

class AccountingTest : public testing::TestWithParam<ReactorMode> {};

TEST_P(AccountingTest, BusySpinningAndAsleepAddUpToTheWall) {
  Reactor reactor(ByHand::options(GetParam()));  // the real clock
  auto made = std::make_unique<Thread>("worker", CpuMask::of_cpu(0));
  Thread& thread = *made;
  reactor.adopt(std::move(made));
  const auto total = [&] {
    const Reactor::Stats stats = reactor.stats();
    return stats.busy_ns + stats.spin_ns + stats.sleep_ns;
  };
  const auto now = [] { return system_clock().now_ns(); };
  int ticks = 0;
  Poller* poller = nullptr;
  thread.send([&] { poller = &thread.add_poller("tick", [&] { return ++ticks; }, 200); });
  // What is counted begins with the end of one turn and ends with the end of another: our readings of the clock around them bracket it exactly.
  const std::uint64_t before_first_ns = now();
  reactor.turn(0);
  const std::uint64_t after_first_ns = now(), counted_before_ns = total();
  while (ticks < 20) reactor.turn(-1);
  const std::uint64_t before_last_ns = now();
  reactor.turn(0);
  const std::uint64_t after_last_ns = now(), counted_ns = total() - counted_before_ns;
  EXPECT_GE(counted_ns, before_last_ns - after_first_ns);
  EXPECT_LE(counted_ns, after_last_ns - before_first_ns);
  thread.send([&] { thread.remove_poller(*poller); });
  reactor.turn(0);
  reactor.turn(0);
}

INSTANTIATE_TEST_SUITE_P(Modes, AccountingTest, testing::Values(ReactorMode::interrupt, ReactorMode::adaptive, ReactorMode::poll),
                         [](const auto& mode) { return std::string(reactor_mode_name(mode.param)); });

TEST(Reactor, BusyAndIdleOfItsThreadsAddUpToTheWall) {
  ByHand hand;
  Thread& second = hand.add_thread("second");
  const auto total = [&](const Thread& thread) { return thread.stats().busy_ns + thread.stats().idle_ns; };
  const auto first_before = total(*hand.thread), second_before = total(second);
  hand.thread->send([&] { hand.clock.advance_us(30); });
  second.send([&] { hand.clock.advance_us(70); });
  hand.reactor.turn(0);
  EXPECT_EQ(total(*hand.thread) - first_before, 100'000u);
  EXPECT_EQ(total(second) - second_before, 100'000u);
  EXPECT_EQ(hand.thread->stats().busy_ns, 30'000u);
  EXPECT_EQ(second.stats().busy_ns, 70'000u);
}

}  // namespace
}  // namespace catnap
