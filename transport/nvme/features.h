// Feature identifiers, their fields, and asynchronous events (Base 2.0 sections 5.2, 5.15 and 5.27).
// Owner: none (values). Left out: which of them a controller supports (server).
#pragma once

#include <cstddef>
#include <cstdint>

namespace catnap::nvme {

// FID, CDW10 bits 7:0 of Get and Set Features. Get: SEL in CDW10 bits 10:8. Set: SV (save) in CDW10 bit 31.
enum class Feature : std::uint8_t {
  arbitration = 0x01,
  power_management = 0x02,
  lba_range_type = 0x03,
  temperature_threshold = 0x04,
  error_recovery = 0x05,
  volatile_write_cache = 0x06,
  number_of_queues = 0x07,
  interrupt_coalescing = 0x08,
  interrupt_vector = 0x09,
  write_atomicity = 0x0A,
  async_event_configuration = 0x0B,
  autonomous_power = 0x0C,
  host_memory_buffer = 0x0D,
  timestamp = 0x0E,
  keep_alive_timer = 0x0F,  // CDW11: KATO in ms
  thermal_management = 0x10,
  non_operational_power = 0x11,
  host_behavior = 0x16,
  sanitize_config = 0x17,
  io_command_set_profile = 0x19,
  enhanced_controller_metadata = 0x7D,
  software_progress_marker = 0x80,
  host_identifier = 0x81,
  reservation_notification_mask = 0x82,
  reservation_persistence = 0x83,
  namespace_write_protection = 0x84,
};

// SEL of Get Features.
enum class FeatureSelect : std::uint8_t { current = 0, default_value = 1, saved = 2, supported_capabilities = 3 };
// DW0 of Get Features with SEL 3.
inline constexpr std::uint32_t feature_saveable = 1U << 0;
inline constexpr std::uint32_t feature_namespace_specific = 1U << 1;
inline constexpr std::uint32_t feature_changeable = 1U << 2;

inline constexpr std::uint32_t set_features_save = 1U << 31;  // SV, in CDW10
inline constexpr std::size_t host_behavior_bytes = 512;
inline constexpr std::size_t timestamp_bytes = 8;
inline constexpr std::uint32_t host_identifier_exhid = 1U << 0;  // CDW11: 128-bit host identifier (16 bytes), else 64-bit (8 bytes)

// Host Behavior Support, Base 2.0 section 5.27.1.17: byte 0 ACRE, advanced command retry enable.
inline constexpr std::size_t host_behavior_acre_offset = 0;

// Asynchronous event types, DW0 bits 2:0 of an Asynchronous Event Request's completion; information in bits 15:8, log page in bits 23:16.
enum class AsyncEventType : std::uint8_t { error = 0, smart = 1, notice = 2, io_command_set = 6, vendor = 7 };
// Information of type error.
enum class AsyncErrorInfo : std::uint8_t {
  invalid_doorbell = 0,
  invalid_doorbell_value = 1,
  diagnostic_failure = 2,
  persistent_internal = 3,
  transient_internal = 4,
  firmware_image_load = 5,
};
// Information of type SMART / health status.
inline constexpr std::uint8_t async_smart_reliability = 0x00;
// Information of type notice.
enum class AsyncNoticeInfo : std::uint8_t {
  namespace_attribute_changed = 0x00,  // log page 04h
  firmware_activation_starting = 0x01,
  telemetry_changed = 0x02,
  ana_changed = 0x03,                 // log page 0Ch
  discovery_log_changed = 0xF0,       // log page 70h
  host_discovery_log_changed = 0xF1,  // log page 71h (Base 2.1 section 5.1.2.1)
};
// Information of type I/O command set (NVM command set: reservations).
enum class AsyncIoInfo : std::uint8_t { reservation_log_available = 0x00, sanitize_completed = 0x01 };

constexpr std::uint32_t async_event_dw0(AsyncEventType type, std::uint8_t info, std::uint8_t log_page) {
  return static_cast<std::uint32_t>(type) | static_cast<std::uint32_t>(info) << 8 | static_cast<std::uint32_t>(log_page) << 16;
}

// Bits of Asynchronous Event Configuration (feature 0Bh, CDW11); 7:0 are the critical warnings of SMART.
inline constexpr std::uint32_t aec_smart_mask = 0xFF;
inline constexpr std::uint32_t aec_namespace_attribute = 1U << 8;
inline constexpr std::uint32_t aec_firmware_activation = 1U << 9;
inline constexpr std::uint32_t aec_telemetry = 1U << 10;
inline constexpr std::uint32_t aec_ana_change = 1U << 11;
inline constexpr std::uint32_t aec_host_discovery_change = 1U << 30;
inline constexpr std::uint32_t aec_discovery_change = 1U << 31;

}  // namespace catnap::nvme
