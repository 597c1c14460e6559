// RPC methods. Which thread runs where, CPU frequency, and what the kernel takes from reactors.
// Owner: app_thread. Left out: reactors and threads as a whole (reactor_rpc.h).
#pragma once

#include "reactor/kept_settings.h"
#include "reactor/runtime.h"
#include "rpc/config_registry.h"
#include "rpc/method.h"

namespace catnap {

// framework_get_scheduler, framework_set_scheduler, scheduler_set_options, framework_get_governor, framework_monitor_context_switch.
void register_scheduler_methods(rpc::MethodTable& table, Runtime& runtime, rpc::ConfigRegistry* registry, std::shared_ptr<KeptSettings> kept);

}  // namespace catnap
