// The rules of reservations. See rules.h.
// Owner: none (pure functions). Left out: decoding of commands (reservation_commands.cpp).
#include "server/reservations/rules.h"

#include <algorithm>

namespace catnap::server {

namespace {

using nvme::ReservationNotice;
using nvme::ReservationType;

bool before(const Registrant& registrant, const HostId& host) { return registrant.host < host; }

ReservationOutcome failed(CommandError error) {
  ReservationOutcome outcome;
  outcome.error = error;
  return outcome;
}
ReservationOutcome conflict() { return failed(nvme::Status(nvme::GenericStatus::reservation_conflict).with_dnr()); }

ReservationOutcome unchanged() { return {}; }
// The three events that GEN counts end here (section 7.4, GEN).
ReservationOutcome counted(ReservationState& state) {
  ++state.generation;
  ReservationOutcome outcome;
  outcome.changed = true;
  return outcome;
}

void set_key(ReservationState& state, const HostId& host, std::uint64_t key) {
  const auto at = std::lower_bound(state.registrants.begin(), state.registrants.end(), host, before);
  if (at != state.registrants.end() && at->host == host) {
    at->key = key;
  } else {
    state.registrants.insert(at, Registrant{host, key});
  }
}

void end_reservation(ReservationState& state) {
  state.type = ReservationType::none;
  state.holder = {};
}

void reserve(ReservationState& state, const HostId& host, ReservationType type) {
  state.type = type;
  state.holder = state.all_registrants() ? HostId{} : host;
}

// Without a holder there is no reservation (section 8.19.4).
void drop_orphaned(ReservationState& state) {
  if (state.type == ReservationType::none) return;
  const bool held = state.all_registrants() ? !state.registrants.empty() : state.find(state.holder) != nullptr;
  if (!held) end_reservation(state);
}

void tell_registrants(const ReservationState& state, const HostId& except, ReservationNotice type, ReservationOutcome& outcome) {
  for (const Registrant& each : state.registrants) {
    if (each.host != except) outcome.notices.push_back({each.host, type});
  }
}

// Registrants that `chosen` says, with what they are told.
template <typename Chosen>
void unregister_all(ReservationState& state, const HostId& issuer, Chosen chosen, ReservationOutcome& outcome) {
  std::erase_if(state.registrants, [&](const Registrant& each) {
    if (!chosen(each)) return false;
    if (each.host == issuer) return true;  // knows, and goes on with its other commands
    outcome.notices.push_back({each.host, ReservationNotice::registration_preempted});
    outcome.unregistered.push_back(each.host);
    return true;
  });
}

// --- Reservation Register (section 8.19.3, 8.19.4) ---

ReservationOutcome add_registrant(ReservationState& state, const HostId& host, std::uint64_t key) {
  if (state.registrants.size() >= max_registrants) return failed(nvme::Status(nvme::GenericStatus::internal_error).with_dnr());
  set_key(state, host, key);
  return counted(state);
}

ReservationOutcome unregister(ReservationState& state, const HostId& host) {
  const bool tells = state.holds(host) &&
                     (state.type == ReservationType::write_exclusive_registrants || state.type == ReservationType::exclusive_access_registrants);
  std::erase_if(state.registrants, [&](const Registrant& each) { return each.host == host; });
  drop_orphaned(state);
  ReservationOutcome outcome = counted(state);
  if (tells) tell_registrants(state, host, ReservationNotice::reservation_released, outcome);
  return outcome;
}

constexpr unsigned nrkey_needed_location = sqe_cdw10_byte;  // the key stands in the data; the action asked for it

ReservationOutcome apply_action(ReservationState& state, const HostId& host, const RegisterRequest& request) {
  const Registrant* own = state.find(host);
  const bool key_fits = own != nullptr && (request.ignore_key || own->key == request.current_key);
  switch (request.action) {
    case nvme::RegisterAction::add:
      if (request.new_key == 0) return failed(invalid_field(nrkey_needed_location));
      if (own == nullptr) return add_registrant(state, host, request.new_key);
      return own->key == request.new_key ? counted(state) : conflict();
    case nvme::RegisterAction::remove:
      return key_fits ? unregister(state, host) : conflict();
    case nvme::RegisterAction::replace:
      if (request.new_key == 0) return failed(invalid_field(nrkey_needed_location));
      // IEKEY: whatever the host's registration is (section 8.19.3).
      if (own == nullptr && request.ignore_key) return add_registrant(state, host, request.new_key);
      if (!key_fits) return conflict();
      set_key(state, host, request.new_key);
      return counted(state);
  }
  return failed(invalid_field(sqe_cdw10_byte));
}

// --- Reservation Acquire: preempting (section 8.19.7) ---

// The reservation goes to the issuer; those it is taken from lose their registration.
template <typename Chosen>
ReservationOutcome take_over(ReservationState& state, const HostId& host, ReservationType type, Chosen chosen) {
  const ReservationType old_type = state.type;
  ReservationOutcome outcome = counted(state);
  unregister_all(state, host, [&](const Registrant& each) { return each.host != host && chosen(each); }, outcome);
  reserve(state, host, type);
  if (old_type != type) {
    for (const Registrant& each : state.registrants) {
      if (each.host != host) outcome.notices.push_back({each.host, ReservationNotice::reservation_released});
    }
  }
  return outcome;
}

// The reservation stays with whom it is; registrants with this key go, the issuer too if it is its own.
ReservationOutcome unregister_key(ReservationState& state, const HostId& host, std::uint64_t key) {
  const bool any = std::any_of(state.registrants.begin(), state.registrants.end(), [key](const Registrant& each) { return each.key == key; });
  if (!any) return conflict();
  ReservationOutcome outcome = counted(state);
  unregister_all(state, host, [key](const Registrant& each) { return each.key == key; }, outcome);
  drop_orphaned(state);
  return outcome;
}

ReservationOutcome preempt(ReservationState& state, const HostId& host, const AcquireRequest& request) {
  const std::uint64_t key = request.preempted_key;
  if (state.type == ReservationType::none) return unregister_key(state, host, key);
  if (state.all_registrants()) {
    if (key != 0) return unregister_key(state, host, key);
    return take_over(state, host, request.type, [](const Registrant&) { return true; });
  }
  if (key == 0) return failed(invalid_field(sqe_cdw10_byte));
  if (state.find(state.holder)->key != key) return unregister_key(state, host, key);
  return take_over(state, host, request.type, [key](const Registrant& each) { return each.key == key; });
}

}  // namespace

const Registrant* ReservationState::find(const HostId& host) const {
  const auto at = std::lower_bound(registrants.begin(), registrants.end(), host, before);
  return at != registrants.end() && at->host == host ? &*at : nullptr;
}

bool ReservationState::holds(const HostId& host) const {
  if (type == ReservationType::none || find(host) == nullptr) return false;
  return all_registrants() || holder == host;
}

std::uint8_t denied_access(const ReservationState& state, const HostId& host) {
  if (state.type == ReservationType::none || state.holds(host)) return 0;
  const bool registered = state.find(host) != nullptr;
  switch (state.type) {
    case ReservationType::write_exclusive:
      return deny_write;
    case ReservationType::exclusive_access:
      return deny_read | deny_write;
    case ReservationType::write_exclusive_registrants:
    case ReservationType::write_exclusive_all:
      return registered ? 0 : deny_write;
    case ReservationType::exclusive_access_registrants:
    case ReservationType::exclusive_access_all:
      return registered ? 0 : deny_read | deny_write;
    case ReservationType::none:
      break;
  }
  return 0;
}

ReservationOutcome apply(ReservationState& state, const HostId& host, const RegisterRequest& request, bool can_persist) {
  constexpr unsigned cptpl_bit = nvme::reservation_cptpl_shift % 8;
  if (request.persist == nvme::ChangePersist::reserved) return failed(invalid_field(sqe_cdw10_byte + 3, cptpl_bit));
  if (request.persist == nvme::ChangePersist::on && !can_persist) return failed(invalid_field(sqe_cdw10_byte + 3, cptpl_bit));
  ReservationOutcome outcome = apply_action(state, host, request);
  if (outcome.error.ok() && request.persist != nvme::ChangePersist::keep) state.persist = request.persist == nvme::ChangePersist::on;
  return outcome;
}

ReservationOutcome apply(ReservationState& state, const HostId& host, const AcquireRequest& request) {
  const auto type = static_cast<std::uint8_t>(request.type);
  if (type == 0 || type > nvme::last_reservation_type) return failed(invalid_field(sqe_cdw10_byte + 1));
  const Registrant* own = state.find(host);
  if (own == nullptr || own->key != request.current_key) return conflict();
  switch (request.action) {
    case nvme::AcquireAction::acquire: {
      if (state.type == ReservationType::none) {
        reserve(state, host, request.type);
        ReservationOutcome outcome;
        outcome.changed = true;
        return outcome;
      }
      return state.holds(host) && state.type == request.type ? unchanged() : conflict();
    }
    case nvme::AcquireAction::preempt:
    case nvme::AcquireAction::preempt_and_abort:
      return preempt(state, host, request);
  }
  return failed(invalid_field(sqe_cdw10_byte));
}

ReservationOutcome apply(ReservationState& state, const HostId& host, const ReleaseRequest& request) {
  const Registrant* own = state.find(host);
  if (own == nullptr || own->key != request.current_key) return conflict();
  switch (request.action) {
    case nvme::ReleaseAction::release: {
      if (!state.holds(host)) return unchanged();
      if (state.type != request.type) return failed(invalid_field(sqe_cdw10_byte + 1));
      const bool tells = state.type != ReservationType::write_exclusive && state.type != ReservationType::exclusive_access;
      ReservationOutcome outcome;
      outcome.changed = true;
      end_reservation(state);
      if (tells) tell_registrants(state, host, ReservationNotice::reservation_released, outcome);
      return outcome;
    }
    case nvme::ReleaseAction::clear: {
      ReservationOutcome outcome = counted(state);
      tell_registrants(state, host, ReservationNotice::reservation_preempted, outcome);
      state.registrants.clear();
      end_reservation(state);
      return outcome;
    }
  }
  return failed(invalid_field(sqe_cdw10_byte));
}

ReservationOutcome apply_persistence(ReservationState& state, bool persist, bool can_persist) {
  if (persist && !can_persist) return failed(invalid_field(sqe_cdw11_byte));
  ReservationOutcome outcome;
  outcome.changed = state.persist != persist;
  state.persist = persist;
  return outcome;
}

}  // namespace catnap::server
