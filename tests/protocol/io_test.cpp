// The NVM command set: Read, Write, Flush, Compare, Write Zeroes, Dataset Management, each right and out of range (NVM Command Set 1.0, section 3.2).
// Owner: the test. Left out: sizes and ways of transfer (integrity_test.cpp).
#include <algorithm>

#include "tests/protocol/fixture.h"

namespace catnap::protocol {
namespace {

class IoTest : public ProtocolTest {
 protected:
  void SetUp() override {
    ProtocolTest::SetUp();
    queues_ = open_queues();
  }

  CommandResult compare(std::uint64_t slba, Bytes bytes) {
    auto sqe = io_command(nvme::IoOpcode::compare, slba, static_cast<std::uint32_t>(bytes.size() / 512));
    bool small = bytes.size() <= in_capsule_bytes;
    return queues_.io.run(sqe, small ? Payload::in_capsule(std::move(bytes)) : Payload::by_r2t(std::move(bytes)));
  }
  CommandResult write_zeroes(std::uint64_t slba, std::uint32_t blocks, std::uint32_t flags = 0) {
    auto sqe = io_command(nvme::IoOpcode::write_zeroes, slba, blocks);
    sqe.cdw12 = sqe.cdw12 | flags;
    return queues_.io.run(sqe);
  }
  CommandResult deallocate(const std::vector<nvme::DsmRange>& ranges, std::uint32_t attributes = nvme::dsm_deallocate) {
    nvme::SubmissionEntry sqe;
    sqe.opcode = static_cast<std::uint8_t>(nvme::IoOpcode::dataset_management);
    sqe.nsid = 1;
    sqe.cdw10 = static_cast<std::uint32_t>(ranges.size() - 1);
    sqe.cdw11 = attributes;
    auto view = std::as_bytes(std::span(ranges));
    return queues_.io.run(sqe, Payload::in_capsule(Bytes(view.begin(), view.end())));
  }
  static nvme::DsmRange range(std::uint64_t slba, std::uint32_t blocks) {
    nvme::DsmRange one;
    one.slba = slba;
    one.blocks = blocks;
    return one;
  }

  Queues queues_;
};

// Proves: command | Flush | Base 2.0c 7.1
TEST_F(IoTest, FlushOfOneNamespace) { EXPECT_TRUE(succeeded(flush(queues_.io, 1))); }

// Proves: command | Flush of all namespaces | Base 2.0c 7.1
TEST_F(IoTest, FlushOfAllNamespacesIsAsIdentifySays) {
  auto vwc = data_as<nvme::IdentifyController>(identify(queues_.admin, nvme::Cns::controller)).vwc;
  bool supported = (vwc & 0x6) == nvme::vwc_flush_all_supported;
  auto result = flush(queues_.io, nvme::broadcast_nsid);
  EXPECT_TRUE(has_status(result, supported ? nvme::GenericStatus::success : nvme::GenericStatus::invalid_namespace_or_format));
}

// Proves: command | Force Unit Access | NVM 1.0c 3.2.6
TEST_F(IoTest, ForceUnitAccessWrites) {
  auto sqe = io_command(nvme::IoOpcode::write, 500, 8);
  sqe.cdw12 = sqe.cdw12 | nvme::cdw12_fua;
  EXPECT_TRUE(succeeded(queues_.io.run(sqe, Payload::in_capsule(pattern(4096, 3)))));
  EXPECT_EQ(read(queues_.io, 500, 4096).data, pattern(4096, 3));
}

// Proves: command | Compare | NVM 1.0c 3.2.1
TEST_F(IoTest, CompareOfEqualData) {
  ASSERT_TRUE(succeeded(write(queues_.io, 600, pattern(8192, 5))));
  EXPECT_TRUE(succeeded(compare(600, pattern(8192, 5))));
}

TEST_F(IoTest, CompareOfUnequalData) {
  ASSERT_TRUE(succeeded(write(queues_.io, 600, pattern(8192, 5))));
  for (std::size_t place : {std::size_t{0}, std::size_t{4096}, std::size_t{8191}}) {
    auto other = pattern(8192, 5);
    other[place] ^= std::byte{1};
    EXPECT_TRUE(has_status(compare(600, other), nvme::MediaStatus::compare_failure)) << "byte " << place;
  }
}

// Proves: command | Write Zeroes | NVM 1.0c 3.2.8
TEST_F(IoTest, WriteZeroesClearsExactlyItsRange) {
  ASSERT_TRUE(succeeded(write(queues_.io, 700, pattern(8192, 6))));
  EXPECT_TRUE(succeeded(write_zeroes(702, 4)));
  auto expected = pattern(8192, 6);
  std::fill_n(expected.begin() + 1024, 2048, std::byte{0});
  EXPECT_EQ(read(queues_.io, 700, 8192).data, expected);
}

// Proves: command | Write Zeroes with Deallocate | NVM 1.0c 3.2.8
TEST_F(IoTest, WriteZeroesWithDeallocateReadsAsZeroes) {
  ASSERT_TRUE(succeeded(write(queues_.io, 704, pattern(65536, 6))));
  EXPECT_TRUE(succeeded(write_zeroes(704, 128, nvme::cdw12_deac)));
  EXPECT_EQ(read(queues_.io, 704, 65536).data, Bytes(65536));
}

// Proves: command | Write Zeroes | NVM 1.0c 3.2.8
TEST_F(IoTest, WriteZeroesOfTheMostBlocksThereCanBe) {
  ASSERT_TRUE(succeeded(write(queues_.io, 0, pattern(512, 1))));
  ASSERT_TRUE(succeeded(write(queues_.io, 65535, pattern(512, 1))));
  auto wzsl = data_as<nvme::NvmController>(identify(queues_.admin, nvme::Cns::csi_controller)).wzsl;
  std::uint32_t most = wzsl == 0 ? 65536 : std::min<std::uint32_t>(65536, (1U << (12 + wzsl)) / 512);
  EXPECT_TRUE(succeeded(write_zeroes(0, most)));
  EXPECT_EQ(read(queues_.io, 0, 512).data, Bytes(512));
  EXPECT_EQ(read(queues_.io, 65535, 512).data, most == 65536 ? Bytes(512) : pattern(512, 1));
}

// Proves: command | Dataset Management | NVM 1.0c 3.2.3
TEST_F(IoTest, DeallocateTakesSeveralRanges) {
  ASSERT_TRUE(succeeded(write(queues_.io, 800, pattern(65536, 7))));
  EXPECT_TRUE(succeeded(deallocate({range(800, 64), range(900, 8), range(910, 0)})));
  if ((data_as<nvme::IdentifyNamespace>(identify(queues_.admin, nvme::Cns::namespace_data, 1)).dlfeat & 7) == nvme::dlfeat_reads_zeroes) {
    EXPECT_EQ(read(queues_.io, 800, 32768).data, Bytes(32768));
    EXPECT_EQ(read(queues_.io, 900, 4096).data, Bytes(4096));
  }
  auto expected = pattern(65536, 7);
  EXPECT_TRUE(std::ranges::equal(read(queues_.io, 864, 512).data, std::span(expected).subspan(32768, 512))) << "a neighbour was deallocated";
}

TEST_F(IoTest, DatasetHintsAreTaken) { EXPECT_TRUE(succeeded(deallocate({range(0, 8)}, nvme::dsm_integral_read))); }

TEST_F(IoTest, DatasetHintsChangeNothing) {
  ASSERT_TRUE(succeeded(write(queues_.io, 950, pattern(512, 8))));
  ASSERT_TRUE(succeeded(deallocate({range(950, 1)}, nvme::dsm_integral_write)));
  EXPECT_EQ(read(queues_.io, 950, 512).data, pattern(512, 8));
}

// Proves: command | Dataset Management | NVM 1.0c 3.2.3
TEST_F(IoTest, DeallocateOfTheMostRangesThereCanBe) {
  std::vector<nvme::DsmRange> ranges;
  for (std::uint32_t i = 0; i < nvme::dsm_max_ranges; ++i) ranges.push_back(range(std::uint64_t{i} * 4, 2));
  EXPECT_TRUE(succeeded(deallocate(ranges)));
}

struct OutOfRange {
  const char* name;
  std::uint64_t slba;
  std::uint32_t blocks;
};

class OutOfRangeTest : public IoTest, public testing::WithParamInterface<OutOfRange> {};

// Proves: command | Limits of LBA range and transfer size | NVM 1.0c 3.2.4
TEST_P(OutOfRangeTest, EveryCommandSaysSo) {
  auto [name, slba, blocks] = GetParam();
  auto bytes = std::size_t{blocks} * 512;
  EXPECT_TRUE(has_status(read(queues_.io, slba, blocks * 512), nvme::GenericStatus::lba_out_of_range));
  EXPECT_TRUE(has_status(write(queues_.io, slba, pattern(bytes, 1)), nvme::GenericStatus::lba_out_of_range));
  EXPECT_TRUE(has_status(compare(slba, pattern(bytes, 1)), nvme::GenericStatus::lba_out_of_range));
  EXPECT_TRUE(has_status(write_zeroes(slba, blocks), nvme::GenericStatus::lba_out_of_range));
  EXPECT_TRUE(has_status(deallocate({range(slba, blocks)}), nvme::GenericStatus::lba_out_of_range));
}

INSTANTIATE_TEST_SUITE_P(Places, OutOfRangeTest,
                         testing::Values(OutOfRange{"JustBehind", namespace_blocks, 1}, OutOfRange{"AcrossTheEnd", namespace_blocks - 1, 2},
                                         OutOfRange{"AcrossTheEndByR2T", namespace_blocks - 1, 32}, OutOfRange{"FarAway", std::uint64_t{1} << 40, 8},
                                         OutOfRange{"AroundTheWorld", 0xFFFFFFFFFFFFFFFF, 2}, OutOfRange{"LastNumber", 0xFFFFFFFFFFFFFFFF, 1}),
                         [](const auto& one) { return std::string(one.param.name); });

// Proves: command | Dataset Management | NVM 1.0c 3.2.3
TEST_F(IoTest, ARangeListWithOneBadRangeDeallocatesNothing) {
  ASSERT_TRUE(succeeded(write(queues_.io, 960, pattern(512, 9))));
  EXPECT_TRUE(has_status(deallocate({range(960, 1), range(namespace_blocks, 1)}), nvme::GenericStatus::lba_out_of_range));
  EXPECT_EQ(read(queues_.io, 960, 512).data, pattern(512, 9));
}

TEST_F(IoTest, TheLastBlockCanBeUsed) {
  ASSERT_TRUE(succeeded(write(queues_.io, namespace_blocks - 1, pattern(512, 10))));
  EXPECT_EQ(read(queues_.io, namespace_blocks - 1, 512).data, pattern(512, 10));
}

TEST_F(IoTest, NamespacesThatAreNotThere) {
  for (std::uint32_t nsid : {0U, 2U, 0xFFFFFFFEU, 0xFFFFFFFFU}) {
    EXPECT_TRUE(has_status(read(queues_.io, 0, 512, nsid), nvme::GenericStatus::invalid_namespace_or_format)) << nsid;
    EXPECT_TRUE(has_status(write(queues_.io, 0, pattern(512, 1), nsid), nvme::GenericStatus::invalid_namespace_or_format)) << nsid;
    EXPECT_TRUE(has_status(write(queues_.io, 0, pattern(8192, 1), nsid), nvme::GenericStatus::invalid_namespace_or_format)) << nsid;
  }
}

// Proves: command | Limits of LBA range and transfer size | Base 2.0c 5.17.2.1
TEST_F(IoTest, MoreThanMdtsIsInvalid) {
  EXPECT_TRUE(has_status(read(queues_.io, 0, max_io_bytes + 512), nvme::GenericStatus::invalid_field));
  EXPECT_TRUE(has_status(write(queues_.io, 0, Bytes(max_io_bytes + 512)), nvme::GenericStatus::invalid_field));
}

}  // namespace
}  // namespace catnap::protocol
