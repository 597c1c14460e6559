// The copy past the caches against memcpy: every alignment and length around its steps.
#include "bdev/malloc/stream_copy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

namespace catnap::bdev {
namespace {

TEST(StreamCopy, CopiesWhatMemcpyCopiesAndNothingBeside) {
  constexpr std::size_t room = 4096;
  constexpr std::byte untouched{0xA5};
  std::mt19937 random(1);
  std::vector<std::byte> from(room);
  std::generate(from.begin(), from.end(), [&] { return static_cast<std::byte>(random()); });
  for (std::size_t length = 0; length < 700; length += length < 300 ? 1 : 37) {
    for (const std::size_t to_offset : {0, 1, 8, 31, 32, 33, 64, 65}) {
      const std::size_t from_offset = random() % 70;
      std::vector<std::byte> to(room, untouched);
      stream_copy(to.data() + to_offset, from.data() + from_offset, length);
      ASSERT_EQ(std::memcmp(to.data() + to_offset, from.data() + from_offset, length), 0) << length << " bytes to offset " << to_offset;
      const auto clean = [&](std::size_t begin, std::size_t end) {
        return std::all_of(to.begin() + static_cast<std::ptrdiff_t>(begin), to.begin() + static_cast<std::ptrdiff_t>(end),
                           [&](std::byte each) { return each == untouched; });
      };
      ASSERT_TRUE(clean(0, to_offset) && clean(to_offset + length, room)) << length << " bytes to offset " << to_offset;
    }
  }
}

TEST(StreamCopy, TheCacheOfThisMachineHasAPlausibleSize) {
  const std::size_t bytes = last_level_cache_bytes();
  EXPECT_TRUE(bytes == 0 || (bytes >= 256 << 10 && bytes <= std::size_t{4} << 30)) << bytes;
}

}  // namespace
}  // namespace catnap::bdev
