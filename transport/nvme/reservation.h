// Reservation commands, their data, the status page of Reservation Report, notifications, and the two features (NVMe Base 2.0, sections 7.2 to 7.5,
// 8.19, 5.16.1.25, 5.27.1.27 and 5.27.1.28).
// Owner: none (values). Left out: the rules (server/reservations/rules.h), dispersed namespaces.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "reactor/base/le.h"

namespace catnap::nvme {

// RTYPE, section 8.19, figure "Reservation types".
enum class ReservationType : std::uint8_t {
  none = 0,
  write_exclusive = 1,
  exclusive_access = 2,
  write_exclusive_registrants = 3,
  exclusive_access_registrants = 4,
  write_exclusive_all = 5,
  exclusive_access_all = 6,
};
inline constexpr std::uint8_t last_reservation_type = 6;

// RESCAP of Identify Namespace.
inline constexpr std::uint8_t rescap_persist = 1U << 0;  // PTPL may be switched on
inline constexpr std::uint8_t rescap_all_types = 0x7E;   // bits 6:1, one per type
inline constexpr std::uint8_t rescap_iekey_1_3 = 1U << 7;

// Reservation Register, CDW10: RREGA 2:0, IEKEY 3, CPTPL 31:30.
enum class RegisterAction : std::uint8_t { add = 0, remove = 1, replace = 2 };
enum class ChangePersist : std::uint8_t { keep = 0, reserved = 1, off = 2, on = 3 };
// Reservation Acquire, CDW10: RACQA 2:0, IEKEY 3, RTYPE 15:8.
enum class AcquireAction : std::uint8_t { acquire = 0, preempt = 1, preempt_and_abort = 2 };
// Reservation Release, CDW10: RRELA 2:0, IEKEY 3, RTYPE 15:8.
enum class ReleaseAction : std::uint8_t { release = 0, clear = 1 };
inline constexpr std::uint32_t reservation_action_mask = 0x7;
inline constexpr std::uint32_t reservation_iekey = 1U << 3;
inline constexpr unsigned reservation_type_shift = 8;
inline constexpr unsigned reservation_cptpl_shift = 30;
// Reservation Report: CDW10 NUMD (0's based dwords), CDW11 bit 0 EDS (entries with 128-bit host identifiers).
inline constexpr std::uint32_t report_eds = 1U << 0;

struct RegisterData {
  le64 crkey;  // 7:0
  le64 nrkey;  // 15:8
};
static_assert(sizeof(RegisterData) == 16);
struct AcquireData {
  le64 crkey;  // 7:0
  le64 prkey;  // 15:8
};
static_assert(sizeof(AcquireData) == 16);
struct ReleaseData {
  le64 crkey;  // 7:0
};
static_assert(sizeof(ReleaseData) == 8);

// Section 7.4, figure "Reservation Status Extended Data Structure": 64 bytes, then an entry per registrant.
struct ReservationStatus {
  le32 gen;                                  // 3:0
  std::uint8_t rtype = 0;                    // 4
  std::array<std::uint8_t, 2> regctl{};      // 6:5, little endian: number of entries there are, told or not
  std::array<std::uint8_t, 2> reserved0{};   // 8:7
  std::uint8_t ptpls = 0;                    // 9: persists through power loss
  std::array<std::uint8_t, 54> reserved1{};  // 63:10
};
static_assert(sizeof(ReservationStatus) == 64);
struct RegisteredController {
  le16 cntlid;                               // 1:0: FFFFh, dynamic controllers
  std::uint8_t rcsts = 0;                    // 2: bit 0 holds the reservation
  std::array<std::uint8_t, 5> reserved0{};   // 7:3
  le64 rkey;                                 // 15:8
  std::array<std::uint8_t, 16> hostid{};     // 31:16
  std::array<std::uint8_t, 32> reserved1{};  // 63:32
};
static_assert(sizeof(RegisteredController) == 64);
inline constexpr std::uint16_t reservation_dynamic_cntlid = 0xFFFF;
inline constexpr std::uint8_t rcsts_holder = 1U << 0;

// Section 5.16.1.25, Reservation Notification (log page 80h). 64 bytes, one notification per read.
enum class ReservationNotice : std::uint8_t { none = 0, registration_preempted = 1, reservation_released = 2, reservation_preempted = 3 };
struct ReservationLog {
  le64 count;                                // 7:0: unique and rising; 0: there is none
  std::uint8_t type = 0;                     // 8: ReservationNotice
  std::uint8_t available = 0;                // 9: further ones, at most 255
  std::array<std::uint8_t, 2> reserved0{};   // 11:10
  le32 nsid;                                 // 15:12
  std::array<std::uint8_t, 48> reserved1{};  // 63:16
};
static_assert(sizeof(ReservationLog) == 64);

// Feature 82h, Reservation Notification Mask: set bits are not told.
inline constexpr std::uint32_t mask_registration_preempted = 1U << 1;
inline constexpr std::uint32_t mask_reservation_released = 1U << 2;
inline constexpr std::uint32_t mask_reservation_preempted = 1U << 3;
inline constexpr std::uint32_t reservation_mask_bits = 0xE;
// Feature 83h, Reservation Persistence.
inline constexpr std::uint32_t persist_through_power_loss = 1U << 0;

}  // namespace catnap::nvme
