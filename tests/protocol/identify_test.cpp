// Identify pages (Base 2.0 section 5.17, NVM Command Set 1.0 section 4.1.5): what a Linux host checks or relies on.
// Owner: the test. Left out: the discovery controller (discovery_test.cpp).
#include <algorithm>

#include "tests/protocol/fixture.h"

namespace catnap::protocol {
namespace {

class IdentifyTest : public ProtocolTest {
 protected:
  void SetUp() override {
    ProtocolTest::SetUp();
    admin_ = open_admin({.subnqn = subsystem_nqn}, &cntlid_);
  }

  Connection admin_;
  std::uint16_t cntlid_ = 0;
};

// Proves: admin | Identify | Base 2.0c 5.17
// Proves: identify | Identify Controller | Base 2.0c 5.17.2.1
TEST_F(IdentifyTest, ControllerSaysWhatALinuxHostDemands) {
  auto result = identify(admin_, nvme::Cns::controller);
  ASSERT_TRUE(succeeded(result));
  auto controller = data_as<nvme::IdentifyController>(result);
  EXPECT_EQ(controller.cntlid, cntlid_);
  EXPECT_STREQ(controller.subnqn.data(), subsystem_nqn);
  EXPECT_EQ(controller.cntrltype, static_cast<std::uint8_t>(nvme::ControllerType::io));
  EXPECT_NE(controller.kas, 0);
  EXPECT_EQ(std::uint32_t{1} << (12 + controller.mdts), max_io_bytes);
  EXPECT_EQ(controller.ioccsz, (64 + in_capsule_bytes) / 16);
  EXPECT_EQ(controller.iorcsz, 1U);
  EXPECT_EQ(controller.icdoff, 0);
  EXPECT_EQ(controller.maxcmd, max_queue_entries);
  EXPECT_EQ(controller.sqes, 0x66);
  EXPECT_EQ(controller.cqes, 0x44);
  EXPECT_NE(controller.sgls & 0x3, 0U);
  EXPECT_NE(controller.sgls & nvme::sgls_offset_in_address, 0U);
  EXPECT_NE(controller.sgls & nvme::sgls_transport_data_block, 0U);
  EXPECT_NE(controller.oaes & nvme::oaes_namespace_attribute, 0U);
  EXPECT_GE(controller.nn, 1U);
}

TEST_F(IdentifyTest, ControllerOffersTheCommandsServed) {
  auto controller = data_as<nvme::IdentifyController>(identify(admin_, nvme::Cns::controller));
  for (auto bit : {nvme::oncs_compare, nvme::oncs_dataset_management, nvme::oncs_write_zeroes, nvme::oncs_copy, nvme::oncs_verify,
                   nvme::oncs_write_uncorrectable})
    EXPECT_NE(controller.oncs & bit, 0) << bit;
  EXPECT_NE(controller.lpa & nvme::lpa_effects, 0);
  EXPECT_NE(controller.lpa & nvme::lpa_extended_data, 0);
}

TEST_F(IdentifyTest, ControllerStringsArePaddedAscii) {
  auto controller = data_as<nvme::IdentifyController>(identify(admin_, nvme::Cns::controller));
  EXPECT_EQ(std::string(controller.sn.begin(), controller.sn.end()), "CATNAP0001          ");
  EXPECT_EQ(std::string(controller.mn.begin(), controller.mn.end()), "catnap test" + std::string(29, ' '));
  EXPECT_TRUE(std::ranges::all_of(controller.fr, [](char c) { return c >= 0x20 && c <= 0x7E; }));
}

// Proves: identify | Identify Namespace | NVM 1.0c 4.1.5.1
TEST_F(IdentifyTest, NamespaceHasItsSizeAndFormat) {
  auto result = identify(admin_, nvme::Cns::namespace_data, 1);
  ASSERT_TRUE(succeeded(result));
  auto ns = data_as<nvme::IdentifyNamespace>(result);
  EXPECT_EQ(ns.nsze, namespace_blocks);
  EXPECT_EQ(ns.ncap, namespace_blocks);
  EXPECT_EQ(ns.lbaf[ns.flbas & 0xF].lbads, 9);
  EXPECT_EQ(ns.lbaf[ns.flbas & 0xF].ms, 0);
  EXPECT_NE(ns.nmic & nvme::nmic_shared, 0);
}

// Proves: identify | Identify Namespace | NVM 1.0c 4.1.5.1
TEST_F(IdentifyTest, AnInactiveNamespaceIsAllZero) {
  auto controller = data_as<nvme::IdentifyController>(identify(admin_, nvme::Cns::controller));
  ASSERT_GE(controller.nn, 2U);
  auto result = identify(admin_, nvme::Cns::namespace_data, controller.nn);
  ASSERT_TRUE(succeeded(result));
  EXPECT_TRUE(std::ranges::all_of(result.data, [](std::byte byte) { return byte == std::byte{0}; }));
}

TEST_F(IdentifyTest, NamespaceIdsThatCannotBe) {
  auto controller = data_as<nvme::IdentifyController>(identify(admin_, nvme::Cns::controller));
  for (std::uint32_t nsid : {0U, controller.nn + 1, 0xFFFFFFFEU}) {
    EXPECT_TRUE(has_status(identify(admin_, nvme::Cns::namespace_data, nsid), nvme::GenericStatus::invalid_namespace_or_format)) << nsid;
  }
}

// Proves: identify | Active Namespace List | Base 2.0c 5.17.2.2
TEST_F(IdentifyTest, ActiveNamespacesInOrder) {
  auto result = identify(admin_, nvme::Cns::active_namespaces, 0);
  ASSERT_TRUE(succeeded(result));
  auto list = data_as<nvme::NamespaceList>(result);
  EXPECT_EQ(list.nsid[0], 1U);
  EXPECT_EQ(list.nsid[1], 0U);
  EXPECT_EQ(data_as<nvme::NamespaceList>(identify(admin_, nvme::Cns::active_namespaces, 1)).nsid[0], 0U)
      << "only ids greater than the one asked with";
}

TEST_F(IdentifyTest, ActiveNamespacesBehindTheLastIdThereCanBe) {
  for (std::uint32_t nsid : {0xFFFFFFFEU, 0xFFFFFFFFU}) {
    EXPECT_TRUE(has_status(identify(admin_, nvme::Cns::active_namespaces, nsid), nvme::GenericStatus::invalid_namespace_or_format));
  }
}

// Proves: identify | Namespace Identification Descriptors | Base 2.0c 5.17.2.3
TEST_F(IdentifyTest, DescriptorsNameTheNamespaceOnceEach) {
  auto result = identify(admin_, nvme::Cns::namespace_descriptors, 1);
  ASSERT_TRUE(succeeded(result));
  std::vector<int> types;
  std::size_t offset = 0;
  while (offset + 4 <= result.data.size()) {
    auto head = data_as<nvme::NamespaceDescriptor>(result, offset);
    if (head.nidl == 0) break;
    types.push_back(head.nidt);
    EXPECT_EQ(head.nidl, head.nidt == 1 ? 8 : head.nidt == 4 ? 1 : 16) << "NIDT " << int(head.nidt);
    offset += 4U + head.nidl;
  }
  EXPECT_EQ(std::ranges::count(types, static_cast<int>(nvme::NamespaceIdType::uuid)), 1);
  for (int type : types) EXPECT_EQ(std::ranges::count(types, type), 1) << "NIDT " << type;
}

TEST_F(IdentifyTest, DescriptorsOfAnInactiveNamespace) {
  EXPECT_TRUE(has_status(identify(admin_, nvme::Cns::namespace_descriptors, 2), nvme::GenericStatus::invalid_namespace_or_format));
}

// Proves: identify | I/O Command Set specific Identify Namespace | Base 2.0c 5.17.2.5
// Proves: identify | I/O Command Set specific Identify Controller | Base 2.0c 5.17.2.6
// Proves: identify | I/O Command Set specific Active Namespace List | Base 2.0c 5.17.2.7
TEST_F(IdentifyTest, IoCommandSetPagesOfTheNvmCommandSet) {
  EXPECT_TRUE(succeeded(identify(admin_, nvme::Cns::csi_controller, 0, 0)));
  EXPECT_TRUE(succeeded(identify(admin_, nvme::Cns::csi_namespace, 1, 0)));
  auto list = identify(admin_, nvme::Cns::csi_active_namespaces, 0, 0);
  ASSERT_TRUE(succeeded(list));
  EXPECT_EQ(data_as<nvme::NamespaceList>(list).nsid[0], 1U);
}

// Proves: identify | I/O Command Set Combinations | Base 2.0c 5.17.2.21
TEST_F(IdentifyTest, TheOneCombinationOfCommandSetsIsNvm) {
  auto sets = identify(admin_, nvme::Cns::io_command_sets, 0, 0, 0xFFFF);
  ASSERT_TRUE(succeeded(sets));
  EXPECT_EQ(data_as<nvme::IoCommandSets>(sets).vector[0] & 1, 1U);
}

// Proves: identify | I/O Command Set Independent Identify Namespace | Base 2.0c 5.17.2.8
TEST_F(IdentifyTest, IndependentNamespacePageSaysReady) {
  auto result = identify(admin_, nvme::Cns::independent_namespace, 1);
  ASSERT_TRUE(succeeded(result));
  EXPECT_EQ(data_as<nvme::IndependentNamespace>(result).nstat & 1, 1);
}

TEST_F(IdentifyTest, CommandSetsThatAreNotThere) {
  EXPECT_TRUE(has_status_of(
      identify(admin_, nvme::Cns::csi_controller, 0, static_cast<std::uint8_t>(nvme::Csi::zoned)),
      {nvme::GenericStatus::invalid_field, nvme::CommandStatus::io_command_set_not_supported, nvme::CommandStatus::invalid_io_command_set}));
}

TEST_F(IdentifyTest, PagesThatAreNotThere) {
  for (int cns : {0x7F, 0xFF}) EXPECT_TRUE(has_status(identify(admin_, static_cast<nvme::Cns>(cns)), nvme::GenericStatus::invalid_field)) << cns;
}

TEST_F(IdentifyTest, OverlappingRequestsAreAllAnswered) {
  std::vector<std::uint16_t> cids;
  for (int i = 0; i < 30; ++i) {
    auto sqe = admin_command(nvme::AdminOpcode::identify, 1);
    sqe.cdw10 = static_cast<std::uint32_t>(i % 2 == 0 ? nvme::Cns::namespace_data : nvme::Cns::namespace_descriptors);
    cids.push_back(admin_.submit(sqe, Payload::to_host(4096)));
  }
  for (auto cid : cids) EXPECT_TRUE(succeeded(admin_.wait(cid)));
}

}  // namespace
}  // namespace catnap::protocol
