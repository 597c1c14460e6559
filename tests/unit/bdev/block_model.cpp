// See block_model.h.
#include "tests/unit/bdev/block_model.h"

#include <algorithm>
#include <cstring>

namespace catnap::bdev {
namespace {

std::uint64_t mix(std::uint64_t x) {  // splitmix64's finaliser
  x = (x ^ (x >> 30)) * 0xBF58'476D'1CE4'E5B9;
  x = (x ^ (x >> 27)) * 0x94D0'49BB'1331'11EB;
  return x ^ (x >> 31);
}

std::uint64_t word_of(const std::byte* block, std::size_t index) {
  std::uint64_t word = 0;
  std::memcpy(&word, block + 8 * index, 8);
  return word;
}

}  // namespace

BlockModel::BlockModel(std::uint64_t blocks) : blocks_(blocks) {
  for (Block& block : blocks_) block.possible.push_back({Value{}, 0, 0, never});
}

void BlockModel::fill(std::byte* to, std::uint32_t block_size, Value value) {
  if (value.tag == 0) {
    std::memset(to, 0, block_size);
    return;
  }
  const std::uint64_t base = mix(value.tag * 0x9E37'79B9'7F4A'7C15 + value.block);
  for (std::size_t i = 0; i < block_size / 8; ++i) {
    const std::uint64_t word = i == 0 ? value.tag : i == 1 ? value.block : base + i;
    std::memcpy(to + 8 * i, &word, 8);
  }
}

BlockModel::Value BlockModel::look(const std::byte* block, std::uint32_t block_size) {
  const Value value{word_of(block, 0), word_of(block, 1)};
  std::vector<std::byte> wanted(block_size);
  fill(wanted.data(), block_size, value);
  return std::memcmp(wanted.data(), block, block_size) == 0 && value.tag != noise ? value : Value{noise, 0};
}

void BlockModel::begin_write(std::uint64_t block, Value value, std::uint64_t began) {
  blocks_[block].possible.push_back({value, began, never, never});
  ++blocks_[block].writes_under_way;
}

void BlockModel::end_write(std::uint64_t block, Value value, std::uint64_t began, Outcome outcome) {
  Block& state = blocks_[block];
  --state.writes_under_way;
  for (Possible& possible : state.possible) {
    const bool is_this = possible.value == value && possible.began == began;
    if (is_this) {
      possible.settled = moment_;
      if (outcome == Outcome::did_not_happen) possible.gone = moment_;
    } else if (outcome == Outcome::happened && possible.settled < began && possible.gone == never) {
      possible.gone = moment_;  // it was there before this write began
    }
  }
}

bool BlockModel::may_see(std::uint64_t block, Value value, std::uint64_t read_began) const {
  return std::ranges::any_of(blocks_[block].possible, [&](const Possible& possible) {
    return possible.gone > read_began && (possible.value == value || possible.value.tag == noise);
  });
}

const BlockModel::Value* BlockModel::settled(std::uint64_t block) const {
  const Possible* only = nullptr;
  for (const Possible& possible : blocks_[block].possible) {
    if (possible.gone != never) continue;
    if (only != nullptr && !(only->value == possible.value)) return nullptr;
    only = &possible;
  }
  return only != nullptr && only->value.tag != noise && blocks_[block].writes_under_way == 0 ? &only->value : nullptr;
}

void BlockModel::forget_before(std::uint64_t oldest) {
  for (Block& block : blocks_) {
    std::erase_if(block.possible, [oldest](const Possible& possible) { return possible.gone < oldest; });
  }
}

}  // namespace catnap::bdev
