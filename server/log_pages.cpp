// Log pages. See log_pages.h.
// Owner: the admin queue's thread. Left out: the discovery log (discovery_log.cpp).
#include "server/log_pages.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <type_traits>

#include "server/ana.h"
#include "server/command_tables.h"
#include "server/controller.h"
#include "server/features.h"
#include "server/firmware.h"
#include "server/identify.h"

namespace catnap::server {

namespace {

using nvme::SubmissionEntry;

template <typename Page>
void append(std::vector<std::byte>& bytes, const Page& page) {
  static_assert(std::is_trivially_copyable_v<Page>);
  const std::size_t at = bytes.size();
  bytes.resize(at + sizeof(Page));
  std::memcpy(bytes.data() + at, &page, sizeof(Page));
}

template <typename Page>
std::vector<std::byte> bytes_of(const Page& page) {
  std::vector<std::byte> bytes;
  append(bytes, page);
  return bytes;
}

std::vector<std::byte> build_supported(Controller& controller, const SubsystemSnapshot& subsystem, const SubmissionEntry&) {
  nvme::SupportedLogPages list;
  for (unsigned lid = 0; lid < list.page.size(); ++lid) {
    if (lid == static_cast<unsigned>(nvme::LogPage::ana) && !subsystem.ana_reporting) continue;
    if (find_log_page(static_cast<std::uint8_t>(lid), controller.discovery()) != nullptr) list.page[lid] = nvme::log_supported;
  }
  constexpr auto discovery_lid = static_cast<std::size_t>(nvme::LogPage::discovery);
  if (controller.discovery()) list.page[discovery_lid] = list.page[discovery_lid] | nvme::discovery_log_lsp_supported;
  return bytes_of(list);
}

std::vector<std::byte> build_error(Controller& controller, const SubsystemSnapshot&, const SubmissionEntry&) {
  std::array<nvme::ErrorEntry, ErrorLog::capacity> entries{};
  const std::vector<nvme::ErrorEntry> newest = controller.shared().errors.newest_first();
  std::copy(newest.begin(), newest.end(), entries.begin());
  return bytes_of(entries);
}

// Thousands of 512 byte units, rounded up (Base 2.0 section 5.16.1.3).
std::uint64_t data_units(std::uint64_t bytes) { return (bytes + 511'999) / 512'000; }

std::vector<std::byte> build_smart(Controller& controller, const SubsystemSnapshot&, const SubmissionEntry&) {
  const ControllerShared::Totals totals = controller.shared().totals();
  nvme::SmartLog log;
  log.critical_warning = controller.health_warning() ? nvme::smart_warning_reliability : std::uint8_t{0};
  log.available_spare = 100;
  log.media_errors.low = controller.shared().media_errors.load(std::memory_order_relaxed);
  log.data_units_read.low = data_units(totals.bytes_read);
  log.data_units_written.low = data_units(totals.bytes_written);
  log.host_read_commands.low = totals.read_commands;
  log.host_write_commands.low = totals.write_commands;
  log.controller_busy_minutes.low = totals.busy_ns / (60 * ns_per_s);
  log.power_on_hours.low = controller.age_ns() / (3600 * ns_per_s);
  log.error_log_entries.low = controller.shared().errors.count();
  return bytes_of(log);
}

std::vector<std::byte> build_firmware(Controller&, const SubsystemSnapshot&, const SubmissionEntry&) {
  nvme::FirmwareLog log;
  log.afi = 1;
  pad_ascii(log.frs[0], firmware_revision);
  return bytes_of(log);
}

std::vector<std::byte> build_changed(Controller& controller, const SubsystemSnapshot&, const SubmissionEntry&) {
  nvme::ChangedNamespaces list;
  const auto& changed = controller.changed_namespaces();
  if (changed.size() > list.nsid.size()) {
    list.nsid[0] = nvme::broadcast_nsid;
  } else {
    std::copy(changed.begin(), changed.end(), list.nsid.begin());
  }
  return bytes_of(list);
}

std::vector<std::byte> build_effects(Controller& controller, const SubsystemSnapshot&, const SubmissionEntry&) {
  nvme::EffectsLog log;
  fill_admin_effects(log, controller.discovery());
  if (!controller.discovery()) fill_io_effects(log, controller.group().limits().masked_oncs);
  return bytes_of(log);
}

std::vector<std::byte> build_ana(Controller& controller, const SubsystemSnapshot& subsystem, const SubmissionEntry& sqe) {
  const bool groups_only = (decode_log_page_request(sqe).lsp & nvme::ana_lsp_groups_only) != 0;
  return build_ana_log(subsystem, Controller::listener(subsystem, *controller.queue()), controller.host().hostnqn, groups_only);
}

std::vector<std::byte> build_features(Controller& controller, const SubsystemSnapshot&, const SubmissionEntry&) {
  nvme::SupportedFeatures list;
  for (const FeatureEntry& feature : feature_table()) {
    if (find_feature(static_cast<std::uint8_t>(feature.fid), controller.discovery()) == nullptr) continue;
    list.feature[static_cast<std::size_t>(feature.fid)] =
        nvme::feature_supported | (feature.namespace_specific ? nvme::feature_scope_namespace : nvme::feature_scope_controller);
  }
  return bytes_of(list);
}

// One notification; with RAE 0 the next read gives the next.
std::vector<std::byte> build_reservation(Controller& controller, const SubsystemSnapshot&, const SubmissionEntry& sqe) {
  return bytes_of(controller.notifications().read(!decode_log_page_request(sqe).retain_event));
}

// No NVMe-MI command is taken in band; the page belongs to LPA bit 5.
std::vector<std::byte> build_mi_effects(Controller&, const SubsystemSnapshot&, const SubmissionEntry&) { return std::vector<std::byte>(4096); }

using Kind = AsyncEvents::Kind;
constexpr LogPageEntry pages[] = {
    {nvme::LogPage::supported_pages, true, true, build_supported, {}},
    {nvme::LogPage::error, true, true, build_error, Kind::error},
    {nvme::LogPage::smart, true, false, build_smart, Kind::health},
    {nvme::LogPage::firmware, true, false, build_firmware, {}},
    {nvme::LogPage::changed_namespaces, true, false, build_changed, Kind::namespace_attribute},
    {nvme::LogPage::effects, true, true, build_effects, {}},
    {nvme::LogPage::ana, true, false, build_ana, Kind::ana_change},
    {nvme::LogPage::supported_features, true, true, build_features, {}},
    {nvme::LogPage::mi_effects, true, true, build_mi_effects, {}},
    {nvme::LogPage::reservation, true, false, build_reservation, Kind::reservation_log},
    {nvme::LogPage::discovery, false, true, build_discovery_log, Kind::discovery_log},
    {nvme::LogPage::host_discovery, false, true, build_host_discovery_log, Kind::host_discovery_log},
};

}  // namespace

const LogPageEntry* find_log_page(std::uint8_t lid, bool discovery) {
  for (const LogPageEntry& page : pages) {
    if (static_cast<std::uint8_t>(page.lid) == lid) return (discovery ? page.on_discovery : page.on_io) ? &page : nullptr;
  }
  return nullptr;
}

LogPageRequest decode_log_page_request(const SubmissionEntry& sqe) {
  LogPageRequest wanted;
  wanted.lid = static_cast<std::uint8_t>(sqe.cdw10);
  wanted.lsp = static_cast<std::uint8_t>(sqe.cdw10 >> 8 & 0x7F);
  wanted.retain_event = (sqe.cdw10 & 1U << 15) != 0;
  const std::uint64_t dwords = (std::uint64_t{sqe.cdw11 & 0xFFFFU} << 16 | sqe.cdw10 >> 16) + 1;  // NUMD is 0's based
  wanted.length_bytes = dwords * 4;
  wanted.offset_bytes = std::uint64_t{sqe.cdw13} << 32 | sqe.cdw12;
  return wanted;
}

CommandError check_log_page_request(const Controller& controller, const SubmissionEntry& sqe, const LogPageRequest& wanted) {
  const auto subsystem = controller.subsystem();
  const LogPageEntry* page = find_log_page(wanted.lid, controller.discovery());
  const bool ana_off = wanted.lid == static_cast<std::uint8_t>(nvme::LogPage::ana) && subsystem != nullptr && !subsystem->ana_reporting;
  if (page == nullptr || ana_off) return refusal(nvme::CommandStatus::invalid_log_page, sqe_cdw10_byte);
  if ((wanted.offset_bytes & 3) != 0) return invalid_field(sqe_cdw12_byte);
  constexpr std::uint32_t offset_type_index = 1U << 23;  // only for pages whose entry in page 00h says so, and none does
  if ((sqe.cdw14 & offset_type_index) != 0) return invalid_field(sqe_cdw14_byte + 2, 7);
  // SMART is per controller (LPA bit 0 clear): NSID 0 or FFFFFFFFh.
  const bool smart = page->lid == nvme::LogPage::smart;
  if (smart && sqe.nsid != 0 && sqe.nsid != nvme::broadcast_nsid) return invalid_field(sqe_nsid_byte);
  return {};
}

}  // namespace catnap::server
