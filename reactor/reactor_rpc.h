// RPC methods of reactors and threads.
// Owner: app_thread. Left out: moving threads (thread_rpc.h).
#pragma once

#include "reactor/runtime.h"
#include "rpc/config_registry.h"
#include "rpc/method.h"

namespace catnap {

// framework_get_reactors, thread_get_stats, reactor_set_mode, reactor_set_interrupt_mode, framework_set_adaptive_options, and those of wakeups_rpc.h,
// poller_rpc.h, thread_rpc.h and scheduler_rpc.h. `runtime` must outlive the table's use.
// `registry` (if any) gets what was changed, as calls, in the subsystem "scheduler".
void register_reactor_methods(rpc::MethodTable& table, Runtime& runtime, rpc::ConfigRegistry* registry = nullptr);

}  // namespace catnap
