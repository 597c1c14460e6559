// Asynchronous events, Abort and keep-alive, on a virtual clock.
#include <gtest/gtest.h>

#include "server/controller.h"
#include "tests/unit/server/controller_bench.h"

namespace catnap::server {
namespace {

using With = ControllerBench::ConnectWith;

constexpr std::uint32_t namespace_event = 0x0004'0002;
constexpr std::uint32_t ana_event = 0x000C'0302;
constexpr std::uint32_t discovery_event = 0x0070'F002;

void touch_namespace(ControllerBench& bench, std::uint32_t nsid) {
  bench.publish([&](TargetSnapshot& target, SubsystemSnapshot& subsystem) {
    auto config = std::make_shared<NamespaceConfig>();
    if (subsystem.namespaces.contains(nsid)) *config = *subsystem.namespaces.at(nsid);
    if (config->bdev == nullptr) config = bench.make_namespace(nsid, bench.disk);
    config->attributes_generation = target.generation;
    subsystem.namespaces[nsid] = config;
  });
}

std::vector<std::uint32_t> changed_list(ControllerBench& bench, FakeQueue& admin, bool retain = false) {
  std::vector<std::uint32_t> nsids;
  const auto changed = bench.log_page(admin, 0x04, 4096, retain).page<nvme::ChangedNamespaces>();
  for (const std::uint32_t nsid : changed.nsid) {
    if (nsid != 0) nsids.push_back(nsid);
  }
  return nsids;
}

// Proves: event | Namespace Attribute Changed | Base 2.0c 5.2
// Proves: event | Once each, none lost | Base 2.0c 5.2
TEST(EventTest, AnAddedNamespaceIsToldOnceUntilItsLogIsRead) {
  ControllerBench bench;
  FakeQueue& admin = bench.connect_admin();
  bench.set_feature(admin, nvme::Feature::async_event_configuration, nvme::aec_namespace_attribute);
  Command& first = bench.async_event(admin);
  Command& second = bench.async_event(admin);
  EXPECT_FALSE(first.done);
  touch_namespace(bench, 2);
  ASSERT_TRUE(first.done);
  EXPECT_EQ(first.dw0(), namespace_event);
  touch_namespace(bench, 3);
  EXPECT_FALSE(second.done) << "masked until the log is read";
  EXPECT_EQ(changed_list(bench, admin, true), (std::vector<std::uint32_t>{2, 3}));
  touch_namespace(bench, 1);
  EXPECT_FALSE(second.done) << "RAE keeps the mask";
  EXPECT_EQ(changed_list(bench, admin), (std::vector<std::uint32_t>{1, 2, 3}));
  EXPECT_TRUE(changed_list(bench, admin).empty());
  bench.publish([](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.namespaces.erase(2); });
  ASSERT_TRUE(second.done);
  EXPECT_EQ(second.dw0(), namespace_event);
  EXPECT_EQ(changed_list(bench, admin), std::vector<std::uint32_t>{2});
}

// Proves: event | Once each, none lost | Base 2.0c 5.2
TEST(EventTest, WaitsForARequestWhenNoneIsOutstanding) {
  ControllerBench bench;
  FakeQueue& admin = bench.connect_admin();
  bench.set_feature(admin, nvme::Feature::async_event_configuration, nvme::aec_namespace_attribute);
  touch_namespace(bench, 2);
  Command& event = bench.async_event(admin);
  ASSERT_TRUE(event.done);
  EXPECT_EQ(event.dw0(), namespace_event);
  // Read before it was told: nothing is left to tell.
  changed_list(bench, admin);
  touch_namespace(bench, 3);
  changed_list(bench, admin);
  EXPECT_FALSE(bench.async_event(admin).done);
}

// Proves: event | Masking | Base 2.0c 5.27.1.8
TEST(EventTest, IsNotToldUnlessAskedFor) {
  ControllerBench bench;
  FakeQueue& admin = bench.connect_admin();
  Command& event = bench.async_event(admin);
  touch_namespace(bench, 2);
  EXPECT_FALSE(event.done);
  bench.set_feature(admin, nvme::Feature::async_event_configuration, nvme::aec_namespace_attribute);
  EXPECT_FALSE(event.done);
  // An event that catnap does not offer cannot be asked for.
  EXPECT_TRUE(bench.set_feature(admin, nvme::Feature::async_event_configuration, nvme::aec_firmware_activation)
                  .status()
                  .same_code(nvme::GenericStatus::invalid_field));
  EXPECT_TRUE(
      bench.set_feature(admin, nvme::Feature::async_event_configuration, nvme::aec_ana_change).status().same_code(nvme::GenericStatus::invalid_field))
      << "ANA is off";
}

TEST(EventTest, HidesNamespacesThisHostMayNotSee) {
  ControllerBench bench;
  FakeQueue& admin = bench.connect_admin();
  bench.set_feature(admin, nvme::Feature::async_event_configuration, nvme::aec_namespace_attribute);
  Command& event = bench.async_event(admin);
  auto hidden = bench.make_namespace(2, bench.disk);
  hidden->no_auto_visible = true;
  bench.publish([&](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.namespaces[2] = hidden; });
  EXPECT_FALSE(event.done);
  auto shown = std::make_shared<NamespaceConfig>(*hidden);
  shown->visible_hosts = {test_host};
  bench.publish([&](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.namespaces[2] = shown; });
  EXPECT_TRUE(event.done);
}

TEST(EventTest, AnaChangesAreToldAndReadBack) {
  ControllerBench bench;
  bench.publish([](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.ana_reporting = true; });
  FakeQueue& admin = bench.connect_admin();
  EXPECT_TRUE(
      bench.set_feature(admin, nvme::Feature::async_event_configuration, nvme::aec_ana_change | nvme::aec_namespace_attribute).status().is_success());
  Command& event = bench.async_event(admin);
  bench.publish([](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.listeners[0].ana_states[1] = AnaState::inaccessible; });
  ASSERT_TRUE(event.done);
  EXPECT_EQ(event.dw0(), ana_event);
  struct Log {
    nvme::AnaHeader header;
    nvme::AnaGroup group;
    le32 nsid;
  };
  const auto log = bench.log_page(admin, 0x0C, 52, false, 0, 0xFFFFFFFF).page<Log>();
  EXPECT_EQ(log.header.chgcnt, first_ana_change_count);
  EXPECT_EQ(log.header.ngrps, 1U);
  EXPECT_EQ(log.group.grpid, 1U);
  EXPECT_EQ(log.group.nnsids, 1U);
  EXPECT_EQ(log.group.state, 3);
  EXPECT_EQ(log.nsid, 1U);
}

// Proves: event | Discovery Log Page Change | Base 2.0c 5.2
TEST(EventTest, DiscoveryControllersHearOfEveryGeneration) {
  ControllerBench bench;
  With with;
  with.subnqn = discovery_nqn;
  FakeQueue& admin = bench.connect_admin(with);
  bench.set_feature(admin, nvme::Feature::async_event_configuration, nvme::aec_discovery_change);
  Command& event = bench.async_event(admin);
  touch_namespace(bench, 2);
  EXPECT_FALSE(event.done) << "nothing in the discovery log has changed";
  bench.publish([](TargetSnapshot& target, SubsystemSnapshot& subsystem) {
    subsystem.listeners.clear();
    ++target.discovery_generation;
  });
  ASSERT_TRUE(event.done);
  EXPECT_EQ(event.dw0(), discovery_event);
}

// Proves: admin | Asynchronous Event Request | Base 2.0c 5.2
TEST(EventTest, AFifthRequestIsTooMany) {
  ControllerBench bench;
  FakeQueue& admin = bench.connect_admin();
  for (std::size_t i = 0; i < max_async_event_requests; ++i) EXPECT_FALSE(bench.async_event(admin).done);
  EXPECT_TRUE(bench.async_event(admin).status().same_code(nvme::CommandStatus::async_event_limit_exceeded));
}

// --- keep-alive ---

With with_kato(std::uint32_t kato_ms) {
  With with;
  with.kato_ms = kato_ms;
  return with;
}

// Proves: feature | Keep Alive Timer | Base 2.0c 5.27.1.12
TEST(KeepAliveTest, KatoIsRoundedUpAndReadBack) {
  ControllerBench bench;
  FakeQueue& admin = bench.connect_admin(with_kato(5001));
  EXPECT_EQ(bench.get_feature(admin, nvme::Feature::keep_alive_timer).dw0(), 6000U);
  bench.set_feature(admin, nvme::Feature::keep_alive_timer, 2500);
  EXPECT_EQ(bench.get_feature(admin, nvme::Feature::keep_alive_timer).dw0(), 3000U);
  EXPECT_EQ(bench.get_feature(admin, nvme::Feature::keep_alive_timer, 1).dw0(), 0U);
}

// Proves: controller | Keep Alive timeout | Base 2.0c 3.9
TEST(KeepAliveTest, ASilentHostIsDroppedButNotTooSoon) {
  ControllerBench bench;
  FakeQueue& admin = bench.connect_admin(with_kato(5000));
  bench.advance_ms(5000);
  EXPECT_FALSE(admin.disconnected.has_value());
  for (int i = 0; i < 20 && !admin.disconnected; ++i) bench.advance_ms(100);
  bench.advance_ms(1000);
  EXPECT_TRUE(admin.disconnected.has_value());
}

TEST(KeepAliveTest, KeepAliveCommandsHoldTheController) {
  ControllerBench bench;
  FakeQueue& admin = bench.connect_admin(with_kato(5000));
  for (int i = 0; i < 100; ++i) {
    bench.advance_ms(2500);
    EXPECT_TRUE(bench.run(admin, make_sqe(0x18)).status().is_success());
  }
  EXPECT_FALSE(admin.disconnected.has_value());
  for (int i = 0; i < 10; ++i) bench.advance_ms(1000);
  EXPECT_TRUE(admin.disconnected.has_value());
}

// Proves: controller | Traffic based keep alive | Base 2.0c 3.9
TEST(KeepAliveTest, IoTrafficHoldsTheControllerToo) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  bench.set_feature(*pair.admin, nvme::Feature::keep_alive_timer, 5000);
  for (int i = 0; i < 100; ++i) {
    bench.advance_ms(1000);
    bench.run(*pair.io, io_sqe(nvme::IoOpcode::read, 0, 1));
  }
  EXPECT_FALSE(pair.admin->disconnected.has_value());
  for (int i = 0; i < 15; ++i) bench.advance_ms(1000);
  EXPECT_TRUE(pair.admin->disconnected.has_value());
}

TEST(KeepAliveTest, WithoutKatoAnIoControllerStays) {
  ControllerBench bench;
  FakeQueue& admin = bench.connect_admin();
  for (int hours = 0; hours < 48; ++hours) bench.advance_ms(3'600'000);
  EXPECT_FALSE(admin.disconnected.has_value());
  EXPECT_EQ(bench.thread->nearest_deadline_ns(), TimerHeap::never_ns) << "no timer runs for it";
}

// Proves: controller | Keep Alive timeout | Base 2.0c 3.9
TEST(KeepAliveTest, ForgottenControllersEnd) {
  ControllerBench bench;
  With discovery;
  discovery.subnqn = discovery_nqn;
  FakeQueue& silent = bench.connect_admin(discovery);
  FakeQueue& never_enabled = bench.new_queue();
  bench.connect(never_enabled, With());
  FakeQueue& shut_down = bench.connect_admin();
  bench.property_set(shut_down, nvme::Property::cc, cc_shutdown);
  bench.advance_ms(119'000);
  EXPECT_FALSE(silent.disconnected || never_enabled.disconnected || shut_down.disconnected);
  for (int i = 0; i < 5; ++i) bench.advance_ms(1000);
  EXPECT_TRUE(silent.disconnected.has_value());
  EXPECT_TRUE(never_enabled.disconnected.has_value());
  EXPECT_TRUE(shut_down.disconnected.has_value());
}

}  // namespace
}  // namespace catnap::server
