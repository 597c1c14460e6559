// NVMe submission and completion queue entries, SGL descriptors and opcodes, as they lie on the wire.
// Owner: none (values). Left out: status codes (status.h), Fabrics command layouts (fabrics.h), PRPs and keyed SGLs (NVMe/TCP has neither).
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "reactor/base/le.h"

namespace catnap::nvme {

// The bytes of `from` seen as another wire struct of the same size (a Connect command in a SubmissionEntry, for instance).
template <typename To, typename From>
constexpr To view_as(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  return std::bit_cast<To>(from);
}

// SGL descriptor types, byte 15 bits 7:4 (Base 2.0 section 4.1.2, "SGL Descriptor Type").
enum class SglType : std::uint8_t {
  data_block = 0x0,
  bit_bucket = 0x1,
  segment = 0x2,
  last_segment = 0x3,
  keyed_data_block = 0x4,
  transport_data_block = 0x5,
};

// SGL descriptor subtypes, byte 15 bits 3:0.
enum class SglSubtype : std::uint8_t {
  address = 0x0,
  offset = 0x1,     // data block: the data lies in this capsule, at `address` bytes behind ICDOFF
  transport = 0xA,  // transport data block: the transport moves the data (R2T, C2HData)
};

// Base 2.0 section 4.1.2. NVMe/TCP knows two: {data_block, offset} for in-capsule data and {transport_data_block, transport} for all else
// (TCP Transport 1.0c section 3.3.1, "Data transfer").
struct SglDescriptor {
  le64 address;                            // bytes 7:0; an offset for subtype `offset`, 0 for transport data blocks
  le32 length;                             // bytes 11:8, in bytes
  std::array<std::uint8_t, 3> reserved{};  // bytes 14:12
  std::uint8_t type_and_subtype = 0;       // byte 15

  constexpr SglType type() const { return static_cast<SglType>(type_and_subtype >> 4); }
  constexpr SglSubtype subtype() const { return static_cast<SglSubtype>(type_and_subtype & 0x0F); }
  constexpr void set_type(SglType type, SglSubtype subtype) {
    type_and_subtype = static_cast<std::uint8_t>((static_cast<unsigned>(type) << 4) | static_cast<unsigned>(subtype));
  }
  constexpr bool is_in_capsule() const { return type() == SglType::data_block && subtype() == SglSubtype::offset; }
  constexpr bool is_transport() const { return type() == SglType::transport_data_block && subtype() == SglSubtype::transport; }
};
static_assert(sizeof(SglDescriptor) == 16);

// CDW0 bits 9:8: fused operations (Base 2.0 section 3.3.3.1, figure "Command Dword 0").
enum class Fuse : std::uint8_t { normal = 0, first = 1, second = 2, reserved = 3 };
// CDW0 bits 15:14: how the data pointer is to be read. Fabrics demands sgl.
enum class Psdt : std::uint8_t { prp = 0, sgl = 1, sgl_with_metadata_sgl = 2, reserved = 3 };

// Base 2.0 section 3.3.3.1, "Submission Queue Entry". 64 bytes.
struct SubmissionEntry {
  std::uint8_t opcode = 0;  // byte 0
  std::uint8_t flags = 0;   // byte 1: FUSE bits 1:0, PSDT bits 7:6
  le16 cid;                 // bytes 3:2; FFFFh should not be used
  le32 nsid;                // bytes 7:4; a Fabrics command has FCTYPE in byte 4 and the rest reserved
  le32 cdw2;                // bytes 11:8
  le32 cdw3;                // bytes 15:12
  le64 mptr;                // bytes 23:16, metadata pointer
  SglDescriptor sgl;        // bytes 39:24, the data pointer (DPTR)
  le32 cdw10;               // bytes 43:40
  le32 cdw11;               // bytes 47:44
  le32 cdw12;               // bytes 51:48
  le32 cdw13;               // bytes 55:52
  le32 cdw14;               // bytes 59:56
  le32 cdw15;               // bytes 63:60

  constexpr Fuse fuse() const { return static_cast<Fuse>(flags & 0x3); }
  constexpr Psdt psdt() const { return static_cast<Psdt>(flags >> 6); }
  constexpr void set_psdt(Psdt psdt) { flags = static_cast<std::uint8_t>((flags & 0x3F) | (static_cast<unsigned>(psdt) << 6)); }
  // Fabrics commands (opcode 7Fh) only: their type, byte 4.
  constexpr std::uint8_t fctype() const { return static_cast<std::uint8_t>(std::uint32_t{nsid} & 0xFF); }
  // Read, Write, Compare, Write Zeroes: starting LBA (CDW10 and CDW11), NVM Command Set 1.0 section 3.2.
  constexpr std::uint64_t slba() const { return (std::uint64_t{cdw11} << 32) | std::uint32_t{cdw10}; }
  constexpr void set_slba(std::uint64_t lba) {
    cdw10 = static_cast<std::uint32_t>(lba);
    cdw11 = static_cast<std::uint32_t>(lba >> 32);
  }
  // The number of logical blocks, 1..65536; the wire has it 0's based in CDW12 bits 15:0.
  constexpr std::uint32_t block_count() const { return (std::uint32_t{cdw12} & 0xFFFF) + 1; }
};
static_assert(sizeof(SubmissionEntry) == 64);

// CDW12 bits of Read, Write, Compare, Write Zeroes (NVM Command Set 1.0 section 3.2).
inline constexpr std::uint32_t cdw12_nlb_mask = 0xFFFF;  // 0's based
inline constexpr std::uint32_t cdw12_stc = 1U << 24;     // storage tag check
inline constexpr std::uint32_t cdw12_deac = 1U << 25;    // Write Zeroes: deallocate
inline constexpr unsigned cdw12_prinfo_shift = 26;       // 4 bits: PRACT and PRCHK
inline constexpr std::uint32_t cdw12_prinfo_mask = 0xFU << 26;
inline constexpr std::uint32_t cdw12_fua = 1U << 30;  // force unit access
inline constexpr std::uint32_t cdw12_lr = 1U << 31;   // limited retry

// Base 2.0 section 3.3.3.2, "Completion Queue Entry". 16 bytes.
struct CompletionEntry {
  le32 dw0;     // bytes 3:0, command specific
  le32 dw1;     // bytes 7:4, command specific
  le16 sqhd;    // bytes 9:8, SQ head; reserved when SQ flow control is disabled
  le16 sqid;    // bytes 11:10; reserved in Fabrics
  le16 cid;     // bytes 13:12
  le16 status;  // bytes 15:14: bit 0 phase tag (0 in Fabrics), bits 15:1 the status field (status.h)

  // SC bits 7:0, SCT bits 10:8, CRD 12:11, More 13, DNR 14.
  constexpr std::uint16_t status_field() const { return static_cast<std::uint16_t>(std::uint16_t{status} >> 1); }
  constexpr void set_status_field(std::uint16_t field) { status = static_cast<std::uint16_t>(field << 1); }
  // Property Get's answer and the like: DW0 low, DW1 high.
  constexpr std::uint64_t dw0_dw1() const { return (std::uint64_t{dw1} << 32) | std::uint32_t{dw0}; }
  constexpr void set_dw0_dw1(std::uint64_t value) {
    dw0 = static_cast<std::uint32_t>(value);
    dw1 = static_cast<std::uint32_t>(value >> 32);
  }
};
static_assert(sizeof(CompletionEntry) == 16);

// The namespace id that means all namespaces.
inline constexpr std::uint32_t broadcast_nsid = 0xFFFFFFFF;

// Base 2.0 section 5, figure "Opcodes for Admin Commands". Queue creation and deletion belong to PCIe; a Fabrics controller does not take them.
enum class AdminOpcode : std::uint8_t {
  delete_io_sq = 0x00,
  create_io_sq = 0x01,
  get_log_page = 0x02,
  delete_io_cq = 0x04,
  create_io_cq = 0x05,
  identify = 0x06,
  abort = 0x08,
  set_features = 0x09,
  get_features = 0x0A,
  async_event_request = 0x0C,
  namespace_management = 0x0D,
  firmware_commit = 0x10,
  firmware_download = 0x11,
  device_self_test = 0x14,
  namespace_attachment = 0x15,
  keep_alive = 0x18,
  directive_send = 0x19,
  directive_receive = 0x1A,
  virtualization_management = 0x1C,
  nvme_mi_send = 0x1D,
  nvme_mi_receive = 0x1E,
  capacity_management = 0x20,
  lockdown = 0x24,
  doorbell_buffer_config = 0x7C,
  fabrics = 0x7F,
  format_nvm = 0x80,
  security_send = 0x81,
  security_receive = 0x82,
  sanitize = 0x84,
  get_lba_status = 0x86,
};

// NVM Command Set 1.0 section 3.2, figure "Opcodes for NVM Commands".
enum class IoOpcode : std::uint8_t {
  flush = 0x00,
  write = 0x01,
  read = 0x02,
  write_uncorrectable = 0x04,
  compare = 0x05,
  write_zeroes = 0x08,
  dataset_management = 0x09,
  verify = 0x0C,
  reservation_register = 0x0D,
  reservation_report = 0x0E,
  reservation_acquire = 0x11,
  reservation_release = 0x15,
  copy = 0x19,
  fabrics = 0x7F,
};

// Base 2.0 section 6, figure "Fabrics Command Types" (FCTYPE, byte 4 of a command with opcode 7Fh).
enum class FabricsType : std::uint8_t {
  property_set = 0x00,
  connect = 0x01,
  property_get = 0x04,
  authentication_send = 0x05,
  authentication_receive = 0x06,
  disconnect = 0x08,
};

// Bits 1:0 of every opcode: which way data goes (Base 2.0 section 3.3.3.1).
enum class OpcodeData : std::uint8_t { none = 0, host_to_controller = 1, controller_to_host = 2, bidirectional = 3 };
// For Fabrics commands, pass FCTYPE instead of the opcode.
constexpr OpcodeData data_of(std::uint8_t opcode) { return static_cast<OpcodeData>(opcode & 0x3); }

}  // namespace catnap::nvme
