// Writes by R2T: what the target asks for, and hosts that answer it wrongly (TCP Transport 1.0c, sections 3.3.2, 3.6.2.8 and 3.6.2.10).
// Owner: the test. Left out: digests (digest_test.cpp).
#include "tests/protocol/fixture.h"

namespace catnap::protocol {
namespace {

// FES of data PDUs that do not follow the order of their R2T.
const Termination out_of_range{tcp::FatalError::data_transfer_out_of_range, std::nullopt};
const Termination limit_exceeded{tcp::FatalError::limit_exceeded, std::nullopt};
constexpr std::uint32_t ttag_offset = 10;
constexpr std::uint32_t cccid_offset = 8;
constexpr std::uint32_t datao_offset = 12;
constexpr std::uint32_t datal_offset = 16;
constexpr std::uint32_t flags_offset = 1;

class R2tTest : public ProtocolTest {
 protected:
  void SetUp() override {
    ProtocolTest::SetUp();
    queues_ = open_queues();
  }

  // Starts a write and returns the first R2T.
  tcp::R2T start_write(Connection& io, std::uint32_t length_bytes, std::uint16_t cid = 7) {
    auto sqe = io_command(nvme::IoOpcode::write, 0, length_bytes / test_block_bytes);
    sqe.set_psdt(nvme::Psdt::sgl);
    sqe.sgl.type_and_subtype = 0x5A;
    sqe.sgl.length = length_bytes;
    sqe.cid = cid;
    io.send(io.capsule(sqe));
    auto pdu = io.receive_pdu();
    EXPECT_EQ(pdu.outcome, Outcome::pdu) << pdu.note;
    EXPECT_EQ(pdu.type(), tcp::PduType::r2t);
    return pdu.as<tcp::R2T>();
  }

  void expect_fault(const Bytes& bytes, std::initializer_list<Termination> allowed) {
    queues_.io.send(bytes);
    expect_terminated(queues_.io, allowed, bytes);
  }

  Queues queues_;
};

// Proves: transport | H2CData and R2T | TCP 3.3.2
TEST_F(R2tTest, AsksForTheWholeDataInOrderAndNoMore) {
  auto sqe = io_command(nvme::IoOpcode::write, 0, 256);
  auto result = queues_.io.run(sqe, Payload::by_r2t(pattern(131072, 4)));
  EXPECT_TRUE(succeeded(result));
  EXPECT_GE(result.r2t_pdus, 1U);
  EXPECT_EQ(read(queues_.io, 0, 131072).data, pattern(131072, 4));
}

// Proves: transport | H2CData and R2T | TCP 3.3.2
TEST_F(R2tTest, NamesTheCommandAndStaysWithinIt) {
  auto r2t = start_write(queues_.io, 65536, 0xF007);
  EXPECT_EQ(r2t.cccid, 0xF007);
  EXPECT_EQ(r2t.r2to, 0U);
  EXPECT_GT(r2t.r2tl, 0U);
  EXPECT_LE(r2t.r2tl, 65536U);
}

// Proves: transport | H2CData and R2T | TCP 3.3.2
TEST_F(R2tTest, NeverMoreAtOnceThanMaxR2tAllows) {
  for (std::uint32_t max_r2t : {1U, 2U, 16U}) {
    auto io = open_io(queues_.cntlid, static_cast<std::uint16_t>(2 + max_r2t), {.io = {.max_r2t = max_r2t}});
    start_write(io, max_io_bytes);
    // A flush behind it: R2Ts that would come at once come before its completion.
    auto cid = io.submit(io_command(nvme::IoOpcode::flush, 0, 1));
    std::uint32_t outstanding = 1;
    while (true) {
      auto pdu = io.receive_pdu();
      ASSERT_EQ(pdu.outcome, Outcome::pdu) << pdu.note;
      if (pdu.type() == tcp::PduType::r2t) {
        ++outstanding;
      } else if (pdu.as<tcp::CapsuleResp>().cqe.cid == cid) {
        break;
      }
    }
    EXPECT_LE(outstanding, max_r2t);
  }
}

// Proves: transport | H2CData and R2T | TCP 3.3.2
TEST_F(R2tTest, SeveralPerCommandCarryAMebibyte) {
  auto io = open_io(queues_.cntlid, 2, {.io = {.max_r2t = 4}});
  auto data = pattern(max_io_bytes, 5);
  EXPECT_TRUE(succeeded(write(io, 0, data)));
  EXPECT_EQ(read(io, 0, max_io_bytes).data, data);
}

// Proves: transport | H2CData and R2T | TCP 3.3.2
TEST_F(R2tTest, TwoCommandsMayAlternateTheirData) {
  auto first = start_write(queues_.io, 8192, 1);
  auto second = start_write(queues_.io, 8192, 2);
  ASSERT_EQ(first.r2tl, 8192U);
  ASSERT_EQ(second.r2tl, 8192U);
  EXPECT_NE(first.ttag, second.ttag);
  auto data = pattern(8192, 6);
  for (std::uint32_t offset : {0U, 4096U}) {
    queues_.io.send(queues_.io.h2c_data(2, second.ttag, offset, std::span(data).subspan(offset, 4096), offset != 0));
    queues_.io.send(queues_.io.h2c_data(1, first.ttag, offset, std::span(data).subspan(offset, 4096), offset != 0));
  }
  for (int i = 0; i < 2; ++i) {
    auto pdu = queues_.io.receive_pdu();
    ASSERT_EQ(pdu.outcome, Outcome::pdu) << pdu.note;
    EXPECT_TRUE(nvme::status_of(pdu.as<tcp::CapsuleResp>().cqe).is_success());
  }
  EXPECT_EQ(read(queues_.io, 0, 8192).data, data);
}

// Proves: transport | H2CData and R2T | TCP 3.3.2
TEST_F(R2tTest, WrongTransferTagTerminates) {
  auto r2t = start_write(queues_.io, 8192);
  for (std::uint16_t wrong : {static_cast<std::uint16_t>(r2t.ttag + 1), std::uint16_t{0xFFFF}}) {
    queues_ = open_queues();
    start_write(queues_.io, 8192);
    expect_fault(queues_.io.h2c_data(7, wrong, 0, pattern(8192, 1), true), {invalid_field_at(ttag_offset), sequence_error()});
  }
}

// Proves: transport | H2CData and R2T | TCP 3.3.2
TEST_F(R2tTest, WrongCommandIdTerminates) {
  auto r2t = start_write(queues_.io, 8192);
  expect_fault(queues_.io.h2c_data(8, r2t.ttag, 0, pattern(8192, 1), true), {invalid_field_at(cccid_offset), sequence_error()});
}

// Proves: transport | H2CData and R2T | TCP 3.3.2
TEST_F(R2tTest, AGapInTheOffsetsTerminates) {
  auto r2t = start_write(queues_.io, 8192);
  queues_.io.send(queues_.io.h2c_data(7, r2t.ttag, 0, pattern(1024, 1), false));
  expect_fault(queues_.io.h2c_data(7, r2t.ttag, 2048, pattern(1024, 1), false), {sequence_error(), out_of_range, invalid_field_at(datao_offset)});
}

// Proves: transport | H2CData and R2T | TCP 3.3.2
TEST_F(R2tTest, GoingBackInTheOffsetsTerminates) {
  auto r2t = start_write(queues_.io, 8192);
  queues_.io.send(queues_.io.h2c_data(7, r2t.ttag, 0, pattern(1024, 1), false));
  expect_fault(queues_.io.h2c_data(7, r2t.ttag, 0, pattern(1024, 1), false), {sequence_error(), out_of_range, invalid_field_at(datao_offset)});
}

// Proves: transport | H2CData and R2T | TCP 3.3.2
TEST_F(R2tTest, DataBeyondTheRequestTerminates) {
  auto r2t = start_write(queues_.io, 8192);
  expect_fault(queues_.io.h2c_data(7, r2t.ttag, 0, pattern(8192 + 512, 1), true), {out_of_range});
}

// Proves: transport | H2CData and R2T | TCP 3.3.2
TEST_F(R2tTest, AnOffsetBeyondTheCommandTerminates) {
  auto r2t = start_write(queues_.io, 8192);
  expect_fault(queues_.io.h2c_data(7, r2t.ttag, 0xFFFFFE00, pattern(512, 1), true), {out_of_range, sequence_error(), invalid_field_at(datao_offset)});
}

// Proves: transport | H2CData and R2T | TCP 3.3.2
TEST_F(R2tTest, MoreThanMaxH2CDataTerminates) {
  std::uint32_t most = queues_.io.ic_resp().maxh2cdata;
  if (most >= max_io_bytes) GTEST_SKIP() << "MAXH2CDATA is not below the largest I/O";
  auto r2t = start_write(queues_.io, max_io_bytes);
  expect_fault(queues_.io.h2c_data(7, r2t.ttag, 0, pattern(most + 4096, 1), false), {limit_exceeded, out_of_range});
}

// Proves: transport | H2CData and R2T | TCP 3.3.2
TEST_F(R2tTest, LastPduMissingTerminates) {
  auto r2t = start_write(queues_.io, 8192);
  ASSERT_EQ(r2t.r2tl, 8192U);
  expect_fault(queues_.io.h2c_data(7, r2t.ttag, 0, pattern(8192, 1), false), {sequence_error(), invalid_field_at(flags_offset)});
}

// Proves: transport | H2CData and R2T | TCP 3.3.2
TEST_F(R2tTest, LastPduTooEarlyTerminates) {
  auto r2t = start_write(queues_.io, 8192);
  ASSERT_EQ(r2t.r2tl, 8192U);
  expect_fault(queues_.io.h2c_data(7, r2t.ttag, 0, pattern(4096, 1), true), {sequence_error(), invalid_field_at(flags_offset)});
}

// Proves: transport | H2CData and R2T | TCP 3.3.2
TEST_F(R2tTest, DataLengthThatIsNotThePdusTerminates) {
  auto r2t = start_write(queues_.io, 8192);
  auto bytes = queues_.io.h2c_data(7, r2t.ttag, 0, pattern(4096, 1), false);
  patch(bytes, datal_offset, le32(4092));
  expect_fault(bytes, {invalid_field_at(datal_offset), invalid_field_at(4)});
}

// Proves: transport | H2CData and R2T | TCP 3.3.2
TEST_F(R2tTest, AnsweringTheSameRequestTwiceTerminates) {
  auto r2t = start_write(queues_.io, 8192);
  auto bytes = queues_.io.h2c_data(7, r2t.ttag, 0, pattern(8192, 1), true);
  queues_.io.send(bytes);
  auto answer = queues_.io.receive_pdu();
  ASSERT_EQ(answer.outcome, Outcome::pdu) << answer.note;
  ASSERT_TRUE(nvme::status_of(answer.as<tcp::CapsuleResp>().cqe).is_success());
  expect_fault(bytes, {sequence_error(), invalid_field_at(ttag_offset)});
}

// Proves: transport | H2CData and R2T | TCP 3.3.2
// Proves: transport | Termination with its reason | TCP 3.5
TEST_F(R2tTest, AViolationWritesNothing) {
  ASSERT_TRUE(succeeded(write(queues_.io, 0, pattern(8192, 20))));
  auto r2t = start_write(queues_.io, 8192);
  expect_fault(queues_.io.h2c_data(7, r2t.ttag, 0, pattern(8192, 21), false), {sequence_error(), invalid_field_at(flags_offset)});
  auto again = open_queues();
  EXPECT_EQ(read(again.io, 0, 8192).data, pattern(8192, 20));
}

}  // namespace
}  // namespace catnap::protocol
