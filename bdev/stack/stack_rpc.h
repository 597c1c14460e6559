// What the RPC files of the virtual bdevs share: create and delete calls, and their place in the configuration.
// Owner: app_thread. Left out: the methods themselves (each module's X_rpc.cpp).
#pragma once

#include <string>

#include "bdev/stack/virtual_bdevs.h"
#include "reactor/task.h"
#include "rpc/config_registry.h"
#include "rpc/method.h"

namespace catnap::bdev {

// Answers with the bdev's name, whether its base is there or still awaited.
rpc::RpcResult<Json::Value> create_virtual(VirtualRecipe recipe);

// Removes the bdevs of that recipe, or only the wish when its base is not there. -19: no such bdev, or one of another module.
Task<rpc::RpcResult<Json::Value>> delete_virtual(std::string name, std::string product_name);

// The parameters "name" (required), "base_bdev_name" (required) and "uuid" that most create methods have.
std::vector<rpc::Param> virtual_params();
// An empty or well-formed UUID in lower case; -22 naming it.
Result<std::string> uuid_param(const rpc::Params& params);
// A module's options with these three filled in; -22 naming the UUID.
template <typename Options>
rpc::RpcResult<Options> virtual_options(const rpc::Params& params) {
  auto uuid = uuid_param(params);
  if (!uuid) return std::unexpected(rpc::RpcError(uuid.error()));
  Options options;
  options.name = params.string("name");
  options.base_bdev_name = params.string("base_bdev_name");
  options.uuid = *uuid;
  return options;
}

// The calls that make all virtual bdevs again, behind those of the bdevs they may stand on.
void register_virtual_bdev_config(rpc::ConfigRegistry& registry);

}  // namespace catnap::bdev
