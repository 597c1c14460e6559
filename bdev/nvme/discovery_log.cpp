// See discovery_log.h.
// Owner: none (functions of bytes). Left out: what discovery_log.h names.
#include "bdev/nvme/discovery_log.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "transport/nvme/log_page.h"

namespace catnap::bdev {
namespace {

using nvme::DiscoveryEntry;
using nvme::DiscoveryHeader;

// ASCII in a field that is padded with spaces or NULs.
template <std::size_t size>
std::string text_of(const std::array<char, size>& field) {
  std::string text(field.data(), std::find(field.begin(), field.end(), '\0'));
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

bool is_wildcard(const std::string& traddr) { return traddr == "0.0.0.0" || traddr == "::"; }

// For people: what a foreign controller sent must not write into our log as it likes.
std::string printable(std::string text) {
  for (char& c : text) {
    if (c < 0x20 || c > 0x7E) c = '?';
  }
  return text;
}

Result<TransportId> address_of(const DiscoveryEntry& entry, const TransportId& asked) {
  if (entry.trtype != static_cast<std::uint8_t>(nvme::TransportType::tcp)) return fail(EPROTO, fmt::format("trtype {} is not TCP", entry.trtype));
  const bool ipv4 = entry.adrfam == static_cast<std::uint8_t>(nvme::AddressFamily::ipv4);
  if (!ipv4 && entry.adrfam != static_cast<std::uint8_t>(nvme::AddressFamily::ipv6)) {
    return fail(EPROTO, fmt::format("adrfam {} is neither IPv4 nor IPv6", entry.adrfam));
  }
  TransportId id;
  id.traddr = text_of(entry.traddr);
  id.trsvcid = text_of(entry.trsvcid);
  id.adrfam = ipv4 ? "IPv4" : "IPv6";
  id.subnqn = text_of(entry.subnqn);
  id.hostaddr = asked.hostaddr;
  if (is_wildcard(id.traddr)) {
    id.traddr = asked.traddr;
    id.adrfam = asked.adrfam;
  }
  auto complete = complete_transport_id(id);
  if (!complete) return fail(complete.error().err, printable(complete.error().message));
  return id;
}

void add_once(std::vector<TransportId>& list, TransportId id) {
  if (std::ranges::find(list, id) == list.end()) list.push_back(std::move(id));
}

}  // namespace

Result<DiscoveryLogHead> parse_discovery_head(std::span<const std::byte> page) {
  DiscoveryHeader header;
  if (page.size() < sizeof(header)) return fail(EPROTO, fmt::format("the discovery log ends within its header, after {} bytes", page.size()));
  std::memcpy(static_cast<void*>(&header), page.data(), sizeof(header));
  if (header.recfmt != 0) return fail(EPROTO, fmt::format("the discovery log has record format {}, only 0 is known", std::uint16_t{header.recfmt}));
  const std::uint64_t entries = header.numrec;
  if (entries > max_discovery_entries) {
    return fail(E2BIG, fmt::format("the discovery log has {} entries, more than {} are not read", entries, max_discovery_entries));
  }
  return DiscoveryLogHead{.genctr = header.genctr, .entries = entries};
}

Result<DiscoveryLog> parse_discovery_log(std::span<const std::byte> page, const TransportId& asked) {
  auto head = parse_discovery_head(page);
  if (!head) return std::unexpected(head.error());
  const std::uint64_t wanted = sizeof(DiscoveryHeader) + head->entries * sizeof(DiscoveryEntry);
  if (page.size() < wanted) return fail(EPROTO, fmt::format("the discovery log has {} bytes of {}", page.size(), wanted));
  DiscoveryLog log;
  log.genctr = head->genctr;
  for (std::uint64_t at = 0; at < head->entries; ++at) {
    DiscoveryEntry entry;
    std::memcpy(static_cast<void*>(&entry), page.data() + sizeof(DiscoveryHeader) + at * sizeof(entry), sizeof(entry));
    if (entry.subtype == static_cast<std::uint8_t>(nvme::DiscoverySubtype::current_discovery)) continue;
    const bool referral = entry.subtype == static_cast<std::uint8_t>(nvme::DiscoverySubtype::referral);
    if (!referral && entry.subtype != static_cast<std::uint8_t>(nvme::DiscoverySubtype::nvm)) {
      log.left_out.push_back(fmt::format("entry {}: subtype {} is not known", at, entry.subtype));
      continue;
    }
    auto id = address_of(entry, asked);
    if (!id) {
      log.left_out.push_back(fmt::format("entry {}: {}", at, id.error().message));
      continue;
    }
    add_once(referral ? log.referrals : log.subsystems, std::move(*id));
  }
  return log;
}

}  // namespace catnap::bdev
