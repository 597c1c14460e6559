// Log pages (Base 2.0 section 5.16).
// Owner: none (values). Left out: telemetry, endurance groups, reservations and other pages catnap does not offer.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "reactor/base/le.h"

namespace catnap::nvme {

// LID, CDW10 bits 7:0 of Get Log Page. LSP: CDW10 14:8, RAE: CDW10 bit 15; NUMD (0's based dwords): CDW10 31:16 low, CDW11 15:0 high; LSI: CDW11
// 31:16; offset in bytes (OT 0): CDW12 low, CDW13 high; UUID index CDW14 6:0, OT bit 23, CSI 31:24.
enum class LogPage : std::uint8_t {
  supported_pages = 0x00,
  error = 0x01,
  smart = 0x02,
  firmware = 0x03,
  changed_namespaces = 0x04,
  effects = 0x05,
  self_test = 0x06,
  telemetry_host = 0x07,
  telemetry_controller = 0x08,
  ana = 0x0C,
  persistent_event = 0x0D,
  supported_features = 0x12,
  mi_effects = 0x13,
  discovery = 0x70,
  host_discovery = 0x71,
  reservation = 0x80,
};

// Section 5.16.1.2, Error Information Log Entry. 64 bytes; newest first; error_count 0: no entry.
struct ErrorEntry {
  le64 error_count;                          // 7:0: unique, 1 and up
  le16 sqid;                                 // 9:8
  le16 cid;                                  // 11:10
  le16 status;                               // 13:12: as bytes 15:14 of the completion (phase in bit 0)
  le16 parameter_location;                   // 15:14: byte bits 7:0, bit 10:8 of the field at fault in the SQE; FFFFh: none
  le64 lba;                                  // 23:16: first block at fault
  le32 nsid;                                 // 27:24
  std::uint8_t vendor_page = 0;              // 28
  std::uint8_t trtype = 0;                   // 29: 3 TCP
  std::array<std::uint8_t, 2> reserved0{};   // 31:30
  le64 command_specific;                     // 39:32
  le16 transport_specific;                   // 41:40
  std::array<std::uint8_t, 22> reserved1{};  // 63:42
};
static_assert(sizeof(ErrorEntry) == 64);
inline constexpr std::uint16_t no_parameter_location = 0xFFFF;

// A 128-bit counter as SMART has them; only the low half is ever used.
struct Counter128 {
  le64 low;
  le64 high;
};
static_assert(sizeof(Counter128) == 16);

// Section 5.16.1.3, SMART / Health Information. 512 bytes. Critical warning bits (those of feature 0Bh, bits 7:0, too):
inline constexpr std::uint8_t smart_warning_reliability = 1U << 2;
struct SmartLog {
  std::uint8_t critical_warning = 0;            // 0
  le16 composite_temperature_k;                 // 2:1: kelvin, 0: not reported
  std::uint8_t available_spare = 0;             // 3: percent
  std::uint8_t available_spare_threshold = 0;   // 4: percent
  std::uint8_t percentage_used = 0;             // 5
  std::uint8_t endurance_group_warning = 0;     // 6
  std::array<std::uint8_t, 25> reserved0{};     // 31:7
  Counter128 data_units_read;                   // 47:32: thousands of 512 byte units, rounded up
  Counter128 data_units_written;                // 63:48
  Counter128 host_read_commands;                // 79:64
  Counter128 host_write_commands;               // 95:80
  Counter128 controller_busy_minutes;           // 111:96
  Counter128 power_cycles;                      // 127:112
  Counter128 power_on_hours;                    // 143:128
  Counter128 unsafe_shutdowns;                  // 159:144
  Counter128 media_errors;                      // 175:160
  Counter128 error_log_entries;                 // 191:176
  le32 warning_temperature_minutes;             // 195:192
  le32 critical_temperature_minutes;            // 199:196
  std::array<le16, 8> temperature_sensors_k{};  // 215:200
  le32 thermal1_transitions;                    // 219:216
  le32 thermal2_transitions;                    // 223:220
  le32 thermal1_seconds;                        // 227:224
  le32 thermal2_seconds;                        // 231:228
  std::array<std::uint8_t, 280> reserved1{};    // 511:232
};
static_assert(sizeof(SmartLog) == 512);
static_assert(offsetof(SmartLog, data_units_read) == 32 && offsetof(SmartLog, error_log_entries) == 176);

// Section 5.16.1.4, Firmware Slot Information. 512 bytes.
struct FirmwareLog {
  std::uint8_t afi = 0;                       // 0: active slot bits 2:0, slot after the next reset bits 6:4
  std::array<std::uint8_t, 7> reserved0{};    // 7:1
  std::array<std::array<char, 8>, 7> frs{};   // 63:8: revision per slot 1..7
  std::array<std::uint8_t, 448> reserved1{};  // 511:64
};
static_assert(sizeof(FirmwareLog) == 512);

// Section 5.16.1.5, Changed Namespace List: ascending, zero filled; one entry FFFFFFFFh when there are more than 1024.
struct ChangedNamespaces {
  std::array<le32, 1024> nsid{};
};
static_assert(sizeof(ChangedNamespaces) == 4096);

// Section 5.16.1.6, Commands Supported and Effects. Bits of an entry:
inline constexpr std::uint32_t effect_supported = 1U << 0;              // CSUPP
inline constexpr std::uint32_t effect_content_change = 1U << 1;         // LBCC: block content may change
inline constexpr std::uint32_t effect_namespace_capability = 1U << 2;   // NCC
inline constexpr std::uint32_t effect_namespace_inventory = 1U << 3;    // NIC
inline constexpr std::uint32_t effect_controller_capability = 1U << 4;  // CCC
inline constexpr unsigned effect_cse_shift = 16;                        // 3 bits: submission and execution restrictions
inline constexpr unsigned effect_scope_shift = 20;                      // CSP, 12 bits
struct EffectsLog {
  std::array<le32, 256> admin{};              // 1023:0, by opcode
  std::array<le32, 256> io{};                 // 2047:1024, by opcode
  std::array<std::uint8_t, 2048> reserved{};  // 4095:2048
};
static_assert(sizeof(EffectsLog) == 4096);

// Section 5.16.1.1, Supported Log Pages: by LID; bit 0 LSUPP, bit 1 IOS (index offset), bits 31:16 LID specific.
inline constexpr std::uint32_t log_supported = 1U << 0;
inline constexpr std::uint32_t log_index_offset_supported = 1U << 1;
struct SupportedLogPages {
  std::array<le32, 256> page{};
};
static_assert(sizeof(SupportedLogPages) == 1024);

// Section 5.16.1.17, Feature Identifiers Supported and Effects: by FID.
inline constexpr std::uint32_t feature_supported = 1U << 0;              // FSUPP
inline constexpr std::uint32_t feature_user_data_change = 1U << 1;       // UDCC
inline constexpr std::uint32_t feature_namespace_capability = 1U << 2;   // NCC
inline constexpr std::uint32_t feature_namespace_inventory = 1U << 3;    // NIC
inline constexpr std::uint32_t feature_controller_capability = 1U << 4;  // CCC
inline constexpr std::uint32_t feature_scope_namespace = 1U << 20;       // FSP bit 0
inline constexpr std::uint32_t feature_scope_controller = 1U << 21;      // FSP bit 1
struct SupportedFeatures {
  std::array<le32, 256> feature{};
};
static_assert(sizeof(SupportedFeatures) == 1024);

// Section 5.16.1.13, Asymmetric Namespace Access: header, then one descriptor per group, each followed by its namespace ids (le32).
// LSP bit 0 (RGO): descriptors without namespace ids.
struct AnaHeader {
  le64 chgcnt;                             // 7:0
  le16 ngrps;                              // 9:8
  std::array<std::uint8_t, 6> reserved{};  // 15:10
};
static_assert(sizeof(AnaHeader) == 16);
struct AnaGroup {
  le32 grpid;                               // 3:0
  le32 nnsids;                              // 7:4
  le64 chgcnt;                              // 15:8
  std::uint8_t state = 0;                   // 16: bits 3:0, AnaState
  std::array<std::uint8_t, 15> reserved{};  // 31:17
};
static_assert(sizeof(AnaGroup) == 32);
inline constexpr std::uint8_t ana_lsp_groups_only = 1U << 0;

// Section 5.16.1.23, Discovery log: a header of 1024 bytes, then NUMREC entries of 1024 bytes.
struct DiscoveryHeader {
  le64 genctr;                                // 7:0: generation counter
  le64 numrec;                                // 15:8
  le16 recfmt;                                // 17:16: 0
  std::uint8_t dlpf = 0;                      // 18: which bits of LSP the page heeds (Base 2.1 section 5.1.12.3.1)
  std::uint8_t reserved0 = 0;                 // 19
  le32 tdlpl;                                 // 23:20: bytes of the whole page when entries are extended
  std::array<std::uint8_t, 1000> reserved{};  // 1023:24
};
static_assert(sizeof(DiscoveryHeader) == 1024 && offsetof(DiscoveryHeader, tdlpl) == 20);
// LSP and DLPF, and in the same places what page 00h says is supported (bits 31:16 of this LID's entry).
inline constexpr std::uint8_t discovery_lsp_extended = 1U << 0;    // EXTDLPE
inline constexpr std::uint8_t discovery_lsp_port_local = 1U << 1;  // PLEO
inline constexpr std::uint8_t discovery_lsp_all = 1U << 2;         // ALLSUBE
inline constexpr std::uint32_t discovery_log_lsp_supported = std::uint32_t{discovery_lsp_extended | discovery_lsp_port_local} << 16;
// Behind each entry of the extended form.
struct DiscoveryExtension {
  le32 tel;        // 1027:1024: bytes of entry, this, and attributes
  le16 numexat;    // 1029:1028: attributes
  le16 reserved0;  // 1031:1030
};
static_assert(sizeof(DiscoveryExtension) == 8);
struct DiscoveryAttribute {
  le16 exattype;  // 1:0
  le16 exatlen;   // 3:2: bytes that follow, a multiple of 4
};
static_assert(sizeof(DiscoveryAttribute) == 4);
inline constexpr std::uint16_t discovery_attribute_admin_label = 0x02;  // ASCII

enum class TransportType : std::uint8_t { rdma = 1, fibre_channel = 2, tcp = 3, loopback = 254 };
enum class AddressFamily : std::uint8_t { ipv4 = 1, ipv6 = 2 };
enum class DiscoverySubtype : std::uint8_t { referral = 1, nvm = 2, current_discovery = 3 };
// TREQ bits 1:0: 00b not specified, 01b a secure channel is required, 10b not required. bit 2: SQ flow control may be disabled.
inline constexpr std::uint8_t treq_not_specified = 0;
inline constexpr std::uint8_t treq_secure_required = 1;
inline constexpr std::uint8_t treq_secure_not_required = 2;
inline constexpr std::uint8_t treq_disable_sq_flow_control = 1U << 2;
// EFLAGS bits.
inline constexpr std::uint16_t discovery_eflag_duplicate_info = 1U << 0;       // DUPRETINFO
inline constexpr std::uint16_t discovery_eflag_explicit_persistent = 1U << 1;  // EPCSD: explicit persistent connections are supported
// TSAS byte 0 of NVMe/TCP: SECTYPE.
inline constexpr std::uint8_t tcp_sectype_none = 0;
inline constexpr std::uint8_t tcp_sectype_tls12 = 1;
inline constexpr std::uint8_t tcp_sectype_tls13 = 2;

struct DiscoveryEntry {
  std::uint8_t trtype = 0;                    // 0: TransportType
  std::uint8_t adrfam = 0;                    // 1: AddressFamily
  std::uint8_t subtype = 0;                   // 2: DiscoverySubtype
  std::uint8_t treq = 0;                      // 3
  le16 portid;                                // 5:4
  le16 cntlid;                                // 7:6: FFFFh dynamic
  le16 asqsz;                                 // 9:8: most entries of the admin queue, at least 32
  le16 eflags;                                // 11:10
  std::array<std::uint8_t, 20> reserved0{};   // 31:12
  std::array<char, 32> trsvcid{};             // 63:32: ASCII
  std::array<std::uint8_t, 192> reserved1{};  // 255:64
  std::array<char, 256> subnqn{};             // 511:256, NUL-terminated
  std::array<char, 256> traddr{};             // 767:512: ASCII
  std::array<std::uint8_t, 256> tsas{};       // 1023:768: byte 0 is SECTYPE for TCP
};
static_assert(sizeof(DiscoveryEntry) == 1024);
static_assert(offsetof(DiscoveryEntry, trsvcid) == 32 && offsetof(DiscoveryEntry, subnqn) == 256 && offsetof(DiscoveryEntry, tsas) == 768);

// Base 2.1 section 5.1.12.3.2, Host Discovery log: a header of 1024 bytes, then NUMREC entries of TEL bytes each.
struct HostDiscoveryHeader {
  le64 genctr;                                // 7:0
  le64 numrec;                                // 15:8
  le16 recfmt;                                // 17:16: 0
  std::uint8_t hdlpf = 0;                     // 18: bit 0 ALLHOST: all hosts were asked for and are shown
  std::uint8_t reserved0 = 0;                 // 19
  le32 thdlpl;                                // 23:20: bytes of the whole page
  std::array<std::uint8_t, 1000> reserved{};  // 1023:24
};
static_assert(sizeof(HostDiscoveryHeader) == 1024 && offsetof(HostDiscoveryHeader, thdlpl) == 20);
struct HostDiscoveryEntry {
  std::uint8_t trtype = 0;                    // 0: TransportType
  std::uint8_t adrfam = 0;                    // 1: AddressFamily
  std::array<std::uint8_t, 8> reserved0{};    // 9:2
  le16 eflags;                                // 11:10
  std::array<std::uint8_t, 244> reserved1{};  // 255:12
  std::array<char, 256> hostnqn{};            // 511:256, NUL-terminated
  std::array<char, 256> traddr{};             // 767:512: ASCII
  std::array<std::uint8_t, 256> tsas{};       // 1023:768
  le32 tel;                                   // 1027:1024
  le16 numexat;                               // 1029:1028
  le16 reserved2;                             // 1031:1030
};
static_assert(sizeof(HostDiscoveryEntry) == 1032);
static_assert(offsetof(HostDiscoveryEntry, hostnqn) == 256 && offsetof(HostDiscoveryEntry, tsas) == 768 && offsetof(HostDiscoveryEntry, tel) == 1024);

}  // namespace catnap::nvme
