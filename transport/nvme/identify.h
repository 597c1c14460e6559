// Identify data structures (Base 2.0 section 5.17, NVM Command Set 1.0 section 4.1.5).
// Owner: none (values). Left out: what a controller reports (server), the primary/secondary controller and UUID lists (not offered).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "reactor/base/le.h"

namespace catnap::nvme {

inline constexpr std::size_t identify_bytes = 4096;

// CNS, CDW10 bits 7:0 of Identify (Base 2.0 section 5.17.1). CNTID stands in CDW10 bits 31:16, CSI in CDW11 bits 31:24.
enum class Cns : std::uint8_t {
  namespace_data = 0x00,
  controller = 0x01,
  active_namespaces = 0x02,
  namespace_descriptors = 0x03,
  nvm_set_list = 0x04,
  csi_namespace = 0x05,
  csi_controller = 0x06,
  csi_active_namespaces = 0x07,
  independent_namespace = 0x08,
  allocated_namespaces = 0x10,
  allocated_namespace_data = 0x11,
  namespace_controllers = 0x12,
  subsystem_controllers = 0x13,
  csi_allocated_namespaces = 0x1A,
  csi_allocated_namespace_data = 0x1B,
  io_command_sets = 0x1C,
};

// Command set identifiers, Base 2.0 section 5.17.1.
enum class Csi : std::uint8_t { nvm = 0, key_value = 1, zoned = 2 };

// CNTRLTYPE of Identify Controller.
enum class ControllerType : std::uint8_t { not_reported = 0, io = 1, discovery = 2, administrative = 3 };

// Base 2.0 section 5.17.2.1, figure "Power State Descriptor". 32 bytes.
struct PowerState {
  le16 mp;                                  // bytes 1:0: maximum power, in 0.01 W (0.0001 W with MXPS)
  std::uint8_t reserved0 = 0;               // byte 2
  std::uint8_t flags = 0;                   // byte 3: bit 0 MXPS, bit 1 NOPS (non-operational)
  le32 enlat;                               // bytes 7:4: entry latency in µs
  le32 exlat;                               // bytes 11:8: exit latency in µs
  std::uint8_t rrt = 0;                     // byte 12: relative read throughput
  std::uint8_t rrl = 0;                     // byte 13: relative read latency
  std::uint8_t rwt = 0;                     // byte 14: relative write throughput
  std::uint8_t rwl = 0;                     // byte 15: relative write latency
  le16 idlp;                                // bytes 17:16: idle power
  std::uint8_t ips = 0;                     // byte 18: scale of idlp, bits 7:6
  std::uint8_t reserved1 = 0;               // byte 19
  le16 actp;                                // bytes 21:20: active power
  std::uint8_t apws = 0;                    // byte 22: workload bits 2:0, scale bits 7:6
  std::array<std::uint8_t, 9> reserved2{};  // bytes 31:23
};
static_assert(sizeof(PowerState) == 32);

// CMIC bits.
inline constexpr std::uint8_t cmic_multi_port = 1U << 0;
inline constexpr std::uint8_t cmic_multi_controller = 1U << 1;
inline constexpr std::uint8_t cmic_sriov = 1U << 2;
inline constexpr std::uint8_t cmic_ana = 1U << 3;
// OAES bits (the same bits as the asynchronous event configuration, features.h).
inline constexpr std::uint32_t oaes_namespace_attribute = 1U << 8;
inline constexpr std::uint32_t oaes_firmware_activation = 1U << 9;
inline constexpr std::uint32_t oaes_ana_change = 1U << 11;
inline constexpr std::uint32_t oaes_host_discovery_change = 1U << 30;
inline constexpr std::uint32_t oaes_discovery_change = 1U << 31;
// CTRATT bits.
inline constexpr std::uint32_t ctratt_host_id_128 = 1U << 0;
inline constexpr std::uint32_t ctratt_traffic_based_keep_alive = 1U << 6;
// OACS bits.
inline constexpr std::uint16_t oacs_security = 1U << 0;
inline constexpr std::uint16_t oacs_format = 1U << 1;
inline constexpr std::uint16_t oacs_firmware = 1U << 2;
inline constexpr std::uint16_t oacs_namespace_management = 1U << 3;
// FRMW bits: slot 1 read only in bit 0, number of slots in bits 3:1.
inline constexpr std::uint8_t frmw_slot1_read_only = 1U << 0;
inline constexpr unsigned frmw_slots_shift = 1;
// LPA bits.
inline constexpr std::uint8_t lpa_smart_per_namespace = 1U << 0;
inline constexpr std::uint8_t lpa_effects = 1U << 1;
inline constexpr std::uint8_t lpa_extended_data = 1U << 2;  // Get Log Page takes offsets and 32-bit lengths
inline constexpr std::uint8_t lpa_telemetry = 1U << 3;
inline constexpr std::uint8_t lpa_persistent_events = 1U << 4;
inline constexpr std::uint8_t lpa_supported_pages = 1U << 5;  // log pages 00h, 05h (all), 12h, 13h
// ANACAP bits: states that may be reported.
inline constexpr std::uint8_t anacap_optimized = 1U << 0;
inline constexpr std::uint8_t anacap_non_optimized = 1U << 1;
inline constexpr std::uint8_t anacap_inaccessible = 1U << 2;
inline constexpr std::uint8_t anacap_persistent_loss = 1U << 3;
inline constexpr std::uint8_t anacap_change = 1U << 4;
inline constexpr std::uint8_t anacap_anagrpid_fixed = 1U << 6;
inline constexpr std::uint8_t anacap_anagrpid_nonzero = 1U << 7;
// ONCS bits.
inline constexpr std::uint16_t oncs_compare = 1U << 0;
inline constexpr std::uint16_t oncs_write_uncorrectable = 1U << 1;
inline constexpr std::uint16_t oncs_dataset_management = 1U << 2;
inline constexpr std::uint16_t oncs_write_zeroes = 1U << 3;
inline constexpr std::uint16_t oncs_save_select = 1U << 4;  // Set Features SV and Get Features SEL
inline constexpr std::uint16_t oncs_reservations = 1U << 5;
inline constexpr std::uint16_t oncs_timestamp = 1U << 6;
inline constexpr std::uint16_t oncs_verify = 1U << 7;
inline constexpr std::uint16_t oncs_copy = 1U << 8;
// FUSES bits.
inline constexpr std::uint16_t fuses_compare_and_write = 1U << 0;
// CDFS bits: formats of source range entries that Copy takes.
inline constexpr std::uint16_t cdfs_format0 = 1U << 0;
// VWC: present in bit 0; bits 2:1 what Flush does with NSID FFFFFFFFh.
inline constexpr std::uint8_t vwc_present = 1U << 0;
inline constexpr std::uint8_t vwc_flush_all_not_supported = 2U << 1;
inline constexpr std::uint8_t vwc_flush_all_supported = 3U << 1;
// SGLS bits: support in 1:0 (01b: no alignment demanded), offsets in address (in-capsule data) in bit 20, transport data block in bit 21.
inline constexpr std::uint32_t sgls_supported = 1U << 0;
inline constexpr std::uint32_t sgls_keyed = 1U << 2;
inline constexpr std::uint32_t sgls_bit_bucket = 1U << 16;
inline constexpr std::uint32_t sgls_longer_than_data = 1U << 18;  // an SGL may describe more than the command moves
inline constexpr std::uint32_t sgls_offset_in_address = 1U << 20;
inline constexpr std::uint32_t sgls_transport_data_block = 1U << 21;
// FCATT bit 0: 0 dynamic controller model, 1 static.
inline constexpr std::uint8_t fcatt_static_model = 1U << 0;
// OFCS bit 0: Disconnect is supported.
inline constexpr std::uint16_t ofcs_disconnect = 1U << 0;

// Base 2.0 section 5.17.2.1, Identify Controller data structure. 4096 bytes.
struct IdentifyController {
  le16 vid;                                   // 1:0: PCI vendor id
  le16 ssvid;                                 // 3:2: PCI subsystem vendor id
  std::array<char, 20> sn{};                  // 23:4: serial number, ASCII, space padded
  std::array<char, 40> mn{};                  // 63:24: model number
  std::array<char, 8> fr{};                   // 71:64: firmware revision
  std::uint8_t rab = 0;                       // 72: recommended arbitration burst
  std::array<std::uint8_t, 3> ieee{};         // 75:73: OUI
  std::uint8_t cmic = 0;                      // 76
  std::uint8_t mdts = 0;                      // 77: largest transfer, 2^n minimum pages, 0: no limit
  le16 cntlid;                                // 79:78
  le32 ver;                                   // 83:80: as property VS
  le32 rtd3r;                                 // 87:84
  le32 rtd3e;                                 // 91:88
  le32 oaes;                                  // 95:92
  le32 ctratt;                                // 99:96
  le16 rrls;                                  // 101:100
  std::array<std::uint8_t, 9> reserved0{};    // 110:102
  std::uint8_t cntrltype = 0;                 // 111: ControllerType
  std::array<std::uint8_t, 16> fguid{};       // 127:112
  le16 crdt1;                                 // 129:128: command retry delays in 100 ms
  le16 crdt2;                                 // 131:130
  le16 crdt3;                                 // 133:132
  std::array<std::uint8_t, 119> reserved1{};  // 252:134
  std::uint8_t nvmsr = 0;                     // 253
  std::uint8_t vwci = 0;                      // 254
  std::uint8_t mec = 0;                       // 255
  le16 oacs;                                  // 257:256
  std::uint8_t acl = 0;                       // 258: abort command limit, 0's based
  std::uint8_t aerl = 0;                      // 259: asynchronous event request limit, 0's based
  std::uint8_t frmw = 0;                      // 260
  std::uint8_t lpa = 0;                       // 261
  std::uint8_t elpe = 0;                      // 262: error log entries, 0's based
  std::uint8_t npss = 0;                      // 263: power states, 0's based
  std::uint8_t avscc = 0;                     // 264
  std::uint8_t apsta = 0;                     // 265
  le16 wctemp;                                // 267:266: kelvin
  le16 cctemp;                                // 269:268: kelvin
  le16 mtfa;                                  // 271:270
  le32 hmpre;                                 // 275:272
  le32 hmmin;                                 // 279:276
  std::array<std::uint8_t, 16> tnvmcap{};     // 295:280
  std::array<std::uint8_t, 16> unvmcap{};     // 311:296
  le32 rpmbs;                                 // 315:312
  le16 edstt;                                 // 317:316
  std::uint8_t dsto = 0;                      // 318
  std::uint8_t fwug = 0;                      // 319
  le16 kas;                                   // 321:320: keep-alive granularity in 100 ms, 0: not supported
  le16 hctma;                                 // 323:322
  le16 mntmt;                                 // 325:324
  le16 mxtmt;                                 // 327:326
  le32 sanicap;                               // 331:328
  le32 hmminds;                               // 335:332
  le16 hmmaxd;                                // 337:336
  le16 nsetidmax;                             // 339:338
  le16 endgidmax;                             // 341:340
  std::uint8_t anatt = 0;                     // 342: longest ANA transition in s
  std::uint8_t anacap = 0;                    // 343
  le32 anagrpmax;                             // 347:344
  le32 nanagrpid;                             // 351:348
  le32 pels;                                  // 355:352
  le16 domainid;                              // 357:356
  std::array<std::uint8_t, 10> reserved2{};   // 367:358
  std::array<std::uint8_t, 16> megcap{};      // 383:368
  std::array<std::uint8_t, 2> reserved3{};    // 385:384
  le16 cqt;                                   // 387:386: command quiesce time in ms, 0: not reported (Base 2.1 section 9.6)
  std::array<std::uint8_t, 124> reserved7{};  // 511:388
  std::uint8_t sqes = 0;                      // 512: required size bits 3:0, largest 7:4, as powers of two (6)
  std::uint8_t cqes = 0;                      // 513: the same (4)
  le16 maxcmd;                                // 515:514: most outstanding commands of a queue, required in Fabrics
  le32 nn;                                    // 519:516: largest NSID
  le16 oncs;                                  // 521:520
  le16 fuses;                                 // 523:522
  std::uint8_t fna = 0;                       // 524
  std::uint8_t vwc = 0;                       // 525
  le16 awun;                                  // 527:526: blocks, 0's based
  le16 awupf;                                 // 529:528
  std::uint8_t icsvscc = 0;                   // 530
  std::uint8_t nwpc = 0;                      // 531
  le16 acwu;                                  // 533:532: atomic compare and write, blocks, 0's based
  le16 cdfs;                                  // 535:534: copy descriptor formats supported
  le32 sgls;                                  // 539:536
  le32 mnan;                                  // 543:540: most namespaces there may be, ≤ nn
  std::array<std::uint8_t, 16> maxdna{};      // 559:544
  le32 maxcna;                                // 563:560
  std::array<std::uint8_t, 204> reserved4{};  // 767:564
  std::array<char, 256> subnqn{};             // 1023:768, NUL-terminated
  std::array<std::uint8_t, 768> reserved5{};  // 1791:1024
  le32 ioccsz;                                // 1795:1792: I/O command capsule size, in 16 bytes
  le32 iorcsz;                                // 1799:1796: I/O response capsule size, in 16 bytes
  le16 icdoff;                                // 1801:1800: in-capsule data offset, in 16 bytes
  std::uint8_t fcatt = 0;                     // 1802
  std::uint8_t msdbd = 0;                     // 1803: most SGL data block descriptors in a capsule
  le16 ofcs;                                  // 1805:1804
  std::uint8_t dctype = 0;                    // 1806: discovery controllers: DiscoveryControllerType
  std::array<std::uint8_t, 241> reserved6{};  // 2047:1807
  std::array<PowerState, 32> psd{};           // 3071:2048
  std::array<std::uint8_t, 1024> vendor{};    // 4095:3072
};
static_assert(sizeof(IdentifyController) == identify_bytes);
static_assert(offsetof(IdentifyController, cntrltype) == 111 && offsetof(IdentifyController, nvmsr) == 253);
static_assert(offsetof(IdentifyController, oacs) == 256 && offsetof(IdentifyController, kas) == 320);
static_assert(offsetof(IdentifyController, anatt) == 342 && offsetof(IdentifyController, cqt) == 386 && offsetof(IdentifyController, sqes) == 512);
static_assert(offsetof(IdentifyController, sgls) == 536 && offsetof(IdentifyController, subnqn) == 768);
static_assert(offsetof(IdentifyController, ioccsz) == 1792 && offsetof(IdentifyController, psd) == 2048);

enum class DiscoveryControllerType : std::uint8_t { not_reported = 0, direct = 1, central = 2 };  // Base 2.0, DCTYPE

// NVM Command Set 1.0 section 4.1.5.1, figure "LBA Format Data Structure". 4 bytes.
struct LbaFormat {
  le16 ms;                 // bytes 1:0: metadata bytes per block
  std::uint8_t lbads = 0;  // byte 2: block size as a power of two
  std::uint8_t rp = 0;     // byte 3: relative performance, bits 1:0
};
static_assert(sizeof(LbaFormat) == 4);

// NSFEAT bits.
inline constexpr std::uint8_t nsfeat_thin = 1U << 0;
inline constexpr std::uint8_t nsfeat_atomics = 1U << 1;  // NAWUN, NAWUPF, NACWU hold for this namespace
inline constexpr std::uint8_t nsfeat_deallocated_error = 1U << 2;
inline constexpr std::uint8_t nsfeat_no_id_reuse = 1U << 3;
inline constexpr std::uint8_t nsfeat_preferred_sizes = 1U << 4;  // NPWG, NPWA, NPDG, NPDA, NOWS are there
inline constexpr std::uint8_t nmic_shared = 1U << 0;
// DLFEAT: what reading a deallocated block gives (bits 2:0), Write Zeroes with DEAC (bit 3).
inline constexpr std::uint8_t dlfeat_reads_not_reported = 0;
inline constexpr std::uint8_t dlfeat_reads_zeroes = 1;
inline constexpr std::uint8_t dlfeat_reads_ones = 2;
inline constexpr std::uint8_t dlfeat_write_zeroes_deallocates = 1U << 3;

// NVM Command Set 1.0 section 4.1.5.1, Identify Namespace data structure (CNS 00h). 4096 bytes; all zero for an inactive NSID.
struct IdentifyNamespace {
  le64 nsze;                                 // 7:0: blocks
  le64 ncap;                                 // 15:8: blocks that may be allocated
  le64 nuse;                                 // 23:16: blocks allocated
  std::uint8_t nsfeat = 0;                   // 24
  std::uint8_t nlbaf = 0;                    // 25: number of LBA formats, 0's based
  std::uint8_t flbas = 0;                    // 26: format in use, bits 3:0 (and 6:5)
  std::uint8_t mc = 0;                       // 27
  std::uint8_t dpc = 0;                      // 28
  std::uint8_t dps = 0;                      // 29
  std::uint8_t nmic = 0;                     // 30
  std::uint8_t rescap = 0;                   // 31
  std::uint8_t fpi = 0;                      // 32
  std::uint8_t dlfeat = 0;                   // 33
  le16 nawun;                                // 35:34: blocks, 0's based
  le16 nawupf;                               // 37:36
  le16 nacwu;                                // 39:38
  le16 nabsn;                                // 41:40
  le16 nabo;                                 // 43:42
  le16 nabspf;                               // 45:44
  le16 noiob;                                // 47:46: blocks
  std::array<std::uint8_t, 16> nvmcap{};     // 63:48: bytes
  le16 npwg;                                 // 65:64: preferred write granularity, blocks, 0's based
  le16 npwa;                                 // 67:66: alignment
  le16 npdg;                                 // 69:68: deallocate granularity
  le16 npda;                                 // 71:70: deallocate alignment
  le16 nows;                                 // 73:72: optimal write size
  le16 mssrl;                                // 75:74: Copy: blocks per source range
  le32 mcl;                                  // 79:76: Copy: blocks in all
  std::uint8_t msrc = 0;                     // 80: Copy: source ranges, 0's based
  std::array<std::uint8_t, 11> reserved0{};  // 91:81
  le32 anagrpid;                             // 95:92
  std::array<std::uint8_t, 3> reserved1{};   // 98:96
  std::uint8_t nsattr = 0;                   // 99: bit 0 write protected
  le16 nvmsetid;                             // 101:100
  le16 endgid;                               // 103:102
  std::array<std::uint8_t, 16> nguid{};      // 119:104
  std::array<std::uint8_t, 8> eui64{};       // 127:120
  std::array<LbaFormat, 64> lbaf{};          // 383:128
  std::array<std::uint8_t, 3712> vendor{};   // 4095:384
};
static_assert(sizeof(IdentifyNamespace) == identify_bytes);
static_assert(offsetof(IdentifyNamespace, anagrpid) == 92 && offsetof(IdentifyNamespace, nguid) == 104 && offsetof(IdentifyNamespace, lbaf) == 128);

// Base 2.0 section 5.17.2.8, I/O Command Set Independent Identify Namespace (CNS 08h). 4096 bytes.
struct IndependentNamespace {
  std::uint8_t nsfeat = 0;                     // 0: bit 0 UIDREUSE, ...
  std::uint8_t nmic = 0;                       // 1
  std::uint8_t rescap = 0;                     // 2
  std::uint8_t fpi = 0;                        // 3
  le32 anagrpid;                               // 7:4
  std::uint8_t nsattr = 0;                     // 8
  std::uint8_t reserved0 = 0;                  // 9
  le16 nvmsetid;                               // 11:10
  le16 endgid;                                 // 13:12
  std::uint8_t nstat = 0;                      // 14: bit 0 NRDY, ready
  std::array<std::uint8_t, 4081> reserved1{};  // 4095:15
};
static_assert(sizeof(IndependentNamespace) == identify_bytes);

// Namespace Identifier Types of a descriptor (Base 2.0 section 5.17.2.3), and the length each has.
enum class NamespaceIdType : std::uint8_t { eui64 = 1, nguid = 2, uuid = 3, csi = 4 };

// Head of an entry of the Namespace Identification Descriptor list (CNS 03h); `nidl` bytes of identifier follow. A zero NIDL ends the list.
struct NamespaceDescriptor {
  std::uint8_t nidt = 0;                   // byte 0: NamespaceIdType
  std::uint8_t nidl = 0;                   // byte 1: 8, 16, 16 or 1
  std::array<std::uint8_t, 2> reserved{};  // bytes 3:2
};
static_assert(sizeof(NamespaceDescriptor) == 4);

// Lists of namespace ids (CNS 02h, 07h, 10h): ascending, greater than the NSID asked with, zero filled.
struct NamespaceList {
  std::array<le32, 1024> nsid{};
};
static_assert(sizeof(NamespaceList) == identify_bytes);

// Lists of controller ids (CNS 12h, 13h), Base 2.0 section 4.4.1.
struct ControllerList {
  le16 count;                       // bytes 1:0
  std::array<le16, 2047> cntlid{};  // ascending
};
static_assert(sizeof(ControllerList) == identify_bytes);

// NVM Command Set 1.0 section 4.1.5.3, I/O Command Set specific Identify Namespace of the NVM command set (CNS 05h, CSI 00h).
struct NvmNamespace {
  le64 lbstm;                                  // 7:0: storage tag mask
  std::uint8_t pic = 0;                        // 8: protection information capabilities
  std::array<std::uint8_t, 3> reserved0{};     // 11:9
  std::array<le32, 64> elbaf{};                // 267:12: extended LBA formats
  std::array<std::uint8_t, 3828> reserved1{};  // 4095:268
};
static_assert(sizeof(NvmNamespace) == identify_bytes);

// NVM Command Set 1.0 section 4.1.5.4, I/O Command Set specific Identify Controller of the NVM command set (CNS 06h, CSI 00h). 0 means no limit told.
struct NvmController {
  std::uint8_t vsl = 0;                       // 0: Verify size limit, 2^n minimum pages
  std::uint8_t wzsl = 0;                      // 1: Write Zeroes size limit
  std::uint8_t wusl = 0;                      // 2: Write Uncorrectable size limit
  std::uint8_t dmrl = 0;                      // 3: Dataset Management ranges
  le32 dmrsl;                                 // 7:4: Dataset Management blocks per range
  le64 dmsl;                                  // 15:8: Dataset Management blocks in all
  std::array<std::uint8_t, 4080> reserved{};  // 4095:16
};
static_assert(sizeof(NvmController) == identify_bytes);

// Base 2.0 section 5.17.2.21, Identify I/O Command Set data structure (CNS 1Ch): vectors of bits by CSI.
struct IoCommandSets {
  std::array<le64, 512> vector{};
};
static_assert(sizeof(IoCommandSets) == identify_bytes);

}  // namespace catnap::nvme
