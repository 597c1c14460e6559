// The stall detector: what held a turn up is named by kind, name and thread. By hand, with a virtual clock that callbacks move.
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <string>

#include "tests/unit/reactor/by_hand.h"

namespace catnap {
namespace {

constexpr std::uint64_t long_us = 250'000;  // above the bound of 100 ms

struct Stall : testing::Test {
  void be_long() { hand.clock.advance_us(long_us); }
  ByHand hand;
};

TEST_F(Stall, NothingIsSaidWhileTurnsAreShort) {
  hand.on_thread([&] { hand.clock.advance_us(99'000); });
  EXPECT_EQ(hand.reactor.last_stall(), "");
  EXPECT_EQ(hand.reactor.stats().stalls, 0u);
}

TEST_F(Stall, AMessageIsNamedByItsThread) {
  Thread& second = hand.add_thread("second");
  second.send([&] { be_long(); });
  hand.settle();
  EXPECT_EQ(hand.reactor.last_stall(), "one turn took 250 ms (bound 100 ms), 250 ms of them a message of thread second");
  EXPECT_EQ(hand.reactor.stats().stalls, 1u);
}

TEST_F(Stall, ATimerIsNamedByItsThread) {
  Timer timer([&] { be_long(); });
  hand.on_thread([&] { hand.thread->arm_in_us(timer, 10); });
  hand.advance_us(10);
  EXPECT_NE(hand.reactor.last_stall().find("250 ms of them a timer of thread first"), std::string::npos) << hand.reactor.last_stall();
}

TEST_F(Stall, APollerIsNamedWhetherTimedOrBusy) {
  for (const std::uint64_t period_us : {10u, 0u}) {
    const std::string name = period_us == 0 ? "busy one" : "timed one";
    Poller* poller = nullptr;
    hand.on_thread([&] {
      poller = &hand.thread->add_poller(
          name,
          [&] {
            be_long();
            hand.thread->remove_poller(*poller);
            return 1;
          },
          period_us);
    });
    hand.advance_us(10);
    EXPECT_NE(hand.reactor.last_stall().find("250 ms of them poller " + name + " of thread first"), std::string::npos) << hand.reactor.last_stall();
  }
}

TEST_F(Stall, AnFdIsNamedAlsoWhenItRemovesItself) {
  const int bell = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
  hand.on_thread([&] {
    const auto added = hand.thread->fds().add(bell, EPOLLIN, "bell", [&](std::uint32_t) {
      be_long();
      EXPECT_TRUE(hand.thread->fds().remove(bell));
    });
    EXPECT_TRUE(added);
  });
  hand.settle();
  EXPECT_NE(hand.reactor.last_stall().find("250 ms of them fd bell of thread first"), std::string::npos) << hand.reactor.last_stall();
  close(bell);
}

TEST_F(Stall, TheLongestOfSeveralIsTheOneNamed) {
  hand.thread->send([&] { hand.clock.advance_us(60'000); });
  hand.thread->send([&] { hand.clock.advance_us(20'000); });
  Timer timer([&] { hand.clock.advance_us(90'000); });
  hand.thread->arm_in_us(timer, 0);
  hand.settle();
  EXPECT_EQ(hand.reactor.last_stall(), "one turn took 170 ms (bound 100 ms), 90 ms of them a timer of thread first");
}

TEST_F(Stall, ManySmallCallbacksAreSaidToBeMany) {
  for (int i = 0; i < 300; ++i) hand.thread->send([&] { hand.clock.advance_us(1000); });
  hand.settle();
  EXPECT_EQ(hand.reactor.last_stall(), "one turn took 300 ms (bound 100 ms), many callbacks together");
}

}  // namespace
}  // namespace catnap
