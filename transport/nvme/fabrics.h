// NVMe over Fabrics commands, Connect data and controller properties.
// Owner: none (values). Left out: authentication messages (transport/security), discovery log (log_page.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "reactor/base/le.h"
#include "transport/nvme/command.h"

namespace catnap::nvme {

inline constexpr std::size_t nqn_field_bytes = 256;         // NUL-terminated within
inline constexpr std::size_t max_nqn_bytes = 223;           // without the NUL (Base 2.0 section 4.5)
inline constexpr std::uint16_t cntlid_dynamic = 0xFFFF;     // Connect: the subsystem chooses
inline constexpr std::uint16_t cntlid_static_any = 0xFFFE;  // Connect: any controller, static model
inline constexpr std::uint16_t max_cntlid_value = 0xFFEF;

// CATTR of Connect.
inline constexpr std::uint8_t cattr_priority_mask = 0x3;
inline constexpr std::uint8_t cattr_disable_sq_flow_control = 1U << 2;
inline constexpr std::uint8_t cattr_individual_queue_deletion = 1U << 3;

// Base 2.0 section 6.3, Connect command: 64 bytes, data of 1024 bytes follows in the capsule.
struct ConnectCommand {
  std::uint8_t opcode = 0;  // byte 0: 7Fh
  std::uint8_t flags = 0;   // byte 1
  le16 cid;                 // bytes 3:2
  std::uint8_t fctype = 0;  // byte 4: 01h
  std::array<std::uint8_t, 19> reserved0{};
  SglDescriptor sgl;       // bytes 39:24
  le16 recfmt;             // bytes 41:40: 0, the only format
  le16 qid;                // bytes 43:42: 0 admin, else I/O
  le16 sqsize;             // bytes 45:44: entries of the queue, 0's based
  std::uint8_t cattr = 0;  // byte 46
  std::uint8_t reserved1 = 0;
  le32 kato;  // bytes 51:48: keep-alive time-out in ms, 0: none; admin queue only
  std::array<std::uint8_t, 12> reserved2{};
};
static_assert(sizeof(ConnectCommand) == 64);
static_assert(offsetof(ConnectCommand, recfmt) == 40 && offsetof(ConnectCommand, kato) == 48);

// Base 2.0 section 6.3, figure "Connect Command - Data".
struct ConnectData {
  std::array<std::uint8_t, 16> hostid{};        // bytes 15:0
  le16 cntlid;                                  // bytes 17:16
  std::array<std::uint8_t, 238> reserved0{};    // bytes 255:18
  std::array<char, nqn_field_bytes> subnqn{};   // bytes 511:256
  std::array<char, nqn_field_bytes> hostnqn{};  // bytes 767:512
  std::array<std::uint8_t, 256> reserved1{};    // bytes 1023:768
};
static_assert(sizeof(ConnectData) == 1024);
static_assert(offsetof(ConnectData, subnqn) == 256 && offsetof(ConnectData, hostnqn) == 512);

// DW0 of a successful Connect: CNTLID in bits 15:0, AUTHREQ in bits 31:16.
inline constexpr std::uint32_t connect_authreq_atr = 1U << 17;   // an authentication transaction is required
inline constexpr std::uint32_t connect_authreq_ascr = 1U << 18;  // authentication and a secure channel are required

// DW0 of a Connect that failed with Connect Invalid Parameters (Base 2.0 section 6.3, figure "Connect Response - Dword 0").
struct ConnectInvalidParameters {
  std::uint16_t ipo = 0;  // byte offset of the bad field
  bool in_data = false;   // IATTR bit 0: the offset counts in the Connect data, else in the SQE

  constexpr std::uint32_t dw0() const { return ipo | (in_data ? 1U << 16 : 0U); }
  static constexpr ConnectInvalidParameters from_dw0(std::uint32_t dw0) { return {static_cast<std::uint16_t>(dw0), (dw0 & (1U << 16)) != 0}; }
  bool operator==(const ConnectInvalidParameters&) const = default;
};

// ATTRIB of Property Get and Set, bits 2:0.
enum class PropertySize : std::uint8_t { four_bytes = 0, eight_bytes = 1 };

// Base 2.0 sections 6.5 and 6.6, Property Get and Property Set. Get answers with the value in DW0 (and DW1 for 8 bytes).
struct PropertyCommand {
  std::uint8_t opcode = 0;  // byte 0: 7Fh
  std::uint8_t flags = 0;   // byte 1
  le16 cid;                 // bytes 3:2
  std::uint8_t fctype = 0;  // byte 4: 04h get, 00h set
  std::array<std::uint8_t, 35> reserved0{};
  std::uint8_t attrib = 0;  // byte 40: PropertySize in bits 2:0
  std::array<std::uint8_t, 3> reserved1{};
  le32 offset;  // bytes 47:44
  le64 value;   // bytes 55:48, Set only
  std::array<std::uint8_t, 8> reserved2{};

  constexpr PropertySize size() const { return static_cast<PropertySize>(attrib & 0x7); }
};
static_assert(sizeof(PropertyCommand) == 64);
static_assert(offsetof(PropertyCommand, attrib) == 40 && offsetof(PropertyCommand, value) == 48);

// Base 2.0 section 6.4, Disconnect (deletes one I/O queue).
struct DisconnectCommand {
  std::uint8_t opcode = 0;  // byte 0: 7Fh
  std::uint8_t flags = 0;   // byte 1
  le16 cid;                 // bytes 3:2
  std::uint8_t fctype = 0;  // byte 4: 08h
  std::array<std::uint8_t, 35> reserved0{};
  le16 recfmt;  // bytes 41:40
  std::array<std::uint8_t, 22> reserved1{};
};
static_assert(sizeof(DisconnectCommand) == 64);

// Base 2.0 sections 6.1 and 6.2, Authentication Receive and Authentication Send.
struct AuthenticationCommand {
  std::uint8_t opcode = 0;  // byte 0: 7Fh
  std::uint8_t flags = 0;   // byte 1
  le16 cid;                 // bytes 3:2
  std::uint8_t fctype = 0;  // byte 4: 05h send, 06h receive
  std::array<std::uint8_t, 19> reserved0{};
  SglDescriptor sgl;  // bytes 39:24
  std::uint8_t reserved1 = 0;
  std::uint8_t spsp0 = 0;  // byte 41: 01h
  std::uint8_t spsp1 = 0;  // byte 42: 01h
  std::uint8_t secp = 0;   // byte 43: E9h
  le32 length;             // bytes 47:44: transfer length (send) or allocation length (receive)
  std::array<std::uint8_t, 16> reserved2{};
};
static_assert(sizeof(AuthenticationCommand) == 64);

// Byte offsets of the properties (Base 2.0 section 3.1.3).
enum class Property : std::uint32_t {
  cap = 0x00,   // 8 bytes, read only
  vs = 0x08,    // 4 bytes, read only
  cc = 0x14,    // 4 bytes
  csts = 0x1C,  // 4 bytes, read only
  nssr = 0x20,  // 4 bytes, write "NVMe" to reset the subsystem, where CAP.NSSRS says so
  crto = 0x68,  // 4 bytes, read only
};

inline constexpr std::uint32_t nssr_reset_value = 0x4E564D65;  // "NVMe"
// VS: major in bits 31:16, minor 15:8, tertiary 7:0.
constexpr std::uint32_t version_value(std::uint32_t major_number, std::uint32_t minor_number, std::uint32_t tertiary) {
  return major_number << 16 | minor_number << 8 | tertiary;
}

// CAP, Base 2.0 section 3.1.3.1. Fields a Fabrics controller leaves 0 (DSTRD, CMBS, PMRS, BPS) are missing.
struct Cap {
  std::uint16_t mqes = 0;       // bits 15:0: most entries of an I/O queue, 0's based, at least 1
  bool cqr = true;              // bit 16: contiguous queues, 1 in Fabrics
  std::uint8_t ams = 0;         // bits 18:17: arbitration mechanisms beyond round robin
  std::uint8_t to = 0;          // bits 31:24: worst time until CSTS.RDY changes, in 500 ms
  bool nssrs = false;           // bit 36: subsystem reset supported
  bool css_nvm = true;          // bit 37: NVM command set
  bool css_iocss = false;       // bit 43: I/O command sets are told by Identify CNS 1Ch
  bool css_admin_only = false;  // bit 44: no I/O command set
  std::uint8_t mpsmin = 0;      // bits 51:48: smallest host page, 2^(12+n)
  std::uint8_t mpsmax = 0;      // bits 55:52
  bool crwms = false;           // bit 59: controller ready with media
  bool crims = false;           // bit 60: controller ready independent of media

  constexpr std::uint64_t value() const {
    return std::uint64_t{mqes} | std::uint64_t{cqr} << 16 | (std::uint64_t{ams} & 0x3) << 17 | std::uint64_t{to} << 24 | std::uint64_t{nssrs} << 36 |
           std::uint64_t{css_nvm} << 37 | std::uint64_t{css_iocss} << 43 | std::uint64_t{css_admin_only} << 44 | (std::uint64_t{mpsmin} & 0xF) << 48 |
           (std::uint64_t{mpsmax} & 0xF) << 52 | std::uint64_t{crwms} << 59 | std::uint64_t{crims} << 60;
  }
  static constexpr Cap from_value(std::uint64_t value) {
    auto bit = [value](unsigned n) { return (value >> n & 1) != 0; };
    Cap cap;
    cap.mqes = static_cast<std::uint16_t>(value);
    cap.cqr = bit(16);
    cap.ams = static_cast<std::uint8_t>(value >> 17 & 0x3);
    cap.to = static_cast<std::uint8_t>(value >> 24);
    cap.nssrs = bit(36);
    cap.css_nvm = bit(37);
    cap.css_iocss = bit(43);
    cap.css_admin_only = bit(44);
    cap.mpsmin = static_cast<std::uint8_t>(value >> 48 & 0xF);
    cap.mpsmax = static_cast<std::uint8_t>(value >> 52 & 0xF);
    cap.crwms = bit(59);
    cap.crims = bit(60);
    return cap;
  }
  bool operator==(const Cap&) const = default;
};

// CC.SHN and CSTS.SHST.
enum class ShutdownNotification : std::uint8_t { none = 0, normal = 1, abrupt = 2, reserved = 3 };
enum class ShutdownStatus : std::uint8_t { normal = 0, occurring = 1, complete = 2, reserved = 3 };

// CC, Base 2.0 section 3.1.3.5.
struct Cc {
  bool en = false;                                        // bit 0
  std::uint8_t css = 0;                                   // bits 6:4: 0 NVM, 6 all supported I/O command sets, 7 admin only
  std::uint8_t mps = 0;                                   // bits 10:7: host page 2^(12+n)
  std::uint8_t ams = 0;                                   // bits 13:11
  ShutdownNotification shn = ShutdownNotification::none;  // bits 15:14
  std::uint8_t iosqes = 0;                                // bits 19:16: 6 (64 bytes)
  std::uint8_t iocqes = 0;                                // bits 23:20: 4 (16 bytes)
  bool crime = false;                                     // bit 24

  constexpr std::uint32_t value() const {
    return std::uint32_t{en} | (css & 0x7U) << 4 | (mps & 0xFU) << 7 | (ams & 0x7U) << 11 | (static_cast<unsigned>(shn) & 0x3U) << 14 |
           (iosqes & 0xFU) << 16 | (iocqes & 0xFU) << 20 | std::uint32_t{crime} << 24;
  }
  static constexpr Cc from_value(std::uint32_t value) {
    Cc cc;
    cc.en = (value & 1) != 0;
    cc.css = static_cast<std::uint8_t>(value >> 4 & 0x7);
    cc.mps = static_cast<std::uint8_t>(value >> 7 & 0xF);
    cc.ams = static_cast<std::uint8_t>(value >> 11 & 0x7);
    cc.shn = static_cast<ShutdownNotification>(value >> 14 & 0x3);
    cc.iosqes = static_cast<std::uint8_t>(value >> 16 & 0xF);
    cc.iocqes = static_cast<std::uint8_t>(value >> 20 & 0xF);
    cc.crime = (value >> 24 & 1) != 0;
    return cc;
  }
  bool operator==(const Cc&) const = default;
};

// CSTS, Base 2.0 section 3.1.3.6.
struct Csts {
  bool rdy = false;                              // bit 0
  bool cfs = false;                              // bit 1: controller fatal status
  ShutdownStatus shst = ShutdownStatus::normal;  // bits 3:2
  bool nssro = false;                            // bit 4
  bool pp = false;                               // bit 5: processing paused

  constexpr std::uint32_t value() const {
    return std::uint32_t{rdy} | std::uint32_t{cfs} << 1 | (static_cast<unsigned>(shst) & 0x3U) << 2 | std::uint32_t{nssro} << 4 |
           std::uint32_t{pp} << 5;
  }
  static constexpr Csts from_value(std::uint32_t value) {
    Csts csts;
    csts.rdy = (value & 1) != 0;
    csts.cfs = (value >> 1 & 1) != 0;
    csts.shst = static_cast<ShutdownStatus>(value >> 2 & 0x3);
    csts.nssro = (value >> 4 & 1) != 0;
    csts.pp = (value >> 5 & 1) != 0;
    return csts;
  }
  bool operator==(const Csts&) const = default;
};

// CRTO, Base 2.0 section 3.1.3.18: both times in 500 ms.
struct Crto {
  std::uint16_t crwmt = 0;  // bits 15:0: ready with media
  std::uint16_t crimt = 0;  // bits 31:16: ready independent of media

  constexpr std::uint32_t value() const { return crwmt | std::uint32_t{crimt} << 16; }
};

}  // namespace catnap::nvme
