// PDUs cut at every byte and glued together: TCP knows no message boundaries, and neither may the target.
// Owner: the test. Left out: wrong PDUs (header_error_test.cpp).
#include "tests/protocol/fixture.h"

namespace catnap::protocol {
namespace {

class FramingTest : public ProtocolTest {
 protected:
  // Sends `bytes` in two pieces that the target reads one by one.
  void send_split(Connection& connection, const Bytes& bytes, std::size_t at) {
    connection.send(std::span(bytes).first(at));
    let_server_catch_up();
    connection.send(std::span(bytes).subspan(at));
  }
};

// Proves: transport | Framing at every split | TCP 3.3
TEST_F(FramingTest, IcReqSplitAtEveryByte) {
  auto bytes = build_pdu(header_of_type<tcp::IcReq>(tcp::PduType::ic_req));
  for (std::size_t at = 1; at < bytes.size(); ++at) {
    auto connection = open_bare();
    send_split(connection, bytes, at);
    auto answer = connection.receive_pdu();
    ASSERT_EQ(answer.outcome, Outcome::pdu) << "split at " << at << ": " << answer.note;
    ASSERT_EQ(answer.type(), tcp::PduType::ic_resp) << "split at " << at;
  }
}

// Proves: transport | Framing at every split | TCP 3.3
TEST_F(FramingTest, CapsuleWithoutDataSplitAtEveryByte) {
  auto queues = open_queues({.io = {.digests = {true, true}}});
  auto sqe = io_command(nvme::IoOpcode::flush, 0, 1);
  sqe.set_psdt(nvme::Psdt::sgl);
  sqe.sgl.type_and_subtype = 0x5A;
  auto whole = queues.io.capsule(sqe).size();
  for (std::size_t at = 1; at < whole; ++at) {
    sqe.cid = static_cast<std::uint16_t>(at);
    send_split(queues.io, queues.io.capsule(sqe), at);
    auto answer = queues.io.receive_pdu();
    ASSERT_EQ(answer.outcome, Outcome::pdu) << "split at " << at << ": " << answer.note;
    ASSERT_EQ(answer.as<tcp::CapsuleResp>().cqe.cid, at);
    ASSERT_TRUE(nvme::status_of(answer.as<tcp::CapsuleResp>().cqe).is_success());
  }
}

// Proves: transport | Framing at every split | TCP 3.3
TEST_F(FramingTest, CapsuleWithDataSplitAtEveryByte) {
  auto queues = open_queues({.io = {.digests = {true, true}}});
  auto sqe = io_command(nvme::IoOpcode::write, 40, 1);
  sqe.set_psdt(nvme::Psdt::sgl);
  sqe.sgl.set_type(nvme::SglType::data_block, nvme::SglSubtype::offset);
  sqe.sgl.length = 512;
  auto whole = queues.io.capsule(sqe, pattern(512, 0)).size();
  for (std::size_t at = 1; at < whole; ++at) {
    sqe.cid = static_cast<std::uint16_t>(at);
    auto data = pattern(512, static_cast<std::uint32_t>(at));
    send_split(queues.io, queues.io.capsule(sqe, data), at);
    auto answer = queues.io.receive_pdu();
    ASSERT_EQ(answer.outcome, Outcome::pdu) << "split at " << at << ": " << answer.note;
    ASSERT_TRUE(nvme::status_of(answer.as<tcp::CapsuleResp>().cqe).is_success()) << "split at " << at;
    if (at % 50 == 0) {
      ASSERT_EQ(read(queues.io, 40, 512).data, data) << "split at " << at;
    }
  }
}

// Proves: transport | Framing at every split | TCP 3.3
TEST_F(FramingTest, H2CDataSplitAtEveryByte) {
  auto queues = open_queues({.io = {.digests = {true, true}}});
  auto sqe = io_command(nvme::IoOpcode::write, 48, 1);
  sqe.set_psdt(nvme::Psdt::sgl);
  sqe.sgl.type_and_subtype = 0x5A;
  sqe.sgl.length = 512;
  std::size_t whole = 24 + 4 + 512 + 4;
  for (std::size_t at = 1; at < whole; ++at) {
    auto cid = static_cast<std::uint16_t>(at);
    sqe.cid = cid;
    queues.io.send(queues.io.capsule(sqe));
    auto r2t = queues.io.receive_pdu();
    ASSERT_EQ(r2t.outcome, Outcome::pdu) << r2t.note;
    ASSERT_EQ(r2t.type(), tcp::PduType::r2t);
    auto data = pattern(512, cid);
    auto bytes = queues.io.h2c_data(cid, r2t.as<tcp::R2T>().ttag, 0, data, true);
    ASSERT_EQ(bytes.size(), whole);
    send_split(queues.io, bytes, at);
    auto answer = queues.io.receive_pdu();
    ASSERT_EQ(answer.outcome, Outcome::pdu) << "split at " << at << ": " << answer.note;
    ASSERT_TRUE(nvme::status_of(answer.as<tcp::CapsuleResp>().cqe).is_success()) << "split at " << at;
    if (at % 50 == 0) {
      ASSERT_EQ(read(queues.io, 48, 512).data, data) << "split at " << at;
    }
  }
}

// Proves: transport | Framing at every split | TCP 3.3
TEST_F(FramingTest, H2CTermReqSplitAtEveryByteClosesTheConnection) {
  auto header = header_of_type<tcp::TermReq>(tcp::PduType::h2c_term_req);
  header.fes = static_cast<std::uint16_t>(tcp::FatalError::pdu_sequence_error);
  auto bytes = build_pdu(header, pattern(24, 3));
  for (std::size_t at = 1; at < bytes.size(); ++at) {
    auto connection = open();
    send_split(connection, bytes, at);
    auto rest = connection.receive_until_closed();
    ASSERT_TRUE(rest.has_value()) << "split at " << at << ": the target keeps the connection";
    ASSERT_TRUE(rest->empty()) << "split at " << at << ": the target answers a termination";
  }
}

// Proves: transport | Framing at every split | TCP 3.3
TEST_F(FramingTest, OneByteAtATime) {
  auto connection = open_bare();
  auto send_slowly = [&](const Bytes& bytes) {
    for (auto byte : bytes) connection.send({&byte, 1});
  };
  send_slowly(build_pdu(header_of_type<tcp::IcReq>(tcp::PduType::ic_req)));
  ASSERT_EQ(connection.receive_pdu().type(), tcp::PduType::ic_resp);
  ConnectParameters parameters{.subnqn = subsystem_nqn};
  auto sqe = nvme::view_as<nvme::SubmissionEntry>(connect_command(parameters));
  sqe.cid = 77;
  sqe.set_psdt(nvme::Psdt::sgl);
  sqe.sgl.set_type(nvme::SglType::data_block, nvme::SglSubtype::offset);
  sqe.sgl.length = 1024;
  send_slowly(connection.capsule(sqe, bytes_of(connect_data(parameters))));
  auto answer = connection.receive_pdu();
  ASSERT_EQ(answer.type(), tcp::PduType::capsule_resp);
  EXPECT_TRUE(nvme::status_of(answer.as<tcp::CapsuleResp>().cqe).is_success());
}

// Proves: transport | Framing at every split | TCP 3.3
TEST_F(FramingTest, ManyCapsulesInOneSegment) {
  auto queues = open_queues();
  constexpr std::uint16_t count = 40;
  Bytes all;
  for (std::uint16_t i = 0; i < count; ++i) {
    auto sqe = io_command(nvme::IoOpcode::write, 1000 + i, 1);
    sqe.cid = i;
    sqe.set_psdt(nvme::Psdt::sgl);
    sqe.sgl.set_type(nvme::SglType::data_block, nvme::SglSubtype::offset);
    sqe.sgl.length = 512;
    auto one = queues.io.capsule(sqe, pattern(512, i));
    all.insert(all.end(), one.begin(), one.end());
  }
  queues.io.send(all);
  std::vector<bool> seen(count);
  for (int i = 0; i < count; ++i) {
    auto answer = queues.io.receive_pdu();
    ASSERT_EQ(answer.outcome, Outcome::pdu) << answer.note;
    auto cqe = answer.as<tcp::CapsuleResp>().cqe;
    EXPECT_TRUE(nvme::status_of(cqe).is_success());
    ASSERT_LT(cqe.cid, count);
    EXPECT_FALSE(seen[cqe.cid]) << "completed twice";
    seen[cqe.cid] = true;
  }
  for (std::uint16_t i = 0; i < count; ++i) EXPECT_EQ(read(queues.io, 1000 + i, 512).data, pattern(512, i)) << "block " << i;
}

// Proves: transport | Framing at every split | TCP 3.3
// Proves: transport | Command capsules and in-capsule data | TCP 3.3.2
TEST_F(FramingTest, DataAndTheNextCommandsInOneSegment) {
  auto queues = open_queues();
  auto data = pattern(8192, 9);
  auto sqe = io_command(nvme::IoOpcode::write, 2000, 16);
  sqe.set_psdt(nvme::Psdt::sgl);
  sqe.sgl.type_and_subtype = 0x5A;
  sqe.sgl.length = 8192;
  sqe.cid = 500;
  queues.io.send(queues.io.capsule(sqe));
  auto r2t = queues.io.receive_pdu();
  ASSERT_EQ(r2t.type(), tcp::PduType::r2t);
  Bytes all;
  for (std::uint32_t offset = 0; offset < data.size(); offset += 1024) {
    auto one = queues.io.h2c_data(500, r2t.as<tcp::R2T>().ttag, offset, std::span(data).subspan(offset, 1024), offset + 1024 == data.size());
    all.insert(all.end(), one.begin(), one.end());
  }
  auto flush_sqe = io_command(nvme::IoOpcode::flush, 0, 1);
  flush_sqe.set_psdt(nvme::Psdt::sgl);
  flush_sqe.sgl.type_and_subtype = 0x5A;
  flush_sqe.cid = 501;
  auto one = queues.io.capsule(flush_sqe);
  all.insert(all.end(), one.begin(), one.end());
  queues.io.send(all);
  for (int i = 0; i < 2; ++i) {
    auto answer = queues.io.receive_pdu();
    ASSERT_EQ(answer.outcome, Outcome::pdu) << answer.note;
    EXPECT_TRUE(nvme::status_of(answer.as<tcp::CapsuleResp>().cqe).is_success());
  }
  EXPECT_EQ(read(queues.io, 2000, 8192).data, data);
}

}  // namespace
}  // namespace catnap::protocol
