// raid0 and concat: where each block is, against a model that counts block by block; I/O over many strips; what their members' differences give.
#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "bdev/raid/striped.h"
#include "tests/unit/bdev/raid_bench.h"

namespace catnap::bdev {
namespace {

// Every block of an array, in order, with its place.
std::vector<std::pair<std::uint32_t, std::uint64_t>> places_of(const StripedLayout& layout, std::uint64_t num_blocks,
                                                               std::vector<std::uint64_t> sizes) {
  std::vector<std::pair<std::uint32_t, std::uint64_t>> places;
  if (!layout.starts.empty()) {
    for (std::uint32_t slot = 0; slot < sizes.size(); ++slot) {
      for (std::uint64_t at = 0; at < sizes[slot]; ++at) places.emplace_back(slot, at);
    }
    return places;
  }
  const std::uint64_t strip = std::uint64_t{1} << layout.strip_shift;
  for (std::uint64_t row = 0; places.size() < num_blocks; ++row) {
    for (std::uint32_t slot = 0; slot < layout.members; ++slot) {
      for (std::uint64_t at = 0; at < strip; ++at) places.emplace_back(slot, row * strip + at);
    }
  }
  return places;
}

void check_layout(const StripedLayout& layout, std::uint64_t num_blocks, const std::vector<std::uint64_t>& sizes) {
  const auto places = places_of(layout, num_blocks, sizes);
  for (std::uint64_t block = 0; block < num_blocks; ++block) {
    const StripedPiece piece = layout.piece_at(block);
    ASSERT_EQ(piece.slot, places[block].first) << block;
    ASSERT_EQ(piece.member_block, places[block].second) << block;
  }
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    const std::uint64_t offset = random() % num_blocks;
    const std::uint64_t count = 1 + random() % (num_blocks - offset);
    std::uint64_t sum = 0;
    for (std::uint32_t slot = 0; slot < layout.members; ++slot) {
      const StripedPiece part = layout.part_of(slot, offset, count);
      std::vector<std::uint64_t> wanted;
      for (std::uint64_t block = offset; block < offset + count; ++block) {
        if (places[block].first == slot) wanted.push_back(places[block].second);
      }
      ASSERT_EQ(part.blocks, wanted.size()) << offset << " " << count << " " << slot;
      if (!wanted.empty()) {
        ASSERT_EQ(part.member_block, wanted.front());
        ASSERT_EQ(part.member_block + part.blocks - 1, wanted.back());
      }
      sum += part.blocks;
    }
    ASSERT_EQ(sum, count);
  }
}

TEST(StripedLayoutTest, Raid0PutsEachBlockWhereTheModelSays) {
  for (std::uint32_t members = 1; members <= 7; ++members) {
    for (std::uint32_t shift = 0; shift <= 3; ++shift) {
      StripedLayout layout;
      layout.members = members;
      layout.strip_shift = shift;
      check_layout(layout, std::uint64_t{members} * 8 << shift, {});
    }
  }
}

TEST(StripedLayoutTest, ConcatPutsEachBlockWhereTheModelSays) {
  for (const std::vector<std::uint64_t>& sizes : {std::vector<std::uint64_t>{64}, {8, 64, 1}, {1, 1, 1, 100, 2}}) {
    StripedLayout layout;
    layout.members = static_cast<std::uint32_t>(sizes.size());
    std::uint64_t end = 0;
    for (const std::uint64_t size : sizes) {
      layout.starts.push_back(end);
      end += size;
    }
    check_layout(layout, end, sizes);
  }
}

using StripedTest = RaidTest;

TEST_F(StripedTest, Raid0SpreadsItsStripsOverTheMembers) {
  for (const char* name : {"A", "B", "C"}) add_disk(name, 64);
  ASSERT_TRUE(create_array(options_of(RaidKind::raid0, "R", {"A", "B", "C"})).has_value());
  open_top("R");
  EXPECT_EQ(channel_->bdev().num_blocks(), 192u);
  EXPECT_EQ(channel_->bdev().info().optimal_io_boundary_blocks, 8u);
  // Block n holds the byte n.
  TestIo whole(Op::write, 0, 192);
  for (std::size_t i = 0; i < whole.bytes.size(); ++i) whole.bytes[i] = static_cast<std::byte>(i / 512);
  EXPECT_EQ(run(whole), Status::ok);
  for (const std::uint64_t block : {0u, 7u, 8u, 23u, 24u, 100u, 191u}) EXPECT_EQ(value_of(block), static_cast<int>(block));
  EXPECT_EQ(Registry::instance().find("B")->stats().ops[static_cast<std::size_t>(Op::write)], 1u);  // one I/O per member, however many strips
  TestIo back(Op::read, 5, 180);
  EXPECT_EQ(run(back), Status::ok);
  EXPECT_TRUE(std::equal(back.bytes.begin(), back.bytes.end(), whole.bytes.begin() + 5 * 512));
  EXPECT_EQ(run(Op::write_zeroes, 3, 170), Status::ok);
  EXPECT_EQ(value_of(2), 2);
  EXPECT_EQ(value_of(3), 0);
  EXPECT_EQ(value_of(172), 0);
  EXPECT_EQ(value_of(173), 173);
  // Behind the array strip 1 is B's first.
  ASSERT_TRUE((close_top(), remove_array("R")).has_value());
  open_top("B");
  EXPECT_EQ(value_of(63), 183);  // strip 22: B's last
}

TEST_F(StripedTest, MembersOfDifferentSizes) {
  add_disk("A", 100);
  add_disk("B", 64);
  add_disk("C", 31);
  ASSERT_TRUE(create_array(options_of(RaidKind::raid0, "R", {"A", "B"})).has_value());
  EXPECT_EQ(array("R")->bdev()->num_blocks(), 128u);  // twice the smaller
  ASSERT_TRUE(remove_array("R").has_value());
  ASSERT_TRUE(create_array(options_of(RaidKind::concat, "R", {"A", "B", "C"})).has_value());
  EXPECT_EQ(array("R")->bdev()->num_blocks(), 96u + 64 + 24);  // whole strips
  open_top("R");
  EXPECT_EQ(run(Op::write, 90, 80, 9), Status::ok);
  EXPECT_EQ(value_of(95), 9);
  EXPECT_EQ(value_of(96), 9);
  EXPECT_EQ(value_of(169), 9);
  EXPECT_EQ(run(Op::read, 183, 1), Status::ok);
  EXPECT_EQ(run(Op::read, 184, 1), Status::out_of_range);
}

TEST_F(StripedTest, WhatDoesNotFitIsRefusedByName) {
  add_disk("A", 64);
  add_disk("B", 64, 4096);
  add_disk("Small", 7);
  const auto refused = [this](const RaidOptions& options) {
    const auto outcome = create_array(options);
    EXPECT_FALSE(outcome.has_value());
    EXPECT_EQ(array("R"), nullptr);
    EXPECT_EQ(Registry::instance().claimed_by(*Registry::instance().find("A")), "");
    return outcome ? std::string() : outcome.error().message;
  };
  EXPECT_NE(refused(options_of(RaidKind::raid0, "R", {"A", "B"})).find("'B' has blocks of 4096 bytes, 'A' of 512"), std::string::npos);
  EXPECT_NE(refused(options_of(RaidKind::concat, "R", {"A", "Small"})).find("'Small' of 7 blocks"), std::string::npos);
  EXPECT_NE(refused(options_of(RaidKind::raid0, "R", {"A", "A"})).find("names 'A' twice"), std::string::npos);
  EXPECT_NE(refused(options_of(RaidKind::raid0, "R", {"A", "R"})).find("'R' is the array itself"), std::string::npos);
  EXPECT_NE(refused(options_of(RaidKind::raid0, "R", {"A", ""})).find("base_bdevs[1] is empty"), std::string::npos);
  EXPECT_NE(refused(options_of(RaidKind::raid0, "R", {})).find("base_bdevs is empty"), std::string::npos);
  EXPECT_NE(refused(options_of(RaidKind::raid0, "R", {"A"}, 3)).find("strip_size_kb 3 is not a power of two"), std::string::npos);
  EXPECT_NE(refused(options_of(RaidKind::raid0, "R", {"A"}, 0)).find("strip_size_kb 0"), std::string::npos);
  EXPECT_NE(refused(options_of(RaidKind::raid0, "", {"A"})).find("name '' is empty"), std::string::npos);
  EXPECT_NE(refused(options_of(RaidKind::raid0, "B", {"A"})).find("there is a bdev 'B' already"), std::string::npos);
  RaidOptions marked = options_of(RaidKind::raid0, "R", {"A"});
  marked.bitmap_file = "somewhere";
  EXPECT_NE(refused(marked).find("bitmap_file"), std::string::npos);
}

TEST_F(StripedTest, AMemberThatSomebodyElseHasIsRefusedWithItsHolder) {
  add_disk("A", 64);
  add_disk("B", 64);
  ASSERT_TRUE(create_array(options_of(RaidKind::raid0, "R", {"A"})).has_value());
  const auto outcome = create_array(options_of(RaidKind::concat, "S", {"B", "A"}));
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().err, EBUSY);
  EXPECT_NE(outcome.error().message.find("'A' is claimed by raid"), std::string::npos);
  EXPECT_EQ(Registry::instance().claimed_by(*Registry::instance().find("B")), "");
}

TEST_F(StripedTest, FlushAndResetReachEveryMemberAndAnErrorOfOneIsTheAnswer) {
  add_disk("A", 64);
  add_disk("B", 64);
  ASSERT_TRUE(create_array(options_of(RaidKind::raid0, "R", {"A", "B"})).has_value());
  open_top("R");
  EXPECT_EQ(run(Op::flush, 0, 0), Status::ok);
  EXPECT_EQ(run(Op::reset, 0, 0), Status::ok);
  for (const char* name : {"A", "B"}) {
    EXPECT_EQ(Registry::instance().find(name)->stats().ops[static_cast<std::size_t>(Op::flush)], 1u);
    EXPECT_EQ(Registry::instance().find(name)->stats().ops[static_cast<std::size_t>(Op::reset)], 1u);
  }
  EXPECT_EQ(run(Op::write_uncorrectable, 10, 1), Status::ok);
  EXPECT_EQ(run(Op::read, 0, 8), Status::ok);
  EXPECT_EQ(run(Op::read, 0, 16), Status::media_error);
  EXPECT_EQ(run(Op::compare, 0, 8, 1), Status::compare_failed);
}

}  // namespace
}  // namespace catnap::bdev
