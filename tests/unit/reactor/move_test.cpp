// Threads that go from one reactor to another, turned by hand on one virtual clock: everything they have goes along, and nothing gets lost.
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "reactor/buffer_pool.h"
#include "reactor/numa_memory.h"
#include "reactor/reactor.h"
#include "reactor/thread.h"

namespace catnap {
namespace {

ReactorOptions named(const char* name, std::size_t buffer_cap_bytes) {
  ReactorOptions options;
  options.name = name;
  options.mode = ReactorMode::interrupt;
  options.buffer_cap_bytes = buffer_cap_bytes;
  return options;
}

struct TwoReactors {
  explicit TwoReactors(std::size_t buffer_cap_bytes = std::size_t{1} << 20)
      : a(named("a", buffer_cap_bytes), clock), b(named("b", buffer_cap_bytes), clock) {
    thread = &add_thread("mover");
  }
  Thread& add_thread(const char* name) {
    auto made = std::make_unique<Thread>(name, CpuMask::of_cpu(0));
    Thread& added = *made;
    a.adopt(std::move(made));
    a.turn(0);
    return added;
  }
  void settle() {
    while (a.turn(0) + b.turn(0) > 0) {
    }
  }
  // Asks, and turns only the reactor that is left.
  std::optional<Result<void>> leave(Reactor& from, Reactor& to) {
    std::optional<Result<void>> outcome;
    Reactor::move(*thread, to, [&](Result<void> moved) { outcome = std::move(moved); });
    from.turn(0);
    return outcome;
  }
  void move(Reactor& from, Reactor& to) {
    const auto outcome = leave(from, to);
    ASSERT_TRUE(outcome.has_value() && outcome->has_value());
    to.turn(0);
    settle();
  }
  void on_thread(Message call) {
    thread->send(std::move(call));
    settle();
  }

  VirtualClock clock;
  Reactor a;
  Reactor b;
  Thread* thread = nullptr;
};

TEST(Move, ItsListsAreTheNewReactorsFromThenOn) {
  TwoReactors two;
  two.move(two.a, two.b);
  EXPECT_EQ(two.thread->reactor(), &two.b);
  EXPECT_EQ(two.thread->host(), &two.b);
  EXPECT_TRUE(two.a.threads().empty());
  EXPECT_EQ(two.b.threads(), (std::vector<Thread*>{two.thread}));
  const Reactor* ran_on = nullptr;
  two.on_thread([&] { ran_on = Reactor::current(); });
  EXPECT_EQ(ran_on, &two.b);
}

TEST(Move, MessagesSentBeforeWhileAndAfterRunOnceAndInOrder) {
  TwoReactors two;
  std::vector<int> order;
  Reactor::move(*two.thread, two.b, [](Result<void>) {});
  two.thread->send([&] { order.push_back(1); });  // runs before it leaves, in the same turn
  two.a.turn(0);
  EXPECT_EQ(order, (std::vector{1}));
  two.thread->send([&] { order.push_back(2); });  // under way: neither here nor there
  two.a.turn(0);
  EXPECT_EQ(order, (std::vector{1}));
  two.b.turn(0);
  two.thread->send([&] { order.push_back(3); });
  two.b.turn(0);
  EXPECT_EQ(order, (std::vector{1, 2, 3}));
}

TEST(Move, TheNewReactorMayNotSleepBeforeItHasRunTheArrival) {
  TwoReactors two;
  two.settle();
  ASSERT_TRUE(two.b.export_fd());
  ASSERT_TRUE(two.b.prepare_sleep()) << "nothing to do yet";
  two.thread->send([&] { two.thread->send([] {}); });
  two.leave(two.a, two.b);
  EXPECT_FALSE(two.b.asleep()) << "the arrival woke it";
  EXPECT_FALSE(two.b.prepare_sleep()) << "and it may not sleep over it";
}

TEST(Move, TimersFireAtTheirTimeOnTheNewReactor) {
  TwoReactors two;
  const Reactor* fired_on = nullptr;
  Timer timer([&] { fired_on = Reactor::current(); });
  two.on_thread([&] { two.thread->arm_in_us(timer, 100); });
  two.clock.advance_us(60);
  two.move(two.a, two.b);
  two.clock.advance_us(39);
  two.settle();
  EXPECT_EQ(fired_on, nullptr);
  two.clock.advance_us(1);
  two.settle();
  EXPECT_EQ(fired_on, &two.b);
}

TEST(Move, ReadyAndTurnEndWorkGoesAlong) {
  TwoReactors two;
  std::vector<std::pair<std::string, Reactor*>> ran;
  Deferred ready([&] { ran.emplace_back("ready", Reactor::current()); });
  Deferred turn_end([&] { ran.emplace_back("turn end", Reactor::current()); });
  Deferred once([&] {  // runs at the end of a turn: what it queues belongs to the next one
    two.thread->make_ready(ready);
    two.thread->at_turn_end(turn_end);
  });
  Reactor::move(*two.thread, two.b, [](Result<void>) {});
  two.thread->send([&] { two.thread->at_turn_end(once); });
  two.a.turn(0);
  EXPECT_TRUE(ran.empty());
  two.b.turn(0);
  EXPECT_EQ(ran, (std::vector<std::pair<std::string, Reactor*>>{{"ready", &two.b}, {"turn end", &two.b}}));
}

TEST(Move, FdsAreWatchedByTheNewReactorLevelAndEdge) {
  TwoReactors two;
  const int level = eventfd(0, EFD_NONBLOCK);
  const int edge = eventfd(0, EFD_NONBLOCK);
  std::vector<std::pair<std::string, Reactor*>> seen;
  two.on_thread([&] {
    ASSERT_TRUE(
        two.thread->fds().add(level, EPOLLIN, "level", [&](std::uint32_t) { seen.emplace_back("level", Reactor::current()); }, FdKind::eventfd));
    ASSERT_TRUE(two.thread->fds().add(
        edge, EPOLLIN | EPOLLET, "edge", [&](std::uint32_t) { seen.emplace_back("edge", Reactor::current()); }, FdKind::eventfd));
  });
  two.leave(two.a, two.b);
  // Ready while it is on its way: nobody watches, and the new reactor finds it all the same.
  ASSERT_EQ(eventfd_write(level, 1), 0);
  ASSERT_EQ(eventfd_write(edge, 1), 0);
  two.a.turn(0);
  EXPECT_TRUE(seen.empty());
  two.b.turn(0);  // takes it over
  two.settle();
  std::ranges::sort(seen);
  EXPECT_EQ(seen, (std::vector<std::pair<std::string, Reactor*>>{{"edge", &two.b}, {"level", &two.b}}));
  two.on_thread([&] {
    EXPECT_TRUE(two.thread->fds().remove(level));
    EXPECT_TRUE(two.thread->fds().remove(edge));
  });
  close(level);
  close(edge);
}

TEST(Move, PollersGoOnAndKeepTheNewReactorAwakeByName) {
  TwoReactors two;
  int busy_runs = 0;
  Poller* poller = nullptr;
  two.thread->send([&] {
    poller = &two.thread->add_poller(
        "hungry",
        [&] {
          ++busy_runs;
          return 0;
        },
        0);
  });
  two.a.turn(0);
  two.leave(two.a, two.b);
  const int before = busy_runs;
  two.a.turn(0);
  EXPECT_EQ(busy_runs, before);
  two.b.turn(0);
  two.b.turn(-1);  // must not sleep
  EXPECT_GT(busy_runs, before);
  EXPECT_EQ(two.b.awake_because(), "poller hungry of thread mover");
  two.thread->send([&] { two.thread->remove_poller(*poller); });
  two.settle();
}

TEST(Move, WatchersAreToldOnBothSides) {
  TwoReactors two;
  struct Watcher final : MoveWatcher {
    explicit Watcher(Thread& thread, std::vector<std::string>& told) : MoveWatcher(thread), log(told) {}
    void leaving() override { log.push_back("leaving " + Reactor::current()->name()); }
    void arrived() override { log.push_back("arrived " + Reactor::current()->name() + " as " + Thread::current()->name()); }
    std::vector<std::string>& log;
  };
  std::vector<std::string> told;
  {
    Watcher watcher(*two.thread, told);
    two.move(two.a, two.b);
    EXPECT_EQ(told, (std::vector<std::string>{"leaving a", "arrived b as mover"}));
  }
  two.move(two.b, two.a);
  EXPECT_EQ(told.size(), 2u) << "a watcher that is gone is told nothing";
}

TEST(Move, IsRefusedForWhatExitsAndFollowsWhatHasMoved) {
  TwoReactors two;
  two.move(two.a, two.b);
  // Asked for twice: the second request was made for where the thread is no more.
  std::vector<bool> outcomes;
  Reactor::move(*two.thread, two.a, [&](Result<void> moved) { outcomes.push_back(moved.has_value()); });
  Reactor::move(*two.thread, two.b, [&](Result<void> moved) { outcomes.push_back(moved.has_value()); });
  two.settle();
  two.settle();
  EXPECT_EQ(outcomes, (std::vector{true, true}));
  EXPECT_EQ(two.thread->reactor(), &two.b) << "the later request had the last word";
  two.thread->request_exit();
  Reactor::move(*two.thread, two.a, [&](Result<void> moved) { outcomes.push_back(moved.has_value()); });
  two.settle();
  EXPECT_EQ(outcomes, (std::vector{true, true, false}));
}

TEST(Move, TimeOfAThreadAddsUpWhereverItWas) {
  TwoReactors two;
  const auto spent = [&] { return two.thread->stats().busy_ns + two.thread->stats().idle_ns; };
  two.settle();
  const std::uint64_t began_ns = two.clock.now_ns();
  const std::uint64_t before = spent();
  for (int i = 0; i < 10; ++i) {
    two.clock.advance_us(1000);
    two.on_thread([&] { two.clock.advance_us(50); });
    two.move(i % 2 == 0 ? two.a : two.b, i % 2 == 0 ? two.b : two.a);
  }
  two.settle();
  EXPECT_EQ(spent() - before, two.clock.now_ns() - began_ns);
  EXPECT_EQ(two.thread->stats().busy_ns, 10 * 50 * ns_per_us);
}

// --- buffers ---

TEST(MoveBuffers, OneFreedElsewhereGoesBackToItsPoolInTheOwnersNextTurn) {
  TwoReactors two(8192);
  Buffer buffer;
  two.on_thread([&] { buffer = Reactor::current()->buffers().try_get(4096); });
  ASSERT_TRUE(buffer);
  two.move(two.a, two.b);
  two.on_thread([&] { buffer.reset(); });
  EXPECT_EQ(two.b.buffers().stats().held_bytes, 0u) << "it was never that pool's";
  two.a.turn(0);
  EXPECT_EQ(two.a.buffers().stats().held_bytes, 4096u);
  EXPECT_EQ(two.a.buffers().stats().free_bytes, 4096u);
}

TEST(MoveBuffers, AWaiterOfTheOwnerIsServedWithWhatComesFromElsewhereAndTheOwnerDoesNotSleepOverIt) {
  TwoReactors two(4096);
  Thread& other = two.add_thread("other");
  Buffer buffer, late;
  const Thread* served_as = nullptr;
  BufferWaiter waiter([&](Buffer given) {
    late = std::move(given);
    served_as = Thread::current();
  });
  two.on_thread([&] { buffer = Reactor::current()->buffers().try_get(4096); });
  other.send([&] {
    ASSERT_FALSE(Reactor::current()->buffers().try_get(4096));
    Reactor::current()->buffers().wait(waiter, 4096);
  });
  two.settle();
  EXPECT_TRUE(buffer.wanted());
  two.move(two.a, two.b);
  ASSERT_TRUE(two.a.export_fd());
  ASSERT_TRUE(two.a.prepare_sleep());
  two.thread->send([&] { buffer.reset(); });
  two.b.turn(0);
  EXPECT_FALSE(two.a.asleep()) << "woken, as somebody waits there";
  EXPECT_FALSE(two.a.prepare_sleep());
  two.a.turn(0);
  EXPECT_TRUE(late);
  EXPECT_EQ(served_as, &other);
  other.send([&] { late.reset(); });
  two.settle();
}

TEST(MoveBuffers, PlacesInLineGoToTheEndOfTheNewPoolsLine) {
  TwoReactors two(4096);
  Buffer of_a, of_b, got;
  const Reactor* served_on = nullptr;
  BufferWaiter waiter([&](Buffer given) {
    got = std::move(given);
    served_on = Reactor::current();
    EXPECT_EQ(Thread::current(), two.thread);
  });
  Thread& stays = two.add_thread("stays");
  stays.send([&] { of_a = Reactor::current()->buffers().try_get(4096); });
  two.settle();
  two.on_thread([&] { Reactor::current()->buffers().wait(waiter, 4096); });
  EXPECT_EQ(two.a.buffers().stats().waiting, 1u);
  two.leave(two.a, two.b);
  EXPECT_EQ(two.a.buffers().stats().waiting, 0u);
  two.b.turn(0);
  EXPECT_EQ(served_on, &two.b) << "that pool had one";
  EXPECT_FALSE(waiter.waiting());
  two.on_thread([&] { got.reset(); });
  stays.send([&] { of_a.reset(); });
  two.settle();
}

TEST(MoveBuffers, ALargeRequestThatLeavesNoLongerHoldsUpTheOthers) {
  TwoReactors two(8192);
  Thread& stays = two.add_thread("stays");
  Buffer held, large, small;
  BufferWaiter wants_large([&](Buffer given) { large = std::move(given); });
  BufferWaiter wants_small([&](Buffer given) { small = std::move(given); });
  stays.send([&] { held = Reactor::current()->buffers().try_get(4096); });
  two.settle();
  two.on_thread([&] { Reactor::current()->buffers().wait(wants_large, 8192); });
  stays.send([&] { Reactor::current()->buffers().wait(wants_small, 4096); });
  two.settle();
  EXPECT_FALSE(small) << "no overtaking";
  two.move(two.a, two.b);
  EXPECT_TRUE(small);
  EXPECT_TRUE(large);
  stays.send([&] {
    held.reset();
    small.reset();
  });
  two.on_thread([&] { large.reset(); });
}

TEST(MoveBuffers, ThePoolOutlivesItsReactorUntilTheLastBufferIsBack) {
  // LeakSanitizer and AddressSanitizer judge this one.
  Buffer first, second;
  {
    TwoReactors two;
    two.on_thread([&] {
      first = Reactor::current()->buffers().try_get(4096);
      second = Reactor::current()->buffers().try_get(65536);
    });
  }
  ASSERT_TRUE(first && second);
  first.data()[4095] = std::byte{1};
  first.reset();
  second.data()[65535] = std::byte{1};
  second.reset();
}

TEST(MoveBuffers, AreAskedForFromTheReactorsNode) {
  ReactorOptions options = named("numa", std::size_t{1} << 20);
  options.numa_node = 0;
  VirtualClock clock;
  Reactor reactor(options, clock);
  Buffer buffer = reactor.buffers().try_get(65536);
  ASSERT_TRUE(buffer);
  const auto node = preferred_node(buffer.data());
  if (!node) GTEST_SKIP() << "this kernel or container does not let a process choose NUMA nodes";
  EXPECT_EQ(*node, 0u);
}

// A node that is not there (a described machine, a CPU taken off) does no harm.
TEST(MoveBuffers, ANodeThatIsNotThereIsNoError) {
  ReactorOptions options = named("numa", std::size_t{1} << 20);
  options.numa_node = 900;
  VirtualClock clock;
  Reactor reactor(options, clock);
  Buffer buffer = reactor.buffers().try_get(4096);
  ASSERT_TRUE(buffer);
  buffer.data()[0] = std::byte{1};
}

}  // namespace
}  // namespace catnap
