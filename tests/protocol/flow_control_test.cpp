// Submission queue heads, disabled SQ flow control, the SUCCESS flag, and queues filled to the brim.
// Owner: the test. Left out: a host that stops reading (stalled_host_test.cpp).
#include "tests/protocol/fixture.h"

namespace catnap::protocol {
namespace {

using FlowControlTest = ProtocolTest;

// Proves: transport | Flow control and SQ head | Base 3.3.1.2.1
// Proves: transport | Flow control and SQ head | Base 2.0c 3.3.1.2.1
TEST_F(FlowControlTest, SqHeadFollowsTheCommandsTaken) {
  auto queues = open_queues({.entries = 4});
  // Connect took the first slot.
  for (int i = 0; i < 9; ++i) {
    auto result = flush(queues.io);
    ASSERT_TRUE(succeeded(result));
    EXPECT_EQ(result.cqe.sqhd, (2 + i) % 4) << "completion " << i;
  }
}

// Proves: transport | C2HData and the success flag | TCP 3.3.2
// Proves: transport | Flow control and SQ head | Base 3.3.1.2.1
TEST_F(FlowControlTest, WithFlowControlEveryReadGetsACompletion) {
  auto queues = open_queues();
  auto result = read(queues.io, 0, 8192);
  EXPECT_TRUE(succeeded(result));
  EXPECT_FALSE(result.by_success_flag) << "the SUCCESS flag hides SQHD from a host that needs it";
}

// Proves: transport | C2HData and the success flag | TCP 3.3.2
// Proves: transport | C2HData and the success flag | TCP 1.0c 3.3.2
TEST_F(FlowControlTest, WithoutFlowControlReadsEndWithTheSuccessFlag) {
  auto queues = open_queues({.cattr = nvme::cattr_disable_sq_flow_control});
  auto result = read(queues.io, 0, 131072);
  EXPECT_TRUE(succeeded(result));
  EXPECT_TRUE(result.by_success_flag);
}

// Proves: transport | C2HData and the success flag | TCP 3.3.2
TEST_F(FlowControlTest, WithoutFlowControlAFailedReadStillGetsItsStatus) {
  auto queues = open_queues({.cattr = nvme::cattr_disable_sq_flow_control});
  auto result = read(queues.io, namespace_blocks, 512);
  EXPECT_TRUE(has_status(result, nvme::GenericStatus::lba_out_of_range));
}

// Proves: transport | Flow control and SQ head | Base 3.3.1.2.1
TEST_F(FlowControlTest, AFullQueueOfReadsIsServed) {
  auto queues = open_queues();
  std::vector<std::uint16_t> cids;
  for (int i = 0; i < max_queue_entries - 1; ++i) {
    cids.push_back(queues.io.submit(io_command(nvme::IoOpcode::read, 0, 256), Payload::to_host(131072)));
  }
  for (auto cid : cids) EXPECT_TRUE(succeeded(queues.io.wait(cid)));
}

// Proves: transport | Flow control and SQ head | Base 3.3.1.2.1
TEST_F(FlowControlTest, AFullQueueOfLargeWritesIsServed) {
  auto queues = open_queues();
  std::vector<std::uint16_t> cids;
  for (std::uint32_t i = 0; i < max_queue_entries - 1; ++i) {
    cids.push_back(queues.io.submit(io_command(nvme::IoOpcode::write, std::uint64_t{i} * 256, 256), Payload::by_r2t(pattern(131072, i))));
  }
  for (auto cid : cids) EXPECT_TRUE(succeeded(queues.io.wait(cid)));
}

// Proves: transport | Flow control and SQ head | Base 3.3.1.2.1
TEST_F(FlowControlTest, ACommandIdInUseIsAConflict) {
  auto queues = open_queues();
  auto sqe = io_command(nvme::IoOpcode::write, 0, 16);
  sqe.set_psdt(nvme::Psdt::sgl);
  sqe.sgl.type_and_subtype = 0x5A;
  sqe.sgl.length = 8192;
  sqe.cid = 21;
  queues.io.send(queues.io.capsule(sqe));
  auto r2t = queues.io.receive_pdu();
  ASSERT_EQ(r2t.type(), tcp::PduType::r2t);
  queues.io.send(queues.io.capsule(sqe));
  auto answer = queues.io.receive_pdu();
  ASSERT_EQ(answer.outcome, Outcome::pdu) << answer.note;
  ASSERT_EQ(answer.type(), tcp::PduType::capsule_resp);
  EXPECT_EQ(answer.as<tcp::CapsuleResp>().cqe.cid, 21);
  EXPECT_TRUE(nvme::status_of(answer.as<tcp::CapsuleResp>().cqe).same_code(nvme::GenericStatus::command_id_conflict));
}

// Proves: transport | Flow control and SQ head | Base 3.3.1.2.1
TEST_F(FlowControlTest, ACommandIdMayBeUsedAgainOnceItIsComplete) {
  auto queues = open_queues();
  auto sqe = io_command(nvme::IoOpcode::flush, 0, 1);
  sqe.set_psdt(nvme::Psdt::sgl);
  sqe.sgl.type_and_subtype = 0x5A;
  sqe.cid = 0xFFFE;
  for (int i = 0; i < 5; ++i) {
    queues.io.send(queues.io.capsule(sqe));
    auto answer = queues.io.receive_pdu();
    ASSERT_EQ(answer.outcome, Outcome::pdu) << answer.note;
    EXPECT_TRUE(nvme::status_of(answer.as<tcp::CapsuleResp>().cqe).is_success());
    EXPECT_EQ(answer.as<tcp::CapsuleResp>().cqe.cid, 0xFFFE);
  }
}

// Proves: transport | Flow control and SQ head | Base 3.3.1.2.1
// Proves: transport | Flow control and SQ head | Base 2.0c 3.3.1.2.1
TEST_F(FlowControlTest, MoreCommandsThanTheQueueHoldsEndTheConnection) {
  auto queues = open_queues({.entries = 4});
  auto sqe = io_command(nvme::IoOpcode::write, 0, 16);
  sqe.set_psdt(nvme::Psdt::sgl);
  sqe.sgl.type_and_subtype = 0x5A;
  sqe.sgl.length = 8192;
  for (std::uint16_t i = 0; i < 16; ++i) {
    sqe.cid = i;
    queues.io.send(queues.io.capsule(sqe));
  }
  // R2Ts for those that fit, then a termination.
  while (true) {
    auto pdu = queues.io.receive_pdu();
    if (pdu.outcome == Outcome::pdu && pdu.type() == tcp::PduType::r2t) continue;
    ASSERT_TRUE(pdu.outcome == Outcome::closed || pdu.type() == tcp::PduType::c2h_term_req) << pdu.note;
    break;
  }
}

}  // namespace
}  // namespace catnap::protocol
