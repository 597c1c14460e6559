// bdev_delay_create, bdev_delay_delete, bdev_delay_update_latency: SPDK's names and parameters (schema/schema.yaml of SPDK 26.09-pre).
#include "bdev/delay/delay_rpc.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "bdev/delay/delay.h"
#include "bdev/rpc_common.h"
#include "bdev/stack/stack_rpc.h"

namespace catnap::bdev {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

std::string latency_param(std::size_t kind) { return std::string(DelayLatencies::names[kind]) + "_latency"; }

RpcResult<Json::Value> create(const Params& params) {
  auto options = virtual_options<DelayOptions>(params);
  if (!options) return std::unexpected(options.error());
  auto& us = options->latencies->us;
  for (std::size_t kind = 0; kind < us.size(); ++kind) us[kind] = params.integer(latency_param(kind));
  for (const auto& [average, p99] :
       {std::pair{DelayLatencies::avg_read, DelayLatencies::p99_read}, std::pair{DelayLatencies::avg_write, DelayLatencies::p99_write}}) {
    if (us[p99] >= us[average]) continue;
    return std::unexpected(RpcError(-EINVAL, fmt::format("Invalid argument: {} {} is less than {} {}", latency_param(p99), us[p99].load(),
                                                         latency_param(average), us[average].load())));
  }
  return create_virtual(DelayBdev::recipe(std::move(*options)));
}

Task<RpcResult<Json::Value>> remove(Params params) { return delete_virtual(params.string("name"), DelayBdev::product); }

RpcResult<Json::Value> update_latency(const Params& params) {
  const std::string name = params.string("delay_bdev_name");
  const auto found = Registry::instance().find(name);
  const auto bdev = std::dynamic_pointer_cast<DelayBdev>(found);
  if (bdev == nullptr && found != nullptr) return another_kind(name, found->info().product_name, DelayBdev::product);
  if (bdev == nullptr) return no_such_bdev(name);
  const auto kind = std::ranges::find(DelayLatencies::names, params.string("latency_type")) - DelayLatencies::names.begin();
  bdev->latencies().us[static_cast<std::size_t>(kind)] = params.integer("latency_us");
  return Json::Value(true);
}

}  // namespace

void register_bdev_delay_methods(rpc::MethodTable& table) {
  std::vector<Param> params = virtual_params();
  for (std::size_t kind = 0; kind < DelayLatencies::names.size(); ++kind) {
    params.push_back(Param(latency_param(kind), ParamType::integer, "Microseconds").required().range(0, DelayLatencies::max_us));
  }
  table.add(Method("bdev_delay_create", "Makes a bdev that answers later than the one below; when that is not there yet, as soon as it is")
                .with(std::move(params))
                .result("name of the bdev")
                .mutates()
                .handler(create));
  table.add(Method("bdev_delay_delete", "Removes a delay bdev; its base stays")
                .with({Param("name", ParamType::string, "Name of the bdev").required()})
                .mutates()
                .coroutine(remove));
  table.add(
      Method("bdev_delay_update_latency", "Sets one latency; answers that are kept already stay as they are")
          .with(
              {Param("delay_bdev_name", ParamType::string, "Name of the bdev").required(),
               Param("latency_type", ParamType::string, "Which one").required().one_of({DelayLatencies::names.begin(), DelayLatencies::names.end()}),
               Param("latency_us", ParamType::integer, "Microseconds").required().range(0, DelayLatencies::max_us)})
          .mutates()
          .handler(update_latency));
}

}  // namespace catnap::bdev
