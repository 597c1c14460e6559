// Copy (NVM Command Set 1.0c section 3.2.2).
// Owner: none (values). Left out: source range entries with protection information of more than 16 bits (format 1) and of other namespaces (2, 3).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "reactor/base/le.h"

namespace catnap::nvme {

// CDW10 and CDW11: first block of the destination. CDW12:
inline constexpr std::uint32_t copy_ranges_mask = 0xFF;  // NR, 0's based
inline constexpr unsigned copy_format_shift = 8;         // 4 bits: format of the source range entries
inline constexpr std::uint32_t copy_prinfor_mask = 0xFU << 12;
inline constexpr std::uint32_t copy_directive_mask = 0xFU << 20;
inline constexpr std::uint32_t copy_stcr = 1U << 24;  // storage tag checks, which need protection information
inline constexpr std::uint32_t copy_stcw = 1U << 25;
inline constexpr std::uint32_t copy_prinfow_mask = 0xFU << 26;
// FUA and LR are where Read and Write have them (command.h).

// Source range entry of format 0.
struct CopyRange {
  std::array<std::uint8_t, 8> reserved0{};
  le64 slba;                                // bytes 15:8
  le16 nlb;                                 // bytes 17:16, 0's based
  std::array<std::uint8_t, 6> reserved1{};  // bytes 23:18
  le32 eilbrt;                              // bytes 27:24: expected reference tag
  le16 elbat;                               // bytes 29:28
  le16 elbatm;                              // bytes 31:30
};
static_assert(sizeof(CopyRange) == 32);
static_assert(offsetof(CopyRange, slba) == 8 && offsetof(CopyRange, nlb) == 16 && offsetof(CopyRange, eilbrt) == 24);

}  // namespace catnap::nvme
