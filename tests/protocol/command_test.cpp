// Command entries that are wrong in themselves: opcodes, SGLs, lengths, fused operations (Base 2.0 sections 3.3.3.1 and 4.1.2).
// Owner: the test. Left out: fields of single commands (io_test.cpp and others).
#include "tests/protocol/fixture.h"

namespace catnap::protocol {
namespace {

class CommandTest : public ProtocolTest {
 protected:
  void SetUp() override {
    ProtocolTest::SetUp();
    queues_ = open_queues();
  }

  // Sends an entry exactly as it is.
  CommandResult run_raw(nvme::SubmissionEntry sqe, const Bytes& in_capsule = {}) {
    sqe.cid = 0x0BAD;
    queues_.io.send(queues_.io.capsule(sqe, in_capsule));
    CommandResult result;
    auto pdu = queues_.io.receive_pdu();
    result.outcome = pdu.outcome;
    result.note = pdu.note;
    if (pdu.outcome != Outcome::pdu) return result;
    if (pdu.type() != tcp::PduType::capsule_resp) {
      result.outcome = Outcome::malformed;
      result.note = "PDU type " + std::to_string(static_cast<int>(pdu.type())) + " came instead of CapsuleResp";
      return result;
    }
    result.cqe = pdu.as<tcp::CapsuleResp>().cqe;
    result.status = nvme::status_of(result.cqe);
    EXPECT_EQ(result.cqe.cid, 0x0BAD);
    return result;
  }
  static nvme::SubmissionEntry transfer(nvme::IoOpcode opcode, std::uint8_t sgl_type, std::uint32_t length_bytes) {
    auto sqe = io_command(opcode, 0, 1);
    sqe.set_psdt(nvme::Psdt::sgl);
    sqe.sgl.type_and_subtype = sgl_type;
    sqe.sgl.length = length_bytes;
    return sqe;
  }

  Queues queues_;
};

// Proves: command | Unknown opcodes | Base 2.0c 4.2.3
TEST_F(CommandTest, UnknownIoOpcodes) {
  for (int opcode : {0x7D, 0x81, 0xC4}) {
    auto sqe = io_command(static_cast<nvme::IoOpcode>(opcode), 0, 1);
    EXPECT_TRUE(has_status(queues_.io.run(sqe), nvme::GenericStatus::invalid_opcode)) << opcode;
  }
}

TEST_F(CommandTest, UnknownAdminOpcodes) {
  for (int opcode : {0x03, 0xC0, 0xFF}) {
    EXPECT_TRUE(has_status(queues_.admin.run(admin_command(static_cast<nvme::AdminOpcode>(opcode))), nvme::GenericStatus::invalid_opcode)) << opcode;
  }
}

TEST_F(CommandTest, QueueCommandsOfPcieAreUnknown) {
  for (auto opcode : {nvme::AdminOpcode::create_io_sq, nvme::AdminOpcode::create_io_cq, nvme::AdminOpcode::delete_io_sq}) {
    EXPECT_TRUE(has_status(queues_.admin.run(admin_command(opcode)), nvme::GenericStatus::invalid_opcode));
  }
}

TEST_F(CommandTest, AnUnknownOpcodeWithDataOnTheWayIsStillOneCommand) {
  auto sqe = io_command(static_cast<nvme::IoOpcode>(0x81), 0, 1);
  EXPECT_TRUE(has_status(queues_.io.run(sqe, Payload::in_capsule(pattern(4096, 1))), nvme::GenericStatus::invalid_opcode));
  EXPECT_TRUE(succeeded(flush(queues_.io)));
}

TEST_F(CommandTest, DataOfARefusedCommandMayComeLate) {
  for (auto opcode : {static_cast<nvme::IoOpcode>(0x81), nvme::IoOpcode::write}) {
    auto sqe = transfer(opcode, 0x01, 4096);
    sqe.set_slba(namespace_blocks);
    sqe.cdw12 = 7;
    sqe.cid = 0x0BAD;
    auto bytes = queues_.io.capsule(sqe, pattern(4096, 1));
    for (std::size_t at : {std::size_t{72}, std::size_t{100}, std::size_t{4000}}) {
      queues_.io.send(std::span(bytes).first(at));
      let_server_catch_up();
      queues_.io.send(std::span(bytes).subspan(at));
      auto answer = queues_.io.receive_pdu();
      ASSERT_EQ(answer.outcome, Outcome::pdu) << "cut at " << at << ": " << answer.note;
      EXPECT_FALSE(nvme::status_of(answer.as<tcp::CapsuleResp>().cqe).is_success());
    }
  }
  EXPECT_TRUE(succeeded(flush(queues_.io)));
}

TEST_F(CommandTest, FuseHasAReservedValue) {
  auto sqe = transfer(nvme::IoOpcode::compare, 0x01, 512);
  sqe.flags = sqe.flags | static_cast<std::uint8_t>(nvme::Fuse::reserved);
  EXPECT_TRUE(has_status(run_raw(sqe, pattern(512, 1)), nvme::GenericStatus::invalid_field));
}

TEST_F(CommandTest, PrpsAreInvalid) {
  auto sqe = transfer(nvme::IoOpcode::read, 0x5A, 512);
  sqe.set_psdt(nvme::Psdt::prp);
  EXPECT_TRUE(has_status(run_raw(sqe), nvme::GenericStatus::invalid_field));
}

// Proves: transport | SGL types and offsets | TCP 1.0c 3.3.2.1
TEST_F(CommandTest, SglTypesThatTcpDoesNotKnow) {
  for (int type : {0x00, 0x10, 0x20, 0x30, 0x40, 0x4F, 0xF0}) {
    EXPECT_TRUE(
        has_status(run_raw(transfer(nvme::IoOpcode::read, static_cast<std::uint8_t>(type), 512)), nvme::GenericStatus::sgl_descriptor_type_invalid))
        << type;
  }
  EXPECT_TRUE(succeeded(flush(queues_.io)));
}

// Proves: transport | SGL types and offsets | TCP 1.0c 3.3.2.1
TEST_F(CommandTest, InCapsuleDataAtAnOffset) {
  auto sqe = transfer(nvme::IoOpcode::write, 0x01, 512);
  sqe.sgl.address = 512;
  EXPECT_TRUE(has_status_of(run_raw(sqe, pattern(512, 1)), {nvme::GenericStatus::sgl_offset_invalid, nvme::GenericStatus::invalid_field}));
}

// Proves: transport | Command capsules and in-capsule data | TCP 1.0c 3.3.2
TEST_F(CommandTest, InCapsuleDataShorterThanTheSgl) {
  auto sqe = transfer(nvme::IoOpcode::write, 0x01, 512);
  EXPECT_TRUE(has_status(run_raw(sqe, pattern(256, 1)), nvme::GenericStatus::data_sgl_length_invalid));
}

TEST_F(CommandTest, InCapsuleDataThatIsNotThere) {
  EXPECT_TRUE(has_status(run_raw(transfer(nvme::IoOpcode::write, 0x01, 512)), nvme::GenericStatus::data_sgl_length_invalid));
}

TEST_F(CommandTest, ALengthThatIsNotTheCommands) {
  EXPECT_TRUE(has_status(run_raw(transfer(nvme::IoOpcode::write, 0x5A, 256)), nvme::GenericStatus::data_sgl_length_invalid)) << "write";
  EXPECT_TRUE(has_status(run_raw(transfer(nvme::IoOpcode::read, 0x5A, 256)), nvme::GenericStatus::data_sgl_length_invalid)) << "read";
}

TEST_F(CommandTest, WrongCommandsWriteNothing) {
  ASSERT_TRUE(succeeded(write(queues_.io, 0, pattern(512, 30))));
  run_raw(transfer(nvme::IoOpcode::write, 0x01, 512), pattern(256, 31));
  auto offset = transfer(nvme::IoOpcode::write, 0x01, 512);
  offset.sgl.address = 4;
  run_raw(offset, pattern(512, 31));
  auto again = open_queues();
  EXPECT_EQ(read(again.io, 0, 512).data, pattern(512, 30));
}

TEST_F(CommandTest, AdminCommandsOnIoQueuesAreUnknown) {
  // Keep Alive's opcode means nothing on an I/O queue.
  auto sqe = admin_command(nvme::AdminOpcode::keep_alive, 1);
  EXPECT_TRUE(has_status(queues_.io.run(sqe), nvme::GenericStatus::invalid_opcode));
}

}  // namespace
}  // namespace catnap::protocol
