// framework_start_init, framework_wait_init, framework_get_subsystems, framework_get_config.
// Owner: app_thread. Left out: framework_get_reactors (reactor/reactor_rpc.h).
#pragma once

#include "rpc/config_registry.h"
#include "rpc/lifecycle.h"
#include "rpc/method.h"

namespace catnap::rpc {

// The arguments must outlive the table's use.
void register_framework_methods(MethodTable& table, Lifecycle& lifecycle, const ConfigRegistry& registry);

}  // namespace catnap::rpc
