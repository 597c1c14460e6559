// Threads that move between real OS threads thousands of times while messages, timers, fds, ready work and buffers are under way: nothing gets lost,
// and ThreadSanitizer sees every hand-over. Waits are for counts, never for time.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "reactor/buffer_pool.h"
#include "reactor/reactor.h"
#include "reactor/thread.h"

namespace catnap {
namespace {

std::uint64_t moves_wanted() { return std::getenv("CATNAP_SOAK") != nullptr ? 200'000 : 4'000; }

struct Reactors {
  Reactors(std::size_t count, ReactorMode mode, std::size_t buffer_cap_bytes) {
    for (std::size_t i = 0; i < count; ++i) {
      ReactorOptions options;
      options.name = "reactor_" + std::to_string(i);
      options.mode = mode;
      options.buffer_cap_bytes = buffer_cap_bytes;
      all.push_back(std::make_unique<Reactor>(options));
    }
    for (const auto& reactor : all) os_threads.emplace_back([&reactor = *reactor] { reactor.run(); });
  }
  ~Reactors() {
    for (const auto& reactor : all) reactor->request_stop();
    for (const auto& reactor : all) {
      for (Thread* thread : reactor->threads()) thread->request_exit();
    }
    for (auto& os_thread : os_threads) os_thread.join();
  }
  std::vector<std::unique_ptr<Reactor>> all;
  std::vector<std::thread> os_threads;
};

// One thread with something of everything under way.
class Busy {
 public:
  Busy(Reactor& home, const char* name) : timer_([this] { tick(); }), ready_([this] { run_ready(); }) {
    auto made = std::make_unique<Thread>(name, CpuMask::of_process());
    thread = made.get();
    bell_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    home.adopt(std::move(made));
    thread->send([this] {
      auto added = thread->fds().add(bell_, EPOLLIN, "bell", [this](std::uint32_t) { rung(); }, FdKind::eventfd);
      if (!added) std::abort();
      tick();
    });
  }
  ~Busy() { close(bell_); }

  void ring() {
    rings_sent.fetch_add(1);
    eventfd_write(bell_, 1);
  }
  // On the thread, before it exits.
  void stop() {
    stopped_ = true;
    timer_.disarm();
    ready_.cancel();
    waiter_.reset();
    held_.clear();
    static_cast<void>(thread->fds().remove(bell_));
  }

  Thread* thread = nullptr;
  std::atomic<std::uint64_t> rings_sent{0}, ticks{0}, ready_runs{0}, buffers_got{0}, next_message{0}, wrong{0};
  std::atomic<bool> heard{true};

 private:
  void check_place() {
    if (Thread::current() != thread || thread->host() != Reactor::current()) wrong.fetch_add(1);
  }
  void rung() {
    check_place();
    heard.store(true);
  }
  void tick() {
    check_place();
    ticks.fetch_add(1);
    thread->make_ready(ready_);
    if (!stopped_) thread->arm_in_us(timer_, 50);
  }
  // Holds a few buffers over several moves, so that they come back from other reactors, and waits in line when there are none.
  void run_ready() {
    check_place();
    ready_runs.fetch_add(1);
    if (stopped_) return;
    if (held_.size() > 3) held_.pop_front();
    if (waiter_ != nullptr && waiter_->waiting()) return;
    BufferPool& pool = Reactor::current()->buffers();
    Buffer buffer = pool.try_get(4096);
    if (buffer) return take(std::move(buffer));
    waiter_ = std::make_unique<BufferWaiter>([this](Buffer late) { take(std::move(late)); });
    pool.wait(*waiter_, 4096);
  }
  void take(Buffer buffer) {
    check_place();
    buffer.data()[0] = std::byte{1};
    held_.push_back(std::move(buffer));
    buffers_got.fetch_add(1);
  }

  int bell_ = -1;
  bool stopped_ = false;
  Timer timer_;
  Deferred ready_;
  std::unique_ptr<BufferWaiter> waiter_;
  std::deque<Buffer> held_;
};

class Moving : public testing::TestWithParam<ReactorMode> {};

TEST_P(Moving, NothingIsLostOverThousandsOfMoves) {
  // 8 buffers of 4 KiB per reactor for 3 threads that hold up to 4 each: there is a line now and then.
  auto reactors = std::make_unique<Reactors>(3, GetParam(), std::size_t{8} * 4096);
  std::vector<std::unique_ptr<Busy>> all;
  for (int i = 0; i < 3; ++i) all.push_back(std::make_unique<Busy>(*reactors->all[0], "busy"));
  std::atomic<std::uint64_t> moved{0};
  std::atomic<bool> over{false};

  // A foreign OS thread sends numbered messages to all, and rings their bells, each ring only after the one before was heard.
  std::thread sender([&] {
    std::uint64_t number = 0;
    while (!over.load()) {
      for (const auto& busy : all) {
        busy->thread->send([&busy = *busy, number] {
          if (busy.next_message.load() != number) busy.wrong.fetch_add(1);
          busy.next_message.store(number + 1);
        });
        if (busy->heard.exchange(false)) busy->ring();
      }
      ++number;
      while (!over.load() && std::ranges::any_of(all, [&](const auto& busy) { return busy->next_message.load() + 64 < number; })) sched_yield();
    }
    // All that was sent arrives, all that was rung is heard: else this waits for ever and the test's own bound ends it.
    for (const auto& busy : all) {
      while (busy->next_message.load() != number || !busy->heard.load()) sched_yield();
    }
  });

  std::mt19937 random(1);
  for (std::uint64_t round = 0; round < moves_wanted(); ++round) {
    const auto& busy = all[random() % all.size()];
    Reactor::move(*busy->thread, *reactors->all[random() % reactors->all.size()], [&](Result<void> outcome) {
      if (!outcome) busy->wrong.fetch_add(1);
      moved.fetch_add(1);
    });
    // Now several at once, now one after another.
    if (random() % 4 != 0) {
      while (moved.load() <= round) sched_yield();
    }
  }
  while (moved.load() < moves_wanted()) sched_yield();
  over.store(true);
  sender.join();

  for (const auto& busy : all) {
    const std::uint64_t ticks = busy->ticks.load();
    const std::uint64_t buffers = busy->buffers_got.load();
    while (busy->ticks.load() < ticks + 3 || busy->buffers_got.load() < buffers + 3) sched_yield();  // timers and the line are alive
    EXPECT_EQ(busy->wrong.load(), 0u);
    EXPECT_GT(busy->ready_runs.load(), 0u);
  }
  for (const auto& busy : all) {
    std::atomic<bool> stopped{false};
    busy->thread->send([&] {
      busy->stop();
      stopped.store(true);
    });
    while (!stopped.load()) sched_yield();
  }
  // Every buffer finds its way back to the pool that it came from.
  for (const auto& reactor : reactors->all) {
    std::atomic<bool> all_back{false};
    while (!all_back.load()) {
      std::atomic<bool> looked{false};
      reactor->loop().send([&] {
        const BufferPool::Stats stats = reactor->buffers().stats();
        all_back.store(stats.held_bytes == stats.free_bytes && stats.waiting == 0);
        looked.store(true);
      });
      while (!looked.load()) sched_yield();
    }
  }
  reactors.reset();
}

INSTANTIATE_TEST_SUITE_P(Modes, Moving, testing::Values(ReactorMode::interrupt, ReactorMode::adaptive, ReactorMode::poll),
                         [](const auto& mode) { return std::string(reactor_mode_name(mode.param)); });

// Stopping while threads are on their way: whoever moves at that moment still exits, and nobody is stranded.
TEST(MovingAndStopping, EveryThreadExits) {
  for (int round = 0; round < 100; ++round) {
    auto reactors = std::make_unique<Reactors>(2, ReactorMode::interrupt, std::size_t{1} << 20);
    std::vector<Thread*> threads;
    for (int i = 0; i < 4; ++i) {
      auto made = std::make_unique<Thread>("rover", CpuMask::of_process());
      threads.push_back(made.get());
      reactors->all[0]->adopt(std::move(made));
    }
    for (int i = 0; i < 20; ++i)
      Reactor::move(*threads[static_cast<std::size_t>(i) % 4], *reactors->all[static_cast<std::size_t>(i) % 2], [](Result<void>) {});
    reactors.reset();  // joins: a stranded thread would keep its reactor's loop from ending
  }
}

}  // namespace
}  // namespace catnap
