// What keeps a thread from exiting and what the log says meanwhile; modes of single threads; for-each-thread.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "reactor/for_each.h"
#include "reactor/reactor.h"
#include "reactor/thread.h"
#include "tests/unit/reactor/by_hand.h"

namespace catnap {
namespace {

TEST(ThreadExit, WaitsForChannelsAndSaysSo) {
  ByHand hand;
  Thread& ending = hand.add_thread("ending");
  auto channel = std::make_unique<std::optional<Thread::Hold>>();
  std::optional<Thread::Hold> second;
  ending.send([&] {
    channel->emplace(ending, "channels");
    second.emplace(ending, "channels");
  });
  hand.settle();
  ending.request_exit();
  hand.settle();
  EXPECT_FALSE(ending.exited());
  EXPECT_EQ(ending.waits_for(), "2 channels");
  // It sleeps meanwhile: nothing of it is due before the next line in the log.
  EXPECT_EQ(ending.nearest_deadline_ns(), hand.clock.now_ns() + Thread::exit_report_us * ns_per_us);
  EXPECT_FALSE(ending.has_ready_work());
  hand.advance_us(Thread::exit_report_us);
  EXPECT_EQ(ending.nearest_deadline_ns(), hand.clock.now_ns() + Thread::exit_report_us * ns_per_us) << "and the next one";
  ending.send([&] { channel.reset(); });
  hand.settle();
  EXPECT_EQ(ending.waits_for(), "1 channels");
  ending.send([&] { second.reset(); });
  hand.settle();
  EXPECT_TRUE(ending.exited());
}

TEST(ThreadExit, WaitsForPollersThatNoHookRemoves) {
  ByHand hand;
  Thread& ending = hand.add_thread("ending");
  Poller* kept = nullptr;
  ending.send([&] {
    kept = &ending.add_poller("kept", [] { return 0; }, 1000);
    Poller& served = ending.add_poller("served", [] { return 0; }, 1000);
    ending.at_exit([&ending, &served] { ending.remove_poller(served); });
  });
  hand.settle();
  ending.request_exit();
  hand.settle();
  EXPECT_FALSE(ending.exited());
  EXPECT_EQ(ending.waits_for(), "poller kept");
  ending.send([&] { ending.remove_poller(*kept); });
  hand.settle();
  EXPECT_TRUE(ending.exited());
}

TEST(ThreadExit, WhenTheReactorStopsItIsBounded) {
  ByHand hand;
  Thread::Hold leaked(*hand.thread, "channels");
  hand.reactor.request_stop();
  hand.thread->request_exit();
  hand.settle();
  EXPECT_FALSE(hand.thread->exited());
  hand.advance_us(Thread::exit_report_us);
  EXPECT_TRUE(hand.thread->exited()) << "the process has to end, with a line in the log that names what is left";
}

TEST(ThreadExit, AMessageIsRefusedFromTheMomentOnAtWhichItWouldNotRun) {
  ByHand hand;
  Thread& ending = hand.add_thread("ending");
  int ran = 0;
  ending.request_exit();
  EXPECT_TRUE(ending.send([&] { ++ran; })) << "not exited yet: it runs";
  hand.settle();
  EXPECT_EQ(ran, 1);
  EXPECT_FALSE(ending.send([&] { ++ran; }));
  const CriticalMessage critical{[](void* count) { ++*static_cast<int*>(count); }, &ran};
  EXPECT_FALSE(ending.send_critical(critical));
  hand.settle();
  EXPECT_EQ(ran, 1);
}

TEST(ForEach, VisitsEachOnItselfThenCompletesOnTheAsker) {
  ByHand hand;
  Thread& second = hand.add_thread("second");
  Thread& gone = hand.add_thread("gone");
  gone.request_exit();
  hand.settle();
  std::vector<Thread*> visited;
  const Thread* completed_on = nullptr;
  hand.thread->send([&] {
    for_each_of(
        {hand.thread, &second, &gone},
        [&](Thread& thread) {
          EXPECT_EQ(&thread, Thread::current());
          visited.push_back(&thread);
        },
        [&] { completed_on = Thread::current(); });
    EXPECT_TRUE(visited.empty()) << "never within the call";
  });
  hand.settle();
  std::ranges::sort(visited);
  std::vector<Thread*> expected = {hand.thread, &second};
  std::ranges::sort(expected);
  EXPECT_EQ(visited, expected);
  EXPECT_EQ(completed_on, hand.thread);
}

TEST(ForEach, OverNothingCompletesToo) {
  ByHand hand;
  bool completed = false;
  hand.thread->send([&] { for_each_of({}, [](Thread&) {}, [&] { completed = true; }); });
  hand.settle();
  EXPECT_TRUE(completed);
}

TEST(ForEach, TheAskerDoesNotExitBeforeItIsComplete) {
  ByHand hand;
  Thread& second = hand.add_thread("second");
  Thread& asker = hand.add_thread("asker");
  bool completed = false;
  asker.send([&] {
    for_each_of({&second}, [&](Thread&) { EXPECT_EQ(asker.waits_for(), "1 for-each operations"); }, [&] { completed = true; });
    asker.request_exit();
  });
  hand.settle();
  EXPECT_TRUE(completed);
  EXPECT_TRUE(asker.exited());
}

// --- modes of threads ---

TEST(ThreadMode, PollKeepsTheReactorAwakeByName) {
  ByHand hand(ReactorMode::interrupt);
  Thread& eager = hand.add_thread("eager");
  eager.set_mode(ThreadMode::poll);
  hand.reactor.turn(-1);  // would wait for ever if it slept
  EXPECT_EQ(hand.reactor.awake_because(), "mode poll of thread eager");
  eager.set_mode(ThreadMode::inherit);
  ASSERT_TRUE(hand.reactor.export_fd());
  EXPECT_TRUE(hand.reactor.prepare_sleep());
}

TEST(ThreadMode, SettingItWakesASleepingReactor) {
  ByHand hand(ReactorMode::interrupt);
  ASSERT_TRUE(hand.reactor.export_fd());
  ASSERT_TRUE(hand.reactor.prepare_sleep());
  hand.thread->set_mode(ThreadMode::poll);
  EXPECT_FALSE(hand.reactor.asleep());
  EXPECT_FALSE(hand.reactor.prepare_sleep());
}

// How long a reactor looks for more after an event of a thread: real clock, judged by its own accounts (spinning or asleep) and not by time.
struct Looking {
  explicit Looking(ReactorMode mode) : reactor(options(mode)) {
    auto made = std::make_unique<Thread>("looked for", CpuMask::of_cpu(0));
    thread = made.get();
    reactor.adopt(std::move(made));
    reactor.turn(0);
  }
  static ReactorOptions options(ReactorMode mode) {
    ReactorOptions chosen = ByHand::options(mode);
    chosen.max_spin_us = 10'000;
    return chosen;
  }
  // Some work, then waiting until a timer of 1 ms: did it look on meanwhile?
  bool looks() {
    bool fired = false;
    Timer timer([&] { fired = true; });
    thread->send([&] { thread->arm_in_us(timer, 1000); });
    reactor.turn(0);
    const std::uint64_t before = reactor.stats().sleeps;
    while (!fired) reactor.turn(-1);
    return reactor.stats().sleeps == before;
  }
  Reactor reactor;
  Thread* thread = nullptr;
};

TEST(ThreadMode, EventsOfAThreadInInterruptModeDoNotMakeAnAdaptiveReactorLook) {
  Looking looking(ReactorMode::adaptive);
  looking.thread->set_mode(ThreadMode::interrupt);
  EXPECT_FALSE(looking.looks());
}

TEST(ThreadMode, EventsOfAnAdaptiveThreadMakeAReactorInInterruptModeLook) {
  Looking looking(ReactorMode::interrupt);
  EXPECT_FALSE(looking.looks());
  looking.thread->set_mode(ThreadMode::adaptive);
  // The tuner starts at a quarter of the bound (2.5 ms), so that 1 ms is found by looking, unless the machine takes the CPU away meanwhile.
  bool looked = false;
  for (int attempt = 0; attempt < 200 && !looked; ++attempt) looked = looking.looks();
  EXPECT_TRUE(looked);
}

TEST(ThreadMode, NamesRoundTrip) {
  for (const auto mode : {ThreadMode::inherit, ThreadMode::poll, ThreadMode::interrupt, ThreadMode::adaptive})
    EXPECT_EQ(thread_mode_from_name(thread_mode_name(mode)), mode);
  EXPECT_FALSE(thread_mode_from_name("lazy"));
}

}  // namespace
}  // namespace catnap
