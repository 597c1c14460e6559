// See framing.h. Section numbers are those of the NVMe TCP Transport Specification 1.0c.
#include "transport/tcp/framing.h"

#include <cstring>

#include "reactor/base/crc32c.h"

namespace catnap::tcp {
namespace {

constexpr std::uint32_t offset_type = 0, offset_flags = 1, offset_hlen = 2, offset_pdo = 3, offset_plen = 4;
constexpr std::uint32_t offset_pfv = 8, offset_hpda = 10;

Fault invalid_field(std::uint32_t offset, const char* reason) { return {FatalError::invalid_header_field, offset, reason}; }

bool from_host(PduType type) {
  return type == PduType::ic_req || type == PduType::h2c_term_req || type == PduType::capsule_cmd || type == PduType::h2c_data;
}

bool from_controller(PduType type) {
  return type == PduType::ic_resp || type == PduType::c2h_term_req || type == PduType::capsule_resp || type == PduType::c2h_data ||
         type == PduType::r2t;
}

bool carries_digests(PduType type) { return type == PduType::capsule_cmd || type == PduType::h2c_data; }

// Section 3.6.1: digest flags must be what ICReq and ICResp agreed on. Only PDUs with data may have a data digest, and those must.
std::optional<Fault> check_flags(const CommonHeader& common, const Negotiated& negotiated, bool has_data) {
  const bool header_flag = (common.flags & flag_hdgst) != 0;
  const bool data_flag = (common.flags & flag_ddgst) != 0;
  if (header_flag != negotiated.header_digest) return invalid_field(offset_flags, "HDGSTF is not what was agreed on");
  if (data_flag && !negotiated.data_digest) return invalid_field(offset_flags, "DDGSTF without agreement");
  if (has_data && !data_flag && negotiated.data_digest) return invalid_field(offset_flags, "data without the agreed data digest");
  return std::nullopt;
}

// Places the data of a CapsuleCmd, H2CData or C2HData: PDO, padding, PLEN.
std::optional<Fault> check_data_layout(const CommonHeader& common, const Negotiated& negotiated, Layout& layout) {
  const std::uint32_t plen = common.plen;
  const std::uint32_t bare = common.hlen + (layout.header_digest ? digest_bytes : 0U);
  layout.header_bytes = bare;
  const bool has_data = plen > bare;
  if (!has_data) {
    if (plen < bare) return invalid_field(offset_plen, "PLEN is shorter than the header");
    if (layout.type == PduType::h2c_data) return invalid_field(offset_plen, "H2CData without data");
    if (layout.type == PduType::c2h_data) return invalid_field(offset_plen, "C2HData without data");
    return check_flags(common, negotiated, false);
  }
  if (auto fault = check_flags(common, negotiated, true)) return fault;
  const std::uint32_t trailer = negotiated.data_digest ? digest_bytes : 0U;
  layout.data_digest = negotiated.data_digest;
  if (common.pdo < bare || common.pdo % pda_alignment_bytes(negotiated.cpda) != 0)
    return invalid_field(offset_pdo, "PDO is not where data may begin");
  if (plen <= common.pdo + trailer) return invalid_field(offset_plen, "PLEN leaves no room for data");
  layout.header_bytes = common.pdo;
  layout.payload_bytes = plen - common.pdo - trailer;
  if (layout.type == PduType::capsule_cmd && layout.payload_bytes > negotiated.max_in_capsule_bytes)
    return invalid_field(offset_plen, "more in-capsule data than IOCCSZ allows");
  if (layout.type == PduType::h2c_data && layout.payload_bytes > negotiated.max_h2c_data_bytes)
    return Fault{FatalError::limit_exceeded, 0, "H2CData longer than MAXH2CDATA"};
  return std::nullopt;
}

std::optional<Fault> check_term_req(const CommonHeader& common, Layout& layout) {
  const std::uint32_t plen = common.plen;
  if (plen < sizeof(TermReq) || plen > max_term_pdu_bytes) return invalid_field(offset_plen, "PLEN of a TermReq");
  layout.header_bytes = plen;  // with the copy of our header at its end: short, so it is taken as one piece
  return std::nullopt;
}

}  // namespace

std::optional<Fault> check_common_header(const CommonHeader& common, const Negotiated& negotiated, Layout& layout) {
  layout = {};
  layout.type = static_cast<PduType>(common.type);
  if (!from_host(layout.type)) return invalid_field(offset_type, "not a PDU type that a host sends");
  if (common.hlen != header_bytes_of(layout.type)) return invalid_field(offset_hlen, "HLEN does not fit the PDU type");
  if (carries_digests(layout.type)) {
    layout.header_digest = negotiated.header_digest;
    return check_data_layout(common, negotiated, layout);
  }
  if (layout.type == PduType::h2c_term_req) return check_term_req(common, layout);
  layout.header_bytes = ic_pdu_bytes;
  if (std::uint32_t{common.plen} != ic_pdu_bytes) return invalid_field(offset_plen, "PLEN of ICReq is not 128");
  return std::nullopt;
}

std::optional<Fault> check_controller_header(const CommonHeader& common, const Negotiated& negotiated, Layout& layout) {
  layout = {};
  layout.type = static_cast<PduType>(common.type);
  if (!from_controller(layout.type)) return invalid_field(offset_type, "not a PDU type that a controller sends");
  if (common.hlen != header_bytes_of(layout.type)) return invalid_field(offset_hlen, "HLEN does not fit the PDU type");
  if (layout.type == PduType::c2h_term_req) return check_term_req(common, layout);
  if (layout.type == PduType::ic_resp) {
    layout.header_bytes = ic_pdu_bytes;
    if (std::uint32_t{common.plen} != ic_pdu_bytes) return invalid_field(offset_plen, "PLEN of ICResp is not 128");
    return std::nullopt;
  }
  layout.header_digest = negotiated.header_digest;
  if (layout.type == PduType::c2h_data) return check_data_layout(common, negotiated, layout);
  layout.header_bytes = common.hlen + (layout.header_digest ? digest_bytes : 0U);
  if (std::uint32_t{common.plen} != layout.header_bytes) return invalid_field(offset_plen, "PLEN is not that of a PDU without data");
  return check_flags(common, negotiated, false);
}

std::optional<Fault> check_header_digest(std::span<const std::byte> header_and_digest, std::size_t header_bytes) {
  le32 received;
  std::memcpy(&received, header_and_digest.data() + header_bytes, sizeof received);
  if (crc32c(header_and_digest.data(), header_bytes) == received) return std::nullopt;
  return Fault{FatalError::header_digest_error, received, "header digest is wrong"};
}

std::optional<Fault> check_ic_req(const IcReq& request) {
  if (request.pfv != pfv_1_0) return Fault{FatalError::unsupported_parameter, offset_pfv, "PFV is not 0"};
  if (request.hpda > max_pda) return invalid_field(offset_hpda, "HPDA is above 31");
  return std::nullopt;
}

}  // namespace catnap::tcp
