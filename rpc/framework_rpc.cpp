// Start-up and configuration of the whole (framework_rpc.h).
// Owner: app_thread. Left out: schedulers, PCI devices (there are none).
#include "rpc/framework_rpc.h"

#include <fmt/format.h>

#include <utility>

#include "rpc/json.h"

namespace catnap::rpc {
namespace {

Task<RpcResult<Json::Value>> start_init(Lifecycle* lifecycle) {
  Result<void> started = co_await lifecycle->start();
  if (!started) co_return RpcResult<Json::Value>(std::unexpect, started.error());
  co_return RpcResult<Json::Value>(Json::Value(true));
}

Task<RpcResult<Json::Value>> wait_init(Lifecycle* lifecycle) {
  Result<void> reached = co_await lifecycle->wait();
  if (!reached) co_return RpcResult<Json::Value>(std::unexpect, reached.error());
  co_return RpcResult<Json::Value>(Json::Value(true));
}

Json::Value get_subsystems(const ConfigRegistry& registry) {
  const auto all = registry.subsystems();
  const auto is_there = [&](const std::string& name) {
    for (const auto* one : all) {
      if (one->name == name) return true;
    }
    return false;
  };
  Json::Value list(Json::arrayValue);
  for (const auto* subsystem : all) {
    Json::Value entry(Json::objectValue);
    entry["subsystem"] = subsystem->name;
    entry["depends_on"] = Json::Value(Json::arrayValue);
    for (const std::string& name : subsystem->depends_on) {
      if (is_there(name)) entry["depends_on"].append(name);  // clients look each name up in this very list
    }
    list.append(std::move(entry));
  }
  return list;
}

RpcResult<Json::Value> get_config(const ConfigRegistry& registry, const Params& params) {
  auto config = registry.config(params.string("name"));
  if (config) return std::move(*config);
  std::string known;
  for (const auto* one : registry.subsystems()) known += (known.empty() ? "" : ", ") + one->name;
  return std::unexpected<RpcError>(std::in_place, -ENOENT,
                                   fmt::format("parameter 'name': Subsystem '{}' not found (there are {})", printable(params.string("name")), known));
}

}  // namespace

void register_framework_methods(MethodTable& table, Lifecycle& lifecycle, const ConfigRegistry& registry) {
  table.add(Method("framework_start_init", "Initializes the subsystems, when catnapd was started with --wait-for-rpc")
                .in_phase(Phase::startup_only)
                .acts()
                .coroutine([&lifecycle](const Params&) { return start_init(&lifecycle); }));
  table.add(
      Method("framework_wait_init", "Answers once the subsystems are initialized").in_phase(Phase::always).coroutine([&lifecycle](const Params&) {
        return wait_init(&lifecycle);
      }));
  table.add(Method("framework_get_subsystems", "Subsystems that have a configuration, those first that others depend on")
                .result("[{subsystem, depends_on: [name]}]")
                .handler([&registry](const Params&) -> RpcResult<Json::Value> { return get_subsystems(registry); }));
  table.add(Method("framework_get_config", "The calls that bring the present configuration of a subsystem about")
                .with({Param("name", ParamType::string, "Subsystem, as framework_get_subsystems names it").required(),
                       Param("with_batches", ParamType::boolean, "Keep batches as arrays; without effect here, no configuration holds any")
                           .or_default(false)})
                .result("[{method, params}]")
                .handler([&registry](const Params& params) { return get_config(registry, params); }));
}

}  // namespace catnap::rpc
