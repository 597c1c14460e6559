// bdev_split_create, bdev_split_delete: SPDK's names and parameters (schema/schema.yaml of SPDK 26.09-pre).
#include "bdev/split/split_rpc.h"

#include "bdev/rpc_common.h"
#include "bdev/split/split.h"
#include "bdev/stack/stack_rpc.h"

namespace catnap::bdev {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

RpcResult<Json::Value> create(const Params& params) {
  SplitOptions options;
  options.base_bdev_name = params.string("base_bdev");
  options.count = static_cast<std::uint32_t>(params.integer("split_count"));
  options.size_mib = params.integer("split_size_mb");
  auto made = VirtualBdevs::instance().create(SplitBdev::recipe(std::move(options)));
  if (!made) return std::unexpected(RpcError(made.error()));
  Json::Value names(Json::arrayValue);
  for (const std::string& name : *made) names.append(name);
  return names;
}

// By the word with which the base was named, or any other of its names.
Task<RpcResult<Json::Value>> remove(Params params) {
  std::string name = params.string("base_bdev");
  const auto base = Registry::instance().find(name);
  if (base != nullptr && !VirtualBdevs::instance().knows(SplitBdev::product, name)) name = base->name();
  return delete_virtual(std::move(name), SplitBdev::product);
}

}  // namespace

void register_bdev_split_methods(rpc::MethodTable& table) {
  table.add(Method("bdev_split_create", "Cuts a bdev into parts of equal size; when it is not there yet, as soon as it is")
                .with({Param("base_bdev", ParamType::string, "Name, alias or UUID of the bdev to cut").required(),
                       Param("split_count", ParamType::integer, "Number of parts").required().range(1, SplitOptions::max_count),
                       Param("split_size_mb", ParamType::integer, "MiB of each part; as much as fits without it, or with 0").or_default(0)})
                .result("array of the parts' names; empty while the base is not there")
                .mutates()
                .handler(create));
  table.add(Method("bdev_split_delete", "Removes all parts of a bdev; it stays itself")
                .with({Param("base_bdev", ParamType::string, "Name of the bdev that was cut").required()})
                .mutates()
                .takes_back_waiting({"bdev_split_create"}, {{"base_bdev", "base_bdev"}})
                .coroutine(remove));
}

}  // namespace catnap::bdev
