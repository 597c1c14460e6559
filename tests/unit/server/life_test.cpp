// A controller's life beyond Connect, enable and shutdown: NVM subsystem reset, keep-alive bounds, command retry delays, error and health events,
// lists of controllers, host behaviour.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "server/controller.h"
#include "tests/unit/server/controller_bench.h"

namespace catnap::server {
namespace {

using nvme::Feature;
using nvme::IoOpcode;
using nvme::Property;

constexpr nvme::Status invalid_field = nvme::GenericStatus::invalid_field;
constexpr std::uint32_t nssro = 1U << 4;

// --- NVM subsystem reset ---

void enable_nssr(ControllerBench& bench) {
  bench.publish([](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.enable_nssr = true; });
}

// Proves: controller | NVM Subsystem Reset | Base 2.0c 3.7.1
TEST(SubsystemResetTest, ResetsEveryControllerAndIsRememberedUntilCleared) {
  ControllerBench bench;
  enable_nssr(bench);
  const auto one = bench.connect_io();
  const auto two = bench.connect_io();
  EXPECT_NE(bench.property_get(*one.admin, Property::cap, true).request.cqe.dw0_dw1() >> 36 & 1, 0U) << "CAP.NSSRS";
  bench.disk->hold = true;
  Command& read = bench.run(*two.io, io_sqe(IoOpcode::read, 0, 1));
  EXPECT_TRUE(bench.property_set(*one.admin, Property::nssr, nvme::nssr_reset_value).status().is_success());
  EXPECT_TRUE(one.io->disconnected && two.io->disconnected) << "I/O queues of all controllers end";
  EXPECT_FALSE(one.admin->disconnected || two.admin->disconnected) << "the association stays";
  bench.close(*one.io);
  EXPECT_EQ(bench.property_get(*one.admin, Property::csts).dw0(), nssro) << "not ready, and why";
  EXPECT_EQ(bench.property_get(*two.admin, Property::csts).dw0() & 1, 1U) << "a command is still in flight";
  bench.close(*two.io);
  bench.on(*bench.thread, [&] { bench.disk->release(); });
  bench.settle();
  EXPECT_TRUE(read.done);
  EXPECT_EQ(bench.property_get(*two.admin, Property::csts).dw0(), nssro);
  EXPECT_EQ(bench.property_get(*two.admin, Property::cc).dw0(), 0U);

  EXPECT_TRUE(bench.property_set(*two.admin, Property::cc, cc_enable).status().is_success());
  EXPECT_EQ(bench.property_get(*two.admin, Property::csts).dw0(), nssro | 1U) << "stays until the host clears it";
  EXPECT_TRUE(bench.property_set(*two.admin, Property::csts, nssro).status().is_success());
  EXPECT_EQ(bench.property_get(*two.admin, Property::csts).dw0(), 1U);
  EXPECT_EQ(bench.property_get(*one.admin, Property::csts).dw0(), nssro) << "each controller has its own";
}

TEST(SubsystemResetTest, OtherValuesAndSubsystemsWithoutIt) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  EXPECT_TRUE(bench.property_set(*pair.admin, Property::nssr, nvme::nssr_reset_value).status().same_code(invalid_field)) << "not enabled";
  EXPECT_TRUE(bench.property_get(*pair.admin, Property::nssr).status().same_code(invalid_field));
  EXPECT_TRUE(bench.property_set(*pair.admin, Property::csts, nssro).status().same_code(invalid_field));
  enable_nssr(bench);
  EXPECT_TRUE(bench.property_set(*pair.admin, Property::nssr, 0x12345678).status().is_success());
  EXPECT_EQ(bench.property_get(*pair.admin, Property::nssr).dw0(), 0U);
  EXPECT_EQ(bench.property_get(*pair.admin, Property::csts).dw0(), 1U) << "only the one value resets";
  EXPECT_FALSE(pair.io->disconnected.has_value());
}

// --- keep-alive ---

// Proves: feature | Keep Alive Timer | Base 2.0c 5.27.1.12
TEST(KeepAliveBoundsTest, GranularityAndLeastTimeAreThoseOfTheTransport) {
  transport::TransportLimits limits;
  EXPECT_EQ(Controller::round_kato_ms(0, limits), 0U) << "none is none";
  EXPECT_EQ(Controller::round_kato_ms(1, limits), 1000U);
  EXPECT_EQ(Controller::round_kato_ms(1001, limits), 2000U);
  EXPECT_EQ(Controller::round_kato_ms(0xFFFFFFFF, limits), 4'294'967'000U);
  limits.keep_alive_granularity_100ms = 100;
  limits.min_kato_ms = 15'000;
  EXPECT_EQ(Controller::round_kato_ms(1, limits), 20'000U);
  EXPECT_EQ(Controller::round_kato_ms(20'001, limits), 30'000U);
  EXPECT_EQ(Controller::round_kato_ms(0, limits), 0U);

  tcp::TcpOptions options;
  options.limits = limits;
  ControllerBench bench(options);
  ControllerBench::ConnectWith with;
  with.kato_ms = 5000;
  FakeQueue& admin = bench.connect_admin(with);
  EXPECT_EQ(bench.identify(admin, 0x01).page<nvme::IdentifyController>().kas, 100U);
  EXPECT_EQ(bench.get_feature(admin, Feature::keep_alive_timer).dw0(), 20'000U);
  bench.set_feature(admin, Feature::keep_alive_timer, 25'000);
  EXPECT_EQ(bench.get_feature(admin, Feature::keep_alive_timer).dw0(), 30'000U);
  for (int seconds = 0; seconds < 30; ++seconds) bench.advance_ms(1000);
  EXPECT_FALSE(admin.disconnected.has_value());
  for (int seconds = 0; seconds < 3; ++seconds) bench.advance_ms(1000);
  EXPECT_TRUE(admin.disconnected.has_value());
}

// --- command retry delays ---

Command& set_host_behavior(ControllerBench& bench, FakeQueue& admin, std::uint8_t acre, std::uint32_t sgl_bytes = nvme::host_behavior_bytes) {
  nvme::SubmissionEntry sqe = make_sqe(0x09, 0, sgl_bytes);
  sqe.cdw10 = static_cast<std::uint32_t>(Feature::host_behavior);
  std::vector<std::byte> data(nvme::host_behavior_bytes);
  data[0] = std::byte{acre};
  return bench.run(admin, sqe, std::move(data));
}

std::uint8_t get_host_behavior(ControllerBench& bench, FakeQueue& admin, std::uint32_t select = 0) {
  nvme::SubmissionEntry sqe = make_sqe(0x0A, 0, nvme::host_behavior_bytes);
  sqe.cdw10 = static_cast<std::uint32_t>(Feature::host_behavior) | select << 8;
  const Command& answer = bench.run(admin, sqe);
  EXPECT_TRUE(answer.status().is_success());
  return static_cast<std::uint8_t>(answer.buffer.at(0));
}

// Proves: feature | Host Behavior Support | Base 2.0c 5.27.1.18
TEST(HostBehaviorTest, IsSetReadBackAndReset) {
  ControllerBench bench;
  FakeQueue& admin = bench.connect_admin();
  EXPECT_EQ(get_host_behavior(bench, admin), 0);
  EXPECT_TRUE(set_host_behavior(bench, admin, 1).status().is_success());
  EXPECT_EQ(get_host_behavior(bench, admin), 1);
  EXPECT_EQ(get_host_behavior(bench, admin, 1), 0) << "the default";
  EXPECT_EQ(get_host_behavior(bench, admin, 2), 0) << "nothing is saved";
  EXPECT_TRUE(set_host_behavior(bench, admin, 2).status().same_code(invalid_field));
  EXPECT_TRUE(set_host_behavior(bench, admin, 0, 256).status().same_code(nvme::GenericStatus::data_sgl_length_invalid));
  EXPECT_EQ(get_host_behavior(bench, admin), 1) << "what is refused changes nothing";
  bench.property_set(admin, Property::cc, cc_disable);
  bench.property_set(admin, Property::cc, cc_enable);
  EXPECT_EQ(get_host_behavior(bench, admin), 0);
}

// Proves: controller | Command retry delay | Base 2.0c 5.17.2.1
TEST(RetryDelayTest, IsToldAndUsedForHostsThatHeedIt) {
  ControllerBench bench;
  bench.publish([](TargetSnapshot& target, SubsystemSnapshot&) { target.crdt_100ms = {5, 10, 20}; });
  const auto pair = bench.connect_io();
  const auto controller = bench.identify(*pair.admin, 0x01).page<nvme::IdentifyController>();
  EXPECT_EQ(controller.crdt1, 5U);
  EXPECT_EQ(controller.crdt2, 10U);
  EXPECT_EQ(controller.crdt3, 20U);
  bench.disk->answer = bdev::Status::read_error;
  const auto failing = [&] { return bench.run(*pair.io, io_sqe(IoOpcode::read, 0, 1)).status(); };
  EXPECT_EQ(failing().crd, 0) << "the host has not asked for it";
  set_host_behavior(bench, *pair.admin, 1);
  EXPECT_EQ(failing().crd, 1);
  EXPECT_EQ(bench.run(*pair.io, io_sqe(IoOpcode::read, 9999, 1)).status().crd, 0) << "with DNR there is nothing to wait for";
  set_host_behavior(bench, *pair.admin, 0);
  EXPECT_EQ(failing().crd, 0);
}

// --- features that are told and change nothing ---

// Proves: feature | Power Management | Base 2.0c 5.27.1.2
// Proves: feature | Write Atomicity Normal | NVM 1.0c 4.1.3.3
TEST(PlainFeaturesTest, HaveTheirOneStateOrTheirBit) {
  ControllerBench bench;
  FakeQueue& admin = bench.connect_admin();
  EXPECT_EQ(bench.get_feature(admin, Feature::power_management).dw0(), 0U);
  EXPECT_TRUE(bench.set_feature(admin, Feature::power_management, 0).status().is_success());
  EXPECT_TRUE(bench.set_feature(admin, Feature::power_management, 1).status().same_code(invalid_field)) << "NPSS is 0";
  EXPECT_EQ(bench.identify(admin, 0x01).page<nvme::IdentifyController>().npss, 0);
  EXPECT_EQ(bench.get_feature(admin, Feature::write_atomicity).dw0(), 0U);
  EXPECT_TRUE(bench.set_feature(admin, Feature::write_atomicity, 1).status().is_success());
  EXPECT_EQ(bench.get_feature(admin, Feature::write_atomicity).dw0(), 1U);
  EXPECT_EQ(bench.get_feature(admin, Feature::write_atomicity, 1).dw0(), 0U);
}

// --- error and health events ---

// Proves: event | Error | Base 2.0c 5.2
TEST(ErrorEventTest, AnInternalErrorIsToldOnceUntilItsLogIsRead) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  Command& event = bench.async_event(*pair.admin);
  bench.run(*pair.io, io_sqe(IoOpcode::read, 9999, 1));
  EXPECT_FALSE(event.done) << "a host's mistake is none of ours";
  bench.disk->answer = bdev::Status::invalid;
  bench.run(*pair.io, io_sqe(IoOpcode::read, 0, 1));
  EXPECT_FALSE(event.done);
  const auto internal = [&] {
    bench.on(*bench.thread, [&] { static_cast<Controller&>(pair.admin->sink()).note_error(nvme::GenericStatus::internal_error); });
  };
  internal();
  ASSERT_TRUE(event.done);
  EXPECT_EQ(event.dw0(), nvme::async_event_dw0(nvme::AsyncEventType::error, 4, 0x01)) << "cannot be switched off";
  Command& again = bench.async_event(*pair.admin);
  internal();
  EXPECT_FALSE(again.done) << "masked until the log was read";
  bench.log_page(*pair.admin, 0x01, 64, true);
  internal();
  EXPECT_FALSE(again.done) << "RAE retains it";
  bench.log_page(*pair.admin, 0x01, 64);
  internal();
  EXPECT_TRUE(again.done);
}

// Proves: event | SMART / Health | Base 2.0c 5.2
// Proves: log | SMART / Health Information | Base 2.0c 5.16.1.3
TEST(HealthEventTest, ManyMediaErrorsAreAWarning) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  bench.set_feature(*pair.admin, Feature::async_event_configuration, nvme::smart_warning_reliability);
  Command& event = bench.async_event(*pair.admin);
  bench.disk->answer = bdev::Status::media_error;
  const auto smart = [&] { return bench.log_page(*pair.admin, 0x02, 512, true).page<nvme::SmartLog>(); };
  for (std::uint64_t i = 1; i < media_error_warning; ++i) bench.run(*pair.io, io_sqe(IoOpcode::read, 0, 1));
  EXPECT_FALSE(event.done);
  EXPECT_EQ(smart().media_errors.low, media_error_warning - 1);
  EXPECT_EQ(smart().critical_warning, 0);
  bench.run(*pair.io, io_sqe(IoOpcode::read, 0, 1));
  ASSERT_TRUE(event.done);
  EXPECT_EQ(event.dw0(), nvme::async_event_dw0(nvme::AsyncEventType::smart, 0, 0x02));
  EXPECT_EQ(smart().critical_warning, nvme::smart_warning_reliability);
  EXPECT_EQ(smart().error_log_entries.low, media_error_warning);
  Command& again = bench.async_event(*pair.admin);
  bench.run(*pair.io, io_sqe(IoOpcode::read, 0, 1));
  EXPECT_FALSE(again.done) << "once";
}

// Proves: log | SMART / Health Information | Base 2.0c 5.16.1.3
TEST(HealthTest, BusyTimeIsTheTimeWithIoInFlight) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  const auto minutes = [&] { return std::uint64_t{bench.log_page(*pair.admin, 0x02, 512).page<nvme::SmartLog>().controller_busy_minutes.low}; };
  bench.advance_ms(600'000);
  EXPECT_EQ(minutes(), 0U);
  bench.disk->hold = true;
  bench.run(*pair.io, io_sqe(IoOpcode::read, 0, 1));
  bench.advance_ms(90'000);
  bench.run(*pair.io, io_sqe(IoOpcode::read, 0, 1));
  bench.advance_ms(90'000);
  bench.on(*bench.thread, [&] { bench.disk->release(); });
  bench.advance_ms(600'000);
  EXPECT_EQ(minutes(), 3U) << "two at a time are not twice as busy";
  EXPECT_EQ(bench.log_page(*pair.admin, 0x02, 512).page<nvme::SmartLog>().composite_temperature_k, 0U) << "not reported: there is no thermometer";
}

// Proves: event | Masking | Base 2.0c 5.27.1.8
TEST(HealthEventTest, IsMaskedUnlessAskedFor) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  Command& event = bench.async_event(*pair.admin);
  bench.disk->answer = bdev::Status::write_error;
  for (std::uint64_t i = 0; i < media_error_warning + 5; ++i) bench.run(*pair.io, io_sqe(IoOpcode::write_zeroes, 0, 1));
  EXPECT_FALSE(event.done);
  EXPECT_EQ(bench.log_page(*pair.admin, 0x02, 512).page<nvme::SmartLog>().critical_warning, nvme::smart_warning_reliability)
      << "the log says it all the same";
}

// --- Identify: lists ---

Command& controller_list(ControllerBench& bench, FakeQueue& admin, std::uint8_t cns, std::uint16_t from, std::uint32_t nsid = 0) {
  nvme::SubmissionEntry sqe = make_sqe(0x06, nsid, 4096);
  sqe.cdw10 = std::uint32_t{cns} | std::uint32_t{from} << 16;
  return bench.run(admin, sqe);
}

// Proves: identify | Controller List | Base 2.0c 5.17.2.12
// Proves: identify | Namespace Attached Controller List | Base 2.0c 5.17.2.11
TEST(ControllerListTest, AllOfTheSubsystemOrThoseThatSeeANamespace) {
  ControllerBench bench;
  constexpr const char* other_host = "nqn.2026-11.io.catnap:other";
  bench.publish([&](TargetSnapshot&, SubsystemSnapshot& subsystem) {
    subsystem.allow_any_host = true;
    auto hidden = bench.make_namespace(2, bench.disk);
    hidden->no_auto_visible = true;
    hidden->visible_hosts = {other_host};
    subsystem.namespaces[2] = hidden;
  });
  std::vector<std::uint16_t> ids(3);
  ControllerBench::ConnectWith other;
  other.hostnqn = other_host;
  FakeQueue& first = bench.connect_admin(ControllerBench::ConnectWith(), &ids[0]);
  bench.connect_admin(ControllerBench::ConnectWith(), &ids[1]);
  FakeQueue& third = bench.connect_admin(other, &ids[2]);
  auto list = controller_list(bench, first, 0x13, 0).page<nvme::ControllerList>();
  EXPECT_EQ(list.count, 3U);
  for (std::size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(list.cntlid[i], ids[i]);
  list = controller_list(bench, first, 0x13, ids[1]).page<nvme::ControllerList>();
  EXPECT_EQ(list.count, 2U) << "from CNTID on";
  EXPECT_EQ(list.cntlid[0], ids[1]);
  EXPECT_EQ(controller_list(bench, first, 0x12, 0, 1).page<nvme::ControllerList>().count, 3U);
  list = controller_list(bench, third, 0x12, 0, 2).page<nvme::ControllerList>();
  EXPECT_EQ(list.count, 1U);
  EXPECT_EQ(list.cntlid[0], ids[2]);
  EXPECT_TRUE(controller_list(bench, first, 0x12, 0, 2).status().same_code(nvme::GenericStatus::invalid_namespace_or_format))
      << "hidden from this host";
}

// Proves: identify | Allocated Namespace List | Base 2.0c 5.17.2.9
// Proves: identify | Identify Namespace of an allocated id | Base 2.0c 5.17.2.10
// Proves: identify | I/O Command Set Combinations | Base 2.0c 5.17.2.21
TEST(IdentifyListsTest, AllocatedNamespacesAndCommandSets) {
  ControllerBench bench;
  auto hidden = bench.make_namespace(3, bench.disk);
  hidden->no_auto_visible = true;
  bench.publish([&](TargetSnapshot&, SubsystemSnapshot& subsystem) {
    subsystem.namespaces[3] = hidden;
    subsystem.namespaces[4] = bench.make_namespace(4, bench.disk);
  });
  std::uint16_t cntlid = 0;
  FakeQueue& admin = bench.connect_admin(ControllerBench::ConnectWith(), &cntlid);
  for (const std::uint8_t cns : {0x10, 0x1A}) {
    const auto list = bench.identify(admin, cns).page<nvme::NamespaceList>();
    EXPECT_EQ(list.nsid[0], 1U);
    EXPECT_EQ(list.nsid[1], 4U) << "what is hidden is not listed";
    EXPECT_EQ(list.nsid[2], 0U);
  }
  EXPECT_EQ(bench.identify(admin, 0x11, 4).page<nvme::IdentifyNamespace>().nsze, 4096U);
  EXPECT_EQ(bench.identify(admin, 0x11, 3).page<nvme::IdentifyNamespace>().nsze, 0U);
  EXPECT_TRUE(bench.identify(admin, 0x1B, 4).status().is_success());
  nvme::SubmissionEntry sets = make_sqe(0x06, 0, 4096);
  for (const std::uint32_t cntid : {std::uint32_t{0xFFFF}, std::uint32_t{cntlid}}) {
    sets.cdw10 = 0x1CU | cntid << 16;
    const auto page = bench.run(admin, sets).page<nvme::IoCommandSets>();
    EXPECT_EQ(page.vector[0], 1U);
    EXPECT_EQ(page.vector[1], 0U);
  }
  sets.cdw10 = 0x1CU | (cntlid + 1U) << 16;
  EXPECT_TRUE(bench.run(admin, sets).status().same_code(nvme::CommandStatus::invalid_controller_identifier));
}

}  // namespace
}  // namespace catnap::server
