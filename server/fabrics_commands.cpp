// A new queue's Connect, from capsule to controller: checked here, allocated on app_thread, put in place here again. See server_group.h.
// Owner: the group's thread. Left out: the checks themselves (connect.cpp), authentication after Connect (authentication.h), properties
// (controller.cpp).
#include <cstring>
#include <utility>

#include "reactor/base/log_limit.h"
#include "server/authentication.h"
#include "server/connect.h"
#include "server/controller.h"
#include "server/io_queue.h"
#include "server/server_group.h"
#include "transport/nvme/fabrics.h"

namespace catnap::server {

using transport::PlanAction;
using transport::Request;

namespace {

LogLimit refused_connect_log;  // by the address of the host, which says what it wants as often as it likes

bool is_connect(const Request& request) {
  return request.sqe.opcode == static_cast<std::uint8_t>(nvme::AdminOpcode::fabrics) &&
         request.sqe.fctype() == static_cast<std::uint8_t>(nvme::FabricsType::connect);
}

PlanAction refuse(Request& request, nvme::Status status) {
  nvme::set_status(request.cqe, status.with_dnr());
  return PlanAction::complete;
}

}  // namespace

PlanAction ServerGroup::plan(Request& request) {
  request.cqe = {};
  // Nothing but Connect before a queue is connected (Base 2.0 section 3.3.2.2).
  if (!is_connect(request)) return refuse(request, nvme::GenericStatus::command_sequence_error);
  if (request.sqe.psdt() != nvme::Psdt::sgl || request.sqe.fuse() != nvme::Fuse::normal) return refuse(request, nvme::GenericStatus::invalid_field);
  if (request.sqe.sgl.length < sizeof(nvme::ConnectData)) return refuse(request, nvme::GenericStatus::data_sgl_length_invalid);
  if (shut_down_done_) return refuse(request, nvme::FabricsStatus::controller_busy);
  request.direction = transport::DataDirection::host_to_controller;
  request.data_length = sizeof(nvme::ConnectData);
  return PlanAction::transfer;
}

void ServerGroup::execute(Request& request) { start_connect(request); }

void ServerGroup::abandon(Request&) {}

void ServerGroup::queue_closed(transport::CommandQueue&) {}

void ServerGroup::refuse_connect(Request& request, const ConnectFailure& failure) {
  const std::string& from = request.queue->peer_address().traddr;
  log_limited(refused_connect_log, LogLevel::notice, from, "Connect from {} refused: {}", from, failure.reason);
  request.cqe.dw0 = failure.dw0;
  nvme::set_status(request.cqe, failure.status);
  request.queue->complete(request);
}

void ServerGroup::start_connect(Request& request) {
  nvme::ConnectData data;
  std::memcpy(&data, request.data, sizeof(data));
  auto parsed = parse_connect(nvme::view_as<nvme::ConnectCommand>(request.sqe), data, options_.limits);
  if (!parsed) return refuse_connect(request, parsed.error());
  const auto admitted = admit(snapshot_.get(), parsed->host, request.queue->local_address());
  if (!admitted) return refuse_connect(request, admitted.error());
  const auto secured =
      check_channel(*snapshot_, **admitted, parsed->host, request.queue->local_address(), request.queue->secure_channel(), parsed->qid);
  if (!secured) return refuse_connect(request, secured.error());
  parsed->host.subnqn = (*admitted)->nqn;  // the discovery subsystem may have been called by its other name
  if ((*admitted)->discovery && parsed->qid != 0) {
    return refuse_connect(request, bad_connect_command(offsetof(nvme::ConnectCommand, qid), "a discovery controller has no I/O queues"));
  }

  ControllerTable::NewQueue asked;
  asked.host = std::move(parsed->host);
  asked.info.cntlid = parsed->cntlid;
  asked.info.qid = parsed->qid;
  asked.info.thread_name = thread_.name();
  asked.info.hostnqn = asked.host.hostnqn;
  asked.info.local = request.queue->local_address();
  asked.info.peer = request.queue->peer_address();
  if (request.queue->secure_channel() != nullptr) asked.info.channel = *request.queue->secure_channel();
  asked.group = this;
  asked.queue_id = next_queue_id_++;
  asked.authentication = std::make_shared<AuthShown>();
  asked.info.authentication = asked.authentication;
  asked.kato_ms = parsed->kato_ms;
  // The request stays in execution until complete(): its queue cannot go away meanwhile.
  table_.app_thread().send([this, &request, asked = std::move(asked), subsystem = this->subsystem((*admitted)->nqn)]() mutable {
    auto result = asked.info.qid == 0 ? table_.create(asked, *subsystem) : table_.attach(asked);
    thread_.send([this, &request, asked = std::move(asked), result = std::move(result)]() mutable {
      finish_connect(request, std::move(asked), std::move(result));
    });
  });
}

void ServerGroup::finish_connect(Request& request, ControllerTable::NewQueue asked,
                                 std::expected<std::shared_ptr<Controller>, ConnectFailure> result) {
  if (!result) return refuse_connect(request, result.error());
  const std::shared_ptr<Controller>& controller = *result;
  transport::CommandQueue& queue = *request.queue;
  // The configuration may have changed since; and then nobody has told this queue, which is not on the list yet.
  const auto admitted = admit(snapshot_.get(), asked.host, queue.local_address());
  if (!admitted) {
    table_.app_thread().send([&table = table_, asked, cntlid = controller->cntlid()] {
      if (asked.info.qid == 0) {
        table.admin_closed(asked.host.subnqn, cntlid);
      } else {
        table.io_closed(asked.host.subnqn, cntlid, asked.info.qid, asked.queue_id);
      }
    });
    return refuse_connect(request, admitted.error());
  }

  const auto command = nvme::view_as<nvme::ConnectCommand>(request.sqe);
  const bool is_admin = asked.info.qid == 0;
  std::shared_ptr<ServedQueue> served = controller;
  if (!is_admin) {
    auto io_queue = std::make_shared<IoQueue>(*this, asked.queue_id, asked.host, controller, asked.info.qid);
    queue.sink_data = io_queue.get();
    served = std::move(io_queue);
  }
  served->bind(queue);
  queues_.emplace(served->id(), served);
  queue.set_connected(asked.info.qid, static_cast<std::uint16_t>(command.sqsize + 1), (command.cattr & nvme::cattr_disable_sq_flow_control) != 0);
  queue.set_sink(*served);
  auto count = [](std::atomic<std::uint64_t>& counter) { counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed); };
  count(is_admin ? admin_qpairs_ : io_qpairs_);
  count(is_admin ? current_admin_qpairs_ : current_io_qpairs_);
  if (is_admin) {
    controller->start();
  } else {
    attach_io_queue(static_cast<IoQueue&>(*served));
  }
  request.cqe.dw0 = std::uint32_t{controller->cntlid()} | begin_authentication(*served, request, **admitted, asked);
  nvme::set_status(request.cqe, {});
  queue.complete(request);
}

// AUTHREQ of Connect's answer; 0: the queue need not authenticate itself before anything else. The host computes with the subsystem's NQN as it gave
// it. Who is here by a key that came out of an authentication has authenticated itself.
std::uint32_t ServerGroup::begin_authentication(ServedQueue& served, const Request& request, const SubsystemSnapshot& subsystem,
                                                const ControllerTable::NewQueue& asked) {
  nvme::ConnectData data;
  std::memcpy(&data, request.data, sizeof(data));
  const auto* channel = request.queue->secure_channel();
  const Concatenation concatenation = concatenation_at(*snapshot_, subsystem, request.queue->local_address());
  served.set_authentication(std::make_unique<Authentication>(served, std::string(data.subnqn.data()), asked.authentication, concatenation));
  const HostKeys* keys = subsystem.keys_of(asked.host.hostnqn);
  if (keys == nullptr || keys->dhchap_key == nullptr || (channel != nullptr && channel->generated)) return 0;
  served.authentication()->require(*request.queue);
  const bool must_secure = channel == nullptr && concatenation == Concatenation::required;
  return nvme::connect_authreq_atr | (must_secure ? nvme::connect_authreq_ascr : 0);
}

}  // namespace catnap::server
