// Hosts that go away at the worst moment. What is checked stands in the fixture: the bystander is served, the server lives, nothing leaks
// (sanitizers). Owner: the test. Left out: hosts that stay but stop reading (stalled_host_test.cpp).
#include <sys/socket.h>

#include "tests/protocol/fixture.h"

namespace catnap::protocol {
namespace {

using HangUpTest = ProtocolTest;

nvme::SubmissionEntry write_command(std::uint32_t length_bytes) {
  auto sqe = io_command(nvme::IoOpcode::write, 0, length_bytes / test_block_bytes);
  sqe.set_psdt(nvme::Psdt::sgl);
  sqe.sgl.type_and_subtype = 0x5A;
  sqe.sgl.length = length_bytes;
  sqe.cid = 9;
  return sqe;
}

// Closes with a reset instead of a FIN.
void reset(Connection& connection) {
  linger now{1, 0};
  ::setsockopt(connection.socket().fd(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  connection.socket().close();
}

// Proves: transport | Closing | TCP 3.1
TEST_F(HangUpTest, InTheMiddleOfEveryHeaderByte) {
  auto bytes = build_pdu(header_of_type<tcp::IcReq>(tcp::PduType::ic_req));
  for (std::size_t count = 0; count <= bytes.size(); count += 8) {
    auto connection = open_bare();
    connection.send(std::span(bytes).first(count));
  }
}

// Proves: transport | Closing | TCP 3.1
TEST_F(HangUpTest, InTheMiddleOfInCapsuleData) {
  auto queues = open_queues();
  auto sqe = write_command(4096);
  sqe.sgl.set_type(nvme::SglType::data_block, nvme::SglSubtype::offset);
  auto bytes = queues.io.capsule(sqe, pattern(4096, 1));
  queues.io.send(std::span(bytes).first(2000));
  let_server_catch_up();
}

// Proves: transport | Hosts that stall or vanish | TCP 3.4
TEST_F(HangUpTest, WithAnR2TOpen) {
  auto queues = open_queues();
  queues.io.send(queues.io.capsule(write_command(131072)));
  EXPECT_EQ(queues.io.receive_pdu().type(), tcp::PduType::r2t);
}

// Proves: transport | Closing | TCP 3.1
TEST_F(HangUpTest, InTheMiddleOfH2CData) {
  auto queues = open_queues();
  queues.io.send(queues.io.capsule(write_command(65536)));
  auto r2t = queues.io.receive_pdu().as<tcp::R2T>();
  auto bytes = queues.io.h2c_data(9, r2t.ttag, 0, pattern(65536, 2), true);
  queues.io.send(std::span(bytes).first(30000));
  let_server_catch_up();
}

// Proves: transport | Closing | TCP 3.1
TEST_F(HangUpTest, WithResetWhileReadsAreOnTheWay) {
  auto queues = open_queues({.io = {.receive_buffer_bytes = 4096}});
  for (int i = 0; i < 32; ++i) queues.io.submit(io_command(nvme::IoOpcode::read, 0, 256), Payload::to_host(131072));
  let_server_catch_up();
  reset(queues.io);
  reset(queues.admin);
}

// Proves: transport | Closing | TCP 3.1
TEST_F(HangUpTest, HalfCloseEndsTheConnection) {
  auto queues = open_queues();
  queues.io.socket().shut_down_sending();
  EXPECT_TRUE(queues.io.receive_until_closed().has_value()) << "the target keeps a connection whose host sent FIN";
}

// Proves: transport | Closing | TCP 3.1
TEST_F(HangUpTest, TheAdminQueueTakesItsIoQueuesAlong) {
  auto queues = open_queues();
  queues.admin.socket().close();
  EXPECT_TRUE(queues.io.receive_until_closed().has_value()) << "the I/O queue outlives its controller";
}

// Proves: transport | Closing | TCP 3.1
TEST_F(HangUpTest, AHundredConnectionsComeAndGo) {
  for (int i = 0; i < 100; ++i) open();
  auto queues = open_queues();
  EXPECT_TRUE(succeeded(flush(queues.io)));
}

}  // namespace
}  // namespace catnap::protocol
