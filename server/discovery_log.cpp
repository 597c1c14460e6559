// The discovery log page (Base 2.0 section 5.16.1.23). See log_pages.h.
// Owner: the admin queue's thread of a discovery controller. Left out: referrals, mDNS.
#include <algorithm>
#include <cstring>
#include <string_view>

#include "server/controller.h"
#include "server/firmware.h"
#include "server/log_pages.h"

namespace catnap::server {

namespace {

using Address = transport::CommandQueue::Address;

bool is_wildcard(const std::string& traddr) { return traddr == "0.0.0.0" || traddr == "::"; }

nvme::AddressFamily family_of(const std::string& traddr) {
  return traddr.find(':') == std::string::npos ? nvme::AddressFamily::ipv4 : nvme::AddressFamily::ipv6;
}

// nvmf_set_config's discovery_filter: does this listener equal the one the host came through, in what has to be equal?
bool passes(std::uint8_t filters, const std::string& traddr, const std::string& trsvcid, const Address& local) {
  if ((filters & discovery_match_transport) != 0 && family_of(traddr) != family_of(local.traddr)) return false;
  if ((filters & discovery_match_address) != 0 && traddr != local.traddr) return false;
  return (filters & discovery_match_svcid) == 0 || trsvcid == local.trsvcid;
}

nvme::DiscoveryEntry make_entry(const std::string& nqn, const std::string& traddr, const std::string& trsvcid, std::uint16_t admin_queue_entries) {
  nvme::DiscoveryEntry entry;
  entry.trtype = static_cast<std::uint8_t>(nvme::TransportType::tcp);
  entry.adrfam = static_cast<std::uint8_t>(family_of(traddr));
  // 00b: libnvme of Debian 12 takes 01b and 10b both for TLS and cannot connect.
  entry.treq = nvme::treq_not_specified;
  entry.cntlid = nvme::cntlid_dynamic;
  entry.asqsz = admin_queue_entries;
  pad_ascii(entry.trsvcid, trsvcid);
  std::copy_n(nqn.begin(), std::min(nqn.size(), entry.subnqn.size() - 1), entry.subnqn.begin());
  pad_ascii(entry.traddr, traddr);
  entry.tsas[0] = nvme::tcp_sectype_none;
  return entry;
}

}  // namespace

std::vector<std::byte> build_discovery_log(Controller& controller, const SubsystemSnapshot&, const nvme::SubmissionEntry&) {
  const TargetSnapshot& target = *controller.group().snapshot();
  const Address& local = controller.queue()->local_address();
  const std::uint16_t admin_queue_entries = controller.group().limits().max_aq_depth;
  std::vector<nvme::DiscoveryEntry> entries;

  // The discovery subsystem itself, where the host has reached it.
  entries.push_back(make_entry(discovery_nqn, local.traddr, local.trsvcid, admin_queue_entries));
  entries.back().subtype = static_cast<std::uint8_t>(nvme::DiscoverySubtype::current_discovery);
  entries.back().eflags = nvme::discovery_eflag_duplicate_info | nvme::discovery_eflag_explicit_persistent;

  for (const auto& [nqn, subsystem] : target.subsystems) {
    if (subsystem->discovery || !subsystem->allows_host(controller.host().hostnqn)) continue;
    for (const auto& listener : subsystem->listeners) {
      // A wildcard listener is told by the address at which this host reached us; of the other family it cannot be told.
      if (is_wildcard(listener.address.traddr) && listener.address.traddr == "0.0.0.0" && family_of(local.traddr) != nvme::AddressFamily::ipv4)
        continue;
      const std::string& traddr = is_wildcard(listener.address.traddr) ? local.traddr : listener.address.traddr;
      if (!passes(target.discovery_filters, traddr, listener.address.trsvcid, local)) continue;
      entries.push_back(make_entry(nqn, traddr, listener.address.trsvcid, admin_queue_entries));
      entries.back().subtype = static_cast<std::uint8_t>(nvme::DiscoverySubtype::nvm);
      entries.back().portid = listener.port_id;
    }
  }

  nvme::DiscoveryHeader header;
  header.genctr = target.discovery_generation;
  header.numrec = entries.size();
  std::vector<std::byte> bytes(sizeof(header) + entries.size() * sizeof(nvme::DiscoveryEntry));
  std::memcpy(bytes.data(), &header, sizeof(header));
  std::memcpy(bytes.data() + sizeof(header), entries.data(), entries.size() * sizeof(nvme::DiscoveryEntry));
  return bytes;
}

}  // namespace catnap::server
