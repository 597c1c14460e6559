// Connect and Disconnect, right and wrong in every field (Base 2.0, sections 6.3, 6.4 and 3.3.1).
// Owner: the test. Left out: authentication.
#include "tests/protocol/fixture.h"

namespace catnap::protocol {
namespace {

constexpr std::uint16_t qid_offset = 42;
constexpr std::uint16_t sqsize_offset = 44;
constexpr std::uint16_t cntlid_offset = 16;
constexpr std::uint16_t subnqn_offset = 256;
constexpr std::uint16_t hostnqn_offset = 512;

class ConnectTest : public ProtocolTest {
 protected:
  CommandResult try_connect(const ConnectParameters& parameters) {
    auto connection = open();
    return connect_queue(connection, parameters);
  }

  void expect_invalid_parameter(const CommandResult& result, std::uint16_t ipo, bool in_data) {
    ASSERT_TRUE(has_status(result, nvme::FabricsStatus::connect_invalid_parameters));
    auto where = nvme::ConnectInvalidParameters::from_dw0(result.cqe.dw0);
    EXPECT_EQ(where.ipo, ipo);
    EXPECT_EQ(where.in_data, in_data) << "IATTR";
  }
};

// Proves: fabrics | Connect | Base 2.0c 6.3
// Proves: controller | Controller ids | Base 2.0c 6.3
TEST_F(ConnectTest, GivesAControllerId) {
  auto result = try_connect({.subnqn = subsystem_nqn});
  ASSERT_TRUE(succeeded(result));
  EXPECT_NE(std::uint32_t{result.cqe.dw0} & 0xFFFF, 0U);
  EXPECT_LE(std::uint32_t{result.cqe.dw0} & 0xFFFF, nvme::max_cntlid_value);
  EXPECT_EQ(std::uint32_t{result.cqe.dw0} >> 16, 0U) << "AUTHREQ without authentication";
}

// Proves: controller | Controller ids | Base 2.0c 6.3
TEST_F(ConnectTest, ControllersHaveDifferentIds) {
  std::uint16_t first = 0;
  std::uint16_t second = 0;
  auto one = open_admin({.subnqn = subsystem_nqn}, &first);
  auto other = open_admin({.subnqn = subsystem_nqn}, &second);
  EXPECT_NE(first, second);
}

// Proves: fabrics | Connect | Base 2.0c 6.3
TEST_F(ConnectTest, UnknownSubsystem) { expect_invalid_parameter(try_connect({.subnqn = "nqn.2026-11.io.catnap:no-such"}), subnqn_offset, true); }

TEST_F(ConnectTest, EmptySubsystemName) { expect_invalid_parameter(try_connect({.subnqn = ""}), subnqn_offset, true); }

TEST_F(ConnectTest, SubsystemNameWithoutItsEnd) { expect_invalid_parameter(try_connect({.subnqn = std::string(256, 'x')}), subnqn_offset, true); }

TEST_F(ConnectTest, EmptyHostName) { expect_invalid_parameter(try_connect({.subnqn = subsystem_nqn, .hostnqn = ""}), hostnqn_offset, true); }

TEST_F(ConnectTest, HostNameWithoutItsEnd) {
  expect_invalid_parameter(try_connect({.subnqn = subsystem_nqn, .hostnqn = std::string(256, 'h')}), hostnqn_offset, true);
}

// Proves: fabrics | Connect | Base 2.0c 6.3
TEST_F(ConnectTest, HostThatIsNotAllowed) {
  EXPECT_TRUE(has_status(try_connect({.subnqn = restricted_nqn}), nvme::FabricsStatus::connect_invalid_host));
}

TEST_F(ConnectTest, HostThatIsAllowed) { EXPECT_TRUE(succeeded(try_connect({.subnqn = restricted_nqn, .hostnqn = allowed_host_nqn}))); }

TEST_F(ConnectTest, UnknownRecordFormat) {
  EXPECT_TRUE(has_status(try_connect({.subnqn = subsystem_nqn, .recfmt = 1}), nvme::FabricsStatus::incompatible_format));
}

TEST_F(ConnectTest, QueueOfOneEntry) { expect_invalid_parameter(try_connect({.subnqn = subsystem_nqn, .entries = 1}), sqsize_offset, false); }

// Proves: controller | I/O queue sizes and counts | Base 2.0c 6.3
TEST_F(ConnectTest, AdminQueueTooLarge) { expect_invalid_parameter(try_connect({.subnqn = subsystem_nqn, .entries = 65535}), sqsize_offset, false); }

TEST_F(ConnectTest, AdminQueueWithAFixedControllerId) {
  expect_invalid_parameter(try_connect({.subnqn = subsystem_nqn, .cntlid = 5}), cntlid_offset, true);
}

TEST_F(ConnectTest, IoQueueOfNoController) {
  expect_invalid_parameter(try_connect({.subnqn = subsystem_nqn, .cntlid = 0xFFE0, .qid = 1}), cntlid_offset, true);
}

TEST_F(ConnectTest, IoQueueOfAnyController) {
  expect_invalid_parameter(try_connect({.subnqn = subsystem_nqn, .cntlid = nvme::cntlid_dynamic, .qid = 1}), cntlid_offset, true);
}

// Proves: controller | I/O queue sizes and counts | Base 2.0c 6.3
TEST_F(ConnectTest, IoQueueTooLarge) {
  auto queues = open_queues();
  expect_invalid_parameter(try_connect({.subnqn = subsystem_nqn, .cntlid = queues.cntlid, .qid = 2, .entries = 60000}), sqsize_offset, false);
}

TEST_F(ConnectTest, IoQueueIdTooLarge) {
  auto queues = open_queues();
  expect_invalid_parameter(try_connect({.subnqn = subsystem_nqn, .cntlid = queues.cntlid, .qid = 40000}), qid_offset, false);
}

TEST_F(ConnectTest, IoQueueOfAnotherHost) {
  auto queues = open_queues();
  ConnectParameters other{.subnqn = subsystem_nqn, .hostnqn = allowed_host_nqn, .cntlid = queues.cntlid, .qid = 2};
  EXPECT_TRUE(has_status_of(try_connect(other), {nvme::FabricsStatus::connect_invalid_parameters, nvme::FabricsStatus::connect_invalid_host}));
}

TEST_F(ConnectTest, IoQueueOfAnotherHostIdentifier) {
  auto queues = open_queues();
  ConnectParameters other{.subnqn = subsystem_nqn, .hostid_byte = 0x77, .cntlid = queues.cntlid, .qid = 2};
  EXPECT_TRUE(has_status_of(try_connect(other), {nvme::FabricsStatus::connect_invalid_parameters, nvme::FabricsStatus::connect_invalid_host}));
}

TEST_F(ConnectTest, IoQueueOfAnotherSubsystem) {
  auto queues = open_queues();
  ConnectParameters other{.subnqn = restricted_nqn, .hostnqn = allowed_host_nqn, .cntlid = queues.cntlid, .qid = 2};
  EXPECT_FALSE(try_connect(other).ok());
}

TEST_F(ConnectTest, IoQueueBeforeTheControllerIsEnabled) {
  auto admin = open();
  auto connected = connect_queue(admin, {.subnqn = subsystem_nqn});
  ASSERT_TRUE(succeeded(connected));
  ConnectParameters io{.subnqn = subsystem_nqn, .cntlid = static_cast<std::uint16_t>(std::uint32_t{connected.cqe.dw0}), .qid = 1};
  EXPECT_TRUE(has_status_of(try_connect(io), {nvme::GenericStatus::command_sequence_error, nvme::FabricsStatus::controller_busy}));
}

TEST_F(ConnectTest, IoQueueIdThatIsInUse) {
  auto queues = open_queues();
  ConnectParameters again{.subnqn = subsystem_nqn, .cntlid = queues.cntlid, .qid = 1};
  EXPECT_TRUE(has_status_of(try_connect(again), {nvme::GenericStatus::command_sequence_error, nvme::CommandStatus::invalid_queue_identifier,
                                                 nvme::FabricsStatus::connect_invalid_parameters}));
  EXPECT_TRUE(succeeded(flush(queues.io))) << "the queue that had the id first";
}

TEST_F(ConnectTest, ASecondConnectOnOneConnection) {
  auto admin = open_admin();
  EXPECT_TRUE(has_status(connect_queue(admin, {.subnqn = subsystem_nqn}), nvme::GenericStatus::command_sequence_error));
}

// Proves: fabrics | Connect | Base 2.0c 6.3
TEST_F(ConnectTest, NothingElseBeforeConnect) {
  auto connection = open();
  EXPECT_TRUE(has_status(identify(connection, nvme::Cns::controller), nvme::GenericStatus::command_sequence_error));
  EXPECT_TRUE(
      has_status(property_get(connection, nvme::Property::cap, nvme::PropertySize::eight_bytes), nvme::GenericStatus::command_sequence_error));
}

TEST_F(ConnectTest, AFailedConnectMayBeRepeated) {
  auto connection = open();
  EXPECT_FALSE(connect_queue(connection, {.subnqn = "nqn.2026-11.io.catnap:no-such"}).ok());
  EXPECT_TRUE(succeeded(connect_queue(connection, {.subnqn = subsystem_nqn})));
}

TEST_F(ConnectTest, DataShorterThanConnectNeeds) {
  auto connection = open();
  auto data = bytes_of(connect_data({.subnqn = subsystem_nqn}));
  data.resize(512);
  auto sqe = nvme::view_as<nvme::SubmissionEntry>(connect_command({.subnqn = subsystem_nqn}));
  EXPECT_TRUE(has_status_of(connection.run(sqe, Payload::in_capsule(data)),
                            {nvme::GenericStatus::data_sgl_length_invalid, nvme::GenericStatus::invalid_field}));
}

TEST_F(ConnectTest, UnknownFabricsCommand) {
  auto admin = open_admin();
  auto sqe = admin_command(nvme::AdminOpcode::fabrics, 0x3C);  // FCTYPE lies where NSID does
  EXPECT_TRUE(has_status_of(admin.run(sqe), {nvme::GenericStatus::invalid_field, nvme::GenericStatus::invalid_opcode}));
}

// Proves: controller | I/O queue sizes and counts | Base 2.0c 6.3
TEST_F(ConnectTest, AHundredIoQueuesOfOneController) {
  std::uint16_t cntlid = 0;
  auto admin = open_admin({.subnqn = subsystem_nqn}, &cntlid);
  std::vector<Connection> queues;
  for (std::uint16_t qid = 1; qid <= 100; ++qid) queues.push_back(open_io(cntlid, qid));
  for (auto& queue : queues) EXPECT_TRUE(succeeded(flush(queue)));
}

nvme::SubmissionEntry disconnect_command(std::uint16_t recfmt = 0) {
  nvme::DisconnectCommand command;
  command.opcode = static_cast<std::uint8_t>(nvme::AdminOpcode::fabrics);
  command.fctype = static_cast<std::uint8_t>(nvme::FabricsType::disconnect);
  command.recfmt = recfmt;
  return nvme::view_as<nvme::SubmissionEntry>(command);
}

// Proves: fabrics | Disconnect | Base 2.0c 6.4
TEST_F(ConnectTest, DisconnectEndsAnIoQueueAndFreesItsId) {
  auto queues = open_queues();
  EXPECT_TRUE(succeeded(queues.io.run(disconnect_command())));
  queues.io.socket().shut_down_sending();
  EXPECT_TRUE(queues.io.receive_until_closed().has_value());
  auto again = open_io(queues.cntlid, 1);
  EXPECT_TRUE(succeeded(flush(again)));
}

TEST_F(ConnectTest, DisconnectWithAnUnknownFormat) {
  auto queues = open_queues();
  EXPECT_TRUE(has_status(queues.io.run(disconnect_command(1)), nvme::FabricsStatus::incompatible_format));
  EXPECT_TRUE(succeeded(flush(queues.io)));
}

TEST_F(ConnectTest, DisconnectOfTheAdminQueueIsRefused) {
  auto admin = open_admin();
  EXPECT_TRUE(has_status(admin.run(disconnect_command()), nvme::FabricsStatus::invalid_queue_type));
}

}  // namespace
}  // namespace catnap::protocol
