// See raid_host.h.
#include "bdev/raid/raid_host.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <fstream>

namespace catnap::bdev {
namespace {

Uuid& the_host() {
  static Uuid host{};
  return host;
}

// FNV-1a, 64 bits: spreads names; nothing secret depends on it.
std::uint64_t hash(std::string_view text, std::uint64_t start) {
  for (const char c : text) start = (start ^ static_cast<unsigned char>(c)) * 0x100'0000'01B3;
  return start ^ (start >> 29);
}

}  // namespace

const Uuid& raid_host() { return the_host(); }

void set_raid_host(const Uuid& host) { the_host() = host; }

Uuid raid_host_of(std::string_view machine_id, std::string_view place) {
  const std::string text = fmt::format("catnap raid host {} {}", machine_id, place);
  const std::uint64_t high = hash(text, 0xCBF2'9CE4'8422'2325);
  const std::uint64_t low = hash(text, high);
  Uuid host;
  for (std::size_t i = 0; i < 8; ++i) {
    host[i] = static_cast<std::uint8_t>(high >> (8 * i));
    host[8 + i] = static_cast<std::uint8_t>(low >> (8 * i));
  }
  // Version 8 (RFC 9562 section 5.8), and so never all zeroes.
  host[6] = static_cast<std::uint8_t>((host[6] & 0x0f) | 0x80);
  host[8] = static_cast<std::uint8_t>((host[8] & 0x3f) | 0x80);
  return host;
}

std::string this_machine_id() {
  for (const char* path : {"/etc/machine-id", "/sys/class/dmi/id/product_uuid"}) {
    std::ifstream file(path);
    std::string id;
    if (file >> id && std::ranges::all_of(id, [](unsigned char c) { return std::isxdigit(c) != 0 || c == '-'; })) return id;
  }
  return {};
}

bool is_our_array(const Superblock& superblock, bool remote_here) {
  const Uuid nobody{};
  if (raid_host() == nobody || superblock.host == nobody || superblock.host == raid_host()) return true;
  return remote_here || superblock.this_slot >= superblock.slots.size() || !superblock.slots[superblock.this_slot].remote;
}

}  // namespace catnap::bdev
