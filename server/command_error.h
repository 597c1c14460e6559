// How the server refuses a command: the status, and where in the submission entry the fault lies (for the error log page).
// Owner: none (values). Left out: statuses of the transport's own checks.
#pragma once

#include <cstdint>

#include "transport/nvme/log_page.h"
#include "transport/nvme/status.h"

namespace catnap::server {

struct CommandError {
  CommandError(nvme::Status error_status, std::uint16_t where = nvme::no_parameter_location) : status(error_status), location(where) {}
  CommandError() : CommandError(nvme::Status()) {}

  bool ok() const { return status.is_success(); }

  nvme::Status status;
  std::uint16_t location;  // PARAMETER LOCATION of the error log: byte in bits 7:0, bit within it in bits 10:8
};

constexpr std::uint16_t parameter_at(unsigned byte, unsigned bit = 0) { return static_cast<std::uint16_t>(byte | bit << 8); }

// Bytes of the submission entry that refusals point to.
inline constexpr unsigned sqe_flags_byte = 1;
inline constexpr unsigned sqe_nsid_byte = 4;
inline constexpr unsigned sqe_sgl_length_byte = 32;
inline constexpr unsigned sqe_cdw10_byte = 40;
inline constexpr unsigned sqe_cdw11_byte = 44;
inline constexpr unsigned sqe_cdw12_byte = 48;
inline constexpr unsigned sqe_cdw14_byte = 56;

// A refusal that a retry does not mend.
inline CommandError refusal(nvme::Status status, unsigned byte, unsigned bit = 0) { return {status.with_dnr(), parameter_at(byte, bit)}; }
inline CommandError invalid_field(unsigned byte, unsigned bit = 0) { return refusal(nvme::GenericStatus::invalid_field, byte, bit); }

}  // namespace catnap::server
