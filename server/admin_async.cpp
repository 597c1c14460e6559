// Admin commands whose answer has to be asked for elsewhere: Abort (the queue may be another group's) and Identify's lists of controllers (the table
// is app_thread's). See controller.h. Owner: the admin queue's thread. Left out: all other admin commands (admin_commands.cpp).
//
// A request stays in execution until its answer is back, so its queue, and this controller, cannot go away meanwhile.
#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "server/controller.h"
#include "server/controller_table.h"
#include "transport/nvme/identify.h"

namespace catnap::server {

using transport::PlanAction;
using transport::Request;

// --- Abort (Base 2.0 section 5.1) ---

PlanAction Controller::plan_abort(Request& request) {
  if (aborts_ >= max_abort_commands) return refuse(request, nvme::Status(nvme::CommandStatus::abort_limit_exceeded));
  return PlanAction::execute;
}

void Controller::execute_abort(Request& request) {
  ++aborts_;
  const auto sqid = static_cast<std::uint16_t>(request.sqe.cdw10);
  const auto cid = static_cast<std::uint16_t>(request.sqe.cdw10 >> 16);
  if (sqid == 0) {
    // What an admin command has begun ends by itself, and soon.
    const auto aborted = request.queue->abort(cid);
    return finish_abort(request, aborted.outcome == transport::CommandQueue::AbortOutcome::taken_back);
  }
  ControllerTable& table = group_.table();
  table.app_thread().send([this, &table, &request, nqn = host().subnqn, cntlid = cntlid_, sqid, cid] {
    table.abort_command(nqn, cntlid, sqid, cid,
                        [this, &request](bool aborted) { group_.thread().send([this, &request, aborted] { finish_abort(request, aborted); }); });
  });
}

// DW0 bit 0: the command was not aborted.
void Controller::finish_abort(Request& request, bool aborted) {
  --aborts_;
  request.cqe.dw0 = aborted ? 0U : 1U;
  finish(request, {});
}

// --- Identify CNS 12h and 13h (Base 2.0 sections 5.17.2.12 and 5.17.2.13) ---

// Controllers of the subsystem with ids from CNTID on; with CNS 12h those that the namespace is attached to: the ones of hosts that see it.
void Controller::list_controllers(Request& request) {
  const auto cns = static_cast<nvme::Cns>(static_cast<std::uint8_t>(request.sqe.cdw10));
  const auto first = static_cast<std::uint16_t>(request.sqe.cdw10 >> 16);
  const bool of_namespace = cns == nvme::Cns::namespace_controllers;
  const std::uint32_t nsid = of_namespace ? std::uint32_t{request.sqe.nsid} : 0;
  const auto snapshot = subsystem();
  if (snapshot == nullptr) return finish(request, CommandError(nvme::GenericStatus::internal_error));
  if (of_namespace && snapshot->visible_namespace(nsid, host().hostnqn) == nullptr) {
    return finish(request, refusal(nvme::GenericStatus::invalid_namespace_or_format, sqe_nsid_byte));
  }
  ControllerTable& table = group_.table();
  table.app_thread().send([this, &table, &request, snapshot, nqn = host().subnqn, first, nsid] {
    group_.thread().send([this, &request, first, ids = table.controller_ids(nqn, *snapshot, nsid)] {
      nvme::ControllerList list;
      std::size_t count = 0;
      for (const std::uint16_t id : ids) {
        if (id >= first && count < list.cntlid.size()) list.cntlid[count++] = id;
      }
      list.count = static_cast<std::uint16_t>(count);
      std::memcpy(request.data, &list, std::min<std::size_t>(sizeof(list), request.data_length));
      finish(request, {});
    });
  });
}

}  // namespace catnap::server
