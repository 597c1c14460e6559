// What the discovery log says beyond subsystems: referrals and for whom, labels, entries of one port, who is told of which change; and the log page
// of hosts (Base 2.0, section 5.16.1.23; Base 2.1, sections 5.1.12.3.1 and 5.1.12.3.2). Owner: the test. Left out: entries of subsystems
// (discovery_test.cpp).
#include <gmock/gmock.h>

#include <algorithm>

#include "tests/protocol/access_fixture.h"

namespace catnap::protocol {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::Not;

constexpr const char* nqn = "nqn.2026-11.io.catnap:listed";
constexpr std::uint32_t discovery_changed_dw0 = 0x0070F002;
const Place far_away{8009, "192.0.2.77"};  // TEST-NET: nobody goes there

template <std::size_t N>
std::string text_of(const std::array<char, N>& field) {
  std::string text(field.begin(), std::ranges::find(field, '\0'));
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

class ReferralTest : public AccessTest {
 protected:
  void TearDown() override {
    for (const auto& referral : rpc("nvmf_discovery_get_referrals")) {
      Json::Value place;
      place["address"] = referral["address"];
      place["subnqn"] = referral["subnqn"];
      rpc("nvmf_discovery_remove_referral", place.toStyledString());
    }
    AccessTest::TearDown();
  }
  static std::string refer(const Place& place, const std::string& more = "") {
    return R"({"address": )" + address_members(place) + (more.empty() ? "" : ", ") + more + "}";
  }
  static void add_referral(const std::string& more = "") { rpc("nvmf_discovery_add_referral", refer(far_away, more)); }
  static void remove_referral() { rpc("nvmf_discovery_remove_referral", refer(far_away)); }

  struct Log {
    nvme::DiscoveryHeader header;
    std::vector<nvme::DiscoveryEntry> entries;
    std::vector<std::string> places;  // "192.0.2.77:8009"
  };
  static Log read_log(Connection& admin, std::uint8_t lsp = 0) {
    constexpr std::uint32_t most = 64 * 1024;
    auto result =
        get_log(admin, {.page = nvme::LogPage::discovery, .length_bytes = most, .nsid = 0, .offset_bytes = 0, .lsp = lsp, .retain_event = false});
    EXPECT_TRUE(succeeded(result));
    Log log;
    log.header = data_as<nvme::DiscoveryHeader>(result);
    for (std::uint64_t i = 0; i < log.header.numrec; ++i) {
      log.entries.push_back(data_as<nvme::DiscoveryEntry>(result, 1024 * (i + 1)));
      log.places.push_back(text_of(log.entries.back().traddr) + ":" + text_of(log.entries.back().trsvcid));
    }
    return log;
  }
};

// Proves: access | Referrals | Base 5.16.1.23
// Proves: log | Discovery | Base 5.16.1.23
TEST_F(ReferralTest, AReferralIsAnEntryThatLeadsElsewhere) {
  add_referral(R"("secure_channel": true)");
  auto admin = discover(host_a);
  auto log = read_log(admin);
  ASSERT_THAT(log.places, Contains("192.0.2.77:8009"));
  auto at = std::ranges::find(log.places, "192.0.2.77:8009") - log.places.begin();
  const auto& entry = log.entries[static_cast<std::size_t>(at)];
  EXPECT_EQ(entry.subtype, static_cast<std::uint8_t>(nvme::DiscoverySubtype::referral));
  EXPECT_EQ(text_of(entry.subnqn), discovery_nqn);
  EXPECT_EQ(entry.trtype, static_cast<std::uint8_t>(nvme::TransportType::tcp));
  EXPECT_EQ(entry.adrfam, static_cast<std::uint8_t>(nvme::AddressFamily::ipv4));
  EXPECT_EQ(entry.treq & 3, nvme::treq_secure_required);
  EXPECT_EQ(entry.tsas[0], nvme::tcp_sectype_tls13);
  EXPECT_EQ(entry.cntlid, nvme::cntlid_dynamic);
  EXPECT_GE(entry.asqsz, 32);
  auto listed = rpc("nvmf_discovery_get_referrals");
  ASSERT_EQ(listed.size(), 1U);
  EXPECT_EQ(listed[0]["address"]["traddr"], "192.0.2.77");
  EXPECT_EQ(listed[0]["address"]["adrfam"], "IPv4");
  EXPECT_EQ(listed[0]["subnqn"], discovery_nqn);
  EXPECT_TRUE(listed[0]["secure_channel"].asBool());
  remove_referral();
  EXPECT_THAT(read_log(admin).places, Not(Contains("192.0.2.77:8009")));
}

TEST_F(ReferralTest, WithAnNqnOfItsOwnItIsASubsystem) {
  rpc("nvmf_discovery_add_referral", refer(far_away, R"("subnqn": "nqn.2026-11.io.catnap:elsewhere")"));
  auto admin = discover(host_a);
  auto log = read_log(admin);
  EXPECT_EQ(log.entries.back().subtype, static_cast<std::uint8_t>(nvme::DiscoverySubtype::nvm));
  EXPECT_EQ(text_of(log.entries.back().subnqn), "nqn.2026-11.io.catnap:elsewhere");
}

// Proves: event | Discovery Log Page Change | Base 5.2
// Proves: access | Referrals | Base 5.16.1.23
TEST_F(ReferralTest, AReferralForOneHostIsShownAndToldToThatHostAlone) {
  auto a = discover(host_a);
  auto b = discover(host_b);
  auto event_a = ask_for_event(a, nvme::aec_discovery_change);
  auto event_b = ask_for_event(b, nvme::aec_discovery_change);
  const std::uint64_t before = read_log(a).header.genctr;
  add_referral(R"("hosts": [")" + std::string(host_a) + R"("])");
  auto told = a.wait(event_a);
  ASSERT_TRUE(succeeded(told));
  EXPECT_EQ(told.cqe.dw0, discovery_changed_dw0);
  EXPECT_TRUE(nothing_told(b, event_b));
  EXPECT_THAT(read_log(a).places, Contains("192.0.2.77:8009"));
  EXPECT_GT(read_log(a).header.genctr, before);
  EXPECT_THAT(read_log(b).places, Not(Contains("192.0.2.77:8009")));

  event_a = ask_for_event(a, nvme::aec_discovery_change);
  add_referral(R"("hosts": [")" + std::string(host_a) + R"("])");
  EXPECT_TRUE(nothing_told(a, event_a)) << "the same once more is no change";
  rpc("nvmf_discovery_referral_add_host", refer(far_away, host_member(host_b)));
  EXPECT_TRUE(succeeded(b.wait(event_b)));
  EXPECT_TRUE(nothing_told(a, event_a));
  event_b = ask_for_event(b, nvme::aec_discovery_change);
  read_log(b);
  rpc("nvmf_discovery_referral_allow_any_host", refer(far_away, R"("allow_any_host": true)"));
  EXPECT_TRUE(nothing_told(a, event_a) && nothing_told(b, event_b)) << "both saw it before";
  rpc("nvmf_discovery_referral_remove_host", refer(far_away, host_member(host_b)));
  EXPECT_TRUE(nothing_told(b, event_b));
  rpc("nvmf_discovery_referral_allow_any_host", refer(far_away, R"("allow_any_host": false)"));
  EXPECT_TRUE(succeeded(b.wait(event_b)));
  EXPECT_TRUE(nothing_told(a, event_a));
}

TEST_F(ReferralTest, ASecondChangeIsHeldBackUntilTheLogIsRead) {
  auto a = discover(host_a);
  auto first = ask_for_event(a, nvme::aec_discovery_change);
  add_referral();
  ASSERT_TRUE(succeeded(a.wait(first)));
  auto second = ask_for_event(a, nvme::aec_discovery_change);
  remove_referral();
  EXPECT_TRUE(nothing_told(a, second)) << "masked until the log is read (Base 2.0, section 5.2)";
  read_log(a);
  add_referral();
  EXPECT_TRUE(succeeded(a.wait(second)));
}

TEST_F(ReferralTest, AHostListDecidesWhoIsToldOfASubsystem) {
  create(nqn, R"("allow_any_host": false)");
  listen(nqn);
  auto a = discover(host_a);
  auto b = discover(host_b);
  auto event_a = ask_for_event(a, nvme::aec_discovery_change);
  auto event_b = ask_for_event(b, nvme::aec_discovery_change);
  rpc("nvmf_subsystem_add_host", params(nqn, host_member(host_a)));
  EXPECT_TRUE(succeeded(a.wait(event_a)));
  EXPECT_TRUE(nothing_told(b, event_b));
  rpc("nvmf_subsystem_allow_any_host", params(nqn, R"("allow_any_host": true)"));
  EXPECT_TRUE(succeeded(b.wait(event_b)));
}

// Proves: log | Discovery | Base 5.16.1.23
TEST_F(ReferralTest, ExtendedEntriesCarryLabels) {
  create(nqn, R"("allow_any_host": true, "admin_label": "rack 7")");
  listen(nqn);
  auto admin = discover(host_a);
  constexpr std::uint32_t most = 64 * 1024;
  auto result = get_log(admin, {.page = nvme::LogPage::discovery,
                                .length_bytes = most,
                                .nsid = 0,
                                .offset_bytes = 0,
                                .lsp = nvme::discovery_lsp_extended,
                                .retain_event = false});
  ASSERT_TRUE(succeeded(result));
  auto header = data_as<nvme::DiscoveryHeader>(result);
  EXPECT_EQ(header.dlpf, nvme::discovery_lsp_extended);
  std::size_t at = sizeof(nvme::DiscoveryHeader);
  unsigned labels = 0;
  for (std::uint64_t i = 0; i < header.numrec; ++i) {
    auto entry = data_as<nvme::DiscoveryEntry>(result, at);
    auto extension = data_as<nvme::DiscoveryExtension>(result, at + sizeof(entry));
    if (text_of(entry.subnqn) == nqn) {
      ++labels;
      ASSERT_EQ(extension.numexat, 1);
      auto attribute = data_as<nvme::DiscoveryAttribute>(result, at + sizeof(entry) + sizeof(extension));
      EXPECT_EQ(attribute.exattype, nvme::discovery_attribute_admin_label);
      EXPECT_EQ(attribute.exatlen, 8) << "6 characters, in fours";
      auto label = data_as<std::array<char, 8>>(result, at + sizeof(entry) + sizeof(extension) + sizeof(attribute));
      EXPECT_EQ(text_of(label), "rack 7");
    } else {
      EXPECT_EQ(extension.numexat, 0);
      EXPECT_EQ(extension.tel, 1032U);
    }
    at += extension.tel;
  }
  EXPECT_EQ(labels, 1U);
  EXPECT_EQ(header.tdlpl, at) << "of the whole page";
  EXPECT_EQ(read_log(admin).header.dlpf, 0) << "asked for without, it comes without";
}

// Proves: log | Discovery | Base 5.16.1.23
TEST_F(ReferralTest, PortLocalEntriesAreThoseOfThisAddress) {
  const Place other{free_port(), "127.0.0.1"};
  create(nqn);
  listen(nqn);
  listen(nqn, other);
  add_referral();
  auto admin = discover(host_a, other);
  auto log = read_log(admin, nvme::discovery_lsp_port_local);
  EXPECT_EQ(log.header.dlpf, nvme::discovery_lsp_port_local);
  EXPECT_THAT(log.places, ElementsAre("127.0.0.1:" + std::to_string(other.port)));
  auto supported = get_log(admin, {.page = nvme::LogPage::supported_pages, .length_bytes = 1024, .nsid = 0});
  ASSERT_TRUE(succeeded(supported));
  auto bits = std::uint32_t{data_as<nvme::SupportedLogPages>(supported).page[0x70]} >> 16;
  EXPECT_EQ(bits, std::uint32_t{nvme::discovery_lsp_extended | nvme::discovery_lsp_port_local});
}

TEST_F(ReferralTest, AllSubsystemsAreNotShownToThoseWhoMayNotEnter) {
  create(nqn, R"("allow_any_host": false)");
  listen(nqn);
  auto admin = discover(host_a);
  auto log = read_log(admin, nvme::discovery_lsp_all);
  EXPECT_EQ(log.header.dlpf, 0) << "the page says that the wish was not heeded";
  EXPECT_TRUE(std::ranges::none_of(log.entries, [](const auto& entry) { return text_of(entry.subnqn) == nqn; }));
}

TEST_F(ReferralTest, TheDiscoverySubsystemsOwnListenersAreListedOnceEach) {
  const Place other{free_port(), "127.0.0.1"};
  rpc("nvmf_subsystem_add_listener", params("discovery", listen_address(other)));
  auto here = discover(host_a);
  auto there = discover(host_a, other);
  for (Connection* admin : {&here, &there}) {
    auto log = read_log(*admin);
    auto own = std::ranges::count_if(
        log.entries, [](const auto& entry) { return entry.subtype == static_cast<std::uint8_t>(nvme::DiscoverySubtype::current_discovery); });
    EXPECT_EQ(own, admin == &here ? 2 : 1);
    EXPECT_EQ(log.entries[0].eflags, nvme::discovery_eflag_duplicate_info | nvme::discovery_eflag_explicit_persistent);
  }
  rpc("nvmf_subsystem_remove_listener", params("discovery", listen_address(other)));
  EXPECT_TRUE(is_gone(there));
  EXPECT_TRUE(is_there(here));
}

TEST_F(ReferralTest, TheDiscoverySubsystemMayBeForSomeHosts) {
  rpc("nvmf_subsystem_add_host", params("discovery", host_member(host_a)));
  rpc("nvmf_subsystem_allow_any_host", params("discovery", R"("allow_any_host": false)"));
  EXPECT_TRUE(succeeded(try_connect(discovery_nqn, host_a)));
  EXPECT_TRUE(has_status(try_connect(discovery_nqn, host_b), nvme::FabricsStatus::connect_invalid_host));
  rpc("nvmf_subsystem_allow_any_host", params("discovery", R"("allow_any_host": true)"));
  rpc("nvmf_subsystem_remove_host", params("discovery", host_member(host_a)));
  EXPECT_TRUE(succeeded(try_connect(discovery_nqn, host_b)));
}

// Proves: log | Host Discovery | Base 2.1 5.1.12.3.3
TEST_F(ReferralTest, TheHostLogShowsHostsOfSubsystemsThatOneMayEnter) {
  create(nqn, R"("allow_any_host": false)");
  rpc("nvmf_subsystem_add_host", params(nqn, host_member(host_a)));
  listen(nqn);
  auto inside = come_in(nqn, host_a);
  auto hosts_seen_by = [](Connection& admin) {
    auto result = get_log(admin, {.page = nvme::LogPage::host_discovery, .length_bytes = 32768, .nsid = 0});
    EXPECT_TRUE(succeeded(result));
    auto header = data_as<nvme::HostDiscoveryHeader>(result);
    std::vector<std::string> names;
    std::size_t at = sizeof(header);
    for (std::uint64_t i = 0; i < header.numrec; ++i) {
      auto entry = data_as<nvme::HostDiscoveryEntry>(result, at);
      EXPECT_EQ(text_of(entry.traddr), "127.0.0.1");
      EXPECT_EQ(entry.trtype, static_cast<std::uint8_t>(nvme::TransportType::tcp));
      names.push_back(text_of(entry.hostnqn));
      at += entry.tel;
    }
    EXPECT_EQ(header.thdlpl, at);
    return names;
  };
  auto a = discover(host_a);
  auto b = discover(host_b);
  EXPECT_THAT(hosts_seen_by(a), Contains(host_a));
  EXPECT_THAT(hosts_seen_by(b), testing::AllOf(Contains(host_b), Contains(default_host_nqn), Not(Contains(host_a))))
      << "itself, and the bystander, which is in a subsystem for everybody";
  rpc("nvmf_subsystem_add_host", params(nqn, host_member(host_b)));
  EXPECT_THAT(hosts_seen_by(b), Contains(host_a));
}

// Proves: event | Host Discovery Log Page Change | Base 2.1 5.1.2.1
TEST_F(ReferralTest, WhoMayKnowOfAHostIsToldWhenItComesAndGoes) {
  constexpr std::uint32_t host_log_changed_dw0 = 0x0071F102;
  create(nqn, R"("allow_any_host": false)");
  rpc("nvmf_subsystem_add_host", params(nqn, host_member(host_a)));
  listen(nqn);
  auto a = discover(host_a);
  auto b = discover(host_b);
  EXPECT_NE(data_as<nvme::IdentifyController>(identify(a, nvme::Cns::controller)).oaes & nvme::oaes_host_discovery_change, 0U);
  const auto read_host_log = [](Connection& admin) {
    EXPECT_TRUE(succeeded(get_log(admin, {.page = nvme::LogPage::host_discovery, .length_bytes = 32768, .nsid = 0})));
  };
  auto event_a = ask_for_event(a, nvme::aec_host_discovery_change);
  auto event_b = ask_for_event(b, nvme::aec_host_discovery_change);
  auto inside = come_in(nqn, host_a);
  auto told = a.wait(event_a);
  ASSERT_TRUE(succeeded(told));
  EXPECT_EQ(told.cqe.dw0, host_log_changed_dw0);
  EXPECT_TRUE(nothing_told(b, event_b)) << "it may not enter, and learns nothing";
  read_host_log(a);
  event_a = ask_for_event(a, nvme::aec_host_discovery_change);
  auto again = come_in(nqn, host_a);
  EXPECT_TRUE(nothing_told(a, event_a)) << "a second controller of the same host changes nothing";
  again = {};
  rpc("nvmf_subsystem_add_host", params(nqn, host_member(host_b)));
  EXPECT_TRUE(succeeded(b.wait(event_b))) << "now it sees who is there";
  EXPECT_TRUE(nothing_told(a, event_a));
  read_host_log(b);
  event_b = ask_for_event(b, nvme::aec_host_discovery_change);
  inside = {};
  EXPECT_TRUE(succeeded(a.wait(event_a)));
  EXPECT_TRUE(succeeded(b.wait(event_b)));
}

TEST_F(ReferralTest, RegistrationOfHostsIsNotOffered) {
  auto admin = discover(host_a);
  auto controller = data_as<nvme::IdentifyController>(identify(admin, nvme::Cns::controller));
  EXPECT_EQ(controller.dctype, static_cast<std::uint8_t>(nvme::DiscoveryControllerType::direct));
  auto sqe = admin_command(static_cast<nvme::AdminOpcode>(0x21));
  EXPECT_TRUE(has_status(admin.run(sqe), nvme::GenericStatus::invalid_opcode));
}

}  // namespace
}  // namespace catnap::protocol
