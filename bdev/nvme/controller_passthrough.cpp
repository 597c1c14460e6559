// Commands that users send by themselves (bdev_nvme_send_cmd), and the faults that they inject. See controller.h.
// Owner: app_thread. Left out: the methods (nvme_command_rpc.cpp, nvme_injection_rpc.cpp).
#include <fmt/core.h>

#include "bdev/nvme/controller.h"
#include "bdev/nvme/wake_up.h"

namespace catnap::bdev {
namespace {

// Getting an I/O queue for app_thread, which has none of its own as long as nobody sends commands.
constexpr std::uint64_t queue_timeout_us = 10'000'000;

struct Visitor final : PortUser {
  void port_changed() override { wake.call(); }
  WakeUp wake;
};

// One command, in the frame of the sequence that waits for it.
struct Single {
  Single(AdminCommand& command) {
    answer.data = std::move(command.data);
    iov = {answer.data.data(), answer.data.size()};
    request.sqe = command.sqe;
    request.direction = command.direction;
    if (command.direction != transport::DataDirection::none) {
      request.iov = &iov;
      request.iov_count = 1;
      request.data_bytes = static_cast<std::uint32_t>(iov.iov_len);
    }
    request.context = this;
    request.done = [](tcp::HostRequest& over) { static_cast<Single*>(over.context)->done.set(true); };
  }
  tcp::HostRequest request;
  AdminAnswer answer;
  iovec iov{};
  Promise<bool> done;
};

}  // namespace

Task<Result<AdminAnswer>> NvmeController::io(AdminCommand command) {
  const auto keep = shared_from_this();
  if (state_ != State::ready) co_return fail(ENOTCONN, fmt::format("controller {} at {} is {}", name_, id().text(), state_name(state_)));
  const auto port = hub_->port_of_current_thread();
  Visitor visitor;
  port->add_user(visitor);
  port_added(port);  // one that was here before may have given its queue up
  bool late = false;
  Timer patience([&late, &visitor] {
    late = true;
    visitor.wake.call();
  });
  hub_->app_thread().arm_in_us(patience, queue_timeout_us);
  while (!port->connected() && !late && state_ == State::ready) {
    const Promise<bool> changed = visitor.wake.wait();
    const bool again = co_await changed;
    static_cast<void>(again);
  }
  patience.disarm();
  if (!port->connected()) {
    port->remove_user(visitor);
    co_return fail(ENOTCONN, fmt::format("controller {} at {} has no I/O queue for this command ({} granted)", name_, id().text(), granted_));
  }
  Single single(command);
  const Promise<bool> done = single.done;
  port->submit(single.request);
  const bool over = co_await done;
  static_cast<void>(over);
  port->remove_user(visitor);
  if (single.request.outcome != tcp::HostRequest::Outcome::answered) {
    co_return fail(ECONNRESET, fmt::format("controller {} at {}: the connection ended before the answer", name_, id().text()));
  }
  single.answer.cqe = single.request.cqe;
  co_return std::move(single.answer);
}

ErrorInjections& NvmeController::admin_injections() {
  if (admin_injections_ == nullptr) admin_injections_ = std::make_unique<ErrorInjections>();
  return *admin_injections_;
}

Task<Result<AdminAnswer>> NvmeController::admin_with_faults(AdminCommand command) {
  const auto keep = shared_from_this();
  const auto fault = admin_injections_->take(command.sqe.opcode);
  if (fault && fault->do_not_submit) {
    co_await SleepFor(fault->timeout_us);
    AdminAnswer answer;
    answer.data = std::move(command.data);
    nvme::set_status(answer.cqe, fault->status);
    co_return answer;
  }
  const auto association = association_;
  auto answer = co_await association->admin(std::move(command));
  if (fault && answer && !fault->status.is_success()) nvme::set_status(answer->cqe, fault->status);
  co_return answer;
}

}  // namespace catnap::bdev
