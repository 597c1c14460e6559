// The rules of reservations (NVMe Base 2.0, section 8.19): registrants, the reservation and its holder as a value, what each command makes of it,
// and which host may read or write.
// Owner: none (values and pure functions). Left out: where the state lives and how it gets to the queues (namespace_reservations.h), files, wire.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "server/command_error.h"
#include "transport/nvme/command.h"
#include "transport/nvme/reservation.h"

namespace catnap::server {

// HOSTID of Connect: registrations belong to it, through however many controllers the host comes.
using HostId = std::array<std::uint8_t, 16>;

// Registrants of one namespace. As many as the target takes connections (TargetLimits::max_connections): that many hosts can be here at a time. One
// costs 24 bytes, a line of the file and an entry of Reservation Report, whose count (REGCTL) has 16 bits.
inline constexpr std::size_t max_registrants = 8192;

struct Registrant {
  HostId host{};
  std::uint64_t key = 0;
  bool operator==(const Registrant&) const = default;
};

struct ReservationState {
  std::uint32_t generation = 0;  // GEN of Reservation Report; wraps
  nvme::ReservationType type = nvme::ReservationType::none;
  bool persist = false;                 // PTPLS
  HostId holder{};                      // meaningful unless `type` is none or one of the two "all registrants"
  std::vector<Registrant> registrants;  // by host

  bool operator==(const ReservationState&) const = default;
  const Registrant* find(const HostId& host) const;  // null: not registered
  bool all_registrants() const { return type == nvme::ReservationType::write_exclusive_all || type == nvme::ReservationType::exclusive_access_all; }
  bool holds(const HostId& host) const;
};

// What a reservation forbids a host: bits, tested by each I/O command.
inline constexpr std::uint8_t deny_read = 1U << 0;   // Read, Compare, Verify
inline constexpr std::uint8_t deny_write = 1U << 1;  // Write, Write Zeroes, Write Uncorrectable, Dataset Management, Flush, Copy
// What an I/O command on the medium needs (NVM Command Set 1.0, section 2.1.2: Copy stands with the writes, as its source is in the same namespace).
constexpr std::uint8_t access_of(std::uint8_t opcode) {
  switch (static_cast<nvme::IoOpcode>(opcode)) {
    case nvme::IoOpcode::read:
    case nvme::IoOpcode::compare:
    case nvme::IoOpcode::verify:
      return deny_read;
    default:
      return deny_write;
  }
}
// Section 8.19, figure "Command behavior in the presence of a reservation". Who may not read may not write either.
std::uint8_t denied_access(const ReservationState& state, const HostId& host);

struct HostNotice {
  HostId host{};
  nvme::ReservationNotice type = nvme::ReservationNotice::none;
  bool operator==(const HostNotice&) const = default;
};

// What a command came to. With a status other than success the state is as it was.
struct ReservationOutcome {
  CommandError error;
  bool changed = false;              // the state differs (GEN counts)
  std::vector<HostNotice> notices;   // none for the host that issued the command
  std::vector<HostId> unregistered;  // by preempting; preempt-and-abort ends what they have outstanding
};

struct RegisterRequest {
  nvme::RegisterAction action = nvme::RegisterAction::add;
  bool ignore_key = false;
  nvme::ChangePersist persist = nvme::ChangePersist::keep;
  std::uint64_t current_key = 0, new_key = 0;
};
struct AcquireRequest {
  nvme::AcquireAction action = nvme::AcquireAction::acquire;
  nvme::ReservationType type = nvme::ReservationType::none;
  std::uint64_t current_key = 0, preempted_key = 0;
};
struct ReleaseRequest {
  nvme::ReleaseAction action = nvme::ReleaseAction::release;
  nvme::ReservationType type = nvme::ReservationType::none;
  std::uint64_t current_key = 0;
};

// Each changes `state` if it succeeds. `can_persist`: the namespace has a file (RESCAP bit 0).
ReservationOutcome apply(ReservationState& state, const HostId& host, const RegisterRequest& request, bool can_persist);
ReservationOutcome apply(ReservationState& state, const HostId& host, const AcquireRequest& request);
ReservationOutcome apply(ReservationState& state, const HostId& host, const ReleaseRequest& request);
// Feature 83h.
ReservationOutcome apply_persistence(ReservationState& state, bool persist, bool can_persist);

}  // namespace catnap::server
