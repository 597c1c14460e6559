// Connection initialisation: ICReq and what may not come before or after it (TCP Transport 1.0c, sections 3.1 and 3.6.2.2).
// Owner: the test. Left out: TLS.
#include "tests/protocol/fixture.h"

namespace catnap::protocol {
namespace {

using IcTest = ProtocolTest;

Bytes ic_req_bytes() { return build_pdu(header_of_type<tcp::IcReq>(tcp::PduType::ic_req)); }

// Proves: transport | Initialization (ICReq, ICResp) | TCP 3.4.1
TEST_F(IcTest, AnswersWithVersionZeroAndItsLimits) {
  auto connection = open();
  EXPECT_EQ(connection.ic_resp().pfv, tcp::pfv_1_0);
  EXPECT_LE(connection.ic_resp().cpda, tcp::max_pda);
  EXPECT_GE(connection.ic_resp().maxh2cdata, tcp::min_max_h2c_data);
}

// Proves: transport | Initialization (ICReq, ICResp) | TCP 3.4.1
TEST_F(IcTest, AgreesToTheDigestsAskedFor) {
  for (bool header : {false, true}) {
    for (bool data : {false, true}) {
      auto connection = open({.digests = {header, data}});
      EXPECT_EQ(connection.ic_resp().dgst, (header ? 1 : 0) | (data ? 2 : 0));
    }
  }
}

// Proves: transport | Initialization (ICReq, ICResp) | TCP 3.4.1
TEST_F(IcTest, IgnoresReservedBytes) {
  auto connection = open_bare();
  auto bytes = ic_req_bytes();
  patch(bytes, 100, std::uint64_t{0xFFFFFFFFFFFFFFFF});
  connection.send(bytes);
  EXPECT_EQ(connection.receive_pdu().type(), tcp::PduType::ic_resp);
}

struct BadIcReq {
  const char* name;
  std::size_t offset;
  std::uint8_t value;
  tcp::FatalError also;  // FES that serves as well as Invalid PDU Header Field
};

class BadIcReqTest : public ProtocolTest, public testing::WithParamInterface<BadIcReq> {};

// Proves: transport | Initialization (ICReq, ICResp) | TCP 3.4.1
// Proves: transport | Termination with its reason | TCP 3.5
TEST_P(BadIcReqTest, IsTerminatedWithTheFieldsOffset) {
  auto connection = open_bare();
  auto bytes = ic_req_bytes();
  patch(bytes, GetParam().offset, GetParam().value);
  connection.send(bytes);
  auto field = static_cast<std::uint32_t>(GetParam().offset);
  expect_terminated(connection, {invalid_field_at(field), {GetParam().also, field}}, bytes);
}

INSTANTIATE_TEST_SUITE_P(Fields, BadIcReqTest,
                         testing::Values(BadIcReq{"Hlen", 2, 127, tcp::FatalError::invalid_header_field},
                                         BadIcReq{"HlenZero", 2, 0, tcp::FatalError::invalid_header_field},
                                         BadIcReq{"Plen", 4, 129, tcp::FatalError::invalid_header_field},
                                         BadIcReq{"PlenTooShort", 4, 24, tcp::FatalError::invalid_header_field},
                                         BadIcReq{"Pfv", 8, 1, tcp::FatalError::unsupported_parameter},
                                         BadIcReq{"Hpda", 10, 32, tcp::FatalError::unsupported_parameter}),
                         [](const auto& one) { return std::string(one.param.name); });

// Proves: transport | Initialization (ICReq, ICResp) | TCP 3.4.1
TEST_F(IcTest, ASecondOneIsASequenceError) {
  auto connection = open();
  connection.send(ic_req_bytes());
  expect_terminated(connection, {sequence_error()}, ic_req_bytes());
}

// Proves: transport | Initialization (ICReq, ICResp) | TCP 3.4.1
TEST_F(IcTest, ACapsuleBeforeItIsASequenceError) {
  auto connection = open_bare();
  auto bytes = connection.capsule(admin_command(nvme::AdminOpcode::keep_alive));
  connection.send(bytes);
  expect_terminated(connection, {sequence_error()}, bytes);
}

// Proves: transport | Initialization (ICReq, ICResp) | TCP 3.4.1
TEST_F(IcTest, DataBeforeItIsASequenceError) {
  auto connection = open_bare();
  auto bytes = connection.h2c_data(1, 1, 0, pattern(512, 1), true);
  connection.send(bytes);
  expect_terminated(connection, {sequence_error()}, bytes);
}

// Proves: transport | Initialization (ICReq, ICResp) | TCP 3.4.1
TEST_F(IcTest, AnUnknownTypeBeforeItTerminates) {
  auto connection = open_bare();
  auto bytes = ic_req_bytes();
  patch(bytes, 0, std::uint8_t{0x0B});
  connection.send(bytes);
  expect_terminated(connection, {invalid_field_at(0), sequence_error()}, bytes);
}

// Proves: transport | Initialization (ICReq, ICResp) | TCP 3.4.1
TEST_F(IcTest, AnotherProtocolIsTerminatedOrClosed) {
  auto connection = open_bare();
  std::string http = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
  connection.send(std::as_bytes(std::span(http)));
  auto answer = connection.receive_pdu();
  EXPECT_TRUE(answer.outcome == Outcome::closed || (answer.outcome == Outcome::pdu && answer.type() == tcp::PduType::c2h_term_req)) << answer.note;
}

// Proves: transport | PDU alignment (HPDA, CPDA) | TCP 3.3.1
TEST_F(IcTest, DataOfReadsIsAlignedAsHpdaAsks) {
  for (std::uint8_t hpda : {std::uint8_t{1}, std::uint8_t{15}, tcp::max_pda}) {
    auto queues = open_queues({.io = {.hpda = hpda}});
    auto bytes = pattern(8192, hpda);
    ASSERT_TRUE(succeeded(write(queues.io, 0, bytes)));
    auto back = read(queues.io, 0, 8192);  // receive_pdu() checks PDO
    EXPECT_TRUE(succeeded(back)) << "HPDA " << int(hpda);
    EXPECT_EQ(back.data, bytes);
  }
}

}  // namespace
}  // namespace catnap::protocol
