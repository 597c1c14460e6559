// What goes by itself stays part of the configuration. See lost_configuration.h.
// Owner: app_thread.
#include "server/lost_configuration.h"

#include <fmt/format.h>

#include <cerrno>
#include <string>

#include "bdev/bdev_policy_rpc.h"
#include "bdev/nvme/nvme_rpc.h"
#include "bdev/stack/virtual_bdev.h"
#include "server/nvmf_rpc.h"

namespace catnap::server {
namespace {

// A namespace keeps its identity, and must not come back with somebody else's data: where a disk says who it is, it must be the same one.
PendingCalls::Unfit another_disk(const bdev::Bdev& bdev) {
  if (!bdev.has_lasting_uuid() || bdev::stack_level_of(bdev) > 0) return nullptr;
  return [name = bdev.name(), uuid = bdev.info().uuid]() -> std::optional<rpc::RpcError> {
    const auto now = bdev::Registry::instance().find(name);
    if (now == nullptr) return rpc::RpcError(-ENODEV, fmt::format("No such device: bdev_name '{}'", name));
    if (now->info().uuid == uuid) return std::nullopt;
    return rpc::RpcError(
        -ENODEV, fmt::format("No such device: bdev '{}' is another disk now, with UUID {}; the namespace was on {}", name, now->info().uuid, uuid));
  };
}

}  // namespace

void keep_what_is_lost(PendingCalls* pending, bdev::NvmeModule& nvme) {
  if (pending == nullptr) {
    nvme.set_loss_listener(nullptr);
    bdev::Registry::instance().set_loss_listener(nullptr);
    return;
  }
  nvme.set_loss_listener([pending](const bdev::NvmeSubsystem& subsystem, const bdev::NvmeController& controller) {
    for (const Json::Value& call : bdev::nvme_lost_calls(subsystem, controller)) pending->add_lost("bdev", call);
  });
  bdev::Registry::instance().set_loss_listener([pending](const bdev::Bdev& bdev) {
    Json::Value calls(Json::arrayValue);
    bdev::append_policies(calls, bdev);
    for (const Json::Value& call : calls) pending->add_lost("bdev", call);
  });
}

void keep_lost_namespace(PendingCalls& pending, const SubsystemSnapshot& subsystem, const NamespaceConfig& config) {
  const Json::Value calls = namespace_calls(subsystem, config);
  for (Json::ArrayIndex i = 0; i < calls.size(); ++i) pending.add_lost("nvmf", calls[i], i == 0 ? another_disk(*config.bdev) : nullptr);
}

}  // namespace catnap::server
