// See names.h.
#include "transport/dhchap/names.h"

#include <fmt/core.h>

#include <algorithm>
#include <span>

namespace catnap::dhchap {
namespace {

struct Known {
  std::uint8_t id;
  std::string_view name;
  std::size_t bytes;
};

constexpr Known hashes[] = {{1, "sha256", 32}, {2, "sha384", 48}, {3, "sha512", 64}};
constexpr Known groups[] = {{0, "null", 0},        {1, "ffdhe2048", 256}, {2, "ffdhe3072", 384},
                            {3, "ffdhe4096", 512}, {4, "ffdhe6144", 768}, {5, "ffdhe8192", 1024}};

const Known* find(std::span<const Known> table, std::uint8_t id) {
  const auto found = std::ranges::find(table, id, &Known::id);
  return found == table.end() ? nullptr : &*found;
}

Result<std::uint8_t> parse(std::span<const Known> table, std::string_view field, const std::vector<std::string>& names) {
  std::uint8_t bits = 0;
  for (const std::string& name : names) {
    const auto found = std::ranges::find(table, std::string_view(name), &Known::name);
    if (found == table.end()) {
      std::string known;
      for (const Known& each : table) known += (known.empty() ? "" : ", ") + std::string(each.name);
      return fail(EINVAL, fmt::format("Invalid argument: {} has '{}', known are {}", field, name, known));
    }
    bits = static_cast<std::uint8_t>(bits | 1U << found->id);
  }
  if (bits == 0) return fail(EINVAL, fmt::format("Invalid argument: {} is empty", field));
  return bits;
}

std::vector<std::string> names_of(std::span<const Known> table, std::uint8_t bits) {
  std::vector<std::string> names;
  for (const Known& each : table) {
    if ((bits >> each.id & 1) != 0) names.emplace_back(each.name);
  }
  return names;
}

}  // namespace

std::size_t hash_bytes(AuthHash hash) {
  const Known* known = find(hashes, static_cast<std::uint8_t>(hash));
  return known == nullptr ? 0 : known->bytes;
}

std::size_t group_bytes(AuthGroup group) {
  const Known* known = find(groups, static_cast<std::uint8_t>(group));
  return known == nullptr ? 0 : known->bytes;
}

bool is_known(AuthHash hash) { return find(hashes, static_cast<std::uint8_t>(hash)) != nullptr; }
bool is_known(AuthGroup group) { return find(groups, static_cast<std::uint8_t>(group)) != nullptr; }

std::string_view name_of(AuthHash hash) {
  const Known* known = find(hashes, static_cast<std::uint8_t>(hash));
  return known == nullptr ? "unknown" : known->name;
}

std::string_view name_of(AuthGroup group) {
  const Known* known = find(groups, static_cast<std::uint8_t>(group));
  return known == nullptr ? "unknown" : known->name;
}

Result<std::uint8_t> parse_hashes(std::string_view field, const std::vector<std::string>& names) { return parse(hashes, field, names); }
Result<std::uint8_t> parse_groups(std::string_view field, const std::vector<std::string>& names) { return parse(groups, field, names); }
std::vector<std::string> hash_names(std::uint8_t bits) { return names_of(hashes, bits); }
std::vector<std::string> group_names(std::uint8_t bits) { return names_of(groups, bits); }

}  // namespace catnap::dhchap
