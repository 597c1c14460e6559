// What happens in the target, as notifications. See happenings_rpc.h.
// Owner: app_thread.
#include "server/happenings_rpc.h"

#include <string>

#include "rpc/notifications.h"
#include "server/happenings.h"

namespace catnap::server {
namespace {

void tell_path(const bdev::NvmeController& controller, bool up) {
  Happening happening(up ? path_up : path_down, controller.name());
  happening.details.emplace_back("address", controller.id().text());
  happening.details.emplace_back("subsystem", controller.id().subnqn);
  if (!up) happening.details.emplace_back("state", std::string(bdev::NvmeController::state_name(controller.state())));
  if (!up && !controller.last_error().empty()) happening.details.emplace_back("reason", controller.last_error());
  Happenings::instance().tell(std::move(happening));
}

}  // namespace

void notify_of_happenings(Thread& app_thread, bdev::NvmeModule& nvme) {
  auto& notifications = rpc::Notifications::instance();
  for (const char* type : {host_connected, host_disconnected, host_authentication_failed, host_tls_failed, ana_state_changed, path_up, path_down,
                           state_not_kept, state_kept_again, configuration_waits, configuration_back}) {
    notifications.add_type(type);
  }
  Happenings::instance().listen(&app_thread, [](const Happening& happening) {
    Json::Value details(Json::objectValue);
    for (const auto& [name, value] : happening.details) details[name] = value;
    const auto cause = happening.by_host ? rpc::Notifications::Cause::host : rpc::Notifications::Cause::target;
    rpc::Notifications::instance().add(happening.type, happening.about, std::move(details), cause);
  });
  nvme.set_path_listener(tell_path);
}

void end_notifying(bdev::NvmeModule& nvme) {
  nvme.set_path_listener(nullptr);
  Happenings::instance().listen(nullptr, nullptr);
}

}  // namespace catnap::server
