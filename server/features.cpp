// The feature table and its functions. See features.h.
// Owner: the admin queue's thread. Left out: saving.
#include "server/features.h"

#include <algorithm>
#include <cstring>

#include "server/ana.h"
#include "server/controller.h"
#include "server/reservations/reservation_features.h"

namespace catnap::server {

namespace {

using nvme::Feature;
using nvme::FeatureSelect;
using nvme::SubmissionEntry;

// DW0 of Number of Queues: both counts 0's based (Base 2.0 section 5.27.1.5).
std::uint32_t queue_counts(std::uint32_t queues) { return (queues - 1) << 16 | (queues - 1); }

CommandError get_arbitration(Controller& controller, const SubsystemSnapshot&, const SubmissionEntry&, FeatureSelect select, FeatureAnswer& answer) {
  answer.dw0 = select == FeatureSelect::current ? controller.features().arbitration : FeatureValues{}.arbitration;
  return {};
}
CommandError set_arbitration(Controller& controller, const SubsystemSnapshot&, const SubmissionEntry& sqe, FeatureAnswer&) {
  controller.features().arbitration = sqe.cdw11;
  return {};
}

// One power state, number 0 (Base 2.0 section 5.27.1.2).
CommandError get_power(Controller&, const SubsystemSnapshot&, const SubmissionEntry&, FeatureSelect, FeatureAnswer& answer) {
  answer.dw0 = 0;
  return {};
}
CommandError set_power(Controller&, const SubsystemSnapshot&, const SubmissionEntry& sqe, FeatureAnswer&) {
  if ((sqe.cdw11 & 0x1F) != 0) return invalid_field(sqe_cdw11_byte);
  return {};
}

// Base 2.0 section 5.27.1.3: TMPTH 15:0, TMPSEL 19:16 (0 composite, Fh all), THSEL 21:20 (0 over, 1 under).
CommandError threshold_of(const SubmissionEntry& sqe, bool set, unsigned& which) {
  const std::uint32_t sensor = sqe.cdw11 >> 16 & 0xF;
  which = sqe.cdw11 >> 20 & 0x3;
  const bool known_sensor = sensor == 0 || (set && sensor == 0xF);
  if (!known_sensor) return invalid_field(sqe_cdw11_byte + 2);
  if (which > 1) return invalid_field(sqe_cdw11_byte + 2, 4);
  return {};
}
CommandError get_temperature(Controller& controller, const SubsystemSnapshot&, const SubmissionEntry& sqe, FeatureSelect select,
                             FeatureAnswer& answer) {
  unsigned which = 0;
  CommandError error = threshold_of(sqe, false, which);
  if (!error.ok()) return error;
  answer.dw0 = select == FeatureSelect::current ? controller.features().temperature_k[which] : FeatureValues{}.temperature_k[which];
  return {};
}
CommandError set_temperature(Controller& controller, const SubsystemSnapshot&, const SubmissionEntry& sqe, FeatureAnswer&) {
  unsigned which = 0;
  CommandError error = threshold_of(sqe, true, which);
  if (!error.ok()) return error;
  controller.features().temperature_k[which] = static_cast<std::uint16_t>(sqe.cdw11);
  return {};
}

// TLER 15:0, DULBE bit 16, which needs NSFEAT bit 2 (NVM Command Set 1.0 section 4.1.3.2).
CommandError get_error_recovery(Controller& controller, const SubsystemSnapshot&, const SubmissionEntry&, FeatureSelect select,
                                FeatureAnswer& answer) {
  answer.dw0 = select == FeatureSelect::current ? controller.features().error_recovery_time_100ms : 0;
  return {};
}
CommandError set_error_recovery(Controller& controller, const SubsystemSnapshot&, const SubmissionEntry& sqe, FeatureAnswer&) {
  if ((sqe.cdw11 & 1U << 16) != 0) return invalid_field(sqe_cdw11_byte + 2);
  controller.features().error_recovery_time_100ms = static_cast<std::uint16_t>(sqe.cdw11);
  return {};
}

// Always on, as the caches belong to the block devices, which other users share; Flush and FUA do what they promise.
CommandError get_write_cache(Controller&, const SubsystemSnapshot&, const SubmissionEntry&, FeatureSelect, FeatureAnswer& answer) {
  answer.dw0 = 1;
  return {};
}

CommandError get_queues(Controller& controller, const SubsystemSnapshot&, const SubmissionEntry&, FeatureSelect select, FeatureAnswer& answer) {
  const std::uint32_t most = controller.group().limits().max_io_qpairs_per_ctrlr;
  answer.dw0 = queue_counts(select == FeatureSelect::current ? controller.shared().granted_io_queues.load() : most);
  return {};
}
CommandError set_queues(Controller& controller, const SubsystemSnapshot&, const SubmissionEntry& sqe, FeatureAnswer& answer) {
  const std::uint32_t submission = sqe.cdw11 & 0xFFFF;
  const std::uint32_t completion = sqe.cdw11 >> 16;
  if (submission == 0xFFFF) return invalid_field(sqe_cdw11_byte);
  if (completion == 0xFFFF) return invalid_field(sqe_cdw11_byte + 2);
  // Only before the first I/O queue (Base 2.0 section 5.27.1.5).
  if (controller.shared().io_queues.load() != 0) return CommandError(nvme::Status(nvme::GenericStatus::command_sequence_error).with_dnr());
  const std::uint32_t most = controller.group().limits().max_io_qpairs_per_ctrlr;
  const std::uint32_t granted = std::min(most, std::min(submission, completion) + 1);
  controller.shared().granted_io_queues.store(granted);
  answer.dw0 = queue_counts(granted);
  return {};
}

CommandError get_write_atomicity(Controller& controller, const SubsystemSnapshot&, const SubmissionEntry&, FeatureSelect select,
                                 FeatureAnswer& answer) {
  answer.dw0 = select == FeatureSelect::current ? controller.features().write_atomicity : 0;
  return {};
}
CommandError set_write_atomicity(Controller& controller, const SubsystemSnapshot&, const SubmissionEntry& sqe, FeatureAnswer&) {
  controller.features().write_atomicity = sqe.cdw11 & 1;
  return {};
}

CommandError get_events(Controller& controller, const SubsystemSnapshot&, const SubmissionEntry&, FeatureSelect select, FeatureAnswer& answer) {
  answer.dw0 = select == FeatureSelect::current ? controller.events().enabled() : 0;
  return {};
}
// Of the SMART warnings (7:0) all may be asked for, though only that of reliability ever comes; of the notices only what OAES offers.
CommandError set_events(Controller& controller, const SubsystemSnapshot& subsystem, const SubmissionEntry& sqe, FeatureAnswer&) {
  const std::uint32_t wanted = sqe.cdw11;
  const std::uint32_t unsupported = wanted & ~(controller.supported_events(subsystem) | nvme::aec_smart_mask);
  if (unsupported != 0) {
    const auto bit = static_cast<unsigned>(std::countr_zero(unsupported));
    return invalid_field(sqe_cdw11_byte + bit / 8, bit % 8);
  }
  controller.events().configure(wanted);
  return {};
}

CommandError get_keep_alive(Controller& controller, const SubsystemSnapshot&, const SubmissionEntry&, FeatureSelect select, FeatureAnswer& answer) {
  answer.dw0 = select == FeatureSelect::current ? controller.kato_ms() : 0;
  return {};
}
CommandError set_keep_alive(Controller& controller, const SubsystemSnapshot&, const SubmissionEntry& sqe, FeatureAnswer&) {
  controller.set_kato_ms(sqe.cdw11);
  return {};
}

// Set by Connect; a Fabrics controller knows the 128-bit form alone (Base 2.0 section 5.27.1.25).
CommandError get_host_identifier(Controller&, const SubsystemSnapshot&, const SubmissionEntry& sqe, FeatureSelect, FeatureAnswer&) {
  if ((sqe.cdw11 & nvme::host_identifier_exhid) == 0) {
    return refusal(nvme::GenericStatus::host_id_inconsistent_format, sqe_cdw11_byte);
  }
  return {};
}

constexpr std::uint32_t host_identifier_bytes = 16;

// Host Behavior Support (Base 2.0 section 5.27.1.18): ACRE alone has an effect here; the other bytes belong to features that are not offered and read
// back as 0.
CommandError get_host_behavior(Controller&, const SubsystemSnapshot&, const SubmissionEntry&, FeatureSelect, FeatureAnswer&) { return {}; }
CommandError set_host_behavior(Controller&, const SubsystemSnapshot&, const SubmissionEntry&, FeatureAnswer& answer) {
  answer.data_bytes = nvme::host_behavior_bytes;
  return {};
}

//  feature                           discovery  ns     change data
constexpr FeatureEntry features[] = {
    {Feature::arbitration, false, false, true, 0, get_arbitration, set_arbitration},
    {Feature::power_management, false, false, true, 0, get_power, set_power},
    {Feature::temperature_threshold, false, false, true, 0, get_temperature, set_temperature},
    {Feature::error_recovery, false, true, true, 0, get_error_recovery, set_error_recovery},
    {Feature::volatile_write_cache, false, false, false, 0, get_write_cache, nullptr},
    {Feature::number_of_queues, false, false, true, 0, get_queues, set_queues},
    {Feature::write_atomicity, false, false, true, 0, get_write_atomicity, set_write_atomicity},
    {Feature::async_event_configuration, true, false, true, 0, get_events, set_events},
    {Feature::keep_alive_timer, true, false, true, 0, get_keep_alive, set_keep_alive},
    {Feature::host_behavior, false, false, true, nvme::host_behavior_bytes, get_host_behavior, set_host_behavior},
    {Feature::reservation_notification_mask, false, true, true, 0, get_reservation_mask, set_reservation_mask},
    {Feature::reservation_persistence, false, true, true, 0, get_reservation_persistence, set_reservation_persistence},
    {Feature::host_identifier, true, false, false, host_identifier_bytes, get_host_identifier, nullptr},
};

std::uint32_t capabilities(const FeatureEntry& feature) {
  return (feature.changeable ? nvme::feature_changeable : 0U) | (feature.namespace_specific ? nvme::feature_namespace_specific : 0U);
}

// Features of namespaces are not available where their namespaces are not (Base 2.0 section 8.1.3.3 to 8.1.3.5).
CommandError check_access(const Controller& controller, const SubsystemSnapshot& subsystem, const NamespaceConfig& config) {
  if (!subsystem.ana_reporting) return {};
  return ana_refusal(ana_state_of(Controller::listener(subsystem, *controller.queue()), ana_group_of(config)));
}
CommandError check_access_to_all(const Controller& controller, const SubsystemSnapshot& subsystem) {
  for (const auto& [nsid, config] : subsystem.namespaces) {
    if (subsystem.visible_namespace(nsid, controller.host().hostnqn) == nullptr) continue;
    const CommandError error = check_access(controller, subsystem, *config);
    if (!error.ok()) return error;
  }
  return {};
}

// The NSID of a namespace-specific feature: one of the namespaces, or (Set Features) all of them.
CommandError check_nsid(const Controller& controller, const SubsystemSnapshot& subsystem, const FeatureEntry& feature, const SubmissionEntry& sqe,
                        bool set) {
  const std::uint32_t nsid = sqe.nsid;
  if (!feature.namespace_specific) {
    if (set && nsid != 0 && nsid != nvme::broadcast_nsid) return refusal(nvme::CommandStatus::feature_not_namespace_specific, sqe_nsid_byte);
    return {};
  }
  if (nsid == nvme::broadcast_nsid) {
    return set ? check_access_to_all(controller, subsystem) : refusal(nvme::GenericStatus::invalid_namespace_or_format, sqe_nsid_byte);
  }
  const NamespaceConfig* config = subsystem.visible_namespace(nsid, controller.host().hostnqn);
  if (config == nullptr) return refusal(nvme::GenericStatus::invalid_namespace_or_format, sqe_nsid_byte);
  return check_access(controller, subsystem, *config);
}

}  // namespace

std::span<const FeatureEntry> feature_table() { return features; }

const FeatureEntry* find_feature(std::uint8_t fid, bool discovery) {
  for (const FeatureEntry& feature : features) {
    if (static_cast<std::uint8_t>(feature.fid) == fid) return discovery && !feature.on_discovery ? nullptr : &feature;
  }
  return nullptr;
}

CommandError get_feature(Controller& controller, const SubsystemSnapshot& subsystem, const SubmissionEntry& sqe, FeatureAnswer& answer,
                         std::uint32_t& data_bytes) {
  data_bytes = 0;
  const FeatureEntry* feature = find_feature(static_cast<std::uint8_t>(sqe.cdw10), controller.discovery());
  if (feature == nullptr) return invalid_field(sqe_cdw10_byte);
  const std::uint32_t select = sqe.cdw10 >> 8 & 0x7;
  if (select > static_cast<std::uint32_t>(FeatureSelect::supported_capabilities)) return invalid_field(sqe_cdw10_byte + 1);
  if (select == static_cast<std::uint32_t>(FeatureSelect::supported_capabilities)) {
    answer.dw0 = capabilities(*feature);
    return {};
  }
  CommandError error = check_nsid(controller, subsystem, *feature, sqe, false);
  if (!error.ok()) return error;
  // Nothing is saveable: the saved value is the default one (Base 2.0 section 5.15).
  const auto which = static_cast<FeatureSelect>(select) == FeatureSelect::current ? FeatureSelect::current : FeatureSelect::default_value;
  error = feature->get(controller, subsystem, sqe, which, answer);
  if (error.ok()) data_bytes = feature->data_bytes;
  return error;
}

void feature_data(Controller& controller, const SubmissionEntry& sqe, std::span<std::byte> data) {
  const bool current = (sqe.cdw10 >> 8 & 0x7) == static_cast<std::uint32_t>(FeatureSelect::current);
  if (!current) return;
  const auto fid = static_cast<Feature>(static_cast<std::uint8_t>(sqe.cdw10));
  if (fid == Feature::host_behavior) data[nvme::host_behavior_acre_offset] = std::byte{controller.features().advanced_command_retry};
  if (fid == Feature::host_identifier)
    std::memcpy(data.data(), controller.host().hostid.data(), std::min(data.size(), controller.host().hostid.size()));
}

// Of the data there is no place in the submission entry to point to.
CommandError set_feature_data(Controller& controller, const SubmissionEntry&, std::span<const std::byte> data) {
  const std::byte acre = data[nvme::host_behavior_acre_offset];
  if (acre > std::byte{1}) return nvme::Status(nvme::GenericStatus::invalid_field).with_dnr();
  controller.set_advanced_command_retry(acre == std::byte{1});
  return {};
}

CommandError set_feature(Controller& controller, const SubsystemSnapshot& subsystem, const SubmissionEntry& sqe, FeatureAnswer& answer) {
  const FeatureEntry* feature = find_feature(static_cast<std::uint8_t>(sqe.cdw10), controller.discovery());
  if (feature == nullptr) return invalid_field(sqe_cdw10_byte);
  if ((sqe.cdw10 & nvme::set_features_save) != 0) return refusal(nvme::CommandStatus::feature_not_saveable, sqe_cdw10_byte + 3, 7);
  CommandError error = check_nsid(controller, subsystem, *feature, sqe, true);
  if (!error.ok()) return error;
  if (feature->set == nullptr) return refusal(nvme::CommandStatus::feature_not_changeable, sqe_cdw10_byte);
  return feature->set(controller, subsystem, sqe, answer);
}

}  // namespace catnap::server
