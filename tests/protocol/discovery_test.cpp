// The discovery subsystem and its log page (Base 2.0, sections 3.1.2.3 and 5.16.1.23).
// Owner: the test. Left out: referrals.
#include <algorithm>

#include "tests/protocol/fixture.h"

namespace catnap::protocol {
namespace {

template <std::size_t N>
std::string text_of(const std::array<char, N>& field) {
  std::string text(field.begin(), std::ranges::find(field, '\0'));
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

class DiscoveryTest : public ProtocolTest {
 protected:
  void SetUp() override {
    ProtocolTest::SetUp();
    admin_ = open_admin({.subnqn = discovery_nqn});
  }

  nvme::DiscoveryHeader header() {
    auto result = get_log(admin_, {.page = nvme::LogPage::discovery, .length_bytes = 1024, .nsid = 0, .retain_event = true});
    EXPECT_TRUE(succeeded(result));
    return data_as<nvme::DiscoveryHeader>(result);
  }

  std::vector<nvme::DiscoveryEntry> entries(Connection& admin) {
    auto length = static_cast<std::uint32_t>(1024 * (1 + header().numrec));
    auto result = get_log(admin, {.page = nvme::LogPage::discovery, .length_bytes = length, .nsid = 0});
    EXPECT_TRUE(succeeded(result));
    std::vector<nvme::DiscoveryEntry> all;
    for (std::size_t offset = 1024; offset < result.data.size(); offset += 1024) all.push_back(data_as<nvme::DiscoveryEntry>(result, offset));
    return all;
  }

  Connection admin_;
};

TEST_F(DiscoveryTest, IsADiscoveryController) {
  auto result = identify(admin_, nvme::Cns::controller);
  ASSERT_TRUE(succeeded(result));
  auto controller = data_as<nvme::IdentifyController>(result);
  EXPECT_EQ(controller.cntrltype, static_cast<std::uint8_t>(nvme::ControllerType::discovery));
  EXPECT_EQ(text_of(controller.subnqn), discovery_nqn);
  EXPECT_EQ(controller.icdoff, 0);
  EXPECT_NE(controller.oaes & nvme::oaes_discovery_change, 0U);
}

TEST_F(DiscoveryTest, ListsTheSubsystemWithItsAddress) {
  int found = 0;
  for (const auto& entry : entries(admin_)) {
    if (text_of(entry.subnqn) != subsystem_nqn) continue;
    ++found;
    EXPECT_EQ(entry.trtype, static_cast<std::uint8_t>(nvme::TransportType::tcp));
    EXPECT_EQ(entry.adrfam, static_cast<std::uint8_t>(nvme::AddressFamily::ipv4));
    EXPECT_EQ(entry.subtype, static_cast<std::uint8_t>(nvme::DiscoverySubtype::nvm));
    EXPECT_EQ(entry.treq & 0x3, nvme::treq_not_specified) << "libnvme of Debian 12 takes anything else for TLS";
    EXPECT_EQ(entry.cntlid, nvme::cntlid_dynamic);
    EXPECT_GE(entry.asqsz, 32);
    EXPECT_EQ(text_of(entry.traddr), "127.0.0.1");
    EXPECT_EQ(text_of(entry.trsvcid), std::to_string(server_port()));
    EXPECT_EQ(entry.tsas[0], nvme::tcp_sectype_none);
  }
  EXPECT_EQ(found, 1);
}

TEST_F(DiscoveryTest, ShowsARestrictedSubsystemOnlyToItsHosts) {
  auto lists_it = [](const std::vector<nvme::DiscoveryEntry>& all) {
    return std::ranges::any_of(all, [](const auto& entry) { return text_of(entry.subnqn) == restricted_nqn; });
  };
  EXPECT_FALSE(lists_it(entries(admin_)));
  auto allowed = open_admin({.subnqn = discovery_nqn, .hostnqn = allowed_host_nqn});
  auto numrec = data_as<nvme::DiscoveryHeader>(get_log(allowed, {.page = nvme::LogPage::discovery, .length_bytes = 1024, .nsid = 0})).numrec;
  auto result = get_log(allowed, {.page = nvme::LogPage::discovery, .length_bytes = static_cast<std::uint32_t>(1024 * (1 + numrec)), .nsid = 0});
  ASSERT_TRUE(succeeded(result));
  std::vector<nvme::DiscoveryEntry> all;
  for (std::size_t offset = 1024; offset < result.data.size(); offset += 1024) all.push_back(data_as<nvme::DiscoveryEntry>(result, offset));
  EXPECT_TRUE(lists_it(all));
}

TEST_F(DiscoveryTest, CanBeReadInPieces) {
  auto length = static_cast<std::uint32_t>(1024 * (1 + header().numrec));
  auto whole = get_log(admin_, {.page = nvme::LogPage::discovery, .length_bytes = length, .nsid = 0}).data;
  ASSERT_EQ(whole.size(), length);
  for (std::uint32_t offset = 0; offset < length; offset += 512) {
    auto piece = get_log(admin_, {.page = nvme::LogPage::discovery, .length_bytes = 512, .nsid = 0, .offset_bytes = offset});
    ASSERT_TRUE(succeeded(piece)) << offset;
    EXPECT_TRUE(std::ranges::equal(piece.data, std::span(whole).subspan(offset, 512))) << offset;
  }
}

TEST_F(DiscoveryTest, GenerationGoesUpWithAChangeAndStaysWithout) {
  auto before = header().genctr;
  EXPECT_EQ(header().genctr, before);
  rpc("nvmf_create_subsystem", R"({"nqn": "nqn.2026-11.io.catnap:temporary", "allow_any_host": true, "serial_number": "CATNAP0009"})");
  rpc("nvmf_subsystem_add_listener", R"({"nqn": "nqn.2026-11.io.catnap:temporary", "listen_address": {"trtype": "TCP", "adrfam": "IPv4",
      "traddr": "127.0.0.1", "trsvcid": ")" +
                                         std::to_string(server_port()) + R"("}})");
  auto after = header();
  EXPECT_GT(after.genctr, before);
  rpc("nvmf_delete_subsystem", R"({"nqn": "nqn.2026-11.io.catnap:temporary"})");
  EXPECT_GT(header().genctr, after.genctr);
  EXPECT_LT(header().numrec, after.numrec);
}

TEST_F(DiscoveryTest, TellsOfChangesByEvent) {
  ASSERT_TRUE(succeeded(set_feature(admin_, nvme::Feature::async_event_configuration, nvme::aec_discovery_change)));
  auto event = admin_.submit(admin_command(nvme::AdminOpcode::async_event_request));
  ASSERT_TRUE(succeeded(property_get(admin_, nvme::Property::csts, nvme::PropertySize::four_bytes)));  // the request is there by now
  rpc("nvmf_create_subsystem", R"({"nqn": "nqn.2026-11.io.catnap:temporary", "allow_any_host": true, "serial_number": "CATNAP0009"})");
  rpc("nvmf_subsystem_add_listener", R"({"nqn": "nqn.2026-11.io.catnap:temporary", "listen_address": {"trtype": "TCP", "adrfam": "IPv4",
      "traddr": "127.0.0.1", "trsvcid": ")" +
                                         std::to_string(server_port()) + R"("}})");
  auto result = admin_.wait(event);
  EXPECT_TRUE(succeeded(result));
  EXPECT_EQ(result.cqe.dw0, 0x0070F002U);
  rpc("nvmf_delete_subsystem", R"({"nqn": "nqn.2026-11.io.catnap:temporary"})");
}

TEST_F(DiscoveryTest, HasNoIoQueues) {
  std::uint16_t cntlid = 0;
  auto admin = open_admin({.subnqn = discovery_nqn}, &cntlid);
  auto io = open();
  EXPECT_FALSE(connect_queue(io, {.subnqn = discovery_nqn, .cntlid = cntlid, .qid = 1}).ok());
}

}  // namespace
}  // namespace catnap::protocol
