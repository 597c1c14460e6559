// Connect, the admin queue's properties, and the end of controllers.
#include <gtest/gtest.h>

#include "server/controller.h"
#include "tests/unit/server/controller_bench.h"

namespace catnap::server {
namespace {

using With = ControllerBench::ConnectWith;

constexpr nvme::Status invalid_parameters = nvme::FabricsStatus::connect_invalid_parameters;
constexpr nvme::Status sequence_error = nvme::GenericStatus::command_sequence_error;
constexpr std::uint32_t in_data = 1U << 16;

struct BadConnect {
  const char* name;
  With with;
  nvme::Status status;
  std::uint32_t dw0;
};

With with(const std::function<void(With&)>& change) {
  With made;
  change(made);
  return made;
}

// Proves: fabrics | Connect | Base 2.0c 6.3
TEST(ConnectTest, RefusesEachBadFieldByItsOwnStatusAndOffset) {
  const std::vector<BadConnect> cases = {
      {"record format", with([](With& w) { w.recfmt = 1; }), nvme::FabricsStatus::incompatible_format, 0},
      {"sqsize 0", with([](With& w) { w.sqsize = 0; }), invalid_parameters, 44},
      {"sqsize too large", with([](With& w) { w.sqsize = 128; }), invalid_parameters, 44},
      {"static cntlid", with([](With& w) { w.cntlid = 5; }), invalid_parameters, 16 | in_data},
      {"unknown subsystem", with([](With& w) { w.subnqn = "nqn.2026-11.io.catnap:none"; }), invalid_parameters, 256 | in_data},
      {"empty subnqn", with([](With& w) { w.subnqn = ""; }), invalid_parameters, 256 | in_data},
      {"empty hostnqn", with([](With& w) { w.hostnqn = ""; }), invalid_parameters, 512 | in_data},
      {"hostnqn too long", with([](With& w) { w.hostnqn = std::string(224, 'a'); }), invalid_parameters, 512 | in_data},
      {"subnqn not terminated", with([](With& w) { w.spoil = [](nvme::ConnectData& d) { d.subnqn.fill('x'); }; }), invalid_parameters, 256 | in_data},
      {"host not allowed", with([](With& w) { w.hostnqn = "nqn.2026-11.io.catnap:stranger"; }), nvme::FabricsStatus::connect_invalid_host, 0},
      {"unknown controller", with([](With& w) { w.qid = 1, w.cntlid = 77; }), invalid_parameters, 16 | in_data},
      {"discovery I/O queue", with([](With& w) { w.subnqn = discovery_nqn, w.qid = 1; }), invalid_parameters, 42},
  };
  ControllerBench bench;
  for (const BadConnect& bad : cases) {
    FakeQueue& queue = bench.new_queue();
    Command& refused = bench.connect(queue, bad.with);
    ASSERT_TRUE(refused.done) << bad.name;
    EXPECT_TRUE(refused.status().same_code(bad.status)) << bad.name;
    EXPECT_TRUE(refused.status().dnr) << bad.name;
    EXPECT_EQ(refused.dw0(), bad.dw0) << bad.name;
    EXPECT_EQ(queue.qid, 0xFFFF) << bad.name;
  }
  EXPECT_TRUE(bench.table->empty());
}

TEST(ConnectTest, RefusesASubsystemOnAnotherListener) {
  ControllerBench bench;
  FakeQueue& queue = bench.new_queue();
  queue.local.trsvcid = "4421";
  EXPECT_TRUE(bench.connect(queue, With()).status().same_code(invalid_parameters));
  // Discovery is served wherever some subsystem listens.
  const auto discovery = with([](With& w) { w.subnqn = discovery_nqn; });
  EXPECT_TRUE(bench.connect(queue, discovery).status().same_code(invalid_parameters));
  queue.local.trsvcid = "4420";
  EXPECT_TRUE(bench.connect(queue, discovery).status().is_success());
}

TEST(ConnectTest, NothingButConnectComesFirst) {
  ControllerBench bench;
  FakeQueue& queue = bench.new_queue();
  EXPECT_TRUE(bench.identify(queue, 1).status().same_code(sequence_error));
  EXPECT_TRUE(bench.property_get(queue, nvme::Property::cap, true).status().same_code(sequence_error));
  EXPECT_TRUE(bench.connect(queue, With()).status().is_success());
  EXPECT_TRUE(bench.connect(queue, With()).status().same_code(sequence_error));
}

TEST(ConnectTest, TellsTheTransportWhatWasAgreed) {
  ControllerBench bench;
  FakeQueue& queue = bench.new_queue();
  Command& connected = bench.connect(queue, with([](With& w) { w.cattr = nvme::cattr_disable_sq_flow_control; }));
  EXPECT_EQ(connected.dw0(), 1U);
  EXPECT_EQ(queue.qid, 0);
  EXPECT_EQ(queue.entries, 32);
  EXPECT_TRUE(queue.sq_flow_control_disabled);
}

TEST(ConnectTest, IoQueuesMustMatchTheirController) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  auto attempt = [&](const std::function<void(With&)>& change) -> Command& {
    With io = with([&](With& w) { w.qid = 2, w.cntlid = pair.cntlid; });
    change(io);
    return bench.connect(bench.new_queue(), io);
  };
  EXPECT_EQ(attempt([](With& w) { w.qid = 1; }).dw0(), 42U) << "in use";
  EXPECT_EQ(attempt([](With& w) { w.qid = 128; }).dw0(), 42U) << "above what was granted";
  EXPECT_EQ(attempt([](With& w) { w.hostid = 9; }).dw0(), in_data);
  EXPECT_TRUE(attempt([](With&) {}).status().is_success());
  EXPECT_EQ(bench.table->controllers(test_nqn).at(0).io_queues, 2U);
  EXPECT_EQ(bench.table->queue_pairs(test_nqn).size(), 3U);

  // Another host's controller.
  bench.publish([](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.allow_any_host = true; });
  EXPECT_EQ(attempt([](With& w) { w.qid = 3, w.hostnqn = "nqn.2026-11.io.catnap:other"; }).dw0(), 512U | in_data);
}

TEST(ConnectTest, IoQueuesWaitForEnable) {
  ControllerBench bench;
  FakeQueue& admin = bench.new_queue();
  const auto cntlid = static_cast<std::uint16_t>(bench.connect(admin, With()).dw0());
  auto io = [&]() -> Command& { return bench.connect(bench.new_queue(), with([&](With& w) { w.qid = 1, w.cntlid = cntlid; })); };
  EXPECT_TRUE(io().status().same_code(sequence_error));
  bench.property_set(admin, nvme::Property::cc, cc_enable);
  EXPECT_TRUE(io().status().is_success());
}

// Proves: controller | I/O queue sizes and counts | Base 2.0c 6.3
TEST(ConnectTest, NumberOfQueuesBoundsTheQueueIds) {
  ControllerBench bench;
  std::uint16_t cntlid = 0;
  FakeQueue& admin = bench.connect_admin(With(), &cntlid);
  EXPECT_EQ(bench.set_feature(admin, nvme::Feature::number_of_queues, 0x0001'0001).dw0(), 0x0001'0001U);
  EXPECT_EQ(bench.set_feature(admin, nvme::Feature::number_of_queues, 0x00FF'00FF).dw0(), 126U << 16 | 126U);
  EXPECT_EQ(bench.set_feature(admin, nvme::Feature::number_of_queues, 0x0001'0001).dw0(), 0x0001'0001U);
  auto io = [&](std::uint16_t qid) -> Command& { return bench.connect(bench.new_queue(), with([&](With& w) { w.qid = qid, w.cntlid = cntlid; })); };
  EXPECT_EQ(io(3).dw0(), 42U);
  EXPECT_TRUE(io(2).status().is_success());
  EXPECT_TRUE(bench.set_feature(admin, nvme::Feature::number_of_queues, 0).status().same_code(sequence_error));
}

// Proves: controller | Controller ids | Base 2.0c 6.3
TEST(ConnectTest, ControllerIdsRunOutAndComeBack) {
  ControllerBench bench;
  bench.publish([](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.min_cntlid = 10, subsystem.max_cntlid = 11; });
  FakeQueue& first = bench.new_queue();
  EXPECT_EQ(bench.connect(first, With()).dw0(), 10U);
  EXPECT_EQ(bench.connect(bench.new_queue(), With()).dw0(), 11U);
  Command& busy = bench.connect(bench.new_queue(), With());
  EXPECT_TRUE(busy.status().same_code(nvme::FabricsStatus::controller_busy));
  EXPECT_FALSE(busy.status().dnr);
  bench.close(first);
  EXPECT_EQ(bench.connect(bench.new_queue(), With()).dw0(), 10U);
}

// Proves: controller | Enable and reset | Base 2.0c 3.5
TEST(PropertyTest, LinuxSequenceEndsReady) {
  ControllerBench bench;
  FakeQueue& queue = bench.new_queue();
  bench.connect(queue, With());
  const auto cap = nvme::Cap::from_value(bench.property_get(queue, nvme::Property::cap, true).request.cqe.dw0_dw1());
  EXPECT_EQ(cap.mqes, 127);
  EXPECT_TRUE(cap.css_nvm && cap.cqr && cap.crwms);
  EXPECT_FALSE(cap.css_iocss);
  EXPECT_TRUE(bench.property_set(queue, nvme::Property::cc, cc_disable).status().is_success());
  EXPECT_EQ(bench.property_get(queue, nvme::Property::csts).dw0(), 0U);
  EXPECT_EQ(bench.property_get(queue, nvme::Property::crto).dw0(), std::uint32_t{ready_timeout_500ms});
  EXPECT_TRUE(bench.identify(queue, 1).status().same_code(sequence_error)) << "not ready yet";
  EXPECT_TRUE(bench.property_set(queue, nvme::Property::cc, cc_enable).status().is_success());
  EXPECT_EQ(bench.property_get(queue, nvme::Property::cc).dw0(), cc_enable);
  EXPECT_EQ(bench.property_get(queue, nvme::Property::csts).dw0(), 1U);
  EXPECT_EQ(bench.property_get(queue, nvme::Property::vs).dw0(), 0x0002'0000U);
}

TEST(PropertyTest, RefusesWrongSizesOffsetsAndValues) {
  ControllerBench bench;
  FakeQueue& queue = bench.new_queue();
  bench.connect(queue, With());
  constexpr nvme::Status invalid_field = nvme::GenericStatus::invalid_field;
  EXPECT_TRUE(bench.property_get(queue, nvme::Property::cap).status().same_code(invalid_field));
  EXPECT_TRUE(bench.property_get(queue, nvme::Property::vs, true).status().same_code(invalid_field));
  EXPECT_TRUE(bench.property_get(queue, static_cast<nvme::Property>(0x24)).status().same_code(invalid_field));
  EXPECT_TRUE(bench.property_set(queue, nvme::Property::csts, 1).status().same_code(invalid_field));
  for (const std::uint32_t value : {0x0046'0061U, 0x0046'0081U, 0x0046'0801U, 0x0046'C001U, 0x0146'0001U, 0x0045'0001U, 0x0056'0001U, 0x0046'0003U}) {
    EXPECT_TRUE(bench.property_set(queue, nvme::Property::cc, value).status().same_code(invalid_field)) << std::hex << value;
  }
  EXPECT_EQ(bench.property_get(queue, nvme::Property::cc).dw0(), 0U);
}

// Proves: controller | Shutdown | Base 2.0c 3.6
TEST(ShutdownTest, CompletesWhenTheIoQueuesAreGone) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  bench.disk->hold = true;
  Command& read = bench.run(*pair.io, io_sqe(nvme::IoOpcode::read, 0, 8));
  bench.property_set(*pair.admin, nvme::Property::cc, cc_shutdown);
  EXPECT_EQ(bench.property_get(*pair.admin, nvme::Property::csts).dw0(), 0x5U) << "occurring";
  ASSERT_TRUE(pair.io->disconnected.has_value());
  bench.close(*pair.io);
  EXPECT_EQ(bench.property_get(*pair.admin, nvme::Property::csts).dw0(), 0x5U) << "a read is still in flight";
  bench.on(*bench.thread, [&] { bench.disk->release(); });
  EXPECT_TRUE(read.done);
  EXPECT_EQ(bench.property_get(*pair.admin, nvme::Property::csts).dw0(), 0x9U) << "complete";
}

TEST(ShutdownTest, IsCompleteAtOnceWithoutIoQueues) {
  ControllerBench bench;
  FakeQueue& admin = bench.connect_admin();
  bench.property_set(admin, nvme::Property::cc, cc_shutdown);
  EXPECT_EQ(bench.property_get(admin, nvme::Property::csts).dw0(), 0x9U);
  EXPECT_TRUE(bench.identify(admin, 1).status().same_code(sequence_error));
}

// Proves: controller | Enable and reset | Base 2.0c 3.5
TEST(ResetTest, EndsIoQueuesUnderLoadAndComesBackReady) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  bench.set_feature(*pair.admin, nvme::Feature::async_event_configuration, nvme::aec_namespace_attribute);
  Command& event = bench.async_event(*pair.admin);
  bench.disk->hold = true;
  Command& write = bench.run(*pair.io, io_sqe(nvme::IoOpcode::write, 0, 8), std::vector<std::byte>(4096));
  bench.property_set(*pair.admin, nvme::Property::cc, cc_disable);
  EXPECT_TRUE(event.done) << "outstanding events end with the reset";
  EXPECT_EQ(bench.property_get(*pair.admin, nvme::Property::csts).dw0(), 1U) << "a write is in flight";
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(nvme::IoOpcode::read, 0, 8)).status().same_code(nvme::GenericStatus::aborted_sq_deletion));
  EXPECT_TRUE(bench.property_set(*pair.admin, nvme::Property::cc, cc_enable).status().same_code(sequence_error)) << "not before RDY is 0";
  bench.close(*pair.io);
  bench.on(*bench.thread, [&] { bench.disk->release(); });
  EXPECT_TRUE(write.done && write.status().is_success());
  EXPECT_EQ(bench.property_get(*pair.admin, nvme::Property::csts).dw0(), 0U);
  EXPECT_TRUE(bench.property_set(*pair.admin, nvme::Property::cc, cc_enable).status().is_success());
  EXPECT_EQ(bench.get_feature(*pair.admin, nvme::Feature::async_event_configuration).dw0(), 0U);
  bench.disk->hold = false;
  Command& again = bench.connect(bench.new_queue(), with([&](With& w) { w.qid = 1, w.cntlid = pair.cntlid; }));
  EXPECT_TRUE(again.status().is_success());
}

// Proves: controller | Association loss | Base 2.0c 3.3.2
TEST(AssociationTest, LosingTheAdminQueueEndsTheIoQueues) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  bench.close(*pair.admin);
  EXPECT_TRUE(pair.io->disconnected.has_value());
  EXPECT_TRUE(bench.table->has_controllers(test_nqn));
  bench.close(*pair.io);
  EXPECT_FALSE(bench.table->has_controllers(test_nqn));
  EXPECT_EQ(bench.group->stats().current_io_qpairs, 0U);
  EXPECT_EQ(bench.group->stats().io_qpairs, 1U);
}

TEST(AssociationTest, AConnectionMayDieWhileItsConnectIsUnderWay) {
  ControllerBench bench;
  FakeQueue& queue = bench.new_queue();
  nvme::ConnectCommand sqe;
  sqe.opcode = 0x7F;
  sqe.flags = 0x40;
  sqe.fctype = 1;
  sqe.sgl.length = 1024;
  sqe.sqsize = std::uint16_t{31};
  Command command;
  command.request.sqe = nvme::view_as<nvme::SubmissionEntry>(sqe);
  nvme::ConnectData data;
  data.cntlid = std::uint16_t{0xFFFF};
  std::copy_n(test_nqn, std::strlen(test_nqn), data.subnqn.begin());
  std::copy_n(test_host, std::strlen(test_host), data.hostnqn.begin());
  command.host_bytes.resize(sizeof(data));
  std::memcpy(command.host_bytes.data(), &data, sizeof(data));
  bench.on(*bench.thread, [&] {
    queue.start(command);
    queue.close();
  });
  EXPECT_TRUE(command.done);
  EXPECT_TRUE(queue.closed);
  EXPECT_TRUE(bench.table->empty());
}

TEST(AssociationTest, RemovedHostListenerOrSubsystemEndsTheQueues) {
  const std::vector<std::pair<const char*, std::function<void(TargetSnapshot&, SubsystemSnapshot&)>>> changes = {
      {"host", [](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.hosts.clear(); }},
      {"listener", [](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.listeners.clear(); }},
      {"subsystem", [](TargetSnapshot& target, SubsystemSnapshot&) { target.subsystems.erase(test_nqn); }},
  };
  for (const auto& [name, change] : changes) {
    ControllerBench bench;
    const auto pair = bench.connect_io();
    FakeQueue& discovery = bench.connect_admin(with([](With& w) { w.subnqn = discovery_nqn; }));
    bench.publish(change);
    EXPECT_TRUE(pair.admin->disconnected.has_value()) << name;
    EXPECT_TRUE(pair.io->disconnected.has_value()) << name;
    EXPECT_EQ(discovery.disconnected.has_value(), name != std::string("host")) << name << ": nobody listens any more";
  }
}

// Proves: fabrics | Disconnect | Base 2.0c 6.4
TEST(AssociationTest, DisconnectDeletesAnIoQueueOnly) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  nvme::DisconnectCommand sqe;
  sqe.opcode = 0x7F;
  sqe.flags = 0x40;
  sqe.fctype = 8;
  EXPECT_TRUE(bench.run(*pair.admin, nvme::view_as<nvme::SubmissionEntry>(sqe)).status().same_code(nvme::FabricsStatus::invalid_queue_type));
  sqe.recfmt = std::uint16_t{1};
  EXPECT_TRUE(bench.run(*pair.io, nvme::view_as<nvme::SubmissionEntry>(sqe)).status().same_code(nvme::FabricsStatus::incompatible_format));
  EXPECT_FALSE(pair.io->disconnected.has_value());
  sqe.recfmt = std::uint16_t{0};
  EXPECT_TRUE(bench.run(*pair.io, nvme::view_as<nvme::SubmissionEntry>(sqe)).status().is_success());
  EXPECT_TRUE(pair.io->disconnected.has_value());
  EXPECT_FALSE(pair.admin->disconnected.has_value());
}

}  // namespace
}  // namespace catnap::server
