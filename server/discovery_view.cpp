// What hosts can see in the discovery log. See discovery_view.h.
// Owner: none (pure functions).
#include "server/discovery_view.h"

#include <algorithm>
#include <optional>
#include <tuple>

#include "server/names.h"

namespace catnap::server {
namespace {

using Address = transport::CommandQueue::Address;
using nvme::DiscoverySubtype;

bool is_wildcard(const std::string& traddr) { return traddr == "0.0.0.0" || traddr == "::"; }

// nvmf_set_config's discovery_filters: does this listener equal the one the host came through, in what has to be equal?
bool passes(std::uint8_t filters, const ListenAddress& address, const Address& local) {
  if ((filters & discovery_match_transport) != 0 && address.adrfam != local.adrfam) return false;
  if ((filters & discovery_match_address) != 0 && address.traddr != local.traddr) return false;
  return (filters & discovery_match_svcid) == 0 || address.trsvcid == local.trsvcid;
}

// A listener as this host may be told of it. A wildcard is told by the address at which the host reached us; of the other family it cannot be told.
std::optional<ListenAddress> told_address(const ListenAddress& address, const Address& local) {
  if (!is_wildcard(address.traddr)) return address;
  if (address.adrfam != local.adrfam) return std::nullopt;
  ListenAddress told = address;
  told.traddr = local.traddr;
  return told;
}

void add_listeners(const TargetSnapshot& target, const SubsystemSnapshot& subsystem, const Address& local, const DiscoveryRecord& like,
                   std::vector<DiscoveryRecord>& records) {
  for (const auto& listener : subsystem.listeners) {
    auto told = told_address(listener.address, local);
    if (!told || !passes(target.discovery_filters, *told, local)) continue;
    DiscoveryRecord record = like;
    record.port_id = listener.port_id;
    record.address = std::move(*told);
    const bool listed = std::any_of(records.begin(), records.end(), [&](const DiscoveryRecord& each) {
      return each.subnqn == record.subnqn && each.subtype == record.subtype && each.address == record.address;
    });
    if (!listed) records.push_back(std::move(record));  // a wildcard and a single address may come to the same
  }
}

// The port id of an address is the same for all subsystems there.
std::uint16_t port_id_at(const TargetSnapshot& target, const Address& local) {
  for (const auto& [nqn, subsystem] : target.subsystems) {
    const auto* listener = subsystem->listener_for(local.traddr, local.trsvcid);
    if (listener != nullptr) return listener->port_id;
  }
  return 0;
}

// Hosts get the same from every address of the discovery subsystem, unless the log depends on the address: by filters, or as a wildcard is told so.
bool same_everywhere(const TargetSnapshot& target) {
  if (target.discovery_filters != discovery_match_any) return false;
  return std::none_of(target.subsystems.begin(), target.subsystems.end(), [](const auto& entry) {
    return std::any_of(entry.second->listeners.begin(), entry.second->listeners.end(),
                       [](const auto& listener) { return is_wildcard(listener.address.traddr); });
  });
}

void add_discovery(const TargetSnapshot& target, const Address& local, std::vector<DiscoveryRecord>& records) {
  const SubsystemSnapshot* discovery = target.find(discovery_nqn);
  if (discovery == nullptr) return;
  DiscoveryRecord own;
  own.subtype = DiscoverySubtype::current_discovery;
  own.subnqn = discovery->shown_nqn();
  own.eflags =
      static_cast<std::uint16_t>(nvme::discovery_eflag_explicit_persistent | (same_everywhere(target) ? nvme::discovery_eflag_duplicate_info : 0));
  // Where the host has reached it comes first, whoever listens there.
  own.address.adrfam = local.adrfam;
  own.address.traddr = local.traddr;
  own.address.trsvcid = local.trsvcid;
  own.port_id = port_id_at(target, local);
  records.push_back(own);
  add_listeners(target, *discovery, local, own, records);
}

void add_referrals(const TargetSnapshot& target, const std::string& host_nqn, std::vector<DiscoveryRecord>& records) {
  for (const Referral& referral : target.referrals) {
    if (!referral.shown_to(host_nqn)) continue;
    DiscoveryRecord record;
    record.subtype = referral.subnqn == discovery_nqn ? DiscoverySubtype::referral : DiscoverySubtype::nvm;
    record.address = referral.address;
    record.subnqn = referral.subnqn;
    record.secure_channel = referral.secure_channel;
    records.push_back(std::move(record));
  }
}

// One log entry, and who may read it; hosts empty and any_host: everybody.
struct VisibleEntry {
  std::string nqn;
  ListenAddress address;
  std::string admin_label;
  std::uint16_t port_id = 0;
  bool secure_channel = false;
  bool any_host = false;
  std::vector<std::string> hosts;
  bool operator==(const VisibleEntry&) const = default;
};

std::vector<VisibleEntry> visible_entries(const TargetSnapshot& snapshot) {
  std::vector<VisibleEntry> entries;
  for (const auto& [nqn, subsystem] : snapshot.subsystems) {
    const bool any_host = subsystem->allow_any_host || subsystem->discovery;  // who gets at the log sees where else it is
    if (!any_host && subsystem->hosts.empty()) continue;
    for (const auto& listener : subsystem->listeners) {
      VisibleEntry entry;
      entry.nqn = subsystem->shown_nqn();
      entry.address = listener.address;
      entry.admin_label = subsystem->admin_label;
      entry.port_id = listener.port_id;
      entry.any_host = any_host;
      if (!any_host) entry.hosts = subsystem->hosts;
      entries.push_back(std::move(entry));
    }
  }
  for (const Referral& referral : snapshot.referrals) {
    if (!referral.allow_any_host && referral.hosts.empty()) continue;
    VisibleEntry entry;
    entry.nqn = referral.subnqn;
    entry.address = referral.address;
    entry.secure_channel = referral.secure_channel;
    entry.any_host = referral.allow_any_host;
    if (!entry.any_host) entry.hosts = referral.hosts;
    entries.push_back(std::move(entry));
  }
  // The order of listeners is not a change of contents.
  const auto key = [](const VisibleEntry& entry) { return std::tie(entry.nqn, entry.address.trtype, entry.address.traddr, entry.address.trsvcid); };
  std::sort(entries.begin(), entries.end(), [&](const VisibleEntry& a, const VisibleEntry& b) { return key(a) < key(b); });
  return entries;
}

}  // namespace

std::vector<DiscoveryRecord> discovery_records(const TargetSnapshot& target, const std::string& host_nqn, const Address& local, bool port_local) {
  std::vector<DiscoveryRecord> records;
  if (!port_local) add_discovery(target, local, records);
  for (const auto& [nqn, subsystem] : target.subsystems) {
    if (subsystem->discovery || !subsystem->allows_host(host_nqn)) continue;
    DiscoveryRecord like;
    like.subnqn = nqn;
    like.admin_label = subsystem->admin_label;
    add_listeners(target, *subsystem, local, like, records);
  }
  if (port_local) {
    std::erase_if(records, [&](const DiscoveryRecord& each) { return each.address.traddr != local.traddr || each.address.trsvcid != local.trsvcid; });
  } else {
    add_referrals(target, host_nqn, records);
  }
  for (DiscoveryRecord& record : records) record.address.traddr = traddr_without_interface(record.address.traddr);
  return records;
}

bool discovery_view_differs(const TargetSnapshot& old, const TargetSnapshot& next) {
  if (visible_entries(old) != visible_entries(next)) return true;
  const SubsystemSnapshot* before = old.find(discovery_nqn);
  const SubsystemSnapshot* now = next.find(discovery_nqn);
  return before != nullptr && now != nullptr && before->unique_nqn != now->unique_nqn;
}

bool discovery_view_differs(const TargetSnapshot& old, const TargetSnapshot& next, const std::string& host_nqn, const Address& local) {
  return discovery_records(old, host_nqn, local) != discovery_records(next, host_nqn, local);
}

}  // namespace catnap::server
