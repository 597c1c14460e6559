// Which writes wait for a lost one, and until when.
#include "bdev/nvme/write_fence.h"

#include <gtest/gtest.h>

#include <array>

namespace catnap::bdev {
namespace {

TEST(WriteFences, OnlyWritesOfTheSameBlocksWait) {
  const auto fences = WriteFences::with(nullptr, {100, 8, 5000}, 1000);
  struct Row {
    std::uint64_t offset, blocks, until;
  };
  for (const Row& row :
       std::array<Row, 7>{{{92, 8, 0}, {92, 9, 5000}, {100, 8, 5000}, {104, 1, 5000}, {107, 100, 5000}, {108, 1, 0}, {0, 1000, 5000}}}) {
    EXPECT_EQ(fences->until_ns(row.offset, row.blocks, 1000), row.until) << row.offset << " " << row.blocks;
  }
  EXPECT_EQ(fences->until_ns(100, 8, 5000), 0U) << "its time is over";
  EXPECT_FALSE(fences->over(4999));
  EXPECT_TRUE(fences->over(5000));
}

TEST(WriteFences, TheLatestOfSeveralCountsAndWhatIsOverIsForgotten) {
  auto fences = WriteFences::with(nullptr, {0, 10, 2000}, 1000);
  fences = WriteFences::with(fences.get(), {5, 10, 4000}, 1500);
  EXPECT_EQ(fences->until_ns(6, 1, 1500), 4000U);
  EXPECT_EQ(fences->until_ns(0, 1, 1500), 2000U);
  EXPECT_EQ(fences->size(), 2U);
  fences = WriteFences::with(fences.get(), {50, 1, 9000}, 3000);
  EXPECT_EQ(fences->size(), 2U);
  EXPECT_EQ(fences->until_ns(0, 1, 3000), 0U);
}

}  // namespace
}  // namespace catnap::bdev
