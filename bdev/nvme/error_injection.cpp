// See error_injection.h.
// Owner: as error_injection.h says. Left out: what error_injection.h names.
#include "bdev/nvme/error_injection.h"

#include <algorithm>
#include <utility>

namespace catnap::bdev {

using tcp::HostRequest;

struct FaultyCommands::Held {
  Held(FaultyCommands& owner, HostRequest& held_request, nvme::Status held_status)
      : request(held_request), status(held_status), timer([this, &owner] { owner.end(*this); }) {}
  HostRequest& request;
  nvme::Status status;
  Timer timer;
};

namespace {

// A command under way whose answer will be replaced, with what its user had put there.
struct Replaced {
  HostRequest::Done done;
  void* context;
  nvme::Status status;
};

void replace_answer(HostRequest& request) {
  const std::unique_ptr<Replaced> replaced(static_cast<Replaced*>(request.context));
  request.done = replaced->done;
  request.context = replaced->context;
  if (request.outcome == HostRequest::Outcome::answered) nvme::set_status(request.cqe, replaced->status);
  request.done(request);
}

}  // namespace

FaultyCommands::FaultyCommands() = default;
FaultyCommands::~FaultyCommands() = default;

bool FaultyCommands::meet(ErrorInjections& injections, HostRequest& request) {
  const auto fault = injections.take(request.sqe.opcode);
  if (!fault) return false;
  if (!fault->do_not_submit) {
    if (fault->status.is_success()) return false;
    request.context = new Replaced{request.done, request.context, fault->status};
    request.done = &replace_answer;
    return false;
  }
  held_.push_back(std::make_unique<Held>(*this, request, fault->status));
  // Also without a delay not within the call: users of an injected fault shall not meet an order of events that no controller makes.
  Thread::current()->arm_in_us(held_.back()->timer, fault->timeout_us);
  return true;
}

void FaultyCommands::end(Held& held) {
  HostRequest& request = held.request;
  request.outcome = HostRequest::Outcome::answered;
  request.cqe = {};
  nvme::set_status(request.cqe, held.status);
  const auto found = std::ranges::find_if(held_, [&held](const auto& one) { return one.get() == &held; });
  const auto keep = std::move(*found);  // its timer's callback is running
  held_.erase(found);
  request.done(request);
}

bool FaultyCommands::take_back(HostRequest& request) {
  const auto found = std::ranges::find_if(held_, [&request](const auto& one) { return &one->request == &request; });
  if (found == held_.end()) return false;
  held_.erase(found);
  request.outcome = HostRequest::Outcome::not_sent;
  request.done(request);
  return true;
}

}  // namespace catnap::bdev
