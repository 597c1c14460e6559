// NVMe status: code types, codes and the Status value that stands for the status field of a completion.
// Owner: none (values). Left out: which error becomes which status (bdev, server).
#pragma once

#include <cstdint>

#include "transport/nvme/command.h"

namespace catnap::nvme {

// Status Code Type, Base 2.0 section 3.3.3.2.1.
enum class StatusCodeType : std::uint8_t { generic = 0, command_specific = 1, media = 2, path = 3, vendor = 7 };

// Generic Command Status, Base 2.0 section 3.3.3.2.1.1; 80h and up: NVM Command Set 1.0 section 3.1.2 (and reservations, Base 2.0).
enum class GenericStatus : std::uint8_t {
  success = 0x00,
  invalid_opcode = 0x01,
  invalid_field = 0x02,
  command_id_conflict = 0x03,
  data_transfer_error = 0x04,
  aborted_power_loss = 0x05,
  internal_error = 0x06,
  abort_requested = 0x07,
  aborted_sq_deletion = 0x08,
  failed_fused = 0x09,
  missing_fused = 0x0A,
  invalid_namespace_or_format = 0x0B,
  command_sequence_error = 0x0C,
  invalid_sgl_segment_descriptor = 0x0D,
  invalid_sgl_descriptor_count = 0x0E,
  data_sgl_length_invalid = 0x0F,
  metadata_sgl_length_invalid = 0x10,
  sgl_descriptor_type_invalid = 0x11,
  invalid_cmb_use = 0x12,
  prp_offset_invalid = 0x13,
  atomic_write_unit_exceeded = 0x14,
  operation_denied = 0x15,
  sgl_offset_invalid = 0x16,
  host_id_inconsistent_format = 0x18,
  keep_alive_expired = 0x19,
  keep_alive_timeout_invalid = 0x1A,
  aborted_preempt = 0x1B,
  sanitize_failed = 0x1C,
  sanitize_in_progress = 0x1D,
  sgl_data_block_granularity_invalid = 0x1E,
  not_supported_for_cmb_queue = 0x1F,
  namespace_write_protected = 0x20,
  command_interrupted = 0x21,
  transient_transport_error = 0x22,
  prohibited_by_lockdown = 0x23,
  admin_media_not_ready = 0x24,
  lba_out_of_range = 0x80,
  capacity_exceeded = 0x81,
  namespace_not_ready = 0x82,
  reservation_conflict = 0x83,
  format_in_progress = 0x84,
};

// Command Specific Status, Base 2.0 section 3.3.3.2.1.2. From 80h on the meaning depends on the command: I/O commands or Fabrics commands.
enum class CommandStatus : std::uint8_t {
  completion_queue_invalid = 0x00,
  invalid_queue_identifier = 0x01,
  invalid_queue_size = 0x02,
  abort_limit_exceeded = 0x03,
  async_event_limit_exceeded = 0x05,
  invalid_firmware_slot = 0x06,
  invalid_firmware_image = 0x07,
  invalid_interrupt_vector = 0x08,
  invalid_log_page = 0x09,
  invalid_format = 0x0A,
  firmware_needs_conventional_reset = 0x0B,
  invalid_queue_deletion = 0x0C,
  feature_not_saveable = 0x0D,
  feature_not_changeable = 0x0E,
  feature_not_namespace_specific = 0x0F,
  firmware_needs_subsystem_reset = 0x10,
  firmware_needs_controller_reset = 0x11,
  firmware_needs_time = 0x12,
  firmware_prohibited = 0x13,
  overlapping_range = 0x14,
  namespace_insufficient_capacity = 0x15,
  namespace_id_unavailable = 0x16,
  namespace_already_attached = 0x18,
  namespace_is_private = 0x19,
  namespace_not_attached = 0x1A,
  thin_provisioning_not_supported = 0x1B,
  controller_list_invalid = 0x1C,
  self_test_in_progress = 0x1D,
  invalid_controller_identifier = 0x1F,
  ana_group_identifier_invalid = 0x24,
  ana_attach_failed = 0x25,
  insufficient_capacity = 0x26,
  namespace_attachment_limit = 0x27,
  io_command_set_not_supported = 0x29,
  io_command_set_not_enabled = 0x2A,
  io_command_set_combination_rejected = 0x2B,
  invalid_io_command_set = 0x2C,
  // I/O commands (NVM Command Set 1.0 section 3.1.2).
  conflicting_attributes = 0x80,
  invalid_protection_information = 0x81,
  write_to_read_only_range = 0x82,
  command_size_limit_exceeded = 0x83,
  overlapping_io_range = 0x87,  // NVM Command Set 1.1 section 3.1.2: a source of Copy overlaps its destination
};

// Command Specific Status of Fabrics commands, Base 2.0 section 3.3.3.2.1.2, figure "Fabrics Command Specific Status".
enum class FabricsStatus : std::uint8_t {
  incompatible_format = 0x80,  // RECFMT not supported
  controller_busy = 0x81,
  connect_invalid_parameters = 0x82,  // DW0 names the field: fabrics.h, ConnectInvalidParameters
  connect_restart_discovery = 0x83,
  connect_invalid_host = 0x84,
  invalid_queue_type = 0x85,
  discover_restart = 0x90,
  authentication_required = 0x91,
};

// Media and Data Integrity Errors, NVM Command Set 1.0 section 3.1.2.
enum class MediaStatus : std::uint8_t {
  write_fault = 0x80,
  unrecovered_read_error = 0x81,
  guard_check_error = 0x82,
  application_tag_check_error = 0x83,
  reference_tag_check_error = 0x84,
  compare_failure = 0x85,
  access_denied = 0x86,
  deallocated_or_unwritten = 0x87,
  storage_tag_check_error = 0x88,
};

// Path Related Status, Base 2.0 section 3.3.3.2.1.4.
enum class PathStatus : std::uint8_t {
  internal_path_error = 0x00,
  ana_persistent_loss = 0x01,
  ana_inaccessible = 0x02,
  ana_transition = 0x03,
  controller_pathing_error = 0x60,
  host_pathing_error = 0x70,
  aborted_by_host = 0x71,
};

// A status field. Converts from the code enums (DNR clear); `.with_dnr()` tells the host that a retry will not help.
struct Status {
  StatusCodeType sct = StatusCodeType::generic;
  std::uint8_t sc = 0;
  bool dnr = false;      // Do Not Retry
  bool more = false;     // the error log page says more
  std::uint8_t crd = 0;  // command retry delay index, 0..3 (CRDT1..3 of Identify Controller; 0: none)

  constexpr Status() = default;
  constexpr Status(StatusCodeType type, std::uint8_t code, bool do_not_retry = false) : sct(type), sc(code), dnr(do_not_retry) {}
  constexpr Status(GenericStatus code) : sct(StatusCodeType::generic), sc(static_cast<std::uint8_t>(code)) {}
  constexpr Status(CommandStatus code) : sct(StatusCodeType::command_specific), sc(static_cast<std::uint8_t>(code)) {}
  constexpr Status(FabricsStatus code) : sct(StatusCodeType::command_specific), sc(static_cast<std::uint8_t>(code)) {}
  constexpr Status(MediaStatus code) : sct(StatusCodeType::media), sc(static_cast<std::uint8_t>(code)) {}
  constexpr Status(PathStatus code) : sct(StatusCodeType::path), sc(static_cast<std::uint8_t>(code)) {}

  constexpr Status with_dnr() const {
    Status copy = *this;
    copy.dnr = true;
    return copy;
  }
  constexpr Status with_more() const {
    Status copy = *this;
    copy.more = true;
    return copy;
  }
  constexpr bool is_success() const { return sct == StatusCodeType::generic && sc == 0; }
  // Same type and code, whatever DNR, More and CRD say.
  constexpr bool same_code(Status other) const { return sct == other.sct && sc == other.sc; }

  // The 15 bits: SC 7:0, SCT 10:8, CRD 12:11, M 13, DNR 14.
  constexpr std::uint16_t field() const {
    return static_cast<std::uint16_t>(sc | (static_cast<unsigned>(sct) & 0x7) << 8 | (crd & 0x3U) << 11 | (more ? 1U << 13 : 0U) |
                                      (dnr ? 1U << 14 : 0U));
  }
  static constexpr Status from_field(std::uint16_t field) {
    Status status(static_cast<StatusCodeType>((field >> 8) & 0x7), static_cast<std::uint8_t>(field & 0xFF), (field & (1U << 14)) != 0);
    status.more = (field & (1U << 13)) != 0;
    status.crd = static_cast<std::uint8_t>((field >> 11) & 0x3);
    return status;
  }
  bool operator==(const Status&) const = default;
};

constexpr void set_status(CompletionEntry& cqe, Status status) { cqe.set_status_field(status.field()); }
constexpr Status status_of(const CompletionEntry& cqe) { return Status::from_field(cqe.status_field()); }

}  // namespace catnap::nvme
