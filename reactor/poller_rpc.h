// RPC methods. Pollers: what there is, and how often they run.
// Owner: app_thread. Left out: reactors and threads as a whole (reactor_rpc.h).
#pragma once

#include "reactor/runtime.h"
#include "rpc/method.h"

namespace catnap {

// thread_get_pollers, poller_set_period.
void register_poller_methods(rpc::MethodTable& table, Runtime& runtime);

}  // namespace catnap
