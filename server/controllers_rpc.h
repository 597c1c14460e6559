// JSON-RPC methods that show controllers, queue pairs and statistics: nvmf_subsystem_get_controllers, nvmf_subsystem_get_qpairs, nvmf_get_stats.
// Owner: app_thread. Left out: changing anything.
#pragma once

#include <vector>

#include "rpc/method.h"
#include "server/controller_table.h"

namespace catnap::server {

class ServerGroup;

// `controllers` and `groups` outlive the table; `groups` may grow until the first call.
void register_controllers_methods(rpc::MethodTable& table, ControllerTable& controllers, const std::vector<ServerGroup*>& groups);

}  // namespace catnap::server
