// Fabrics commands on a connected I/O queue: Disconnect (Base 2.0 section 6.4), and authentication once more. See io_queue.h.
// Owner: the queue's poll group thread. Left out: Connect (fabrics_commands.cpp).
#include <cstddef>

#include "server/io_queue.h"
#include "transport/nvme/fabrics.h"

namespace catnap::server {

using transport::PlanAction;
using transport::Request;

PlanAction IoQueue::plan_fabrics(Request& request) {
  constexpr unsigned fctype_byte = 4;
  switch (static_cast<nvme::FabricsType>(request.sqe.fctype())) {
    case nvme::FabricsType::disconnect: {
      const auto command = nvme::view_as<nvme::DisconnectCommand>(request.sqe);
      if (command.recfmt != 0) return refuse(request, refusal(nvme::FabricsStatus::incompatible_format, offsetof(nvme::DisconnectCommand, recfmt)));
      return PlanAction::execute;
    }
    case nvme::FabricsType::authentication_send:
    case nvme::FabricsType::authentication_receive:
      return authentication() == nullptr ? refuse(request, invalid_field(fctype_byte)) : authentication()->plan_command(request);
    case nvme::FabricsType::connect:
      return refuse(request, nvme::Status(nvme::GenericStatus::command_sequence_error).with_dnr());
    default:
      return refuse(request, invalid_field(fctype_byte));
  }
}

// Base 2.0 section 6.4: the answer goes out, then the connection ends.
void IoQueue::execute_fabrics(Request& request) {
  if (Authentication::is_command(request)) return authentication()->execute(request);
  // By message, as complete() may be this queue's last moment.
  group_.end_queue(id(), "host sent Disconnect");
  finish(request, {});
}

}  // namespace catnap::server
