// Features of reservations. See reservation_features.h.
// Owner: the admin queue's thread. Left out: see the header.
#include "server/reservations/reservation_features.h"

#include <bit>
#include <memory>
#include <utility>
#include <vector>

#include "server/controller.h"
#include "server/reservations/namespace_reservations.h"

namespace catnap::server {

namespace {

using nvme::FeatureSelect;
using nvme::SubmissionEntry;

// The namespaces that NSID names to this host: one, or all with FFFFFFFFh.
std::vector<const NamespaceConfig*> named_namespaces(const Controller& controller, const SubsystemSnapshot& subsystem, std::uint32_t nsid) {
  std::vector<const NamespaceConfig*> named;
  for (const auto& [each, config] : subsystem.namespaces) {
    const bool meant = nsid == nvme::broadcast_nsid || nsid == each;
    if (meant && subsystem.visible_namespace(each, controller.host().hostnqn) != nullptr) named.push_back(config.get());
  }
  return named;
}

CommandError check_bits(std::uint32_t value, std::uint32_t known) {
  const std::uint32_t unknown = value & ~known;
  if (unknown == 0) return {};
  const auto bit = static_cast<unsigned>(std::countr_zero(unknown));
  return invalid_field(sqe_cdw11_byte + bit / 8, bit % 8);
}

bool wants_persistence(const SubmissionEntry& sqe) { return (sqe.cdw11 & nvme::persist_through_power_loss) != 0; }

// The changes of several namespaces, and the first that failed.
struct Outcome {
  explicit Outcome(std::move_only_function<void(CommandError)> when_done) : done(std::move(when_done)) {}
  ~Outcome() { done(first); }
  Outcome(const Outcome&) = delete;
  Outcome& operator=(const Outcome&) = delete;
  CommandError first;
  std::move_only_function<void(CommandError)> done;
};

}  // namespace

CommandError get_reservation_mask(Controller& controller, const SubsystemSnapshot&, const SubmissionEntry& sqe, FeatureSelect select,
                                  FeatureAnswer& answer) {
  answer.dw0 = select == FeatureSelect::current ? controller.notifications().mask(sqe.nsid) : 0;
  return {};
}

CommandError set_reservation_mask(Controller& controller, const SubsystemSnapshot& subsystem, const SubmissionEntry& sqe, FeatureAnswer&) {
  CommandError error = check_bits(sqe.cdw11, nvme::reservation_mask_bits);
  if (!error.ok()) return error;
  for (const NamespaceConfig* config : named_namespaces(controller, subsystem, sqe.nsid)) {
    controller.notifications().set_mask(config->nsid, sqe.cdw11);
  }
  return {};
}

CommandError get_reservation_persistence(Controller& controller, const SubsystemSnapshot& subsystem, const SubmissionEntry& sqe, FeatureSelect select,
                                         FeatureAnswer& answer) {
  answer.dw0 = 0;
  if (select != FeatureSelect::current) return {};
  for (const NamespaceConfig* config : named_namespaces(controller, subsystem, sqe.nsid)) {
    if (config->reservations != nullptr && config->reservations->published()->persist) answer.dw0 = nvme::persist_through_power_loss;
  }
  return {};
}

CommandError set_reservation_persistence(Controller& controller, const SubsystemSnapshot& subsystem, const SubmissionEntry& sqe,
                                         FeatureAnswer& answer) {
  CommandError error = check_bits(sqe.cdw11, nvme::persist_through_power_loss);
  if (!error.ok()) return error;
  for (const NamespaceConfig* config : named_namespaces(controller, subsystem, sqe.nsid)) {
    const bool able = config->reservations != nullptr && config->reservations->can_persist();
    if (wants_persistence(sqe) && !able) return invalid_field(sqe_cdw11_byte);
  }
  answer.deferred = true;
  return {};
}

void carry_out_persistence(Controller& controller, const SubmissionEntry& sqe, std::move_only_function<void(CommandError)> done) {
  const auto subsystem = controller.subsystem();
  if (subsystem == nullptr) return done(nvme::Status(nvme::GenericStatus::internal_error));
  std::vector<std::shared_ptr<NamespaceReservations>> named;
  for (const NamespaceConfig* config : named_namespaces(controller, *subsystem, sqe.nsid)) {
    if (config->reservations != nullptr) named.push_back(config->reservations);
  }
  if (named.empty()) return done({});
  Thread& thread = controller.group().thread();
  Thread& home = named.front()->hub().home();
  home.send([named = std::move(named), &thread, persist = wants_persistence(sqe), done = std::move(done)]() mutable {
    // `done` is called on the admin queue's thread when the last change has let go of this.
    const auto outcome = std::make_shared<Outcome>([&thread, answer = std::move(done)](CommandError error) mutable {
      thread.send([answer = std::move(answer), error]() mutable { answer(error); });
    });
    for (const auto& each : named) {
      each->submit([persist, able = each->can_persist()](ReservationState& state) { return apply_persistence(state, persist, able); }, false,
                   [outcome](CommandError error) {
                     if (outcome->first.ok()) outcome->first = error;
                   });
    }
  });
}

}  // namespace catnap::server
