// Real OS threads: start, stop, messages across reactors, and the search for a lost wake-up.
#include "reactor/runtime.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <random>
#include <vector>

#include "reactor/ask_threads.h"

namespace catnap {
namespace {

std::unique_ptr<Runtime> start(ReactorMode mode) {
  RuntimeOptions options;
  options.cpumask = CpuMask::of_process();
  options.mode = mode;
  auto runtime = Runtime::start(options);
  EXPECT_TRUE(runtime.has_value());
  return std::move(*runtime);
}

TEST(Runtime, RefusesACpuThatIsNotThere) {
  RuntimeOptions options;
  options.cpumask = CpuMask::of_cpu(1023);
  const auto runtime = Runtime::start(options);
  ASSERT_FALSE(runtime.has_value());
  EXPECT_EQ(runtime.error().err, EINVAL);
  EXPECT_NE(runtime.error().message.find("1023"), std::string::npos);
}

class EveryMode : public testing::TestWithParam<ReactorMode> {};

// Two threads on different reactors throw a message to and fro: every throw finds the other asleep, spinning, or about to sleep.
// A lost wake-up leaves both asleep with a message queued, which the test's time-out reports as a hang.
TEST_P(EveryMode, PingPongNeverLosesAWakeUp) {
  const auto runtime = start(GetParam());
  const auto reactors = runtime->reactors();
  Thread& a = runtime->create_thread(*reactors.front(), "a");
  Thread& b = runtime->create_thread(*reactors.back(), "b");
  constexpr int rounds = 20'000;
  std::atomic<int> left{rounds};
  std::function<void()> hit = [&] {
    if (left.fetch_sub(1) <= 1) return runtime->request_stop();
    Thread& other = Thread::current() == &a ? b : a;
    other.send([&] { hit(); });
  };
  runtime->run([&] { a.send([&] { hit(); }); });
  EXPECT_LE(left.load(), 0);
}

// Deadlines nearer than a sleep is worth are awaited looking, also in interrupt mode, and that is what is counted. Farther ones are slept for.
TEST(Runtime, NearDeadlinesAreAwaitedSpinningAndCountedAsSuch) {
  for (const std::uint64_t away_ns : {std::uint64_t{2'000}, std::uint64_t{1'000'000}}) {
    SCOPED_TRACE(away_ns);
    const auto runtime = start(ReactorMode::interrupt);
    Reactor& reactor = *runtime->reactors().front();
    Thread& thread = runtime->create_thread(reactor, "timers");
    constexpr int rounds = 500;
    int left = rounds;
    Reactor::Stats before, after;
    std::unique_ptr<Timer> timer;
    // Of the clock, not of the turn, whose beginning may be past already.
    const auto arm = [&] { thread.arm_at(*timer, system_clock().now_ns() + away_ns); };
    timer = std::make_unique<Timer>([&] {
      if (--left > 0) return arm();
      after = reactor.stats();
      runtime->request_stop();
    });
    runtime->run([&] {
      thread.send([&] {
        before = reactor.stats();
        arm();
      });
    });
    EXPECT_EQ(left, 0);
    const std::uint64_t slept = after.sleeps - before.sleeps;
    const bool near = away_ns < 5'000;
    // A turn that took long by itself leaves nothing to wait for; others may also send something meanwhile.
    EXPECT_TRUE(near ? slept < rounds / 10 : slept > rounds / 2) << slept << " sleeps";
    if (near) {
      EXPECT_GT(after.spin_ns, before.spin_ns);
    }
  }
}

// Random messages, timers and fds over all threads; every one of them must be seen, so a lost one hangs the count.
TEST_P(EveryMode, RandomTrafficIsAllSeen) {
  auto runtime = start(GetParam());
  std::vector<Thread*> threads;
  for (Reactor* reactor : runtime->reactors()) {
    for (int i = 0; i < 2; ++i) threads.push_back(&runtime->create_thread(*reactor, "worker"));
  }
  constexpr int events = 30'000;
  std::atomic<int> seen{0};
  std::vector<int> bells(threads.size());
  std::vector<std::unique_ptr<Timer>> timers(threads.size());
  std::vector<std::uint8_t> cleaned_up(threads.size());  // each asked and set on its own thread: messages that come after that make no more timers
  const auto count = [&] {
    if (seen.fetch_add(1) + 1 == events) runtime->request_stop();
  };
  const auto next = [&](auto& self, std::uint32_t seed) -> void {
    count();
    if (seen.load() >= events) return;
    std::mt19937 random(seed);
    const std::size_t to = random() % threads.size();
    const std::uint32_t next_seed = random();
    switch (random() % 3) {
      case 0:
        threads[to]->send([&self, next_seed] { self(self, next_seed); });
        break;
      case 1:
        threads[to]->send([&self, &timers, &threads, &cleaned_up, to, next_seed] {
          if (cleaned_up[to]) return;
          if (timers[to] && timers[to]->armed()) {
            threads[to]->send([&self, next_seed] { self(self, next_seed); });
            return;
          }
          timers[to] = std::make_unique<Timer>([&self, next_seed] { self(self, next_seed); });
          threads[to]->arm_in_us(*timers[to], next_seed % 50);
        });
        break;
      default: {
        const std::uint64_t one = 1;
        EXPECT_EQ(write(bells[to], &one, sizeof one), static_cast<ssize_t>(sizeof one));
        threads[to]->send([&self, next_seed] { self(self, next_seed); });
      }
    }
  };
  std::atomic<int> bells_seen{0};
  for (std::size_t i = 0; i < threads.size(); ++i) {
    bells[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    threads[i]->send(
        [&, i] { EXPECT_TRUE(threads[i]->fds().add(bells[i], EPOLLIN, "bell", [&](std::uint32_t) { ++bells_seen; }, FdKind::eventfd)); });
  }
  runtime->run([&] {
    for (std::uint32_t seed = 1; seed <= 8; ++seed) threads[seed % threads.size()]->send([&, seed] { next(next, seed); });
  });
  EXPECT_GE(seen.load(), events);
  EXPECT_GT(bells_seen.load(), 0);
  // Timers and fds belong to threads that the runtime ends: take them away on their own threads first.
  std::atomic<std::size_t> cleaned{0};
  for (std::size_t i = 0; i < threads.size(); ++i) {
    threads[i]->send([&, i] {
      timers[i].reset();
      cleaned_up[i] = 1;
      EXPECT_TRUE(threads[i]->fds().remove(bells[i]));
      close(bells[i]);
      cleaned.fetch_add(1);
      cleaned.notify_one();
    });
  }
  for (std::size_t done = cleaned.load(); done < threads.size(); done = cleaned.load()) cleaned.wait(done);
  runtime.reset();  // messages of chains that are still going on know what lives here
}

INSTANTIATE_TEST_SUITE_P(Modes, EveryMode, testing::Values(ReactorMode::interrupt, ReactorMode::adaptive, ReactorMode::poll),
                         [](const auto& mode) { return std::string(reactor_mode_name(mode.param)); });

TEST(Runtime, ForEachThreadVisitsAllOnThemselvesAndComesBack) {
  const auto runtime = start(ReactorMode::interrupt);
  for (Reactor* reactor : runtime->reactors()) runtime->create_thread(*reactor, "visited");
  std::atomic<std::size_t> visited{0};
  std::size_t expected = 0;
  bool came_back = false;
  runtime->run([&] {
    expected = runtime->threads().size();
    runtime->for_each_thread(
        [&](Thread& thread) {
          EXPECT_EQ(Thread::current(), &thread);
          visited.fetch_add(1);
        },
        [&] {
          came_back = Thread::current() == &runtime->app_thread();
          runtime->request_stop();
        });
  });
  EXPECT_TRUE(came_back);
  EXPECT_EQ(visited.load(), expected);
  EXPECT_EQ(expected, runtime->reactors().size() + 1);
}

// A thread that blocks is named after a bounded wait, and does not carry out later what nobody waits for any more.
TEST(Runtime, AskingAllThreadsDoesNotWaitForAStuckOne) {
  const auto runtime = start(ReactorMode::interrupt);
  Thread& stuck = runtime->create_thread(*runtime->reactors().front(), "stuck");
  std::atomic<bool> release{false};
  std::atomic<int> asked_stuck{0};
  stuck.send([&] { release.wait(false); });
  std::function<std::uint64_t(Thread&)> ask = [&](Thread& thread) {
    if (&thread == &stuck) asked_stuck.fetch_add(1);
    EXPECT_EQ(Thread::current(), &thread);
    return thread.id();
  };
  std::size_t answered = 0;
  std::vector<std::string> silent;
  runtime->run([&] {
    spawn<ThreadAnswers<std::uint64_t>>(ask_threads<std::uint64_t>(runtime.get(), ask), [&](ThreadAnswers<std::uint64_t> answers) {
      answered = answers.by_id.size();
      silent = std::move(answers.silent_threads);
      release.store(true);
      release.notify_one();
      stuck.send([&] { runtime->request_stop(); });  // after the question that it must not answer
    });
  });
  EXPECT_NE(std::ranges::find(silent, "stuck"), silent.end());  // on a busy machine others may have been late as well
  EXPECT_GE(answered, 1u);
  EXPECT_EQ(asked_stuck.load(), 0);
}

TEST(Runtime, AnIdleOneIsAsleepEverywhere) {
  const auto runtime = start(ReactorMode::adaptive);
  // A round trip through every reactor, then each must come to rest: asleep with no reason to be awake, which is a state, not a time.
  std::atomic<int> arrived{0};
  for (Reactor* reactor : runtime->reactors()) {
    Thread& thread = runtime->create_thread(*reactor, "visitor");
    thread.send([&] {
      arrived.fetch_add(1);
      arrived.notify_one();
    });
  }
  const int expected = static_cast<int>(runtime->reactors().size());
  for (int now = arrived.load(); now < expected; now = arrived.load()) arrived.wait(now);
  for (Reactor* reactor : runtime->reactors()) {
    while (!reactor->asleep()) sched_yield();
    EXPECT_EQ(reactor->awake_because(), "");
  }
}

TEST(Runtime, ModesChangeWhileMessagesFly) {
  const auto runtime = start(ReactorMode::adaptive);
  const auto reactors = runtime->reactors();
  Thread& a = runtime->create_thread(*reactors.front(), "a");
  Thread& b = runtime->create_thread(*reactors.back(), "b");
  std::atomic<int> left{10'000};
  std::function<void()> hit = [&] {
    const int now = left.fetch_sub(1);
    if (now <= 1) return runtime->request_stop();
    const auto mode = static_cast<ReactorMode>(now % 3);
    if (now % 7 == 0) reactors.front()->set_mode(mode);
    if (now % 11 == 0) reactors.back()->set_mode(mode);
    (Thread::current() == &a ? b : a).send([&] { hit(); });
  };
  runtime->run([&] { a.send([&] { hit(); }); });
  EXPECT_LE(left.load(), 0);
}

}  // namespace
}  // namespace catnap
