// Fuzzes the first look at a PDU from a host: whatever the bytes, the answer is a fault that can be told or a layout that adds up.
// Owner: the libFuzzer process. Left out: what comes after the header (the protocol tests send that to a real server).
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "reactor/base/check.h"
#include "transport/tcp/framing.h"

namespace {

using namespace catnap;
using namespace catnap::tcp;

constexpr std::size_t settings_bytes = 4;

Negotiated read_settings(const std::uint8_t* bytes) {
  Negotiated negotiated;
  negotiated.header_digest = (bytes[0] & 1U) != 0;
  negotiated.data_digest = (bytes[0] & 2U) != 0;
  negotiated.cpda = bytes[1] % (max_pda + 1U);
  negotiated.max_in_capsule_bytes = bytes[2] * 4096U;
  negotiated.max_h2c_data_bytes = (bytes[3] + 1U) * 4096U;
  return negotiated;
}

void check_layout(const CommonHeader& common, const Negotiated& negotiated, const Layout& layout) {
  CATNAP_CHECK(layout.header_bytes >= common.hlen);
  CATNAP_CHECK(layout.header_bytes <= 255);
  const std::uint64_t trailer = layout.data_digest ? digest_bytes : 0;
  CATNAP_CHECK(layout.header_bytes + std::uint64_t{layout.payload_bytes} + trailer == std::uint32_t{common.plen});
  if (layout.payload_bytes == 0) return;
  CATNAP_CHECK(layout.header_bytes % pda_alignment_bytes(negotiated.cpda) == 0);
  CATNAP_CHECK(layout.payload_bytes <= (layout.type == PduType::capsule_cmd ? negotiated.max_in_capsule_bytes : negotiated.max_h2c_data_bytes));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  CommonHeader common;
  if (size < settings_bytes + sizeof common) return 0;
  const Negotiated negotiated = read_settings(data);
  const std::uint8_t* pdu = data + settings_bytes;
  const std::size_t pdu_bytes = size - settings_bytes;
  std::memcpy(&common, pdu, sizeof common);
  Layout layout;
  if (const auto fault = check_common_header(common, negotiated, layout)) {
    CATNAP_CHECK(fault->reason != nullptr);
    return 0;
  }
  check_layout(common, negotiated, layout);
  if (layout.header_digest && pdu_bytes >= common.hlen + digest_bytes) {
    (void)check_header_digest(std::as_bytes(std::span(pdu, common.hlen + digest_bytes)), common.hlen);
  }
  if (layout.type == PduType::ic_req && pdu_bytes >= sizeof(IcReq)) {
    IcReq request;
    std::memcpy(&request, pdu, sizeof request);
    (void)check_ic_req(request);
  }
  return 0;
}
