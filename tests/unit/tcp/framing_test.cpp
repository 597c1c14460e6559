// Headers of every kind, right and wrong, against what the specification says must be answered.
#include "transport/tcp/framing.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "reactor/base/crc32c.h"

namespace catnap::tcp {
namespace {

CommonHeader header(PduType type, std::uint32_t plen, std::uint8_t pdo = 0, std::uint8_t flags = 0) {
  CommonHeader common;
  common.type = static_cast<std::uint8_t>(type);
  common.flags = flags;
  common.hlen = header_bytes_of(type);
  common.pdo = pdo;
  common.plen = plen;
  return common;
}

struct HeaderCheck {
  Layout layout;
  std::optional<Fault> fault;
};

HeaderCheck check(const CommonHeader& common, const Negotiated& negotiated) {
  HeaderCheck result;
  result.fault = check_common_header(common, negotiated, result.layout);
  return result;
}

void expect_fault(const CommonHeader& common, const Negotiated& negotiated, FatalError fes, std::uint32_t fei) {
  const std::optional<Fault> fault = check(common, negotiated).fault;
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->fes, fes) << fault->reason;
  EXPECT_EQ(fault->fei, fei) << fault->reason;
}

TEST(Framing, WellFormedOnesAreLaidOut) {
  const Negotiated plain;
  EXPECT_FALSE(check(header(PduType::ic_req, 128), plain).fault);
  EXPECT_FALSE(check(header(PduType::capsule_cmd, 72), plain).fault);
  const HeaderCheck data = check(header(PduType::h2c_data, 24 + 4096, 24), plain);
  EXPECT_FALSE(data.fault);
  EXPECT_EQ(data.layout.header_bytes, 24u);
  EXPECT_EQ(data.layout.payload_bytes, 4096u);
  Negotiated digests;
  digests.header_digest = digests.data_digest = true;
  const HeaderCheck both = check(header(PduType::capsule_cmd, 76 + 512 + 4, 76, flag_hdgst | flag_ddgst), digests);
  EXPECT_FALSE(both.fault);
  EXPECT_EQ(both.layout.header_bytes, 76u);
  EXPECT_EQ(both.layout.payload_bytes, 512u);
  EXPECT_TRUE(both.layout.data_digest);
}

TEST(Framing, TypesAHostDoesNotSend) {
  for (int type = 0; type < 256; ++type) {
    const auto kind = static_cast<PduType>(type);
    if (kind == PduType::ic_req || kind == PduType::h2c_term_req || kind == PduType::capsule_cmd || kind == PduType::h2c_data) continue;
    CommonHeader common = header(PduType::capsule_cmd, 72);
    common.type = static_cast<std::uint8_t>(type);
    expect_fault(common, {}, FatalError::invalid_header_field, 0);
  }
}

TEST(Framing, WrongHlen) {
  for (int hlen = 0; hlen < 256; ++hlen) {
    if (hlen == 72) continue;
    CommonHeader common = header(PduType::capsule_cmd, 72);
    common.hlen = static_cast<std::uint8_t>(hlen);
    expect_fault(common, {}, FatalError::invalid_header_field, 2);
  }
}

TEST(Framing, WrongPlen) {
  expect_fault(header(PduType::ic_req, 127), {}, FatalError::invalid_header_field, 4);
  expect_fault(header(PduType::ic_req, 129), {}, FatalError::invalid_header_field, 4);
  expect_fault(header(PduType::capsule_cmd, 71), {}, FatalError::invalid_header_field, 4);
  expect_fault(header(PduType::capsule_cmd, 0), {}, FatalError::invalid_header_field, 4);
  expect_fault(header(PduType::capsule_cmd, 72 + admin_in_capsule_bytes + 1, 72), {}, FatalError::invalid_header_field, 4);
  expect_fault(header(PduType::capsule_cmd, 0xFFFFFFFF, 72), {}, FatalError::invalid_header_field, 4);
  expect_fault(header(PduType::h2c_data, 24), {}, FatalError::invalid_header_field, 4);
  expect_fault(header(PduType::h2c_term_req, 23), {}, FatalError::invalid_header_field, 4);
  expect_fault(header(PduType::h2c_term_req, 153), {}, FatalError::invalid_header_field, 4);
}

TEST(Framing, WrongPdo) {
  expect_fault(header(PduType::h2c_data, 24 + 512, 20), {}, FatalError::invalid_header_field, 3);
  expect_fault(header(PduType::h2c_data, 24 + 512, 25), {}, FatalError::invalid_header_field, 3);
  expect_fault(header(PduType::h2c_data, 24 + 512, 0), {}, FatalError::invalid_header_field, 3);
  expect_fault(header(PduType::h2c_data, 60, 200), {}, FatalError::invalid_header_field, 4);
}

TEST(Framing, DigestFlagsMustBeWhatWasAgreed) {
  Negotiated digests;
  digests.header_digest = digests.data_digest = true;
  expect_fault(header(PduType::capsule_cmd, 76, 0, 0), digests, FatalError::invalid_header_field, 1);
  expect_fault(header(PduType::capsule_cmd, 72, 0, flag_hdgst), {}, FatalError::invalid_header_field, 1);
  expect_fault(header(PduType::capsule_cmd, 76 + 512, 76, flag_hdgst), digests, FatalError::invalid_header_field, 1);
  expect_fault(header(PduType::h2c_data, 24 + 512, 24, flag_ddgst), {}, FatalError::invalid_header_field, 1);
}

TEST(Framing, TooMuchDataForOnePdu) {
  Negotiated negotiated;
  negotiated.max_h2c_data_bytes = 4096;
  EXPECT_FALSE(check(header(PduType::h2c_data, 24 + 4096, 24), negotiated).fault);
  expect_fault(header(PduType::h2c_data, 24 + 4097, 24), negotiated, FatalError::limit_exceeded, 0);
}

TEST(Framing, HeaderDigestNamesWhatItReceived) {
  std::array<std::byte, 28> bytes{};
  const le32 good = crc32c(bytes.data(), 24);
  std::memcpy(bytes.data() + 24, &good, 4);
  EXPECT_FALSE(check_header_digest(bytes, 24));
  bytes[3] = std::byte{1};
  const auto fault = check_header_digest(bytes, 24);
  ASSERT_TRUE(fault);
  EXPECT_EQ(fault->fes, FatalError::header_digest_error);
  EXPECT_EQ(fault->fei, std::uint32_t{good});
}

TEST(Framing, IcReqParameters) {
  IcReq request;
  EXPECT_FALSE(check_ic_req(request));
  request.pfv = 1;
  EXPECT_EQ(check_ic_req(request)->fes, FatalError::unsupported_parameter);
  EXPECT_EQ(check_ic_req(request)->fei, 8u);
  request.pfv = 0;
  request.hpda = 32;
  EXPECT_EQ(check_ic_req(request)->fei, 10u);
}

}  // namespace
}  // namespace catnap::tcp
