// Log pages (Base 2.0 section 5.16). Owner: the test. Left out: discovery (discovery_test.cpp), changed namespaces (events_test.cpp).
#include <algorithm>

#include "tests/protocol/fixture.h"

namespace catnap::protocol {
namespace {

class LogPageTest : public ProtocolTest {
 protected:
  void SetUp() override {
    ProtocolTest::SetUp();
    queues_ = open_queues();
  }
  CommandResult get(nvme::LogPage page, std::uint32_t length_bytes, std::uint64_t offset_bytes = 0) {
    return get_log(queues_.admin, {.page = page, .length_bytes = length_bytes, .offset_bytes = offset_bytes});
  }
  bool offers(nvme::LogPage page) {
    auto list = data_as<nvme::SupportedLogPages>(get(nvme::LogPage::supported_pages, 1024));
    return (list.page[static_cast<std::size_t>(page)] & nvme::log_supported) != 0;
  }

  Queues queues_;
};

TEST_F(LogPageTest, ThePagesAHostNeedsAreListed) {
  ASSERT_TRUE(succeeded(get(nvme::LogPage::supported_pages, 1024)));
  for (auto page : {nvme::LogPage::supported_pages, nvme::LogPage::error, nvme::LogPage::smart, nvme::LogPage::firmware,
                    nvme::LogPage::changed_namespaces, nvme::LogPage::effects}) {
    EXPECT_TRUE(offers(page)) << "page " << static_cast<int>(page);
  }
}

// Proves: log | Supported Log Pages | Base 2.0c 5.16.1.1
// Proves: admin | Get Log Page | Base 2.0c 5.16
TEST_F(LogPageTest, AllListedPagesCanBeReadAndNoOthers) {
  auto list = data_as<nvme::SupportedLogPages>(get(nvme::LogPage::supported_pages, 1024));
  for (int lid = 0; lid < 256; ++lid) {
    bool listed = (list.page[static_cast<std::size_t>(lid)] & nvme::log_supported) != 0;
    auto result = get(static_cast<nvme::LogPage>(lid), 512);
    if (listed) {
      EXPECT_TRUE(succeeded(result)) << "page " << lid;
    } else {
      EXPECT_TRUE(has_status_of(result, {nvme::CommandStatus::invalid_log_page, nvme::GenericStatus::invalid_field})) << "page " << lid;
    }
  }
}

// Proves: log | SMART / Health Information | Base 2.0c 5.16.1.3
TEST_F(LogPageTest, SmartCountsCommandsAndData) {
  auto before = data_as<nvme::SmartLog>(get(nvme::LogPage::smart, 512));
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(succeeded(write(queues_.io, 0, pattern(131072, 1))));
    ASSERT_TRUE(succeeded(read(queues_.io, 0, 131072)));
  }
  auto after = data_as<nvme::SmartLog>(get(nvme::LogPage::smart, 512));
  EXPECT_GE(after.host_read_commands.low, before.host_read_commands.low + 10);
  EXPECT_GE(after.host_write_commands.low, before.host_write_commands.low + 10);
  EXPECT_GT(after.data_units_read.low, before.data_units_read.low);
  EXPECT_GT(after.data_units_written.low, before.data_units_written.low);
  EXPECT_EQ(after.critical_warning, 0);
}

// Proves: log | Firmware Slot Information | Base 2.0c 5.16.1.4
TEST_F(LogPageTest, FirmwareSlotHoldsTheRevisionOfIdentify) {
  auto result = get(nvme::LogPage::firmware, 512);
  ASSERT_TRUE(succeeded(result));
  auto log = data_as<nvme::FirmwareLog>(result);
  ASSERT_EQ(log.afi & 0x7, 1);
  EXPECT_EQ(log.frs[0], data_as<nvme::IdentifyController>(identify(queues_.admin, nvme::Cns::controller)).fr);
}

// Proves: log | Commands Supported and Effects | Base 2.0c 5.16.1.6
TEST_F(LogPageTest, EffectsListWhatIsServed) {
  auto result = get(nvme::LogPage::effects, 4096);
  ASSERT_TRUE(succeeded(result));
  auto log = data_as<nvme::EffectsLog>(result);
  for (auto opcode : {nvme::AdminOpcode::identify, nvme::AdminOpcode::get_log_page, nvme::AdminOpcode::keep_alive, nvme::AdminOpcode::abort}) {
    EXPECT_NE(log.admin[static_cast<std::size_t>(opcode)] & nvme::effect_supported, 0U) << static_cast<int>(opcode);
  }
  for (auto opcode : {nvme::IoOpcode::read, nvme::IoOpcode::write, nvme::IoOpcode::flush, nvme::IoOpcode::compare, nvme::IoOpcode::write_zeroes,
                      nvme::IoOpcode::dataset_management}) {
    EXPECT_NE(log.io[static_cast<std::size_t>(opcode)] & nvme::effect_supported, 0U) << static_cast<int>(opcode);
  }
  EXPECT_NE(log.io[static_cast<std::size_t>(nvme::IoOpcode::write)] & nvme::effect_content_change, 0U);
}

// Proves: log | Error Information | Base 2.0c 5.16.1.2
TEST_F(LogPageTest, ErrorLogNamesTheCommandThatFailed) {
  auto sqe = io_command(nvme::IoOpcode::read, namespace_blocks, 1);
  auto cid = queues_.io.submit(sqe, Payload::to_host(512));
  ASSERT_TRUE(has_status(queues_.io.wait(cid), nvme::GenericStatus::lba_out_of_range));
  auto result = get(nvme::LogPage::error, 64);
  ASSERT_TRUE(succeeded(result));
  auto entry = data_as<nvme::ErrorEntry>(result);
  EXPECT_GT(entry.error_count, 0U);
  EXPECT_EQ(entry.sqid, 1);
  EXPECT_EQ(entry.cid, cid);
  EXPECT_EQ(entry.nsid, 1U);
  EXPECT_EQ((entry.status >> 1) & 0x7FF, nvme::Status(nvme::GenericStatus::lba_out_of_range).field());
  EXPECT_EQ(entry.lba, namespace_blocks);
}

// Proves: log | Offsets and lengths | Base 2.0c 5.16
TEST_F(LogPageTest, AnOffsetReadsTheRest) {
  auto whole = get(nvme::LogPage::effects, 4096).data;
  auto part = get(nvme::LogPage::effects, 1024, 1024);
  ASSERT_TRUE(succeeded(part));
  EXPECT_TRUE(std::ranges::equal(part.data, std::span(whole).subspan(1024, 1024)));
}

TEST_F(LogPageTest, AnOffsetBehindTheEndIsInvalid) {
  EXPECT_TRUE(has_status(get(nvme::LogPage::smart, 512, 4096), nvme::GenericStatus::invalid_field));
  EXPECT_TRUE(has_status(get(nvme::LogPage::smart, 512, std::uint64_t{1} << 40), nvme::GenericStatus::invalid_field));
}

TEST_F(LogPageTest, AnOffsetOfNoWholeDwordIsInvalid) {
  EXPECT_TRUE(has_status(get(nvme::LogPage::effects, 512, 2), nvme::GenericStatus::invalid_field));
}

// Proves: log | Offsets and lengths | Base 2.0c 5.16
TEST_F(LogPageTest, AskingForMoreThanThereIsGivesZeroes) {
  auto result = get(nvme::LogPage::smart, 4096);
  ASSERT_TRUE(succeeded(result));
  EXPECT_TRUE(std::ranges::all_of(std::span(result.data).subspan(512), [](std::byte byte) { return byte == std::byte{0}; }));
}

TEST_F(LogPageTest, AnaIsReadableOnlyWhereReported) {
  auto controller = data_as<nvme::IdentifyController>(identify(queues_.admin, nvme::Cns::controller));
  EXPECT_EQ(offers(nvme::LogPage::ana), (controller.cmic & nvme::cmic_ana) != 0);
}

// Proves: log | Feature Identifiers Supported and Effects | Base 2.0c 5.16.1.18
TEST_F(LogPageTest, FeatureEffectsAgreeWithGetFeatures) {
  if (!offers(nvme::LogPage::supported_features)) GTEST_SKIP() << "log page 12h is not offered";
  auto list = data_as<nvme::SupportedFeatures>(get(nvme::LogPage::supported_features, 1024));
  for (int fid = 1; fid < 0x80; ++fid) {
    if ((list.feature[static_cast<std::size_t>(fid)] & nvme::feature_supported) != 0) continue;
    EXPECT_FALSE(get_feature(queues_.admin, static_cast<nvme::Feature>(fid)).ok()) << "feature " << fid;
  }
}

}  // namespace
}  // namespace catnap::protocol
