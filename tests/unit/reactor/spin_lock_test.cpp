// The spin lock's three rules, each proven by breaking it.
#include "reactor/spin_lock.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/unit/reactor/by_hand.h"

namespace catnap {
namespace {

TEST(SpinLock, ExcludesOthers) {
  SpinLock lock("shared");
  int count = 0;  // unprotected but for the lock: ThreadSanitizer sees a lock that does not work
  const auto add = [&] {
    for (int i = 0; i < 20'000; ++i) {
      lock.lock();
      ++count;
      lock.unlock();
    }
  };
  std::thread other(add);
  add();
  other.join();
  EXPECT_EQ(count, 40'000);
}

TEST(SpinLockDeathTest, LockingTwiceOrUnlockingAnothersStopsTheProcess) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  SpinLock lock("twice");
  EXPECT_DEATH(
      {
        lock.lock();
        lock.lock();
      },
      "broken invariant");
  EXPECT_DEATH(lock.unlock(), "broken invariant");
}

TEST(SpinLockDeathTest, HoldingItPastACallbackStopsTheProcessAndNamesIt) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  SpinLock lock("forgotten");
  EXPECT_DEATH(
      {
        ByHand hand;
        hand.on_thread([&] { lock.lock(); });
      },
      "spin lock 'forgotten' is still held after a callback");
}

}  // namespace
}  // namespace catnap
