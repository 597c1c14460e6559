// framework_get_reactors, thread_get_stats, thread_get_pollers, reactor_set_mode.
// Owner: app_thread. Left out: moving threads, schedulers.
#pragma once

#include "reactor/runtime.h"
#include "rpc/method.h"

namespace catnap {

// `runtime` must outlive the table's use.
void register_reactor_methods(rpc::MethodTable& table, Runtime& runtime);

}  // namespace catnap
