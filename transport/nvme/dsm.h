// Dataset Management (NVM Command Set 1.0 section 3.2.3).
// Owner: none (values). Left out: access frequency hints, which are accepted and ignored.
#pragma once

#include <cstddef>
#include <cstdint>

#include "reactor/base/le.h"

namespace catnap::nvme {

// CDW10 bits 7:0: number of ranges, 0's based; CDW11: attributes.
inline constexpr std::uint32_t dsm_max_ranges = 256;
inline constexpr std::uint32_t dsm_integral_read = 1U << 0;   // IDR, a hint
inline constexpr std::uint32_t dsm_integral_write = 1U << 1;  // IDW, a hint
inline constexpr std::uint32_t dsm_deallocate = 1U << 2;      // AD

struct DsmRange {
  le32 context_attributes;  // bytes 3:0, hints
  le32 blocks;              // bytes 7:4: 1's based; 0: an empty range
  le64 slba;                // bytes 15:8
};
static_assert(sizeof(DsmRange) == 16);

}  // namespace catnap::nvme
