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
#include "server/io_limits.h"
#include "server/reservations/namespace_reservations.h"

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
  if (const auto& target = controller.group().snapshot(); target != nullptr) {
    data.crdt1 = target->crdt_100ms[0];
    data.crdt2 = target->crdt_100ms[1];
    data.crdt3 = target->crdt_100ms[2];
  }
  data.aerl = max_async_event_requests - 1;
  data.elpe = ErrorLog::capacity - 1;
  data.kas = limits.keep_alive_granularity_100ms;
  data.cqt = command_quiesce_ms;
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

void fill_io_controller(const SubsystemSnapshot& subsystem, const transport::TransportLimits& limits, nvme::IdentifyController& data) {
  data.cntrltype = static_cast<std::uint8_t>(nvme::ControllerType::io);
  data.cmic = nvme::cmic_multi_port | nvme::cmic_multi_controller;
  data.acl = max_abort_commands - 1;
  data.frmw = nvme::frmw_slot1_read_only | (1U << nvme::frmw_slots_shift);
  data.lpa = nvme::lpa_effects | nvme::lpa_extended_data | nvme::lpa_supported_pages;
  data.nn = subsystem.max_namespaces;
  data.mnan = subsystem.max_namespaces;
  data.oncs =
      static_cast<std::uint16_t>((nvme::oncs_compare | nvme::oncs_write_uncorrectable | nvme::oncs_dataset_management | nvme::oncs_write_zeroes |
                                  nvme::oncs_save_select | nvme::oncs_reservations | nvme::oncs_verify | nvme::oncs_copy) &
                                 ~limits.masked_oncs);
  data.fuses = static_cast<std::uint16_t>(nvme::fuses_compare_and_write & ~limits.masked_fuses);
  data.cdfs = (data.oncs & nvme::oncs_copy) != 0 ? nvme::cdfs_format0 : std::uint16_t{0};
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
    data.dctype = static_cast<std::uint8_t>(nvme::DiscoveryControllerType::direct);  // hosts do not register with it
    data.lpa = nvme::lpa_extended_data | nvme::lpa_supported_pages;
  } else {
    fill_io_controller(subsystem, controller.group().limits(), data);
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

// Bytes, 128 bits little-endian: 2^64 - 1 blocks of 64 KiB do not fit 64 bits.
void put_capacity(std::array<std::uint8_t, 16>& field, std::uint64_t blocks, std::uint32_t block_size) {
  const unsigned shift = log2_of(block_size);
  const le64 low = blocks << shift;
  const le64 high = shift == 0 ? std::uint64_t{0} : blocks >> (64 - shift);
  std::memcpy(field.data(), &low, sizeof(low));
  std::memcpy(field.data() + sizeof(low), &high, sizeof(high));
}

std::uint8_t reservation_capabilities(const NamespaceConfig& config) {
  if (config.reservations == nullptr) return 0;
  return nvme::rescap_all_types | nvme::rescap_iekey_1_3 | (config.reservations->can_persist() ? nvme::rescap_persist : std::uint8_t{0});
}

AnaState ana_state_for(const Controller& controller, const SubsystemSnapshot& subsystem, const NamespaceConfig& config) {
  return ana_state_of(Controller::listener(subsystem, *controller.queue()), ana_group_of(config));
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
  // Where the medium knows what it holds, that is told: deallocated blocks leave NUSE (NVM Command Set 1.0c figure 97, NSFEAT bit 0).
  const std::optional<std::uint64_t> allocated = config->bdev->allocated_blocks();
  data.nuse = allocated.value_or(blocks);
  data.nsfeat = nvme::nsfeat_preferred_sizes | nvme::nsfeat_atomics;
  if (allocated.has_value()) data.nsfeat |= nvme::nsfeat_thin;
  data.nmic = nvme::nmic_shared;
  data.rescap = reservation_capabilities(*config);
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
  // A write is whole per block, or larger (NAWUN and NAWUPF 0: as AWUN, one block); a fused pair is whole up to this.
  data.nacwu = static_cast<std::uint16_t>(fused_blocks(info.block_size) - 1);
  data.mssrl = copy_range_blocks(info.block_size);
  data.mcl = copy_blocks(info.block_size);
  data.msrc = max_copy_ranges - 1;
  put_capacity(data.nvmcap, blocks, info.block_size);
  data.anagrpid = subsystem.ana_reporting ? ana_group_of(*config) : 0;
  if (subsystem.ana_reporting && ana_hides_capacity(ana_state_for(controller, subsystem, *config))) data.nuse = std::uint64_t{0};
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

CommandError build_csi_controller(const Controller&, const SubsystemSnapshot& subsystem, const SubmissionEntry& sqe, std::span<std::byte> page) {
  if (csi_of(sqe) != static_cast<std::uint32_t>(nvme::Csi::nvm)) return invalid_command_set();
  // Dataset Management takes 256 ranges of any length unless the subsystem limits them; then all three limits are told.
  nvme::NvmController data;
  data.vsl = verify_size_limit;
  data.wzsl = subsystem.wzsl;
  data.wusl = write_uncorrectable_size_limit;
  if (subsystem.dmrsl_blocks != 0) {
    data.dmrl = limited_dataset_ranges;
    data.dmrsl = subsystem.dmrsl_blocks;
    data.dmsl = std::uint64_t{limited_dataset_ranges} * subsystem.dmrsl_blocks;
  }
  put(page, data);
  return {};
}

CommandError build_independent(const Controller& controller, const SubsystemSnapshot& subsystem, const SubmissionEntry& sqe,
                               std::span<std::byte> page) {
  const NamespaceConfig* config = nullptr;
  CommandError error = find_namespace(controller, subsystem, sqe, config);
  if (!error.ok() || config == nullptr) return error;
  nvme::IndependentNamespace data;
  data.nmic = nvme::nmic_shared;
  data.rescap = reservation_capabilities(*config);
  data.anagrpid = subsystem.ana_reporting ? ana_group_of(*config) : 0;
  data.nstat = 1;
  put(page, data);
  return {};
}

// Base 2.0 section 5.17.2.21: the combinations of command sets there are, which is one. CNTID: this controller, or FFFFh for the one that asks.
CommandError build_command_sets(const Controller& controller, const SubsystemSnapshot&, const SubmissionEntry& sqe, std::span<std::byte> page) {
  const std::uint32_t cntid = sqe.cdw10 >> 16;
  if (cntid != 0xFFFF && cntid != controller.cntlid()) return refusal(nvme::CommandStatus::invalid_controller_identifier, sqe_cdw10_byte + 2);
  nvme::IoCommandSets sets;
  sets.vector[0] = std::uint64_t{1} << static_cast<unsigned>(nvme::Csi::nvm);
  put(page, sets);
  return {};
}

// A namespace is attached to the controllers of every host that may see it, and allocated as long as it is there: what is allocated is what is active
// (CNS 10h and 11h).
constexpr IdentifyPage pages[] = {
    {nvme::Cns::namespace_data, false, build_namespace},
    {nvme::Cns::controller, true, build_controller},
    {nvme::Cns::active_namespaces, false, build_active_list},
    {nvme::Cns::namespace_descriptors, false, build_descriptors},
    {nvme::Cns::csi_namespace, false, build_csi_namespace},
    {nvme::Cns::csi_controller, false, build_csi_controller},
    {nvme::Cns::csi_active_namespaces, false, build_csi_active_list},
    {nvme::Cns::independent_namespace, false, build_independent},
    {nvme::Cns::allocated_namespaces, false, build_active_list},
    {nvme::Cns::allocated_namespace_data, false, build_namespace},
    {nvme::Cns::namespace_controllers, false, nullptr},
    {nvme::Cns::subsystem_controllers, false, nullptr},
    {nvme::Cns::csi_allocated_namespaces, false, build_csi_active_list},
    {nvme::Cns::csi_allocated_namespace_data, false, build_csi_namespace},
    {nvme::Cns::io_command_sets, false, build_command_sets},
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
