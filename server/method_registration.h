// All JSON-RPC methods and saved-configuration parts of catnapd, in one place.
// Owner: app_thread, once at start. Left out: the methods.
#pragma once

#include <vector>

#include "reactor/runtime.h"
#include "rpc/config_registry.h"
#include "rpc/lifecycle.h"
#include "rpc/method.h"
#include "server/controller_table.h"
#include "server/server_group.h"

namespace catnap::server {

// Everything given outlives the table's use; `groups` may still be empty.
void register_all_methods(rpc::MethodTable& table, rpc::ConfigRegistry& registry, Runtime& runtime, rpc::Lifecycle& lifecycle,
                          ControllerTable& controllers, const std::vector<ServerGroup*>& groups);

}  // namespace catnap::server
