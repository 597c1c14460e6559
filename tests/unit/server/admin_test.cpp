// Identify, log pages and features: what hosts read, and what is refused.
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "server/controller.h"
#include "server/identify.h"
#include "tests/unit/server/controller_bench.h"

namespace catnap::server {
namespace {

using With = ControllerBench::ConnectWith;

constexpr nvme::Status invalid_field = nvme::GenericStatus::invalid_field;
constexpr nvme::Status invalid_namespace = nvme::GenericStatus::invalid_namespace_or_format;
constexpr nvme::Status invalid_log_page = nvme::CommandStatus::invalid_log_page;

With discovery_with() {
  With with;
  with.subnqn = discovery_nqn;
  return with;
}

template <std::size_t Size>
std::string text(const std::array<char, Size>& field) {
  return std::string(field.data(), Size);
}

// Proves: identify | Identify Controller | Base 2.0c 5.17.2.1
TEST(IdentifyTest, ControllerSaysWhatLinuxChecks) {
  ControllerBench bench;
  std::uint16_t cntlid = 0;
  FakeQueue& admin = bench.connect_admin(With(), &cntlid);
  const auto data = bench.identify(admin, 1).page<nvme::IdentifyController>();
  EXPECT_EQ(text(data.sn), "SERIAL              ");
  EXPECT_EQ(std::string(data.subnqn.data()), test_nqn);
  EXPECT_EQ(data.cntlid, cntlid);
  EXPECT_EQ(data.cntrltype, 1);
  EXPECT_EQ(data.ver, nvme_version);
  EXPECT_EQ(data.mdts, 5) << "128 KiB";
  EXPECT_EQ(data.kas, 10U);
  EXPECT_EQ(data.ioccsz, (64U + 4096) / 16);
  EXPECT_EQ(data.icdoff, 0U);
  EXPECT_EQ(data.sgls & 0x0030'0003U, 0x0030'0001U);
  EXPECT_NE(data.sgls & 1U << 18, 0U) << "Linux describes 4096 bytes for every Dataset Management";
  EXPECT_EQ(data.maxcmd, 128U);
  EXPECT_EQ(data.oaes, nvme::oaes_namespace_attribute);
  EXPECT_EQ(data.ctratt & 1U << 6, 1U << 6);
  EXPECT_EQ(data.cmic, 3);
  EXPECT_EQ(data.vwc, 7);
  EXPECT_EQ(data.nn, 32U);
}

TEST(IdentifyTest, AnaFieldsComeWithAnaReporting) {
  ControllerBench bench;
  bench.publish([](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.ana_reporting = true; });
  const auto data = bench.identify(bench.connect_admin(), 1).page<nvme::IdentifyController>();
  EXPECT_EQ(data.cmic & nvme::cmic_ana, nvme::cmic_ana);
  EXPECT_EQ(data.anacap & 0x1F, 0x1F);
  EXPECT_EQ(data.anagrpmax, 32U);
  EXPECT_EQ(data.nanagrpid, 32U);
  EXPECT_EQ(data.mnan, 32U);
  EXPECT_NE(data.anatt, 0);
}

// Proves: identify | Identify Namespace | NVM 1.0c 4.1.5.1
TEST(IdentifyTest, NamespaceShowsItsSizeNow) {
  ControllerBench bench;
  FakeQueue& admin = bench.connect_admin();
  auto data = bench.identify(admin, 0, 1).page<nvme::IdentifyNamespace>();
  EXPECT_EQ(data.nsze, 4096U);
  EXPECT_EQ(data.lbaf[0].lbads, 9);
  EXPECT_EQ(data.nmic, 1);
  EXPECT_EQ(data.dlfeat, 0x9);
  EXPECT_EQ(data.anagrpid, 0U);
  bench.on(*bench.app, [&] { bench.disk->resize(8192); });
  EXPECT_EQ(bench.identify(admin, 0, 1).page<nvme::IdentifyNamespace>().nsze, 8192U);
  Command& inactive = bench.identify(admin, 0, 2);
  EXPECT_TRUE(inactive.status().is_success());
  EXPECT_EQ(inactive.buffer, std::vector<std::byte>(4096)) << "zeros";
  EXPECT_TRUE(bench.identify(admin, 0, 0).status().same_code(invalid_namespace));
  EXPECT_TRUE(bench.identify(admin, 0, 33).status().same_code(invalid_namespace)) << "above NN";
  EXPECT_TRUE(bench.identify(admin, 0, 0xFFFFFFFF).status().same_code(invalid_namespace));
}

// Proves: identify | Active Namespace List | Base 2.0c 5.17.2.2
// Proves: identify | Namespace Identification Descriptors | Base 2.0c 5.17.2.3
TEST(IdentifyTest, ListsAndDescriptors) {
  ControllerBench bench;
  auto hidden = bench.make_namespace(3, bench.disk);
  hidden->no_auto_visible = true;
  auto named = bench.make_namespace(5, bench.disk);
  named->nguid.fill(0xAA);
  named->eui64.fill(0xBB);
  bench.publish([&](TargetSnapshot&, SubsystemSnapshot& subsystem) {
    subsystem.namespaces[3] = hidden;
    subsystem.namespaces[5] = named;
  });
  FakeQueue& admin = bench.connect_admin();
  const auto list = bench.identify(admin, 2).page<nvme::NamespaceList>();
  EXPECT_EQ(list.nsid[0], 1U);
  EXPECT_EQ(list.nsid[1], 5U);
  EXPECT_EQ(list.nsid[2], 0U);
  EXPECT_EQ(bench.identify(admin, 2, 1).page<nvme::NamespaceList>().nsid[0], 5U);
  EXPECT_EQ(bench.identify(admin, 7, 0, 0).page<nvme::NamespaceList>().nsid[1], 5U);
  EXPECT_TRUE(bench.identify(admin, 2, 0xFFFFFFFE).status().same_code(invalid_namespace));

  const auto& bytes = bench.identify(admin, 3, 5).buffer;
  auto at = [&](std::size_t i) { return std::to_integer<int>(bytes[i]); };
  EXPECT_EQ(at(0), 1) << "EUI-64 first";
  EXPECT_EQ(at(1), 8);
  EXPECT_EQ(at(4), 0xBB);
  EXPECT_EQ(at(12), 2) << "NGUID";
  EXPECT_EQ(at(32), 3) << "UUID";
  EXPECT_EQ(at(33), 16);
  EXPECT_EQ(at(52), 4) << "command set";
  EXPECT_EQ(at(53), 1);
  EXPECT_EQ(at(57), 0) << "end";
  EXPECT_TRUE(bench.identify(admin, 3, 3).status().same_code(invalid_namespace)) << "hidden";
}

TEST(IdentifyTest, CommandSetPagesAndUnknownOnes) {
  ControllerBench bench;
  FakeQueue& admin = bench.connect_admin();
  EXPECT_TRUE(bench.identify(admin, 5, 1).status().is_success());
  EXPECT_TRUE(bench.identify(admin, 6).status().is_success());
  EXPECT_EQ(bench.identify(admin, 8, 1).page<nvme::IndependentNamespace>().nstat, 1);
  EXPECT_EQ(bench.identify(admin, 8, 2).page<nvme::IndependentNamespace>().nstat, 0);
  EXPECT_TRUE(bench.identify(admin, 6, 0, 2).status().same_code(nvme::CommandStatus::invalid_io_command_set));
  EXPECT_TRUE(bench.identify(admin, 0x1F).status().same_code(invalid_field));
  nvme::SubmissionEntry short_page = make_sqe(0x06, 0, 1024);
  short_page.cdw10 = 1U;
  EXPECT_TRUE(bench.run(admin, short_page).status().same_code(nvme::GenericStatus::data_sgl_length_invalid));

  FakeQueue& discovery = bench.connect_admin(discovery_with());
  EXPECT_EQ(bench.identify(discovery, 1).page<nvme::IdentifyController>().cntrltype, 2);
  EXPECT_EQ(bench.identify(discovery, 1).page<nvme::IdentifyController>().oaes, nvme::oaes_discovery_change | nvme::oaes_host_discovery_change);
  EXPECT_TRUE(bench.identify(discovery, 2).status().same_code(invalid_field));
}

// Proves: log | Supported Log Pages | Base 2.0c 5.16.1.1
TEST(LogPageTest, SupportedPagesAreThoseThatAnswer) {
  for (const bool discovery : {false, true}) {
    ControllerBench bench;
    FakeQueue& admin = discovery ? bench.connect_admin(discovery_with()) : bench.connect_admin();
    const auto list = bench.log_page(admin, 0, 1024).page<nvme::SupportedLogPages>();
    for (unsigned lid = 0; lid < 256; ++lid) {
      const bool answers = bench.log_page(admin, static_cast<std::uint8_t>(lid), 16).status().is_success();
      EXPECT_EQ(answers, (list.page[lid] & 1) != 0) << "page " << lid;
    }
  }
}

// Proves: log | Commands Supported and Effects | Base 2.0c 5.16.1.6
TEST(LogPageTest, EffectsAreThoseOfCommandsThatAnswer) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  const auto log = bench.log_page(*pair.admin, 5, 4096).page<nvme::EffectsLog>();
  for (unsigned opcode = 0; opcode < 256; ++opcode) {
    const Command& admin = bench.run(*pair.admin, make_sqe(static_cast<std::uint8_t>(opcode)));
    const bool taken = !admin.done || !admin.status().same_code(nvme::GenericStatus::invalid_opcode);
    EXPECT_EQ(taken, (log.admin[opcode] & 1) != 0) << "admin " << opcode;
    const Command& io = bench.run(*pair.io, make_sqe(static_cast<std::uint8_t>(opcode), 0xFFFFFFF0));
    EXPECT_EQ(!io.status().same_code(nvme::GenericStatus::invalid_opcode), (log.io[opcode] & 1) != 0) << "I/O " << opcode;
  }
}

// Proves: log | Offsets and lengths | Base 2.0c 5.16
TEST(LogPageTest, OffsetsCutAndRunOut) {
  ControllerBench bench;
  FakeQueue& admin = bench.connect_admin();
  const auto whole = bench.log_page(admin, 5, 4096).buffer;
  const auto part = bench.log_page(admin, 5, 64, false, 24).buffer;
  EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 24));
  const auto tail = bench.log_page(admin, 3, 16, false, 508);
  EXPECT_TRUE(tail.status().is_success());
  EXPECT_EQ(tail.buffer, std::vector<std::byte>(16));
  EXPECT_TRUE(bench.log_page(admin, 3, 16, false, 516).status().same_code(invalid_field));
  EXPECT_TRUE(bench.log_page(admin, 3, 16, false, 2).status().same_code(invalid_field)) << "whole dwords";
  EXPECT_TRUE(bench.log_page(admin, 3, 262144).status().same_code(invalid_field)) << "above MDTS";
  EXPECT_TRUE(bench.log_page(admin, 0x0C, 16).status().same_code(invalid_log_page)) << "ANA is off";
  EXPECT_TRUE(bench.log_page(admin, 0x70, 16).status().same_code(invalid_log_page));
  EXPECT_TRUE(bench.log_page(admin, 2, 512, false, 0, 1).status().same_code(invalid_field)) << "SMART per namespace";
}

// Proves: log | SMART / Health Information | Base 2.0c 5.16.1.3
TEST(LogPageTest, SmartCountsWhatWasDone) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  for (int i = 0; i < 3; ++i) bench.run(*pair.io, io_sqe(nvme::IoOpcode::read, 0, 256));
  bench.run(*pair.io, io_sqe(nvme::IoOpcode::write, 0, 8), std::vector<std::byte>(4096));
  bench.run(*pair.io, io_sqe(nvme::IoOpcode::read, 9999, 8));
  auto smart = bench.log_page(*pair.admin, 2, 512, false, 0, 0xFFFFFFFF).page<nvme::SmartLog>();
  EXPECT_EQ(smart.host_read_commands.low, 3U);
  EXPECT_EQ(smart.host_write_commands.low, 1U);
  EXPECT_EQ(smart.data_units_read.low, 1U) << "384 KiB, rounded up to thousands of 512 bytes";
  EXPECT_EQ(smart.data_units_written.low, 1U);
  EXPECT_EQ(smart.error_log_entries.low, 1U);
  bench.close(*pair.io);
  EXPECT_EQ(bench.log_page(*pair.admin, 2, 512).page<nvme::SmartLog>().host_read_commands.low, 3U) << "kept after the queue";
}

struct DiscoveryLog {
  nvme::DiscoveryHeader header;
  std::array<nvme::DiscoveryEntry, 3> entries;
};

TEST(DiscoveryLogTest, ShowsWhatThisHostMayConnectTo) {
  ControllerBench bench;
  FakeQueue& admin = bench.connect_admin(discovery_with());
  auto log = bench.log_page(admin, 0x70, sizeof(DiscoveryLog)).page<DiscoveryLog>();
  EXPECT_EQ(log.header.genctr, 1U);
  EXPECT_EQ(log.header.numrec, 2U);
  EXPECT_EQ(log.entries[0].subtype, 3);
  EXPECT_EQ(std::string(log.entries[0].subnqn.data()), discovery_nqn);
  EXPECT_EQ(log.entries[1].subtype, 2);
  EXPECT_EQ(std::string(log.entries[1].subnqn.data()), test_nqn);
  EXPECT_EQ(log.entries[1].treq, 0);
  EXPECT_EQ(log.entries[1].portid, 3U);
  EXPECT_EQ(log.entries[1].cntlid, 0xFFFFU);
  EXPECT_EQ(text(log.entries[1].traddr).substr(0, 11), "127.0.0.1  ");
  EXPECT_EQ(text(log.entries[1].trsvcid).substr(0, 6), "4420  ");

  With stranger = discovery_with();
  stranger.hostnqn = "nqn.2026-11.io.catnap:stranger";
  EXPECT_EQ(bench.log_page(bench.connect_admin(stranger), 0x70, sizeof(DiscoveryLog)).page<DiscoveryLog>().header.numrec, 1U);

  bench.publish([](TargetSnapshot& target, SubsystemSnapshot& subsystem) {
    subsystem.listeners[0].address.traddr = "0.0.0.0";
    target.discovery_generation = 9;
  });
  log = bench.log_page(admin, 0x70, sizeof(DiscoveryLog)).page<DiscoveryLog>();
  EXPECT_EQ(log.header.genctr, 9U);
  EXPECT_EQ(text(log.entries[1].traddr).substr(0, 11), "127.0.0.1  ") << "an address that the host can reach";
}

// Proves: feature | Selectors | Base 2.0c 5.15
// Proves: feature | Volatile Write Cache | Base 2.0c 5.27.1.4
// Proves: feature | Error Recovery | NVM 1.0c 4.1.3.2
TEST(FeatureTest, CapabilitiesSavingAndNamespaces) {
  ControllerBench bench;
  FakeQueue& admin = bench.connect_admin();
  EXPECT_EQ(bench.get_feature(admin, nvme::Feature::volatile_write_cache).dw0(), 1U);
  EXPECT_EQ(bench.get_feature(admin, nvme::Feature::volatile_write_cache, 3).dw0(), 0U);
  EXPECT_TRUE(bench.set_feature(admin, nvme::Feature::volatile_write_cache, 0).status().same_code(nvme::CommandStatus::feature_not_changeable));
  EXPECT_EQ(bench.get_feature(admin, nvme::Feature::error_recovery, 3).dw0(), nvme::feature_changeable | nvme::feature_namespace_specific);
  EXPECT_TRUE(bench.get_feature(admin, nvme::Feature::error_recovery).status().same_code(invalid_namespace)) << "NSID 0";
  EXPECT_TRUE(bench.get_feature(admin, static_cast<nvme::Feature>(0x0C)).status().same_code(invalid_field));
  EXPECT_TRUE(bench.get_feature(admin, nvme::Feature::arbitration, 5).status().same_code(invalid_field));
  nvme::SubmissionEntry save = make_sqe(0x09);
  save.cdw10 = static_cast<std::uint32_t>(nvme::Feature::arbitration) | nvme::set_features_save;
  EXPECT_TRUE(bench.run(admin, save).status().same_code(nvme::CommandStatus::feature_not_saveable));
  nvme::SubmissionEntry scoped = make_sqe(0x09, 1);
  scoped.cdw10 = static_cast<std::uint32_t>(nvme::Feature::arbitration);
  EXPECT_TRUE(bench.run(admin, scoped).status().same_code(nvme::CommandStatus::feature_not_namespace_specific));
}

// Proves: feature | Arbitration | Base 2.0c 5.27.1.1
// Proves: feature | Temperature Threshold | Base 2.0c 5.27.1.3
TEST(FeatureTest, ValuesAreReadBackAndResetBringsDefaults) {
  ControllerBench bench;
  FakeQueue& admin = bench.connect_admin();
  bench.set_feature(admin, nvme::Feature::arbitration, 0x0A0B0C07);
  bench.set_feature(admin, nvme::Feature::temperature_threshold, 340);
  EXPECT_EQ(bench.get_feature(admin, nvme::Feature::arbitration).dw0(), 0x0A0B0C07U);
  EXPECT_EQ(bench.get_feature(admin, nvme::Feature::arbitration, 1).dw0(), 0U);
  EXPECT_EQ(bench.get_feature(admin, nvme::Feature::temperature_threshold).dw0(), 340U);
  bench.property_set(admin, nvme::Property::cc, cc_disable);
  bench.property_set(admin, nvme::Property::cc, cc_enable);
  EXPECT_EQ(bench.get_feature(admin, nvme::Feature::arbitration).dw0(), 0U);
  EXPECT_EQ(bench.get_feature(admin, nvme::Feature::temperature_threshold).dw0(), 0xFFFFU);
}

// Proves: feature | Host Identifier | Base 2.0c 5.27.1.25
TEST(FeatureTest, HostIdentifierIsThatOfConnect) {
  ControllerBench bench;
  FakeQueue& admin = bench.connect_admin();
  nvme::SubmissionEntry sqe = make_sqe(0x0A, 0, 16);
  sqe.cdw10 = static_cast<std::uint32_t>(nvme::Feature::host_identifier);
  EXPECT_TRUE(bench.run(admin, sqe).status().same_code(nvme::GenericStatus::host_id_inconsistent_format));
  sqe.cdw11 = nvme::host_identifier_exhid;
  EXPECT_EQ(bench.run(admin, sqe).buffer, std::vector<std::byte>(16, std::byte{7}));
}

// Proves: log | Feature Identifiers Supported and Effects | Base 2.0c 5.16.1.18
TEST(FeatureTest, SupportedFeaturesLogMatchesGetFeatures) {
  ControllerBench bench;
  FakeQueue& admin = bench.connect_admin();
  const auto list = bench.log_page(admin, 0x12, 1024).page<nvme::SupportedFeatures>();
  for (unsigned fid = 0; fid < 256; ++fid) {
    const Command& answer = bench.get_feature(admin, static_cast<nvme::Feature>(fid), 3);
    EXPECT_EQ(answer.status().is_success(), (list.feature[fid] & 1) != 0) << "feature " << fid;
  }
}

TEST(IdentifyTest, MdtsIsAFloor) {
  EXPECT_EQ(mdts_for(131072), 5);
  EXPECT_EQ(mdts_for(1048576), 8);
  EXPECT_EQ(mdts_for(196608), 5);
  EXPECT_EQ(mdts_for(8192), 1);
}

}  // namespace
}  // namespace catnap::server
