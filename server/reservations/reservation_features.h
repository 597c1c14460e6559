// Features 82h (Reservation Notification Mask, of a controller and a namespace) and 83h (Reservation Persistence, of a namespace; NVMe Base 2.0,
// sections 5.27.1.27 and 5.27.1.28), as rows of the feature table.
// Owner: the admin queue's thread. Left out: the state behind 83h (namespace_reservations.h, on app_thread).
#pragma once

#include "server/features.h"
#include "transport/command_sink.h"

namespace catnap::server {

CommandError get_reservation_mask(Controller& controller, const SubsystemSnapshot& subsystem, const nvme::SubmissionEntry& sqe,
                                  nvme::FeatureSelect select, FeatureAnswer& answer);
CommandError set_reservation_mask(Controller& controller, const SubsystemSnapshot& subsystem, const nvme::SubmissionEntry& sqe,
                                  FeatureAnswer& answer);
CommandError get_reservation_persistence(Controller& controller, const SubsystemSnapshot& subsystem, const nvme::SubmissionEntry& sqe,
                                         nvme::FeatureSelect select, FeatureAnswer& answer);
// Only checks, and says `deferred`: the change is on disk before it is answered.
CommandError set_reservation_persistence(Controller& controller, const SubsystemSnapshot& subsystem, const nvme::SubmissionEntry& sqe,
                                         FeatureAnswer& answer);
// What was deferred: `done` on the admin queue's thread, once every namespace that NSID names has the state durably.
void carry_out_persistence(Controller& controller, const nvme::SubmissionEntry& sqe, std::move_only_function<void(CommandError)> done);

}  // namespace catnap::server
