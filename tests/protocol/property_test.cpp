// Controller properties and the life of a controller: enable, shut down, reset (Base 2.0, sections 3.1.3, 3.5, 3.6 and 3.7).
// Owner: the test. Left out: subsystem reset (not offered).
#include <algorithm>

#include "tests/protocol/fixture.h"

namespace catnap::protocol {
namespace {

constexpr auto four = nvme::PropertySize::four_bytes;
constexpr auto eight = nvme::PropertySize::eight_bytes;

class PropertyTest : public ProtocolTest {
 protected:
  nvme::Csts csts(Connection& admin) {
    auto result = property_get(admin, nvme::Property::csts, four);
    EXPECT_TRUE(succeeded(result));
    return nvme::Csts::from_value(result.cqe.dw0);
  }
  // Asks for CSTS until `done` says so, as hosts do.
  template <typename Done>
  bool reaches(Connection& admin, Done done) {
    auto deadline = std::chrono::steady_clock::now() + patience;
    while (std::chrono::steady_clock::now() < deadline) {
      if (done(csts(admin))) return true;
    }
    return false;
  }
  void set_cc(Connection& admin, std::uint32_t value) { EXPECT_TRUE(succeeded(property_set(admin, nvme::Property::cc, four, value))); }
};

// Proves: controller | Capabilities and version | Base 2.0c 3.1.3
// Proves: fabrics | Property Get | Base 2.0c 6.5
TEST_F(PropertyTest, CapabilitiesAreThoseOfAFabricsController) {
  auto admin = open_admin();
  auto result = property_get(admin, nvme::Property::cap, eight);
  ASSERT_TRUE(succeeded(result));
  auto cap = nvme::Cap::from_value(result.cqe.dw0_dw1());
  EXPECT_EQ(cap.mqes, max_queue_entries - 1);
  EXPECT_TRUE(cap.cqr);
  EXPECT_TRUE(cap.css_nvm);
  EXPECT_FALSE(cap.css_admin_only);
  EXPECT_GT(cap.to, 0);
  EXPECT_EQ(cap.mpsmin, 0) << "hosts have pages of 4 KiB";
}

TEST_F(PropertyTest, ReadyTimeoutsAreThereWhenPromised) {
  auto admin = open_admin();
  auto cap = nvme::Cap::from_value(property_get(admin, nvme::Property::cap, eight).cqe.dw0_dw1());
  if (!cap.crwms && !cap.crims) GTEST_SKIP() << "CAP.CRMS is clear";
  auto crto = property_get(admin, nvme::Property::crto, four);
  ASSERT_TRUE(succeeded(crto));
  EXPECT_GT(std::uint32_t{crto.cqe.dw0} & 0xFFFF, 0U);
}

// Proves: controller | Capabilities and version | Base 2.0c 3.1.3
TEST_F(PropertyTest, VersionIsThatOfIdentify) {
  auto admin = open_admin();
  auto vs = property_get(admin, nvme::Property::vs, four);
  ASSERT_TRUE(succeeded(vs));
  EXPECT_GE(std::uint32_t{vs.cqe.dw0}, nvme::version_value(1, 4, 0));
  EXPECT_EQ(data_as<nvme::IdentifyController>(identify(admin, nvme::Cns::controller)).ver, vs.cqe.dw0);
}

TEST_F(PropertyTest, AFreshControllerIsNotReady) {
  auto admin = open();
  ASSERT_TRUE(succeeded(connect_queue(admin, {.subnqn = subsystem_nqn})));
  EXPECT_FALSE(csts(admin).rdy);
  EXPECT_FALSE(csts(admin).cfs);
}

// Proves: fabrics | Property Set | Base 2.0c 6.6
TEST_F(PropertyTest, ConfigurationReadsBackAsWritten) {
  auto admin = open_admin();
  EXPECT_EQ(property_get(admin, nvme::Property::cc, four).cqe.dw0, 0x00460001U);
}

// Proves: controller | Enable and reset | Base 2.0c 3.5
TEST_F(PropertyTest, AdminCommandsWaitForEnable) {
  auto admin = open();
  ASSERT_TRUE(succeeded(connect_queue(admin, {.subnqn = subsystem_nqn})));
  EXPECT_TRUE(has_status(identify(admin, nvme::Cns::controller), nvme::GenericStatus::command_sequence_error));
  EXPECT_TRUE(enable(admin));
  EXPECT_TRUE(succeeded(identify(admin, nvme::Cns::controller)));
}

// Proves: controller | Shutdown | Base 2.0c 3.6
TEST_F(PropertyTest, ShutdownCompletes) {
  auto queues = open_queues();
  set_cc(queues.admin, 0x00464001);
  EXPECT_TRUE(reaches(queues.admin, [](nvme::Csts now) { return now.shst == nvme::ShutdownStatus::complete; }));
}

TEST_F(PropertyTest, AbruptShutdownCompletes) {
  auto queues = open_queues();
  set_cc(queues.admin, 0x00468001);
  EXPECT_TRUE(reaches(queues.admin, [](nvme::Csts now) { return now.shst == nvme::ShutdownStatus::complete; }));
}

// Proves: controller | Enable and reset | Base 2.0c 3.5
TEST_F(PropertyTest, ResetClearsReadyAndEndsIoQueues) {
  auto queues = open_queues();
  EXPECT_TRUE(disable(queues.admin));
  EXPECT_TRUE(queues.io.receive_until_closed().has_value()) << "the I/O queue lives on after the reset";
}

TEST_F(PropertyTest, AResetControllerCanBeEnabledAgain) {
  auto queues = open_queues();
  ASSERT_TRUE(disable(queues.admin));
  ASSERT_TRUE(enable(queues.admin));
  auto io = open_io(queues.cntlid, 1);
  EXPECT_TRUE(succeeded(flush(io)));
}

TEST_F(PropertyTest, AnOffsetWithoutAProperty) {
  auto admin = open_admin();
  EXPECT_TRUE(has_status(property_get(admin, static_cast<nvme::Property>(0x1000), four), nvme::GenericStatus::invalid_field));
  EXPECT_TRUE(has_status(property_set(admin, static_cast<nvme::Property>(0x1000), four, 1), nvme::GenericStatus::invalid_field));
  EXPECT_TRUE(has_status(property_get(admin, static_cast<nvme::Property>(0xFFFFFFFC), four), nvme::GenericStatus::invalid_field));
}

// Proves: fabrics | Property Get | Base 2.0c 6.5
TEST_F(PropertyTest, TheWrongSize) {
  auto admin = open_admin();
  EXPECT_TRUE(has_status(property_get(admin, nvme::Property::csts, eight), nvme::GenericStatus::invalid_field));
  EXPECT_TRUE(has_status(property_set(admin, nvme::Property::cc, eight, 0x00460001), nvme::GenericStatus::invalid_field));
  EXPECT_TRUE(has_status(property_get(admin, nvme::Property::vs, static_cast<nvme::PropertySize>(5)), nvme::GenericStatus::invalid_field));
}

// Proves: fabrics | Property Set | Base 2.0c 6.6
TEST_F(PropertyTest, ReadOnlyPropertiesStayAsTheyAre) {
  auto admin = open_admin();
  auto before = property_get(admin, nvme::Property::vs, four).cqe.dw0;
  EXPECT_TRUE(has_status(property_set(admin, nvme::Property::vs, four, 0), nvme::GenericStatus::invalid_field));
  EXPECT_EQ(property_get(admin, nvme::Property::vs, four).cqe.dw0, before);
}

TEST_F(PropertyTest, PropertiesAreNotForIoQueues) {
  auto queues = open_queues();
  EXPECT_FALSE(property_get(queues.io, nvme::Property::cap, eight).ok());
}

}  // namespace
}  // namespace catnap::protocol
