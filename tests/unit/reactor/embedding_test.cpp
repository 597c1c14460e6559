// A foreign loop (poll(2), as a program with an event loop of its own would) drives lightweight threads through one exported fd: timers, messages
// from another OS thread, and fds that are added late. Also the example to read for who wants to embed.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <thread>

#include "reactor/reactor.h"

namespace catnap {
namespace {

// What a foreign loop does around its wait. `done` is looked at between waits.
template <typename Done>
int run_foreign_loop(Reactor& reactor, int fd, Done done) {
  int waits = 0;
  while (!done()) {
    if (reactor.prepare_sleep()) {
      pollfd waiting{fd, POLLIN, 0};
      poll(&waiting, 1, -1);
      ++waits;
    }
    reactor.woke();
    while (reactor.turn(0) > 0) {
    }
  }
  return waits;
}

class Embedding : public testing::Test {
 protected:
  Embedding() {
    ReactorOptions options;
    options.name = "embedded";
    options.mode = ReactorMode::interrupt;
    reactor = std::make_unique<Reactor>(options);
    auto made = std::make_unique<Thread>("guest", CpuMask::of_cpu(0));
    guest = made.get();
    reactor->adopt(std::move(made));
    fd = *reactor->export_fd();
    while (reactor->turn(0) > 0) {
    }
  }

  std::unique_ptr<Reactor> reactor;
  Thread* guest = nullptr;
  int fd = -1;
};

TEST_F(Embedding, ADeadlineWakesTheForeignLoop) {
  bool fired = false;
  Timer timer([&] { fired = true; });
  guest->send([&] { guest->arm_in_us(timer, 2000); });
  const int waits = run_foreign_loop(*reactor, fd, [&] { return fired; });
  EXPECT_GE(waits, 1) << "it slept instead of spinning";
  EXPECT_LE(waits, 3);
}

TEST_F(Embedding, MessagesFromAnotherOsThreadWakeIt) {
  constexpr int messages = 2000;
  int seen = 0;
  std::thread sender([&] {
    for (int i = 0; i < messages; ++i) {
      guest->send([&] { ++seen; });
      if (i % 100 == 0) std::this_thread::yield();  // let it fall asleep now and then
    }
  });
  run_foreign_loop(*reactor, fd, [&] { return seen == messages; });
  sender.join();
  EXPECT_EQ(seen, messages);
}

TEST_F(Embedding, AChildNestedWhileTheLoopRunsIsHeard) {
  const int bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  FdGroup child("late child");
  bool rang = false;
  std::atomic<bool> nested{false};
  ASSERT_TRUE(child.add(bell, EPOLLIN, "bell", [&](std::uint32_t) { rang = true; }, FdKind::eventfd));
  std::thread other([&] {
    guest->send([&] {
      ASSERT_TRUE(guest->fds().nest(child));
      nested.store(true);
      nested.notify_one();
    });
    nested.wait(false);
    const std::uint64_t one = 1;
    ASSERT_EQ(write(bell, &one, sizeof one), static_cast<ssize_t>(sizeof one));
  });
  run_foreign_loop(*reactor, fd, [&] { return rang; });
  other.join();
  ASSERT_TRUE(guest->fds().unnest(child));
  ASSERT_TRUE(child.remove(bell));
  close(bell);
}

TEST_F(Embedding, WithNothingToDoTheFdIsQuiet) {
  ASSERT_TRUE(reactor->prepare_sleep());
  pollfd waiting{fd, POLLIN, 0};
  EXPECT_EQ(poll(&waiting, 1, 0), 0);
  reactor->woke();
}

}  // namespace
}  // namespace catnap
