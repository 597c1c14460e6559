// The discovery log page (Base 2.0 section 5.16.1.23; extended entries and LSP: Base 2.1 section 5.1.12.3.1) and the host discovery log page
// (Base 2.1 section 5.1.12.3.2). See log_pages.h.
// Owner: the admin queue's thread of a discovery controller. Left out: which entries there are (discovery_view.h), mDNS.
#include <algorithm>
#include <cstring>

#include "server/controller.h"
#include "server/discovery_view.h"
#include "server/firmware.h"
#include "server/host_directory.h"
#include "server/log_pages.h"

namespace catnap::server {

namespace {

// ASQSZ of what a referral points to is not known; every controller takes at least this (Base 2.0, section 5.16.1.23).
constexpr std::uint16_t least_admin_queue_entries = 32;
constexpr std::size_t attribute_alignment_bytes = 4;  // EXATLEN is a multiple of it

nvme::AddressFamily family_of(const std::string& adrfam) { return adrfam == "IPv6" ? nvme::AddressFamily::ipv6 : nvme::AddressFamily::ipv4; }

nvme::TransportType transport_of(const std::string& trtype) { return trtype == "RDMA" ? nvme::TransportType::rdma : nvme::TransportType::tcp; }

template <std::size_t size>
void copy_nqn(std::array<char, size>& field, const std::string& nqn) {
  std::copy_n(nqn.begin(), std::min(nqn.size(), field.size() - 1), field.begin());
}

template <typename Part>
void append(std::vector<std::byte>& bytes, const Part& part) {
  const std::size_t at = bytes.size();
  bytes.resize(at + sizeof(part));
  std::memcpy(bytes.data() + at, &part, sizeof(part));
}

// Cleartext is 00b and not 10b: libnvme of Debian 12 takes 01b and 10b both for TLS and cannot connect. What takes both begins in cleartext with
// those hosts that are to make their keys by authenticating; as Linux's target says it.
std::uint8_t treq_of(ChannelSecurity security) {
  if (security == ChannelSecurity::cleartext) return nvme::treq_not_specified;
  return security == ChannelSecurity::tls ? nvme::treq_secure_required : nvme::treq_secure_not_required;
}

nvme::DiscoveryEntry make_entry(const DiscoveryRecord& record, std::uint16_t admin_queue_entries) {
  nvme::DiscoveryEntry entry;
  entry.trtype = static_cast<std::uint8_t>(transport_of(record.address.trtype));
  entry.adrfam = static_cast<std::uint8_t>(family_of(record.address.adrfam));
  entry.subtype = static_cast<std::uint8_t>(record.subtype);
  entry.treq = treq_of(record.security);
  entry.portid = record.port_id;
  entry.cntlid = nvme::cntlid_dynamic;
  entry.asqsz = admin_queue_entries;
  entry.eflags = record.eflags;
  pad_ascii(entry.trsvcid, record.address.trsvcid);
  copy_nqn(entry.subnqn, record.subnqn);
  pad_ascii(entry.traddr, record.address.traddr);
  if (record.address.trtype == "TCP")
    entry.tsas[0] = record.security == ChannelSecurity::cleartext ? nvme::tcp_sectype_none : nvme::tcp_sectype_tls13;
  return entry;
}

// What follows an extended entry's first 1024 bytes: its length, and the label of the subsystem when it has one.
void append_extension(std::vector<std::byte>& bytes, const std::string& admin_label) {
  const std::size_t padded = (admin_label.size() + attribute_alignment_bytes - 1) / attribute_alignment_bytes * attribute_alignment_bytes;
  nvme::DiscoveryExtension extension;
  extension.tel = static_cast<std::uint32_t>(sizeof(nvme::DiscoveryEntry) + sizeof(extension) +
                                             (admin_label.empty() ? 0 : sizeof(nvme::DiscoveryAttribute) + padded));
  extension.numexat = std::uint16_t{admin_label.empty() ? std::uint16_t{0} : std::uint16_t{1}};
  append(bytes, extension);
  if (admin_label.empty()) return;
  nvme::DiscoveryAttribute attribute;
  attribute.exattype = nvme::discovery_attribute_admin_label;
  attribute.exatlen = static_cast<std::uint16_t>(padded);
  append(bytes, attribute);
  const std::size_t at = bytes.size();
  bytes.resize(at + padded);
  std::memcpy(bytes.data() + at, admin_label.data(), admin_label.size());
}

}  // namespace

std::vector<std::byte> build_discovery_log(Controller& controller, const SubsystemSnapshot&, const nvme::SubmissionEntry& sqe) {
  const TargetSnapshot& target = *controller.group().snapshot();
  const std::uint8_t lsp = decode_log_page_request(sqe).lsp;
  const bool extended = (lsp & nvme::discovery_lsp_extended) != 0;
  const bool port_local = (lsp & nvme::discovery_lsp_port_local) != 0;
  // "All NVM subsystem entries" is not offered: it would show subsystems to hosts that they do not allow.
  const auto records = discovery_records(target, controller.host().hostnqn, controller.queue()->local_address(), port_local);

  std::vector<std::byte> bytes(sizeof(nvme::DiscoveryHeader));
  for (const DiscoveryRecord& record : records) {
    const bool elsewhere = record.subtype == nvme::DiscoverySubtype::referral;
    append(bytes, make_entry(record, elsewhere ? least_admin_queue_entries : controller.group().limits().max_aq_depth));
    if (extended) append_extension(bytes, record.admin_label);
  }
  nvme::DiscoveryHeader header;
  header.genctr = target.discovery_generation;
  header.numrec = records.size();
  header.dlpf = static_cast<std::uint8_t>((extended ? nvme::discovery_lsp_extended : 0) | (port_local ? nvme::discovery_lsp_port_local : 0));
  if (extended) header.tdlpl = static_cast<std::uint32_t>(bytes.size());
  std::memcpy(bytes.data(), &header, sizeof(header));
  return bytes;
}

std::vector<std::byte> build_host_discovery_log(Controller& controller, const SubsystemSnapshot&, const nvme::SubmissionEntry&) {
  const TargetSnapshot& target = *controller.group().snapshot();
  const std::string& asking = controller.host().hostnqn;
  const HostDirectory::View view =
      controller.group().table().hosts().seen_by(asking, [&](const std::string& nqn) { return knows_hosts_of(target, nqn, asking); });
  std::vector<std::byte> bytes(sizeof(nvme::HostDiscoveryHeader));
  for (const HostDirectory::Host& host : view.hosts) {
    nvme::HostDiscoveryEntry entry;
    entry.trtype = static_cast<std::uint8_t>(nvme::TransportType::tcp);
    entry.adrfam = static_cast<std::uint8_t>(family_of(host.adrfam));
    copy_nqn(entry.hostnqn, host.hostnqn);
    pad_ascii(entry.traddr, host.traddr);
    entry.tsas[0] = nvme::tcp_sectype_none;
    entry.tel = static_cast<std::uint32_t>(sizeof(entry));
    append(bytes, entry);
  }
  nvme::HostDiscoveryHeader header;
  header.genctr = view.generation;
  header.numrec = view.hosts.size();
  header.thdlpl = static_cast<std::uint32_t>(bytes.size());
  std::memcpy(bytes.data(), &header, sizeof(header));
  return bytes;
}

}  // namespace catnap::server
