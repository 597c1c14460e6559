// What a discovery log says: the pages of a discovery controller as lists of addresses, checked entry by entry. Entries that cannot be used are left
// out, each with its reason; a broken page as a whole is an error.
// Owner: none (functions of bytes). Left out: reading the pages, and what is made of them (discovery.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bdev/nvme/options.h"
#include "reactor/base/error.h"

namespace catnap::bdev {

// The well-known NQN of discovery subsystems (Base 2.0 section 4.5).
inline constexpr const char* discovery_subsystem_nqn = "nqn.2014-08.org.nvmexpress.discovery";
// Most entries of a log that are read: 4 MiB of it. A target with more cannot be attached as a whole anyway.
inline constexpr std::uint64_t max_discovery_entries = 4096;

struct DiscoveryLog {
  std::uint64_t genctr = 0;
  std::vector<TransportId> subsystems;  // without duplicates, in the order of the log
  std::vector<TransportId> referrals;
  std::vector<std::string> left_out;  // "entry 3: trtype 1 is not TCP"
};

// NUMREC and GENCTR of a page's first 1024 bytes. Errors: EPROTO for a RECFMT that is not 0, E2BIG above max_discovery_entries.
struct DiscoveryLogHead {
  std::uint64_t genctr = 0;
  std::uint64_t entries = 0;
};
[[nodiscard]] Result<DiscoveryLogHead> parse_discovery_head(std::span<const std::byte> page);

// A whole page: header and entries. `asked`: the discovery controller's own address, which stands for wildcards ("0.0.0.0"), and whose hostaddr is
// the entries' as well. Errors: as above, EPROTO for a page that is shorter than its NUMREC says.
[[nodiscard]] Result<DiscoveryLog> parse_discovery_log(std::span<const std::byte> page, const TransportId& asked);

}  // namespace catnap::bdev
