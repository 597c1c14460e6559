// Reservations of one namespace. See namespace_reservations.h.
// Owner: app_thread. Left out: see the header.
#include "server/reservations/namespace_reservations.h"

#include <utility>

#include "reactor/base/check.h"

namespace catnap::server {

NamespaceReservations::NamespaceReservations(ReservationHub& hub, Place place, ReservationState restored)
    : hub_(hub), place_(std::move(place)), published_(std::make_shared<const ReservationState>(std::move(restored))) {
  reserved_.store(published_->type != nvme::ReservationType::none);
}

std::shared_ptr<const ReservationState> NamespaceReservations::published() const {
  const std::lock_guard lock(mutex_);
  return published_;
}

std::uint8_t NamespaceReservations::denied_to(const HostId& host) const {
  if (!reserved_.load()) return 0;
  return denied_access(*published(), host);
}

void NamespaceReservations::submit(Apply apply, bool abort_preempted, Done done) {
  check_on_thread(hub_.home(), "NamespaceReservations");
  pending_.push_back({std::move(apply), abort_preempted, std::move(done)});
  run_next();
}

// A loop, as most commands end at once: none of them deepens the stack.
void NamespaceReservations::run_next() {
  if (running_) return;
  const auto self = shared_from_this();  // a completion may drop the last other reference
  running_ = true;
  while (!busy_ && !pending_.empty()) {
    const StatePtr current = published();
    auto next = std::make_shared<ReservationState>(*current);
    ReservationOutcome outcome = pending_.front().apply(*next);
    if (!outcome.error.ok() || !outcome.changed) {
      finish_front(outcome.error);
      continue;
    }
    busy_ = true;
    // A state that does not persist and did not before leaves nothing on disk that could come back.
    if (!can_persist() || (!next->persist && !current->persist)) {
      publish(std::move(next), std::move(outcome));
      continue;
    }
    std::string bytes = encode_ptpl({place_.uuid, *next});
    hub_.write_file(
        place_.file, std::move(bytes),
        [this, self, next = StatePtr(std::move(next)), outcome = std::move(outcome)](Result<void> written) { made_durable(written, next, outcome); });
  }
  running_ = false;
}

// What is not on disk did not happen: the host may try again, and the namespace stays as protected as it was.
void NamespaceReservations::made_durable(const Result<void>& written, StatePtr next, ReservationOutcome outcome) {
  if (written) {
    write_failed_said_.reset();
    publish(std::move(next), std::move(outcome));
    return;
  }
  if (write_failed_said_.first()) {
    log_error("Reservations of namespace {} of {} cannot be changed: {}", place_.nsid, place_.nqn, written.error().message);
  }
  busy_ = false;
  finish_front(nvme::Status(nvme::GenericStatus::internal_error));
  run_next();
}

void NamespaceReservations::publish(StatePtr next, ReservationOutcome outcome) {
  {
    const std::lock_guard lock(mutex_);
    published_ = std::move(next);
    reserved_.store(published_->type != nvme::ReservationType::none);
  }
  hub_.refresh_groups(place_.nqn, place_.nsid,
                      [self = shared_from_this(), outcome = std::move(outcome)]() mutable { self->taken_up(std::move(outcome)); });
}

void NamespaceReservations::taken_up(ReservationOutcome outcome) {
  hub_.notify(place_.nqn, place_.nsid, outcome.notices);
  busy_ = false;
  if (pending_.front().abort_preempted && !outcome.unregistered.empty()) {
    Done done = std::move(pending_.front().done);
    pending_.pop_front();
    hub_.abort_commands(place_.nqn, place_.nsid, std::move(outcome.unregistered), [done = std::move(done)]() mutable { done({}); });
  } else {
    finish_front({});
  }
  run_next();
}

void NamespaceReservations::finish_front(CommandError error) {
  Done done = std::move(pending_.front().done);
  pending_.pop_front();
  done(error);
}

}  // namespace catnap::server
