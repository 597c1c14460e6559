// Coroutines: values, order, resumption on the right thread. What g++ 12 is known to miscompile is kept out by tests/lint/check_coroutines.py.
#include "reactor/task.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/unit/reactor/by_hand.h"

namespace catnap {
namespace {

Task<int> add(int a, int b) { co_return a + b; }

Task<std::string> nested(std::string name) {
  auto sum = co_await add(20, 22);
  co_return name + std::to_string(sum);
}

TEST(Task, GivesItsValueToWhoAwaits) {
  ByHand hand;
  std::string result;
  hand.on_thread([&] { spawn<std::string>(nested("x"), [&](std::string value) { result = std::move(value); }); });
  EXPECT_EQ(result, "x42");
}

Task<int> wait_for(Promise<int> promise) {
  auto value = co_await promise;
  co_return value + 1;
}

TEST(Task, ResumesOnItsOwnThreadWhenAnotherSetsThePromise) {
  ByHand hand;
  Thread& other = hand.add_thread("other");
  int result = 0;
  const Thread* resumed_on = nullptr;
  hand.on_thread([&] {
    const Promise<int> promise;
    spawn<int>(wait_for(promise), [&](int value) {
      result = value;
      resumed_on = Thread::current();
    });
    other.send([promise] { promise.set(41); });
  });
  EXPECT_EQ(result, 42);
  EXPECT_EQ(resumed_on, hand.thread);
}

Task<int> sleepy(std::vector<int>* log) {
  log->push_back(1);
  co_await SleepFor(100);
  log->push_back(2);
  co_return 0;
}

TEST(Task, SleepsByTheClock) {
  ByHand hand;
  std::vector<int> log;
  hand.on_thread([&] { spawn<int>(sleepy(&log), [&](int) { log.push_back(3); }); });
  EXPECT_EQ(log, (std::vector{1}));
  hand.advance_us(100);
  EXPECT_EQ(log, (std::vector{1, 2, 3}));
}

Task<std::unique_ptr<int>> move_only(std::unique_ptr<int> value) {
  ++*value;
  co_return value;
}

Task<int> uses_move_only() {
  auto first = std::make_unique<int>(1);
  auto second = co_await move_only(std::move(first));
  auto third = co_await move_only(std::move(second));
  co_return *third;
}

TEST(Task, PassesMoveOnlyValuesOnce) {
  ByHand hand;
  int result = 0;
  hand.on_thread([&] { spawn<int>(uses_move_only(), [&](int value) { result = value; }); });
  EXPECT_EQ(result, 3);
}

Task<int> asks(Thread* other, WorkerPool* workers) {
  const auto there = call_on<const Thread*>(*other, [] { return static_cast<const Thread*>(Thread::current()); });
  auto ran_on = co_await there;
  const auto blocked = call_blocking<int>(*workers, [] { return 7; });
  auto seven = co_await blocked;
  co_return ran_on == other ? seven : -1;
}

TEST(Task, CallsOnOtherThreadsAndOnWorkers) {
  ByHand hand;
  Thread& other = hand.add_thread("other");
  int result = 0;
  {
    WorkerPool workers(1);
    hand.on_thread([&] { spawn<int>(asks(&other, &workers), [&](int value) { result = value; }); });
  }  // the pool finishes what was submitted
  hand.settle();
  EXPECT_EQ(result, 7);
}

}  // namespace
}  // namespace catnap
