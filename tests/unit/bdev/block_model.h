// What each block of a disk may hold at any moment while writes are in flight, aborted and overtaken: the judge of the random run.
//
// A value is one write's content for one block. It may be seen from the moment its write is submitted; once a write is answered well, what was there
// before that write began may not be seen any more; of an aborted write nobody knows whether it happened. A read must have seen, of each block,
// a value that might be seen at some moment between its submission and its answer.
//
// Owner: one thread. Left out: the I/O (random_model_test.cpp), crashes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace catnap::bdev {

class BlockModel {
 public:
  // tag 0: zeroes; noise: nobody can say; others: made by fill() for a block of that number.
  struct Value {
    std::uint64_t tag = 0;
    std::uint64_t block = 0;
    bool operator==(const Value&) const = default;
  };
  static constexpr std::uint64_t noise = ~std::uint64_t{0};

  explicit BlockModel(std::uint64_t blocks);

  static void fill(std::byte* to, std::uint32_t block_size, Value value);
  // What a block holds; noise when it is torn, or was never made by fill().
  static Value look(const std::byte* block, std::uint32_t block_size);

  // Moments count submissions and answers. A write (of any kind) tells its values at submission and how it went at its answer.
  std::uint64_t moment() { return ++moment_; }
  void begin_write(std::uint64_t block, Value value, std::uint64_t began);
  enum class Outcome : std::uint8_t { happened, unknown, did_not_happen };
  void end_write(std::uint64_t block, Value value, std::uint64_t began, Outcome outcome);
  // Whether a read that began then and is answered now may have seen this.
  bool may_see(std::uint64_t block, Value value, std::uint64_t read_began) const;
  // The one value that a block holds; null: several are possible.
  const Value* settled(std::uint64_t block) const;
  std::uint64_t writes_under_way(std::uint64_t block) const { return blocks_[block].writes_under_way; }
  // Nothing that is in flight began before that moment: older history is forgotten.
  void forget_before(std::uint64_t oldest);

 private:
  static constexpr std::uint64_t never = ~std::uint64_t{0};
  struct Possible {
    Value value;
    std::uint64_t began = 0;
    std::uint64_t settled = never;  // when its write was answered
    std::uint64_t gone = never;     // when it stopped being possible
  };
  struct Block {
    std::vector<Possible> possible;
    std::uint64_t writes_under_way = 0;
  };

  std::uint64_t moment_ = 0;
  std::vector<Block> blocks_;
};

}  // namespace catnap::bdev
