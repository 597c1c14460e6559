// Hashes and groups of DH-HMAC-CHAP: their names (SPDK's and nvme-cli's), lengths, and sets of them.
// Owner: none (values). Left out: what is computed with them (math.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reactor/base/error.h"
#include "transport/nvme/auth.h"

namespace catnap::dhchap {

using nvme::AuthExplanation;
using nvme::AuthGroup;
using nvme::AuthHash;

inline constexpr std::size_t max_hash_bytes = 64;
inline constexpr std::size_t max_group_bytes = 1024;

// 32, 48 or 64; 0 of an unknown identifier.
std::size_t hash_bytes(AuthHash hash);
// Of a public value: 256 … 1024; 0 of the null group and of an unknown identifier.
std::size_t group_bytes(AuthGroup group);
bool is_known(AuthHash hash);  // none is not
bool is_known(AuthGroup group);
// "sha256", "ffdhe2048", "null"; "unknown" of others.
std::string_view name_of(AuthHash hash);
std::string_view name_of(AuthGroup group);

// From strongest to weakest: the order in which a target prefers them.
inline constexpr std::array hashes_by_strength = {AuthHash::sha512, AuthHash::sha384, AuthHash::sha256};
inline constexpr std::array groups_by_strength = {AuthGroup::ffdhe8192, AuthGroup::ffdhe6144, AuthGroup::ffdhe4096,
                                                  AuthGroup::ffdhe3072, AuthGroup::ffdhe2048, AuthGroup::null};

// What may be used. A bit per identifier.
struct Allowed {
  std::uint8_t hashes = 0b1110;
  std::uint8_t groups = 0b111111;
  bool has(AuthHash hash) const { return is_known(hash) && (hashes >> static_cast<unsigned>(hash) & 1) != 0; }
  bool has(AuthGroup group) const { return is_known(group) && (groups >> static_cast<unsigned>(group) & 1) != 0; }
  bool operator==(const Allowed&) const = default;
};
// Bits of names; not empty. Errors: EINVAL naming `field` and the name.
Result<std::uint8_t> parse_hashes(std::string_view field, const std::vector<std::string>& names);
Result<std::uint8_t> parse_groups(std::string_view field, const std::vector<std::string>& names);
// The reverse, weakest first.
std::vector<std::string> hash_names(std::uint8_t hashes);
std::vector<std::string> group_names(std::uint8_t groups);

}  // namespace catnap::dhchap
