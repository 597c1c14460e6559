// See stack_rpc.h.
#include "bdev/stack/stack_rpc.h"

#include <utility>

#include "bdev/rpc_common.h"

namespace catnap::bdev {

using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

RpcResult<Json::Value> create_virtual(VirtualRecipe recipe) {
  const std::string name = recipe.name;
  auto made = VirtualBdevs::instance().create(std::move(recipe));
  if (!made) return std::unexpected(RpcError(made.error()));
  return Json::Value(name);
}

Task<RpcResult<Json::Value>> delete_virtual(std::string name, std::string product_name) {
  const auto bdev = Registry::instance().find(name);
  if (bdev != nullptr && bdev->info().product_name == product_name) name = bdev->name();  // it was called by alias or UUID
  if (bdev != nullptr && !VirtualBdevs::instance().knows(product_name, name) && bdev->info().product_name != product_name) {
    co_return another_kind(name, bdev->info().product_name, product_name);
  }
  auto names = VirtualBdevs::instance().forget(product_name, name);
  if (!names) co_return std::unexpected(RpcError(names.error()));
  RpcResult<Json::Value> answer = Json::Value(true);
  for (const std::string& each : *names) {
    if (Registry::instance().find(each) == nullptr) continue;  // going with its base already
    const std::string product = Registry::instance().find(each)->info().product_name;
    RpcResult<Json::Value> removed = co_await remove_and_answer(each, product);
    if (!removed) answer = std::move(removed);
  }
  co_return answer;
}

std::vector<Param> virtual_params() {
  std::vector<Param> params;
  params.push_back(Param("name", ParamType::string, "Name of the new bdev").required());
  params.push_back(Param("base_bdev_name", ParamType::string, "Name, alias or UUID of the bdev below; it may come later").required());
  params.push_back(Param("uuid", ParamType::string, "UUID; made from the base's without it"));
  return params;
}

Result<std::string> uuid_param(const Params& params) {
  if (!params.has("uuid") || params.string("uuid").empty()) return std::string();
  return parse_uuid(params.string("uuid"));
}

void register_virtual_bdev_config(rpc::ConfigRegistry& registry) {
  registry.add_telling("bdev", [](rpc::ConfigRegistry::Listener& listener) {
    const auto calls = VirtualBdevs::instance().config_calls();
    for (const auto& call : calls) listener.text(call);
    // Namespaces come next in a configuration: by then what waited for its base must be there.
    if (!calls.empty()) listener.text(R"({"method": "bdev_wait_for_examine"})");
  });
}

}  // namespace catnap::bdev
