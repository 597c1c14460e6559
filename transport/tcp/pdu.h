// NVMe/TCP protocol data units as they lie on the wire (TCP Transport 1.0c, section 3.6).
// Owner: none (values). Left out: framing, digests' computation (reactor/base/crc32c.h), what a PDU means for a queue pair.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "reactor/base/le.h"
#include "transport/nvme/command.h"

namespace catnap::tcp {

// PDU-Type, byte 0 of every PDU (section 3.6.1).
enum class PduType : std::uint8_t {
  ic_req = 0x00,
  ic_resp = 0x01,
  h2c_term_req = 0x02,
  c2h_term_req = 0x03,
  capsule_cmd = 0x04,
  capsule_resp = 0x05,
  h2c_data = 0x06,
  c2h_data = 0x07,
  r2t = 0x09,
};

// FLAGS, byte 1 of every PDU (which of them a PDU may carry depends on its type).
inline constexpr std::uint8_t flag_hdgst = 1U << 0;     // HDGSTF: a header digest follows the header
inline constexpr std::uint8_t flag_ddgst = 1U << 1;     // DDGSTF: a data digest follows the data
inline constexpr std::uint8_t flag_last_pdu = 1U << 2;  // H2CData, C2HData: the last data PDU of this R2T or command
inline constexpr std::uint8_t flag_success = 1U << 3;   // C2HData: command succeeded, no CapsuleResp follows (only with LAST_PDU)

// DGST byte of ICReq and ICResp.
inline constexpr std::uint8_t dgst_header_enable = 1U << 0;
inline constexpr std::uint8_t dgst_data_enable = 1U << 1;

inline constexpr std::uint16_t pfv_1_0 = 0;              // PDU format version, the only one there is
inline constexpr std::size_t digest_bytes = 4;           // CRC32C, little-endian
inline constexpr std::size_t ic_pdu_bytes = 128;         // ICReq and ICResp, header and PDU
inline constexpr std::size_t max_term_data_bytes = 128;  // of the offending PDU's header, in a TermReq
inline constexpr std::size_t max_term_pdu_bytes = 24 + max_term_data_bytes;
inline constexpr std::size_t max_header_bytes = ic_pdu_bytes;
inline constexpr std::uint8_t max_pda = 31;                    // HPDA/CPDA: alignment is (value + 1) dwords, so 4..128 bytes
inline constexpr std::uint32_t min_max_h2c_data = 4096;        // MAXH2CDATA is at least this, and a multiple of 4
inline constexpr std::uint32_t admin_in_capsule_bytes = 8192;  // fixed in-capsule data size of the admin queue and of Connect (section 3.3.2)

// Bytes from the start of the PDU to a multiple of which the data begins, of an HPDA or CPDA value.
constexpr std::uint32_t pda_alignment_bytes(std::uint8_t pda) { return (pda + 1U) * 4U; }

// The 8 bytes every PDU begins with.
struct CommonHeader {
  std::uint8_t type = 0;   // byte 0, PduType
  std::uint8_t flags = 0;  // byte 1
  std::uint8_t hlen = 0;   // byte 2: length of the header, without digest and padding
  std::uint8_t pdo = 0;    // byte 3: offset of the data from the PDU's first byte, 0 without data
  le32 plen;               // bytes 7:4: length of the whole PDU, digests and padding included
};
static_assert(sizeof(CommonHeader) == 8);

// Section 3.6.2.2. 128 bytes, no digests, no data.
struct IcReq {
  CommonHeader ch;
  le16 pfv;                                  // bytes 9:8
  std::uint8_t hpda = 0;                     // byte 10: host PDU data alignment, 0..31: what data of C2HData aligns to
  std::uint8_t dgst = 0;                     // byte 11
  le32 maxr2t;                               // bytes 15:12: R2Ts a command may have outstanding, 0's based
  std::array<std::uint8_t, 112> reserved{};  // bytes 127:16
};
static_assert(sizeof(IcReq) == ic_pdu_bytes);

// Section 3.6.2.3. 128 bytes.
struct IcResp {
  CommonHeader ch;
  le16 pfv;                                  // bytes 9:8
  std::uint8_t cpda = 0;                     // byte 10: controller PDU data alignment: what data of CapsuleCmd and H2CData aligns to
  std::uint8_t dgst = 0;                     // byte 11
  le32 maxh2cdata;                           // bytes 15:12: most data bytes in one H2CData
  std::array<std::uint8_t, 112> reserved{};  // bytes 127:16
};
static_assert(sizeof(IcResp) == ic_pdu_bytes);

// Fatal Error Status of both termination PDUs (sections 3.6.2.4 and 3.6.2.5).
enum class FatalError : std::uint16_t {
  invalid_header_field = 0x01,        // FEI: byte offset of the field in the header
  pdu_sequence_error = 0x02,          // FEI reserved
  header_digest_error = 0x03,         // FEI: the header digest that was received
  data_transfer_out_of_range = 0x04,  // FEI reserved
  limit_exceeded = 0x05,              // C2H: data transfer limit (MAXH2CDATA); H2C: R2T limit. FEI reserved
  unsupported_parameter = 0x06,       // FEI: byte offset of the parameter in the header
};

// H2CTermReq and C2HTermReq: 24 bytes, followed by up to 128 bytes of the header of the PDU at fault.
struct TermReq {
  CommonHeader ch;
  le16 fes;                                 // bytes 9:8, FatalError
  le32 fei;                                 // bytes 13:10
  std::array<std::uint8_t, 10> reserved{};  // bytes 23:14
};
static_assert(sizeof(TermReq) == 24);

// Section 3.6.2.6. Followed by [HDGST] [padding] [in-capsule data] [DDGST].
struct CapsuleCmd {
  CommonHeader ch;
  nvme::SubmissionEntry sqe;
};
static_assert(sizeof(CapsuleCmd) == 72);

// Section 3.6.2.7. Followed by [HDGST]; never data.
struct CapsuleResp {
  CommonHeader ch;
  nvme::CompletionEntry cqe;
};
static_assert(sizeof(CapsuleResp) == 24);

// Section 3.6.2.8. Followed by [HDGST] [padding] data [DDGST].
struct H2CData {
  CommonHeader ch;
  le16 cccid;                              // bytes 9:8: CID of the command
  le16 ttag;                               // bytes 11:10: transfer tag of the R2T
  le32 datao;                              // bytes 15:12: offset within the command's data
  le32 datal;                              // bytes 19:16: bytes of data in this PDU
  std::array<std::uint8_t, 4> reserved{};  // bytes 23:20
};
static_assert(sizeof(H2CData) == 24);

// Section 3.6.2.9. Followed by [HDGST] [padding] data [DDGST].
struct C2HData {
  CommonHeader ch;
  le16 cccid;                               // bytes 9:8
  std::array<std::uint8_t, 2> reserved0{};  // bytes 11:10
  le32 datao;                               // bytes 15:12
  le32 datal;                               // bytes 19:16
  std::array<std::uint8_t, 4> reserved1{};  // bytes 23:20
};
static_assert(sizeof(C2HData) == 24);

// Section 3.6.2.10. Followed by [HDGST].
struct R2T {
  CommonHeader ch;
  le16 cccid;                              // bytes 9:8
  le16 ttag;                               // bytes 11:10
  le32 r2to;                               // bytes 15:12: offset within the command's data
  le32 r2tl;                               // bytes 19:16: bytes asked for
  std::array<std::uint8_t, 4> reserved{};  // bytes 23:20
};
static_assert(sizeof(R2T) == 24);

// The HLEN each PDU type must have; 0 for types that do not exist.
constexpr std::uint8_t header_bytes_of(PduType type) {
  switch (type) {
    case PduType::ic_req:
    case PduType::ic_resp:
      return ic_pdu_bytes;
    case PduType::capsule_cmd:
      return sizeof(CapsuleCmd);
    case PduType::h2c_term_req:
    case PduType::c2h_term_req:
    case PduType::capsule_resp:
    case PduType::h2c_data:
    case PduType::c2h_data:
    case PduType::r2t:
      return sizeof(TermReq);  // all 24
  }
  return 0;
}

}  // namespace catnap::tcp
