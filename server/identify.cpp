// Identify. See identify.h.
// Owner: the admin queue's thread. Left out: CNS values of optional features that catnap does not offer.
#include "server/identify.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>

#include "reactor/base/check.h"
#include "server/ana.h"
#include "server/controller.h"
#include "server/error_log.h"
#include "server/firmware.h"

namespace catnap::server {

namespace {

using nvme::SubmissionEntry;

template <typename Page>
void put(std::span<std::byte> to, const Page& page) {
  static_assert(sizeof(Page) == nvme::identify_bytes);
  CATNAP_CHECK(to.size() == sizeof(Page));
  std::memcpy(to.data(), &page, sizeof(Page));
}

std::uint32_t csi_of(const SubmissionEntry& sqe) { return sqe.cdw11 >> 24; }

constexpr unsigned csi_byte = sqe_cdw11_byte + 3;
CommandError invalid_command_set() { return refusal(nvme::CommandStatus::invalid_io_command_set, csi_byte); }
CommandError invalid_namespace() { return refusal(nvme::GenericStatus::invalid_namespace_or_format, sqe_nsid_byte); }

bool valid_nsid(const SubsystemSnapshot& subsystem, std::uint32_t nsid) { return nsid >= 1 && nsid <= subsystem.max_namespaces; }

std::uint8_t log2_of(std::uint32_t power_of_two) { return static_cast<std::uint8_t>(std::countr_zero(power_of_two)); }

void fill_common(const Controller& controller, const SubsystemSnapshot& subsystem, nvme::IdentifyController& data) {
  const transport::TransportLimits& limits = controller.group().limits();
  pad_ascii(data.sn, subsystem.serial_number);
  pad_ascii(data.mn, subsystem.model_number.empty() ? "catnap" : subsystem.model_number);
  pad_ascii(data.fr, firmware_revision);
  data.mdts = mdts_for(limits.max_io_size_bytes);
  data.cntlid = controller.cntlid();
  data.ver = nvme_version;
  data.oaes = controller.supported_events(subsystem);
  data.ctratt = nvme::ctratt_host_id_128 | nvme::ctratt_traffic_based_keep_alive;
  data.aerl = max_async_event_requests - 1;
  data.elpe = ErrorLog::capacity - 1;
  data.kas = static_cast<std::uint16_t>(keep_alive_granularity_ms / 100);
  data.sqes = 0x66;
  data.cqes = 0x44;
  data.maxcmd = limits.max_queue_depth;
  data.sgls = nvme::sgls_supported | nvme::sgls_longer_than_data | nvme::sgls_offset_in_address | nvme::sgls_transport_data_block;
  std::copy(subsystem.shown_nqn().begin(), subsystem.shown_nqn().end(), data.subnqn.begin());
  data.ioccsz = (static_cast<std::uint32_t>(sizeof(SubmissionEntry)) + limits.in_capsule_data_size_bytes) / 16;
  data.iorcsz = static_cast<std::uint32_t>(sizeof(nvme::CompletionEntry)) / 16;
  data.icdoff = std::uint16_t{0};
  data.msdbd = 1;
}

void fill_io_controller(const SubsystemSnapshot& subsystem, nvme::IdentifyController& data) {
  data.cntrltype = static_cast<std::uint8_t>(nvme::ControllerType::io);
  data.cmic = nvme::cmic_multi_port | nvme::cmic_multi_controller;
  data.acl = max_abort_commands - 1;
  data.frmw = nvme::frmw_slot1_read_only | (1U << nvme::frmw_slots_shift);
  data.lpa = nvme::lpa_effects | nvme::lpa_extended_data | nvme::lpa_supported_pages;
  data.nn = subsystem.max_namespaces;
  data.mnan = subsystem.max_namespaces;
  data.oncs = nvme::oncs_compare | nvme::oncs_dataset_management | nvme::oncs_write_zeroes | nvme::oncs_save_select;
  // Present whatever the namespaces are now: one with a cache may be added, and a host asks only once.
  data.vwc = nvme::vwc_present | nvme::vwc_flush_all_supported;
  data.ofcs = nvme::ofcs_disconnect;
  if (!subsystem.ana_reporting) return;
  data.cmic |= nvme::cmic_ana;
  data.anatt = ana_transition_limit_s;
  data.anacap = nvme::anacap_optimized | nvme::anacap_non_optimized | nvme::anacap_inaccessible | nvme::anacap_persistent_loss | nvme::anacap_change;
  // Every namespace may have a group of its own.
  data.anagrpmax = subsystem.max_namespaces;
  data.nanagrpid = subsystem.max_namespaces;
}

CommandError build_controller(const Controller& controller, const SubsystemSnapshot& subsystem, const SubmissionEntry&, std::span<std::byte> page) {
  nvme::IdentifyController data;
  fill_common(controller, subsystem, data);
  if (controller.discovery()) {
    data.cntrltype = static_cast<std::uint8_t>(nvme::ControllerType::discovery);
    data.lpa = nvme::lpa_extended_data | nvme::lpa_supported_pages;
  } else {
    fill_io_controller(subsystem, data);
  }
  put(page, data);
  return {};
}

// What Base 2.0 section 5.17.2.1 asks of every NSID: none may be 0 or above NN; an inactive one gives zeros.
CommandError find_namespace(const Controller& controller, const SubsystemSnapshot& subsystem, const SubmissionEntry& sqe,
                            const NamespaceConfig*& found) {
  found = nullptr;
  if (!valid_nsid(subsystem, sqe.nsid)) return invalid_namespace();
  found = subsystem.visible_namespace(sqe.nsid, controller.host().hostnqn);
  return {};
}

CommandError build_namespace(const Controller& controller, const SubsystemSnapshot& subsystem, const SubmissionEntry& sqe,
                             std::span<std::byte> page) {
  const NamespaceConfig* config = nullptr;
  CommandError error = find_namespace(controller, subsystem, sqe, config);
  if (!error.ok() || config == nullptr) return error;
  const bdev::BdevInfo& info = config->bdev->info();
  nvme::IdentifyNamespace data;
  const std::uint64_t blocks = config->bdev->num_blocks();
  data.nsze = blocks;
  data.ncap = blocks;
  data.nuse = blocks;
  data.nsfeat = nvme::nsfeat_preferred_sizes;
  data.nmic = nvme::nmic_shared;
  const bool zeroes = info.unmap_reads_zeroes;
  data.dlfeat = zeroes ? nvme::dlfeat_reads_zeroes | nvme::dlfeat_write_zeroes_deallocates : nvme::dlfeat_reads_not_reported;
  data.noiob = static_cast<std::uint16_t>(std::min<std::uint32_t>(info.optimal_io_boundary_blocks, 0xFFFF));
  // Granularity and alignment that the medium likes: its physical block, 0's based.
  const auto physical = static_cast<std::uint16_t>(std::max<std::uint32_t>(info.physical_block_size / info.block_size, 1) - 1);
  data.npwg = physical;
  data.npwa = physical;
  data.npdg = physical;
  data.npda = physical;
  data.nows = physical;
  data.anagrpid = subsystem.ana_reporting ? ana_group_of(*config) : 0;
  data.nguid = config->nguid;
  data.eui64 = config->eui64;
  data.lbaf[0].lbads = log2_of(info.block_size);
  put(page, data);
  return {};
}

std::byte* put_descriptor(std::byte* at, nvme::NamespaceIdType type, std::span<const std::uint8_t> id) {
  nvme::NamespaceDescriptor head;
  head.nidt = static_cast<std::uint8_t>(type);
  head.nidl = static_cast<std::uint8_t>(id.size());
  std::memcpy(at, &head, sizeof(head));
  std::memcpy(at + sizeof(head), id.data(), id.size());
  return at + sizeof(head) + id.size();
}

bool any_set(std::span<const std::uint8_t> bytes) {
  return std::any_of(bytes.begin(), bytes.end(), [](std::uint8_t byte) { return byte != 0; });
}

CommandError build_descriptors(const Controller& controller, const SubsystemSnapshot& subsystem, const SubmissionEntry& sqe,
                               std::span<std::byte> page) {
  const NamespaceConfig* config = nullptr;
  CommandError error = find_namespace(controller, subsystem, sqe, config);
  if (!error.ok()) return error;
  if (config == nullptr) return invalid_namespace();
  std::byte* at = page.data();
  if (any_set(config->eui64)) at = put_descriptor(at, nvme::NamespaceIdType::eui64, config->eui64);
  if (any_set(config->nguid)) at = put_descriptor(at, nvme::NamespaceIdType::nguid, config->nguid);
  if (any_set(config->uuid)) at = put_descriptor(at, nvme::NamespaceIdType::uuid, config->uuid);
  const std::uint8_t csi = static_cast<std::uint8_t>(nvme::Csi::nvm);
  put_descriptor(at, nvme::NamespaceIdType::csi, {&csi, 1});
  return {};
}

CommandError build_active_list(const Controller& controller, const SubsystemSnapshot& subsystem, const SubmissionEntry& sqe,
                               std::span<std::byte> page) {
  if (sqe.nsid >= nvme::broadcast_nsid - 1) return invalid_namespace();
  nvme::NamespaceList list;
  std::size_t count = 0;
  for (auto at = subsystem.namespaces.upper_bound(sqe.nsid); at != subsystem.namespaces.end() && count < list.nsid.size(); ++at) {
    if (subsystem.visible_namespace(at->first, controller.host().hostnqn) != nullptr) list.nsid[count++] = at->first;
  }
  put(page, list);
  return {};
}

CommandError build_csi_active_list(const Controller& controller, const SubsystemSnapshot& subsystem, const SubmissionEntry& sqe,
                                   std::span<std::byte> page) {
  if (csi_of(sqe) != static_cast<std::uint32_t>(nvme::Csi::nvm)) return invalid_command_set();
  return build_active_list(controller, subsystem, sqe, page);
}

// All fields of the NVM command set's own structures are zero: no protection information, no limits beyond MDTS.
CommandError build_csi_namespace(const Controller& controller, const SubsystemSnapshot& subsystem, const SubmissionEntry& sqe,
                                 std::span<std::byte> page) {
  if (csi_of(sqe) != static_cast<std::uint32_t>(nvme::Csi::nvm)) return invalid_command_set();
  const NamespaceConfig* config = nullptr;
  CommandError error = find_namespace(controller, subsystem, sqe, config);
  if (error.ok()) put(page, nvme::NvmNamespace());
  return error;
}

CommandError build_csi_controller(const Controller&, const SubsystemSnapshot&, const SubmissionEntry& sqe, std::span<std::byte> page) {
  if (csi_of(sqe) != static_cast<std::uint32_t>(nvme::Csi::nvm)) return invalid_command_set();
  put(page, nvme::NvmController());
  return {};
}

CommandError build_independent(const Controller& controller, const SubsystemSnapshot& subsystem, const SubmissionEntry& sqe,
                               std::span<std::byte> page) {
  const NamespaceConfig* config = nullptr;
  CommandError error = find_namespace(controller, subsystem, sqe, config);
  if (!error.ok() || config == nullptr) return error;
  nvme::IndependentNamespace data;
  data.nmic = nvme::nmic_shared;
  data.anagrpid = subsystem.ana_reporting ? ana_group_of(*config) : 0;
  data.nstat = 1;
  put(page, data);
  return {};
}

constexpr IdentifyPage pages[] = {
    {nvme::Cns::namespace_data, false, build_namespace},
    {nvme::Cns::controller, true, build_controller},
    {nvme::Cns::active_namespaces, false, build_active_list},
    {nvme::Cns::namespace_descriptors, false, build_descriptors},
    {nvme::Cns::csi_namespace, false, build_csi_namespace},
    {nvme::Cns::csi_controller, false, build_csi_controller},
    {nvme::Cns::csi_active_namespaces, false, build_csi_active_list},
    {nvme::Cns::independent_namespace, false, build_independent},
};

}  // namespace

const IdentifyPage* find_identify_page(std::uint8_t cns, bool discovery) {
  for (const IdentifyPage& page : pages) {
    if (static_cast<std::uint8_t>(page.cns) == cns) return discovery && !page.on_discovery ? nullptr : &page;
  }
  return nullptr;
}

std::uint8_t mdts_for(std::uint32_t max_io_size_bytes) {
  constexpr std::uint32_t smallest_page_bytes = 4096;                                                      // CAP.MPSMIN 0
  const std::uint32_t pages_per_io = std::max<std::uint32_t>(max_io_size_bytes / smallest_page_bytes, 2);  // 0 would mean "no limit"
  return static_cast<std::uint8_t>(std::bit_width(pages_per_io) - 1);
}

}  // namespace catnap::server
