// Headers that are wrong in one field: each ends the connection with the FES and the offset the specification names (TCP Transport 1.0c, 3.6.2.5).
// Owner: the test. Left out: ICReq (ic_test.cpp), data PDUs of a transfer (r2t_test.cpp), digests (digest_test.cpp).
#include "tests/protocol/fixture.h"

namespace catnap::protocol {
namespace {

enum class Base : std::uint8_t { capsule, capsule_with_data, h2c_data, term_req };

struct BadHeader {
  const char* name;
  Base base;
  std::size_t offset;
  std::uint32_t value;
  std::size_t value_bytes;
  std::vector<Termination> allowed;
};

Bytes base_pdu(const Connection& connection, Base base) {
  auto sqe = admin_command(nvme::AdminOpcode::keep_alive);
  sqe.set_psdt(nvme::Psdt::sgl);
  switch (base) {
    case Base::capsule:
      sqe.sgl.type_and_subtype = 0x5A;
      return connection.capsule(sqe);
    case Base::capsule_with_data:
      sqe.sgl.set_type(nvme::SglType::data_block, nvme::SglSubtype::offset);
      sqe.sgl.length = 512;
      return connection.capsule(sqe, pattern(512, 1));
    case Base::h2c_data:
      return connection.h2c_data(1, 1, 0, pattern(512, 1), true);
    case Base::term_req:
      return build_pdu(header_of_type<tcp::TermReq>(tcp::PduType::h2c_term_req), pattern(24, 1));
  }
  return {};
}

class BadHeaderTest : public ProtocolTest, public testing::WithParamInterface<BadHeader> {};

// Proves: transport | Termination with its reason | TCP 3.5
TEST_P(BadHeaderTest, TerminatesTheConnection) {
  auto connection = open_admin();
  const auto& wrong = GetParam();
  auto bytes = base_pdu(connection, wrong.base);
  std::memcpy(bytes.data() + wrong.offset, &wrong.value, wrong.value_bytes);
  connection.send(bytes);
  // An initializer_list cannot be made from a vector: pad with the last one.
  auto at = [&](std::size_t i) { return wrong.allowed[std::min(i, wrong.allowed.size() - 1)]; };
  expect_terminated(connection, {at(0), at(1), at(2)}, bytes);
}

BadHeader type_case(const char* name, std::uint8_t type) { return {name, Base::capsule, 0, type, 1, {invalid_field_at(0), sequence_error()}}; }

INSTANTIATE_TEST_SUITE_P(
    Headers, BadHeaderTest,
    testing::Values(type_case("TypeIcResp", 0x01), type_case("TypeC2HTermReq", 0x03), type_case("TypeCapsuleResp", 0x05),
                    type_case("TypeC2HData", 0x07), type_case("TypeReserved", 0x08), type_case("TypeR2T", 0x09), type_case("TypeUnknown", 0x0A),
                    type_case("TypeFF", 0xFF), BadHeader{"CapsuleHlenShort", Base::capsule, 2, 71, 1, {invalid_field_at(2)}},
                    BadHeader{"CapsuleHlenLong", Base::capsule, 2, 73, 1, {invalid_field_at(2)}},
                    BadHeader{"CapsuleHlenZero", Base::capsule, 2, 0, 1, {invalid_field_at(2)}},
                    BadHeader{"CapsuleHlenMax", Base::capsule, 2, 255, 1, {invalid_field_at(2)}},
                    BadHeader{"CapsulePlenZero", Base::capsule, 4, 0, 4, {invalid_field_at(4)}},
                    BadHeader{"CapsulePlenShorterThanCommonHeader", Base::capsule, 4, 7, 4, {invalid_field_at(4)}},
                    BadHeader{"CapsulePlenShort", Base::capsule, 4, 71, 4, {invalid_field_at(4)}},
                    BadHeader{
                        "CapsulePlenHuge", Base::capsule_with_data, 4, 0xFFFFFFFF, 4, {invalid_field_at(4), {tcp::FatalError::limit_exceeded, {}}}},
                    BadHeader{"CapsuleDataBeyondInCapsuleSize",
                              Base::capsule_with_data,
                              4,
                              72 + 65536,
                              4,
                              {invalid_field_at(4), {tcp::FatalError::limit_exceeded, {}}, {tcp::FatalError::data_transfer_out_of_range, {}}}},
                    BadHeader{"CapsulePdoInHeader", Base::capsule_with_data, 3, 71, 1, {invalid_field_at(3)}},
                    BadHeader{"CapsulePdoZero", Base::capsule_with_data, 3, 0, 1, {invalid_field_at(3)}},
                    BadHeader{"CapsulePdoUnaligned", Base::capsule_with_data, 3, 73, 1, {invalid_field_at(3)}},
                    BadHeader{"CapsuleHeaderDigestNotAgreed", Base::capsule, 1, tcp::flag_hdgst, 1, {invalid_field_at(1)}},
                    BadHeader{"CapsuleDataDigestNotAgreed", Base::capsule_with_data, 1, tcp::flag_ddgst, 1, {invalid_field_at(1)}},
                    BadHeader{"H2CDataHlen", Base::h2c_data, 2, 28, 1, {invalid_field_at(2)}},
                    BadHeader{"H2CDataPdoInHeader", Base::h2c_data, 3, 20, 1, {invalid_field_at(3)}},
                    BadHeader{"H2CDataPlenShort", Base::h2c_data, 4, 23, 4, {invalid_field_at(4)}},
                    BadHeader{"H2CDataPlenNoData", Base::h2c_data, 4, 24, 4, {invalid_field_at(4)}},
                    BadHeader{"H2CDataHeaderDigestNotAgreed", Base::h2c_data, 1, tcp::flag_hdgst, 1, {invalid_field_at(1)}},
                    BadHeader{"TermReqHlen", Base::term_req, 2, 25, 1, {invalid_field_at(2)}},
                    BadHeader{"TermReqPlenShort", Base::term_req, 4, 23, 4, {invalid_field_at(4)}},
                    BadHeader{"TermReqPlenLong", Base::term_req, 4, 153, 4, {invalid_field_at(4)}}),
    [](const auto& one) { return std::string(one.param.name); });

using HeaderErrorTest = ProtocolTest;

// Proves: transport | Termination with its reason | TCP 3.5
TEST_F(HeaderErrorTest, PdoBehindTheEndTerminates) {
  auto connection = open_admin();
  auto bytes = base_pdu(connection, Base::capsule_with_data);
  patch(bytes, 3, std::uint8_t{252});
  patch(bytes, 4, le32(72 + 64));
  connection.send(bytes);
  expect_terminated(connection, {invalid_field_at(3), invalid_field_at(4)}, bytes);
}

// Proves: transport | Termination with its reason | TCP 3.5
TEST_F(HeaderErrorTest, H2CDataWithoutAnyTransferTerminates) {
  auto connection = open_admin();
  auto bytes = connection.h2c_data(1, 1, 0, pattern(512, 1), true);
  connection.send(bytes);
  expect_terminated(connection, {sequence_error(), invalid_field_at(10)}, bytes);
}

}  // namespace
}  // namespace catnap::protocol
