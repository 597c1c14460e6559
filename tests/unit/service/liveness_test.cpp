// Which reactors count as alive: the rule as a table, and real loops that sleep, work, hang and come back.
#include "server/service/liveness.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <future>
#include <thread>

namespace catnap::server {
namespace {

using ::testing::HasSubstr;

LifeSign sign(std::uint64_t turns, std::uint64_t waits, bool waiting, std::string work) {
  LifeSign made;
  made.turns = turns;
  made.waits = waits;
  made.waiting = waiting;
  made.work = std::move(work);
  return made;
}

TEST(WhyNotAlive, AsleepWithNothingDueIsAlive) { EXPECT_FALSE(why_not_alive(sign(7, 3, true, ""), sign(7, 3, true, ""))); }

TEST(WhyNotAlive, WhoTurnsIsAliveWhateverIsDue) {
  EXPECT_FALSE(why_not_alive(sign(7, 3, false, ""), sign(8, 3, false, "")));
  EXPECT_FALSE(why_not_alive(sign(7, 3, true, "a message"), sign(8, 4, true, "a message")));
}

TEST(WhyNotAlive, WhoIsInACallbackTwiceIsNot) {
  EXPECT_THAT(why_not_alive(sign(7, 3, false, ""), sign(7, 3, false, "")).value_or(""), HasSubstr("callback"));
}

TEST(WhyNotAlive, WhoSleepsOverWorkTwiceIsNot) {
  EXPECT_THAT(why_not_alive(sign(7, 3, true, "a deadline"), sign(7, 3, true, "a message")).value_or(""), HasSubstr("a message"));
}

TEST(WhyNotAlive, WorkThatCameBetweenTheLooksIsNoLongerThanTheLast) {
  EXPECT_FALSE(why_not_alive(sign(7, 3, true, ""), sign(7, 3, true, "a message")));
  EXPECT_FALSE(why_not_alive(sign(7, 3, true, "a message"), sign(7, 3, true, "")));
}

TEST(WhyNotAlive, FallingAsleepAndWakingUpAreLeftToTheNextLook) {
  EXPECT_FALSE(why_not_alive(sign(7, 3, false, ""), sign(7, 3, true, "")));
  EXPECT_FALSE(why_not_alive(sign(7, 3, true, "a message"), sign(7, 4, false, "")));
  EXPECT_FALSE(why_not_alive(sign(7, 3, true, "a message"), sign(7, 4, true, "a message")));
}

// A reactor in an OS thread of its own, with one lightweight thread.
class RealLoop : public ::testing::Test {
 protected:
  RealLoop() : reactor_(interrupt_mode()) {
    auto thread = std::make_unique<Thread>("worker", CpuMask());
    thread_ = thread.get();
    reactor_.adopt(std::move(thread));
    os_thread_ = std::thread([this] { reactor_.run(); });
  }
  ~RealLoop() override {
    thread_->send([this] { thread_->request_exit(); });
    reactor_.request_stop();
    os_thread_.join();
  }

  static ReactorOptions interrupt_mode() {
    ReactorOptions options;
    options.name = "loop";
    options.mode = ReactorMode::interrupt;
    return options;
  }
  std::string look() { return liveness_.look({&reactor_}); }
  static void wait_for(const std::function<bool()>& state) {
    while (!state()) std::this_thread::yield();
  }
  void wait_until_asleep() {
    wait_for([this] { return reactor_.wait_state().waiting; });
  }

  Reactor reactor_;
  Thread* thread_ = nullptr;
  Liveness liveness_;
  std::thread os_thread_;
};

TEST_F(RealLoop, AsleepIsAliveHoweverOftenOneLooks) {
  wait_until_asleep();
  for (int times = 0; times < 5; ++times) EXPECT_EQ(look(), "");
}

TEST_F(RealLoop, HangingInACallbackIsFoundOutAtTheSecondLookAndForgivenAfterwards) {
  std::promise<void> inside;
  std::promise<void> go_on;
  thread_->send([&inside, release = go_on.get_future().share()] {
    inside.set_value();
    release.wait();
  });
  inside.get_future().wait();
  EXPECT_EQ(look(), "");
  EXPECT_THAT(look(), HasSubstr("loop has not come out of a callback"));
  EXPECT_THAT(look(), HasSubstr("callback"));
  go_on.set_value();
  std::promise<void> over;
  thread_->send([&over] { over.set_value(); });
  over.get_future().wait();
  wait_until_asleep();
  EXPECT_EQ(look(), "");
  EXPECT_EQ(look(), "");
}

// Whether it turns or, where others need its CPU, sleeps.
TEST_F(RealLoop, PollModeIsAlive) {
  reactor_.set_mode(ReactorMode::poll);
  wait_for([this] { return reactor_.wait_state().due.empty(); });  // two looks within the moment that waking up takes would find it dead
  for (int times = 0; times < 5; ++times) {
    EXPECT_EQ(look(), "");
    const std::uint64_t turns = reactor_.stats().turns;
    wait_for([this, turns] { return reactor_.stats().turns != turns || reactor_.wait_state().waiting; });
  }
}

}  // namespace
}  // namespace catnap::server
