// Copy: its fields, its limits, what is copied and what is not (NVM Command Set 1.0c section 3.2.2).
#include "transport/nvme/copy.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <vector>

#include "server/io_limits.h"
#include "tests/unit/server/controller_bench.h"

namespace catnap::server {
namespace {

constexpr nvme::Status too_much = nvme::CommandStatus::command_size_limit_exceeded;
constexpr nvme::Status out_of_range = nvme::GenericStatus::lba_out_of_range;

nvme::CopyRange range(std::uint64_t slba, std::uint32_t blocks) {
  nvme::CopyRange made;
  made.slba = slba;
  made.nlb = static_cast<std::uint16_t>(blocks - 1);
  return made;
}

class CopyTest : public testing::Test {
 protected:
  CopyTest() : pair_(bench_.connect_io()) {
    for (std::size_t i = 0; i < bench_.disk->memory.size(); ++i) bench_.disk->memory[i] = static_cast<std::byte>(i / 512 % 251 + 1);
  }

  static nvme::SubmissionEntry sqe_for(std::uint64_t destination, std::size_t ranges) {
    nvme::SubmissionEntry sqe = make_sqe(static_cast<std::uint8_t>(nvme::IoOpcode::copy), 1, static_cast<std::uint32_t>(ranges * 32));
    sqe.set_slba(destination);
    sqe.cdw12 = static_cast<std::uint32_t>(ranges - 1);
    return sqe;
  }
  Command& copy(std::uint64_t destination, const std::vector<nvme::CopyRange>& ranges,
                const std::function<void(nvme::SubmissionEntry&)>& change = {}) {
    nvme::SubmissionEntry sqe = sqe_for(destination, ranges.size());
    if (change) change(sqe);
    std::vector<std::byte> bytes(ranges.size() * sizeof(nvme::CopyRange));
    std::memcpy(bytes.data(), ranges.data(), bytes.size());
    return bench_.run(*pair_.io, sqe, std::move(bytes));
  }
  std::uint8_t block(std::uint64_t lba) const { return static_cast<std::uint8_t>(bench_.disk->memory[lba * 512]); }
  static std::uint8_t original(std::uint64_t lba) { return static_cast<std::uint8_t>(lba % 251 + 1); }

  ControllerBench bench_;
  ControllerBench::Pair pair_;
};

// Proves: command | Copy | NVM Command Set 1.0c 3.2.2
TEST_F(CopyTest, RangesFollowEachOtherAtTheDestination) {
  EXPECT_TRUE(copy(1000, {range(10, 3), range(500, 1), range(20, 2)}).status().is_success());
  const std::uint64_t from[] = {10, 11, 12, 500, 20, 21};
  for (std::size_t i = 0; i < std::size(from); ++i) EXPECT_EQ(block(1000 + i), original(from[i])) << i;
  EXPECT_EQ(block(999), original(999));
  EXPECT_EQ(block(1006), original(1006));
  const auto log = bench_.log_page(*pair_.admin, 0x02, 512).page<nvme::SmartLog>();
  EXPECT_EQ(log.host_read_commands.low, 1U);
  EXPECT_EQ(log.host_write_commands.low, 1U);
}

// Proves: command | Copy | NVM 1.0c 4.1.5.1
TEST_F(CopyTest, LimitsAreThoseThatIdentifyTells) {
  const auto space = bench_.identify(*pair_.admin, 0x00, 1).page<nvme::IdentifyNamespace>();
  const auto controller = bench_.identify(*pair_.admin, 0x01).page<nvme::IdentifyController>();
  EXPECT_NE(controller.oncs & nvme::oncs_copy, 0);
  EXPECT_EQ(controller.cdfs, nvme::cdfs_format0);
  EXPECT_EQ(space.msrc, max_copy_ranges - 1);
  EXPECT_EQ(space.mssrl, copy_range_blocks(512));
  EXPECT_EQ(space.mcl, copy_blocks(512));
  EXPECT_LE(std::uint64_t{space.mssrl}, std::uint64_t{space.mcl});
  std::vector<nvme::CopyRange> ranges;
  for (std::uint32_t i = 0; i < max_copy_ranges; ++i) ranges.push_back(range(i, 1));
  EXPECT_TRUE(copy(2000, ranges).status().is_success());
  EXPECT_EQ(block(2000 + max_copy_ranges - 1), original(max_copy_ranges - 1));
  ranges.push_back(range(0, 1));
  EXPECT_TRUE(copy(2000, ranges).status().same_code(too_much));
}

TEST_F(CopyTest, LengthsAboveTheLimits) {
  auto large = std::make_shared<FakeBdev>(std::uint64_t{1} << 18, 512);
  bench_.publish([&](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.namespaces.emplace(2, bench_.make_namespace(2, large)); });
  const auto on_two = [](nvme::SubmissionEntry& sqe) { sqe.nsid = 2U; };
  const std::uint32_t most = copy_range_blocks(512);
  EXPECT_TRUE(copy(200'000, {range(0, most)}, on_two).status().is_success());
  EXPECT_TRUE(copy(200'000, {range(0, most + 1)}, on_two).status().same_code(too_much)) << "MSSRL";
  EXPECT_TRUE(copy(200'000, std::vector<nvme::CopyRange>(copy_blocks(512) / most + 1, range(0, most)), on_two).status().same_code(too_much)) << "MCL";
  EXPECT_EQ(large->seen.size(), 1U);
}

struct Bad {
  const char* name;
  std::function<void(nvme::SubmissionEntry&)> spoil;
  nvme::Status status;
};

TEST_F(CopyTest, FieldsOfWhatNoNamespaceHas) {
  const std::vector<Bad> cases = {
      {"format 1", [](auto& s) { s.cdw12 = s.cdw12 | 1U << 8; }, nvme::GenericStatus::invalid_field},
      {"format 2", [](auto& s) { s.cdw12 = s.cdw12 | 2U << 8; }, nvme::GenericStatus::invalid_field},
      {"PRINFOR", [](auto& s) { s.cdw12 = s.cdw12 | 1U << 15; }, nvme::CommandStatus::invalid_protection_information},
      {"PRINFOW", [](auto& s) { s.cdw12 = s.cdw12 | 1U << 26; }, nvme::CommandStatus::invalid_protection_information},
      {"directive", [](auto& s) { s.cdw12 = s.cdw12 | 1U << 20; }, nvme::GenericStatus::invalid_field},
      {"storage tag", [](auto& s) { s.cdw12 = s.cdw12 | 1U << 25; }, nvme::GenericStatus::invalid_field},
      {"namespace", [](auto& s) { s.nsid = 5U; }, nvme::GenericStatus::invalid_namespace_or_format},
      {"all namespaces", [](auto& s) { s.nsid = 0xFFFFFFFFU; }, nvme::GenericStatus::invalid_namespace_or_format},
      {"short SGL", [](auto& s) { s.sgl.length = 31U; }, nvme::GenericStatus::data_sgl_length_invalid},
  };
  for (const Bad& bad : cases) {
    Command& refused = copy(100, {range(0, 1)}, bad.spoil);
    EXPECT_TRUE(refused.status().same_code(bad.status)) << bad.name;
    EXPECT_TRUE(refused.status().dnr && refused.status().more) << bad.name;
  }
  EXPECT_TRUE(bench_.disk->seen.empty());
}

TEST_F(CopyTest, OneBadRangeSparesAll) {
  EXPECT_TRUE(copy(100, {range(0, 1), range(4096, 1)}).status().same_code(out_of_range));
  EXPECT_TRUE(copy(100, {range(0, 1), range(4095, 2)}).status().same_code(out_of_range));
  EXPECT_TRUE(copy(100, {range(~std::uint64_t{0}, 1)}).status().same_code(out_of_range));
  EXPECT_TRUE(copy(4095, {range(0, 2)}).status().same_code(out_of_range)) << "the destination counts, too";
  EXPECT_TRUE(copy(~std::uint64_t{0}, {range(0, 2)}).status().same_code(out_of_range));
  EXPECT_TRUE(copy(4094, {range(0, 1), range(1, 1)}).status().is_success()) << "up to the last block";
  EXPECT_EQ(bench_.disk->seen.size(), 2U);
}

// Proves: command | Copy | NVM 1.1 3.3.2
TEST_F(CopyTest, SourceAndDestinationMustNotOverlap) {
  const nvme::Status overlap = nvme::CommandStatus::overlapping_io_range;
  EXPECT_TRUE(copy(100, {range(100, 1)}).status().same_code(overlap));
  EXPECT_TRUE(copy(100, {range(0, 4), range(90, 11)}).status().same_code(overlap));
  EXPECT_TRUE(copy(100, {range(0, 8), range(107, 1)}).status().same_code(overlap)) << "with what another range brings there";
  EXPECT_TRUE(copy(100, {range(99, 1), range(102, 1)}).status().is_success()) << "next to it is not in it";
}

TEST_F(CopyTest, AFailureNamesTheFirstRangeThatWasNotCopied) {
  bench_.disk->hold = true;
  Command& command = copy(100, {range(0, 1), range(1, 1), range(2, 1)});
  bench_.on(*bench_.thread, [this] { bench_.disk->release_one(); });
  bench_.disk->answer = bdev::Status::write_error;
  bench_.on(*bench_.thread, [this] { bench_.disk->release_one(); });
  EXPECT_TRUE(command.done && command.status().same_code(nvme::MediaStatus::write_fault));
  EXPECT_EQ(command.dw0(), 1U);
  EXPECT_EQ(bench_.disk->seen.size(), 2U) << "no range after a failed one";
}

TEST_F(CopyTest, ForceUnitAccessReachesTheDevice) {
  copy(100, {range(0, 1)}, [](nvme::SubmissionEntry& sqe) { sqe.cdw12 = sqe.cdw12 | nvme::cdw12_fua; });
  ASSERT_EQ(bench_.disk->seen.size(), 1U);
  EXPECT_TRUE(bench_.disk->seen[0].fua);
  EXPECT_EQ(bench_.disk->seen[0].op, bdev::Op::copy);
}

TEST_F(CopyTest, ANamespaceThatGoesBetweenTwoRanges) {
  bench_.disk->hold = true;
  Command& command = copy(100, {range(0, 1), range(1, 1)});
  bench_.publish([](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.namespaces.clear(); });
  bench_.on(*bench_.thread, [this] { bench_.disk->release(); });
  EXPECT_TRUE(command.done && command.status().same_code(nvme::GenericStatus::invalid_namespace_or_format));
  EXPECT_EQ(command.dw0(), 1U);
  bench_.settle();
  EXPECT_EQ(bench_.disk->channels, 0);
}

// Proves: log | Commands Supported and Effects | Base 2.0c 5.16.1.6
TEST(MaskTest, WhatIsTakenAwayIsNeitherToldNorTaken) {
  tcp::TcpOptions options;
  options.limits.masked_oncs = nvme::oncs_copy | nvme::oncs_compare;
  options.limits.masked_fuses = nvme::fuses_compare_and_write;
  ControllerBench bench(options);
  const auto pair = bench.connect_io();
  const auto controller = bench.identify(*pair.admin, 0x01).page<nvme::IdentifyController>();
  EXPECT_EQ(controller.oncs & (nvme::oncs_copy | nvme::oncs_compare), 0);
  EXPECT_NE(controller.oncs & nvme::oncs_verify, 0);
  EXPECT_EQ(controller.fuses, 0U);
  EXPECT_EQ(controller.cdfs, 0U);
  const auto effects = bench.log_page(*pair.admin, 0x05, 4096).page<nvme::EffectsLog>();
  EXPECT_EQ(effects.io[0x19], 0U);
  EXPECT_EQ(effects.io[0x05], 0U);
  EXPECT_NE(effects.io[0x0C], 0U);
  const nvme::Status unknown = nvme::GenericStatus::invalid_opcode;
  EXPECT_TRUE(bench.run(*pair.io, make_sqe(0x19, 1, 32), std::vector<std::byte>(32)).status().same_code(unknown));
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(nvme::IoOpcode::compare, 0, 1), std::vector<std::byte>(512)).status().same_code(unknown));
  nvme::SubmissionEntry first = io_sqe(nvme::IoOpcode::compare, 0, 1);
  first.flags |= 1;
  EXPECT_TRUE(bench.run(*pair.io, first, std::vector<std::byte>(512)).status().same_code(nvme::GenericStatus::invalid_field));
}

}  // namespace
}  // namespace catnap::server
