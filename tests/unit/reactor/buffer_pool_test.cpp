// Growth to the cap, the line of waiters, and giving memory back.
#include "reactor/buffer_pool.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace catnap {
namespace {

TEST(BufferPool, BuffersArePageAlignedAndLargeEnough) {
  BufferPool pool(8 << 20);
  for (const std::size_t size : {1u, 4096u, 4097u, 65536u, 131072u, 1048576u}) {
    const Buffer buffer = pool.try_get(size);
    ASSERT_TRUE(buffer) << size;
    EXPECT_GE(buffer.size(), size);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 4096, 0u);
  }
}

TEST(BufferPool, AtTheCapTheNextWaitsAndIsServedInOrder) {
  BufferPool pool(2 * 4096);
  Buffer first = pool.try_get(4096), second = pool.try_get(4096);
  ASSERT_TRUE(first && second);
  EXPECT_FALSE(pool.try_get(4096));
  std::vector<int> order;
  std::vector<Buffer> got;
  BufferWaiter one([&](Buffer buffer) {
    order.push_back(1);
    got.push_back(std::move(buffer));
  });
  BufferWaiter two([&](Buffer buffer) {
    order.push_back(2);
    got.push_back(std::move(buffer));
  });
  pool.wait(one, 4096);
  pool.wait(two, 4096);
  EXPECT_TRUE(order.empty());
  first.reset();
  EXPECT_EQ(order, (std::vector{1}));
  second.reset();
  EXPECT_EQ(order, (std::vector{1, 2}));
  EXPECT_EQ(pool.stats().waiting, 0u);
}

TEST(BufferPool, ASmallRequestDoesNotOvertakeALargeOne) {
  BufferPool pool(1 << 20);
  Buffer small = pool.try_get(4096);
  std::optional<Buffer> large;
  BufferWaiter waiter([&](Buffer buffer) { large = std::move(buffer); });
  EXPECT_FALSE(pool.try_get(1 << 20));
  pool.wait(waiter, 1 << 20);
  EXPECT_FALSE(pool.try_get(4096)) << "there is room, but somebody waits";
  small.reset();
  EXPECT_TRUE(large.has_value());
}

TEST(BufferPool, AWaiterThatLeavesIsForgotten) {
  BufferPool pool(4096);
  Buffer only = pool.try_get(4096);
  bool called = false;
  {
    BufferWaiter waiter([&](Buffer) { called = true; });
    pool.wait(waiter, 4096);
  }
  only.reset();
  EXPECT_FALSE(called);
  EXPECT_TRUE(pool.try_get(4096));
}

TEST(BufferPool, ARequestLargerThanTheCapIsStillServedWhenItIsTheOnlyOne) {
  BufferPool pool(4096);
  EXPECT_TRUE(pool.try_get(1 << 20));
}

TEST(BufferPool, FreeMemoryOfOtherSizesMakesRoom) {
  BufferPool pool(1 << 20);
  {
    std::vector<Buffer> many(10);
    for (auto& buffer : many) buffer = pool.try_get(65536);
  }
  EXPECT_GT(pool.stats().free_bytes, 0u);
  EXPECT_TRUE(pool.try_get(1 << 20));
  EXPECT_LE(pool.stats().held_bytes, std::size_t{1} << 20);
}

TEST(BufferPool, TrimGivesBackAllButWhatItKeeps) {
  BufferPool pool(64 << 20, 1 << 20);
  {
    std::vector<Buffer> many(8);
    for (auto& buffer : many) buffer = pool.try_get(1 << 20);
  }
  EXPECT_TRUE(pool.worth_trimming());
  pool.trim();
  EXPECT_LE(pool.stats().held_bytes, std::size_t{1} << 20);
  EXPECT_FALSE(pool.worth_trimming());
}

TEST(BufferPool, AServedWaiterMayPutItsBufferBackAtOnce) {
  BufferPool pool(4096);
  Buffer only = pool.try_get(4096);
  int served = 0;
  std::vector<std::unique_ptr<BufferWaiter>> waiters;
  for (int i = 0; i < 1000; ++i) {
    waiters.push_back(std::make_unique<BufferWaiter>([&](Buffer) { ++served; }));
    pool.wait(*waiters.back(), 4096);
  }
  only.reset();
  EXPECT_EQ(served, 1000);
}

}  // namespace
}  // namespace catnap
