// See options.h.
#include "bdev/nvme/options.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "bdev/bdev.h"
#include "transport/nvme/fabrics.h"
#include "transport/tcp/address.h"

namespace catnap::bdev {
namespace {

constexpr const char* uuid_nqn_prefix = "nqn.2014-08.org.nvmexpress:uuid:";

// FNV-1a (public domain), with a seed: two of them make the 128 bits of a name-based identifier that needs to be stable, not secret.
std::uint64_t hash_text(std::string_view text, std::uint64_t seed) {
  std::uint64_t hash = 0xCBF29CE484222325 ^ seed;
  for (const char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001B3;
  }
  return hash;
}

std::array<std::uint8_t, 16> id_from_text(std::string_view text) {
  std::array<std::uint8_t, 16> id{};
  const std::uint64_t high = hash_text(text, 0), low = hash_text(text, 0x9E3779B97F4A7C15);
  std::memcpy(id.data(), &high, sizeof high);
  std::memcpy(id.data() + 8, &low, sizeof low);
  id[6] = static_cast<std::uint8_t>((id[6] & 0x0F) | 0x80);  // version 8 of RFC 9562: a content of our own
  id[8] = static_cast<std::uint8_t>((id[8] & 0x3F) | 0x80);
  return id;
}

std::string uuid_text(const std::array<std::uint8_t, 16>& id) {
  std::string text;
  for (std::size_t i = 0; i < id.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", id[i]);
  }
  return text;
}

Result<void> check_nqn(const char* field, const std::string& nqn) {
  if (nqn.empty()) return fail(EINVAL, fmt::format("{} is empty", field));
  if (nqn.size() > nvme::max_nqn_bytes)
    return fail(EINVAL, fmt::format("{} of {} bytes is longer than {} bytes", field, nqn.size(), nvme::max_nqn_bytes));
  return {};
}

}  // namespace

Result<void> complete_transport_id(TransportId& id) {
  if (id.trsvcid.empty()) id.trsvcid = "4420";
  auto address = tcp::parse_address(id.traddr, id.trsvcid, id.adrfam);
  if (!address) return std::unexpected(address.error());
  const auto written = tcp::format_address(address->storage);
  id.adrfam = written.adrfam;
  id.traddr = written.traddr;
  if (!id.hostsvcid.empty() && id.hostaddr.empty()) return fail(EINVAL, fmt::format("hostsvcid '{}' needs a hostaddr", id.hostsvcid));
  if (!id.hostaddr.empty()) {
    auto source = tcp::parse_address(id.hostaddr, id.hostsvcid.empty() ? "1" : id.hostsvcid, id.adrfam);
    if (!source) return fail(EINVAL, fmt::format("hostaddr '{}', hostsvcid '{}': {}", id.hostaddr, id.hostsvcid, source.error().message));
  }
  return check_nqn("subnqn", id.subnqn);
}

std::string_view timeout_action_name(TimeoutAction action) {
  switch (action) {
    case TimeoutAction::none:
      return "none";
    case TimeoutAction::reset:
      return "reset";
    case TimeoutAction::abort:
      return "abort";
  }
  return "unknown";
}

std::string_view multipath_mode_name(MultipathMode mode) {
  switch (mode) {
    case MultipathMode::failover:
      return "failover";
    case MultipathMode::multipath:
      return "multipath";
    case MultipathMode::disable:
      return "disable";
  }
  return "unknown";
}

const std::string& default_hostnqn() {
  static const std::string nqn = [] {
    std::string id;
    for (const char* file : {"/etc/machine-id", "/var/lib/dbus/machine-id"}) {
      std::ifstream stream(file);
      if (std::getline(stream, id) && !id.empty()) break;
    }
    return uuid_nqn_prefix + (id.empty() ? random_uuid() : uuid_text(id_from_text("catnap host " + id)));
  }();
  return nqn;
}

std::array<std::uint8_t, 16> hostid_for(const std::string& hostnqn) {
  const auto at = hostnqn.rfind("uuid:");
  const auto uuid = at != std::string::npos ? parse_uuid(std::string_view(hostnqn).substr(at + 5)) : fail(EINVAL, "");
  if (!uuid) return id_from_text(hostnqn);
  std::array<std::uint8_t, 16> id{};
  std::string digits = *uuid;
  std::erase(digits, '-');
  for (std::size_t i = 0; i < id.size(); ++i) id[i] = static_cast<std::uint8_t>(std::stoul(digits.substr(2 * i, 2), nullptr, 16));
  return id;
}

std::string uuid_for(const std::string& text) { return uuid_text(id_from_text(text)); }

}  // namespace catnap::bdev
