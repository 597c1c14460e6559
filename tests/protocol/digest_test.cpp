// Header and data digests, right and wrong (TCP Transport 1.0c, section 3.3.1). A wrong header ends the connection, wrong data only its command.
// Owner: the test. Left out: the CRC itself (unit tests).
#include "reactor/base/crc32c.h"
#include "tests/protocol/fixture.h"

namespace catnap::protocol {
namespace {

using DigestTest = ProtocolTest;

nvme::SubmissionEntry write_command(std::uint64_t slba, std::uint32_t length_bytes, bool in_capsule) {
  auto sqe = io_command(nvme::IoOpcode::write, slba, length_bytes / test_block_bytes);
  sqe.set_psdt(nvme::Psdt::sgl);
  sqe.sgl.type_and_subtype = in_capsule ? 0x01 : 0x5A;
  sqe.sgl.length = length_bytes;
  sqe.cid = 11;
  return sqe;
}

void flip_last_byte(Bytes& bytes) { bytes.back() ^= std::byte{0xFF}; }

// Proves: transport | Header digest | TCP 3.3.1.1
// Proves: transport | Data digest | TCP 3.3.1.2
TEST_F(DigestTest, EveryCombinationCarriesData) {
  for (Digests digests : {Digests{false, false}, Digests{true, false}, Digests{false, true}, Digests{true, true}}) {
    auto queues = open_queues({.io = {.digests = digests}});
    for (std::uint32_t length : {512U, 4096U, 65536U}) {
      auto data = pattern(length, length + (digests.header ? 1 : 0) + (digests.data ? 2 : 0));
      EXPECT_TRUE(succeeded(write(queues.io, 100, data)));
      auto back = read(queues.io, 100, length);
      EXPECT_TRUE(succeeded(back));
      EXPECT_EQ(back.data, data) << length;
    }
  }
}

// Proves: transport | Header digest | TCP 3.3.1.1
TEST_F(DigestTest, WrongHeaderDigestTerminatesWithTheDigestReceived) {
  auto queues = open_queues({.io = {.digests = {true, false}}});
  auto sqe = io_command(nvme::IoOpcode::flush, 0, 1);
  sqe.set_psdt(nvme::Psdt::sgl);
  auto bytes = queues.io.capsule(sqe);
  flip_last_byte(bytes);
  le32 digest;
  std::memcpy(static_cast<void*>(&digest), bytes.data() + 72, sizeof(digest));
  queues.io.send(bytes);
  expect_terminated(queues.io, {{tcp::FatalError::header_digest_error, digest}}, bytes);
}

// Proves: transport | Header digest | TCP 3.3.1.1
TEST_F(DigestTest, AChangedHeaderTerminates) {
  auto queues = open_queues({.io = {.digests = {true, true}}});
  auto bytes = queues.io.capsule(write_command(0, 512, true), pattern(512, 1));
  patch(bytes, 40, std::uint8_t{99});
  queues.io.send(bytes);
  expect_terminated(queues.io, {{tcp::FatalError::header_digest_error, std::nullopt}}, bytes);
}

// Proves: transport | Header digest | TCP 3.3.1.1
TEST_F(DigestTest, WrongHeaderDigestOfH2CDataTerminates) {
  auto queues = open_queues({.io = {.digests = {true, false}}});
  queues.io.send(queues.io.capsule(write_command(0, 8192, false)));
  auto r2t = queues.io.receive_pdu().as<tcp::R2T>();
  auto bytes = queues.io.h2c_data(11, r2t.ttag, 0, pattern(8192, 1), true);
  bytes[24] ^= std::byte{1};
  queues.io.send(bytes);
  expect_terminated(queues.io, {{tcp::FatalError::header_digest_error, std::nullopt}}, bytes);
}

// Proves: transport | Header digest | TCP 3.3.1.1
TEST_F(DigestTest, ACapsuleWithoutTheAgreedHeaderDigestTerminates) {
  auto queues = open_queues({.io = {.digests = {true, false}}});
  auto header = header_of_type<tcp::CapsuleCmd>(tcp::PduType::capsule_cmd);
  auto bytes = build_pdu(header);
  queues.io.send(bytes);
  expect_terminated(queues.io, {invalid_field_at(1), invalid_field_at(4)}, bytes);
}

// Proves: transport | Data digest | TCP 3.3.1.2
TEST_F(DigestTest, DataWithoutTheAgreedDataDigestTerminates) {
  auto queues = open_queues({.io = {.digests = {false, true}}});
  auto header = header_of_type<tcp::CapsuleCmd>(tcp::PduType::capsule_cmd);
  header.sqe = write_command(0, 512, true);
  auto bytes = build_pdu(header, pattern(512, 1));
  queues.io.send(bytes);
  expect_terminated(queues.io, {invalid_field_at(1), invalid_field_at(4)}, bytes);
}

// Proves: transport | Data digest | TCP 3.3.1.2
TEST_F(DigestTest, WrongDigestOfInCapsuleDataEndsOnlyTheCommand) {
  auto queues = open_queues({.io = {.digests = {true, true}}});
  ASSERT_TRUE(succeeded(write(queues.io, 200, pattern(4096, 1))));
  auto bytes = queues.io.capsule(write_command(200, 4096, true), pattern(4096, 2));
  flip_last_byte(bytes);
  queues.io.send(bytes);
  auto answer = queues.io.receive_pdu();
  ASSERT_EQ(answer.outcome, Outcome::pdu) << answer.note;
  ASSERT_EQ(answer.type(), tcp::PduType::capsule_resp);
  auto cqe = answer.as<tcp::CapsuleResp>().cqe;
  EXPECT_EQ(cqe.cid, 11);
  EXPECT_TRUE(nvme::status_of(cqe).same_code(nvme::GenericStatus::transient_transport_error)) << std::hex << cqe.status_field();
  EXPECT_FALSE(nvme::status_of(cqe).dnr) << "a retry may well help";
  EXPECT_EQ(read(queues.io, 200, 4096).data, pattern(4096, 1)) << "data with a wrong digest were written";
}

// Proves: transport | Data digest | TCP 3.3.1.2
TEST_F(DigestTest, WrongDigestOfH2CDataEndsOnlyTheCommand) {
  auto queues = open_queues({.io = {.digests = {false, true}}});
  ASSERT_TRUE(succeeded(write(queues.io, 300, pattern(8192, 3))));
  queues.io.send(queues.io.capsule(write_command(300, 8192, false)));
  auto r2t = queues.io.receive_pdu().as<tcp::R2T>();
  auto bytes = queues.io.h2c_data(11, r2t.ttag, 0, pattern(8192, 4), true);
  flip_last_byte(bytes);
  queues.io.send(bytes);
  auto answer = queues.io.receive_pdu();
  ASSERT_EQ(answer.outcome, Outcome::pdu) << answer.note;
  ASSERT_EQ(answer.type(), tcp::PduType::capsule_resp);
  EXPECT_TRUE(nvme::status_of(answer.as<tcp::CapsuleResp>().cqe).same_code(nvme::GenericStatus::transient_transport_error));
  EXPECT_EQ(read(queues.io, 300, 8192).data, pattern(8192, 3)) << "data with a wrong digest were written";
}

// Proves: transport | Data digest | TCP 3.3.1.2
TEST_F(DigestTest, WrongDigestInTheMiddleOfATransferEndsOnlyTheCommand) {
  auto queues = open_queues({.io = {.digests = {true, true}}});
  queues.io.send(queues.io.capsule(write_command(400, 12288, false)));
  auto r2t = queues.io.receive_pdu().as<tcp::R2T>();
  auto data = pattern(12288, 4);
  for (std::uint32_t offset = 0; offset < 12288; offset += 4096) {
    auto bytes = queues.io.h2c_data(11, r2t.ttag, offset, std::span(data).subspan(offset, 4096), offset == 8192);
    if (offset == 4096) flip_last_byte(bytes);
    queues.io.send(bytes);
  }
  auto answer = queues.io.receive_pdu();
  ASSERT_EQ(answer.outcome, Outcome::pdu) << answer.note;
  EXPECT_TRUE(nvme::status_of(answer.as<tcp::CapsuleResp>().cqe).same_code(nvme::GenericStatus::transient_transport_error));
  EXPECT_TRUE(succeeded(flush(queues.io)));
}

// Proves: transport | Data digest | TCP 3.3.1.2
TEST_F(DigestTest, ManyWrongDigestsDoNotWearTheConnectionOut) {
  auto queues = open_queues({.io = {.digests = {false, true}}});
  for (int i = 0; i < 20; ++i) {
    auto bytes = queues.io.capsule(write_command(0, 512, true), pattern(512, 1));
    flip_last_byte(bytes);
    queues.io.send(bytes);
    ASSERT_EQ(queues.io.receive_pdu().type(), tcp::PduType::capsule_resp) << "after " << i;
  }
  EXPECT_TRUE(succeeded(flush(queues.io)));
}

}  // namespace
}  // namespace catnap::protocol
