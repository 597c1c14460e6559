// Limits of I/O commands that catnap sets itself: what Identify tells, and what the commands are held to.
// Owner: none (constants). Left out: MDTS and other limits of the transport (transport::TransportLimits), of the subsystem (SubsystemSnapshot).
#pragma once

#include <algorithm>
#include <cstdint>

namespace catnap::server {

inline constexpr std::uint32_t identify_page_bytes = 4096;  // CAP.MPSMIN: the unit of VSL, WZSL and WUSL

// Both halves of a fused pair hold memory until the other's data is there, and the second one's does not come out of the pool (command_sink.h).
// VMware compares and writes one block, cluster managers one page.
inline constexpr std::uint32_t max_fused_bytes = 16384;
// NACWU + 1: at least one block whatever its size.
constexpr std::uint32_t fused_blocks(std::uint32_t block_size) { return std::max<std::uint32_t>(max_fused_bytes / block_size, 1); }

// Copy: 128 source ranges are what Linux and nvme-cli ask for; a command of 64 MiB takes tens of milliseconds, and Abort stops it between its ranges.
inline constexpr std::uint32_t max_copy_ranges = 128;  // MSRC + 1
inline constexpr std::uint32_t max_copy_range_bytes = 16U << 20;
inline constexpr std::uint32_t max_copy_bytes = 64U << 20;
constexpr std::uint16_t copy_range_blocks(std::uint32_t block_size) {  // MSSRL
  return static_cast<std::uint16_t>(std::min<std::uint32_t>(max_copy_range_bytes / block_size, 0xFFFF));
}
constexpr std::uint32_t copy_blocks(std::uint32_t block_size) { return max_copy_bytes / block_size; }  // MCL

// VSL and WUSL, powers of two of identify_page_bytes. Verify reads: 32 MiB keep one command from owning a disk for long. Write Uncorrectable marks
// blocks one by one.
inline constexpr std::uint8_t verify_size_limit = 13;
inline constexpr std::uint8_t write_uncorrectable_size_limit = 13;

// Dataset Management, where the subsystem limits its ranges (DMRSL): DMRL, the ranges that are processed.
inline constexpr std::uint8_t limited_dataset_ranges = 255;

// 0 is no limit, as on the wire.
constexpr bool exceeds_size_limit(std::uint64_t length_bytes, std::uint8_t limit) {
  return limit != 0 && limit < 40 && length_bytes > std::uint64_t{identify_page_bytes} << limit;
}

}  // namespace catnap::server
