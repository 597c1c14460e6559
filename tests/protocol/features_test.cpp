// Get and Set Features (Base 2.0 sections 5.15 and 5.27). Owner: the test. Left out: what events a feature switches on (events_test.cpp).
#include "tests/protocol/fixture.h"

namespace catnap::protocol {
namespace {

class FeaturesTest : public ProtocolTest {
 protected:
  void SetUp() override {
    ProtocolTest::SetUp();
    admin_ = open_admin({.subnqn = subsystem_nqn, .kato_ms = 30000}, &cntlid_);
  }

  Connection admin_;
  std::uint16_t cntlid_ = 0;
};

// Proves: feature | Number of Queues | Base 2.0c 5.27.1.5
// Proves: admin | Set Features | Base 2.0c 5.27
TEST_F(FeaturesTest, NumberOfQueuesIsCutToWhatThereIs) {
  auto few = set_feature(admin_, nvme::Feature::number_of_queues, 0x00010001);
  ASSERT_TRUE(succeeded(few));
  EXPECT_GE(std::uint32_t{few.cqe.dw0} & 0xFFFF, 1U);
  auto many = set_feature(admin_, nvme::Feature::number_of_queues, 0xFFFEFFFE);
  ASSERT_TRUE(succeeded(many));
  EXPECT_LT(std::uint32_t{many.cqe.dw0} & 0xFFFF, 0xFFFEU);
}

TEST_F(FeaturesTest, NumberOfQueuesFfffIsInvalid) {
  EXPECT_TRUE(has_status(set_feature(admin_, nvme::Feature::number_of_queues, 0x0000FFFF), nvme::GenericStatus::invalid_field));
}

// Proves: feature | Number of Queues | Base 2.0c 5.27.1.5
TEST_F(FeaturesTest, NumberOfQueuesIsFixedOnceThereIsAnIoQueue) {
  auto io = open_io(cntlid_);
  EXPECT_TRUE(has_status(set_feature(admin_, nvme::Feature::number_of_queues, 0x00010001), nvme::GenericStatus::command_sequence_error));
}

// Proves: feature | Asynchronous Event Configuration | Base 2.0c 5.27.1.8
TEST_F(FeaturesTest, EventConfigurationReadsBack) {
  ASSERT_TRUE(succeeded(set_feature(admin_, nvme::Feature::async_event_configuration, nvme::aec_namespace_attribute)));
  auto result = get_feature(admin_, nvme::Feature::async_event_configuration);
  ASSERT_TRUE(succeeded(result));
  EXPECT_EQ(result.cqe.dw0, nvme::aec_namespace_attribute);
}

// Proves: feature | Keep Alive Timer | Base 2.0c 5.27.1.12
TEST_F(FeaturesTest, KeepAliveTimerIsAtLeastWhatConnectAsked) {
  auto result = get_feature(admin_, nvme::Feature::keep_alive_timer);
  ASSERT_TRUE(succeeded(result));
  EXPECT_GE(result.cqe.dw0, 30000U);
  EXPECT_LE(result.cqe.dw0, 60000U);
}

TEST_F(FeaturesTest, KeepAliveTimerCanBeChanged) {
  ASSERT_TRUE(succeeded(set_feature(admin_, nvme::Feature::keep_alive_timer, 120000)));
  EXPECT_GE(get_feature(admin_, nvme::Feature::keep_alive_timer).cqe.dw0, 120000U);
}

// Proves: feature | Host Identifier | Base 2.0c 5.27.1.25
TEST_F(FeaturesTest, HostIdentifierIsThatOfConnect) {
  auto result = get_feature(admin_, nvme::Feature::host_identifier, nvme::FeatureSelect::current, 0, 16, nvme::host_identifier_exhid);
  ASSERT_TRUE(succeeded(result));
  EXPECT_EQ(result.data, Bytes(16, std::byte{0x5A}));
}

// Proves: admin | Get Features | Base 2.0c 5.15
TEST_F(FeaturesTest, FeaturesEveryControllerHas) {
  for (auto feature :
       {nvme::Feature::arbitration, nvme::Feature::power_management, nvme::Feature::temperature_threshold, nvme::Feature::error_recovery,
        nvme::Feature::number_of_queues, nvme::Feature::async_event_configuration, nvme::Feature::write_atomicity}) {
    EXPECT_TRUE(succeeded(get_feature(admin_, feature, nvme::FeatureSelect::current, feature == nvme::Feature::error_recovery ? 1 : 0)))
        << "feature " << static_cast<int>(feature);
  }
}

// Proves: feature | Volatile Write Cache | Base 2.0c 5.27.1.4
TEST_F(FeaturesTest, WriteCacheAgreesWithIdentify) {
  bool present = (data_as<nvme::IdentifyController>(identify(admin_, nvme::Cns::controller)).vwc & nvme::vwc_present) != 0;
  EXPECT_EQ(get_feature(admin_, nvme::Feature::volatile_write_cache).ok(), present);
}

TEST_F(FeaturesTest, UnknownFeatures) {
  for (int fid : {0x00, 0x5F, 0xBF}) {
    EXPECT_TRUE(has_status(get_feature(admin_, static_cast<nvme::Feature>(fid)), nvme::GenericStatus::invalid_field)) << fid;
    EXPECT_TRUE(has_status(set_feature(admin_, static_cast<nvme::Feature>(fid), 0), nvme::GenericStatus::invalid_field)) << fid;
  }
}

TEST_F(FeaturesTest, InterruptsAreNotForFabrics) {
  EXPECT_TRUE(has_status(set_feature(admin_, nvme::Feature::interrupt_coalescing, 0), nvme::GenericStatus::invalid_field));
}

}  // namespace
}  // namespace catnap::protocol
