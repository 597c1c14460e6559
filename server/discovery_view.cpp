// What hosts can see in the discovery log. See discovery_view.h.
// Owner: none (pure functions).
#include "server/discovery_view.h"

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

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
    record.security = listener.security();
    record.address = std::move(*told);
    const bool listed = std::any_of(records.begin(), records.end(), [&](const DiscoveryRecord& each) {
      return each.subnqn == record.subnqn && each.subtype == record.subtype && each.address == record.address;
    });
    if (!listed) records.push_back(std::move(record));  // a wildcard and a single address may come to the same
  }
}

// The port id of an address is the same for all subsystems there.
// So is its security.
const SubsystemSnapshot::ListenerEntry* any_listener_at(const TargetSnapshot& target, const Address& local) {
  for (const auto& [nqn, subsystem] : target.subsystems) {
    const auto* listener = subsystem->listener_for(local.traddr, local.trsvcid);
    if (listener != nullptr) return listener;
  }
  return nullptr;
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
  const auto* listener = any_listener_at(target, local);
  own.port_id = listener != nullptr ? listener->port_id : std::uint16_t{0};
  own.security = listener != nullptr ? listener->security() : ChannelSecurity::cleartext;
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
    record.security = referral.secure_channel ? ChannelSecurity::tls : ChannelSecurity::cleartext;
    records.push_back(std::move(record));
  }
}

// A log entry's place.
using PlaceKey = std::tuple<std::string, std::string, std::string>;  // trtype, traddr, trsvcid
PlaceKey place_of(const ListenAddress& address) { return {address.trtype, address.traddr, address.trsvcid}; }

// Who reads entries: everybody, or those of the list; hosts of a list for everybody do not matter.
struct Readers {
  Readers(bool everybody, const std::vector<std::string>& list) : any_host(everybody), hosts(everybody ? std::vector<std::string>() : list) {}
  bool any_host;
  std::vector<std::string> hosts;
  bool operator==(const Readers&) const = default;
  bool nobody() const { return !any_host && hosts.empty(); }
};

// What hosts read of a subsystem; the order of its listeners is not part of it.
struct SubsystemEntries {
  explicit SubsystemEntries(const SubsystemSnapshot* subsystem)
      // Who gets at the log at all sees where else it is.
      : readers(subsystem != nullptr && (subsystem->allow_any_host || subsystem->discovery),
                subsystem == nullptr ? std::vector<std::string>() : subsystem->hosts) {
    if (subsystem == nullptr || readers.nobody()) return;
    shown_nqn = subsystem->shown_nqn();
    admin_label = subsystem->admin_label;
    for (const auto& listener : subsystem->listeners) places.emplace(place_of(listener.address), std::pair(listener.port_id, listener.security()));
  }
  Readers readers;
  std::string shown_nqn;
  std::string admin_label;
  std::map<PlaceKey, std::pair<std::uint16_t, ChannelSecurity>> places;  // with port id
};

bool entries_differ(const SubsystemSnapshot* old, const SubsystemSnapshot* next) {
  if (old == next) return false;  // not edited: the snapshots share it
  const SubsystemEntries before(old);
  const SubsystemEntries now(next);
  const bool discovery = (old != nullptr && old->discovery) || (next != nullptr && next->discovery);
  // The discovery subsystem is listed wherever it is reached, without a listener of its own.
  if (discovery && before.shown_nqn != now.shown_nqn) return true;
  if (before.places.empty() && now.places.empty()) return false;
  return before.places != now.places || before.readers != now.readers || before.shown_nqn != now.shown_nqn || before.admin_label != now.admin_label;
}

bool subsystems_differ(const TargetSnapshot& old, const TargetSnapshot& next) {
  for (const auto& [nqn, subsystem] : next.subsystems) {
    const auto found = old.subsystems.find(nqn);
    if (entries_differ(found == old.subsystems.end() ? nullptr : found->second.get(), subsystem.get())) return true;
  }
  return std::any_of(old.subsystems.begin(), old.subsystems.end(),
                     [&](const auto& entry) { return !next.subsystems.contains(entry.first) && entries_differ(entry.second.get(), nullptr); });
}

bool referrals_differ(const TargetSnapshot& old, const TargetSnapshot& next) {
  if (old.referrals == next.referrals) return false;
  const auto shown = [](const TargetSnapshot& snapshot) {
    std::map<std::pair<PlaceKey, std::string>, std::pair<bool, Readers>> entries;
    for (const Referral& referral : snapshot.referrals) {
      Readers readers(referral.allow_any_host, referral.hosts);
      if (!readers.nobody())
        entries.emplace(std::pair(place_of(referral.address), referral.subnqn), std::pair(referral.secure_channel, std::move(readers)));
    }
    return entries;
  };
  return shown(old) != shown(next);
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
  return subsystems_differ(old, next) || referrals_differ(old, next);
}

bool discovery_view_differs(const TargetSnapshot& old, const TargetSnapshot& next, const std::string& host_nqn, const Address& local) {
  return discovery_records(old, host_nqn, local) != discovery_records(next, host_nqn, local);
}

bool knows_hosts_of(const TargetSnapshot& target, const std::string& subnqn, const std::string& host_nqn) {
  const SubsystemSnapshot* subsystem = target.find(subnqn);
  return subsystem != nullptr && !subsystem->discovery && subsystem->allows_host(host_nqn);
}

}  // namespace catnap::server
