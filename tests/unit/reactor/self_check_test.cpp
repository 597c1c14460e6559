// What everybody who writes code for these loops must be able to answer, one test per question (docs/interrupt-mode.md, "Seven questions").
// On real OS threads where the answer is about them, else by hand.
#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <set>
#include <string>
#include <vector>

#include "reactor/runtime.h"
#include "tests/unit/reactor/by_hand.h"

namespace catnap {
namespace {

std::string os_thread_name() {
  std::array<char, 16> name{};  // TASK_COMM_LEN
  pthread_getname_np(pthread_self(), name.data(), name.size());
  return name.data();
}

struct Seen {
  int os_thread = 0;
  std::string os_name;
  const Thread* current = nullptr;
};

// Where two lightweight threads of one reactor find themselves.
struct TwoOnOneReactor {
  TwoOnOneReactor() {
    RuntimeOptions options;
    options.mode = ReactorMode::interrupt;
    auto runtime = std::move(*Runtime::start(options));
    Reactor& reactor = *runtime->reactors().front();
    threads = {&runtime->create_thread(reactor, "one"), &runtime->create_thread(reactor, "two")};
    std::atomic<int> left{2};
    runtime->run([&] {
      for (std::size_t i = 0; i < 2; ++i) {
        threads[i]->send([&, i] {
          seen[i] = {gettid(), os_thread_name(), Thread::current()};
          if (left.fetch_sub(1) == 1) runtime->request_stop();
        });
      }
    });
    reactor_os_thread = reactor.os_thread_id();
    reactor_name = reactor.name();
    ids = {threads[0]->id(), threads[1]->id()};
  }
  std::array<Thread*, 2> threads{};
  std::array<Seen, 2> seen;
  std::set<std::uint64_t> ids;
  int reactor_os_thread = 0;
  std::string reactor_name;
};

TEST(SelfCheck, AReactorIsTheLoopOfOneOsThread) {
  const TwoOnOneReactor two;
  for (const Seen& seen : two.seen) {
    EXPECT_EQ(seen.os_thread, two.reactor_os_thread);
    EXPECT_EQ(seen.os_name, two.reactor_name);
    EXPECT_NE(seen.os_thread, gettid());
  }
}

TEST(SelfCheck, AThreadIsNoOsThread) {
  const TwoOnOneReactor two;
  EXPECT_EQ(two.seen[0].os_thread, two.seen[1].os_thread);
  EXPECT_EQ(two.seen[0].current, two.threads[0]);
  EXPECT_EQ(two.seen[1].current, two.threads[1]);
  EXPECT_EQ(two.ids.size(), 2u);
}

TEST(SelfCheck, AMessageIsNotRunAtOnceNotEvenToOneself) {
  ByHand hand;
  std::vector<int> order;
  hand.on_thread([&] {
    hand.thread->send([&] { order.push_back(2); });
    order.push_back(1);
  });
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST(SelfCheck, APollerLivesOnTheThreadThatMadeIt) {
  ByHand hand;
  Thread& second = hand.add_thread("second");
  const Thread* ran_on = nullptr;
  second.send([&] {
    second.add_poller(
        "tick",
        [&] {
          ran_on = Thread::current();
          return 1;
        },
        10);
  });
  hand.settle();
  hand.advance_us(10);
  EXPECT_EQ(ran_on, &second);
  EXPECT_TRUE(hand.thread->pollers().empty());
  EXPECT_EQ(second.pollers().size(), 1u);
}

TEST(SelfCheck, WhoBlocksHoldsUpAllThreadsOfTheReactorAndIsNamed) {
  ByHand hand;
  Thread& second = hand.add_thread("second");
  std::uint64_t fired_at_ns = 0;
  Timer timer([&] { fired_at_ns = hand.clock.now_ns(); });
  second.send([&] { second.arm_in_us(timer, 10); });
  hand.settle();
  const std::uint64_t due_ns = timer.deadline_ns();
  hand.on_thread([&] { hand.clock.advance_us(250'000); });
  EXPECT_GE(fired_at_ns, due_ns + 249'000 * ns_per_us);
  EXPECT_NE(hand.reactor.last_stall().find("a message of thread first"), std::string::npos) << hand.reactor.last_stall();
}

TEST(SelfCheck, AThreadLeavesOnlyWhenNothingIsQueued) {
  ByHand hand;
  Thread& second = hand.add_thread("second");
  int ran = 0;
  second.send([&] {
    second.request_exit();
    second.send([&] {
      EXPECT_FALSE(second.exited());
      ++ran;
      second.send([&] { ++ran; });
    });
  });
  hand.settle();
  EXPECT_EQ(ran, 2);
  EXPECT_TRUE(second.exited());
  EXPECT_FALSE(second.send([] {}));
}

TEST(SelfCheck, TheSameCoreIsNotTheSameThread) {
  ByHand hand;
  Thread& second = hand.add_thread("second");
  bool ran = false;
  bool ran_within = true;
  hand.on_thread([&] {
    // Same reactor, same OS thread: still another thread's business, which comes by a message.
    second.run_or_send([&] { ran = true; });
    ran_within = ran;
  });
  EXPECT_FALSE(ran_within);
  EXPECT_TRUE(ran);
}

#ifndef NDEBUG
TEST(SelfCheckDeathTest, UsingAnotherThreadsObjectStopsADebugBuildAndNamesBoth) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        ByHand hand;
        Thread& second = hand.add_thread("second");
        hand.on_thread([&] { second.add_poller("tick", [] { return 0; }, 10); });
      },
      "add_poller belongs to thread 'second'.*called from 'first'");
}
#endif

}  // namespace
}  // namespace catnap
