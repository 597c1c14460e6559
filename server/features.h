// Get and Set Features: one table of what a controller has, with scope, defaults and functions.
// Owner: the admin queue's thread. Left out: saving (no feature is saveable), features that only PCIe has.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "server/command_error.h"
#include "transport/nvme/command.h"
#include "transport/nvme/features.h"

namespace catnap::server {

class Controller;
struct SubsystemSnapshot;

// What Set Features has set; a controller reset brings the defaults back. Number of Queues, KATO and event configuration live with their users.
struct FeatureValues {
  std::uint32_t arbitration = 0;                             // 01h: AB 0 (one command at a time), weights 0
  std::uint16_t error_recovery_time_100ms = 0;               // 05h: TLER, 0: no limit
  std::array<std::uint16_t, 2> temperature_k = {0xFFFF, 0};  // 04h: over, under; of the composite temperature, which is not reported
  std::uint32_t write_atomicity = 0;                         // 0Ah: DN; AWUN is one block either way
  bool advanced_command_retry = false;                       // 16h: ACRE, the host heeds command retry delays
};

struct FeatureAnswer {
  std::uint32_t dw0 = 0;
  std::uint32_t data_bytes = 0;  // Set Features: data to be fetched, then set_feature_data()
  bool deferred = false;         // checked only: what is asked for takes time (Controller::execute_set_features)
};

struct FeatureEntry {
  nvme::Feature fid;
  bool on_discovery;  // discovery controllers have it too
  bool namespace_specific;
  bool changeable;
  std::uint32_t data_bytes;  // Get Features transfers so much (0: the answer is DW0 alone)
  // Current value in DW0. `select` is current or default_value.
  CommandError (*get)(Controller& controller, const SubsystemSnapshot& subsystem, const nvme::SubmissionEntry& sqe, nvme::FeatureSelect select,
                      FeatureAnswer& answer);
  // Null: not changeable. With data (FeatureAnswer::data_bytes): what can be checked before it is there.
  CommandError (*set)(Controller& controller, const SubsystemSnapshot& subsystem, const nvme::SubmissionEntry& sqe, FeatureAnswer& answer);
};

// Null: this kind of controller has no such feature.
const FeatureEntry* find_feature(std::uint8_t fid, bool discovery);
std::span<const FeatureEntry> feature_table();

// Checks FID, SEL, NSID and the rest of Get Features. `data_bytes`: what has to be transferred.
CommandError get_feature(Controller& controller, const SubsystemSnapshot& subsystem, const nvme::SubmissionEntry& sqe, FeatureAnswer& answer,
                         std::uint32_t& data_bytes);
// The bytes of a feature that has any (Host Identifier, Host Behavior Support).
void feature_data(Controller& controller, const nvme::SubmissionEntry& sqe, std::span<std::byte> data);
CommandError set_feature_data(Controller& controller, const nvme::SubmissionEntry& sqe, std::span<const std::byte> data);
CommandError set_feature(Controller& controller, const SubsystemSnapshot& subsystem, const nvme::SubmissionEntry& sqe, FeatureAnswer& answer);

}  // namespace catnap::server
