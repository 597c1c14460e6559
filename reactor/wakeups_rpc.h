// RPC methods. What wakes reactors, by name.
// Owner: app_thread. Left out: reactors and threads as a whole (reactor_rpc.h).
#pragma once

#include "reactor/runtime.h"
#include "rpc/method.h"

namespace catnap {

// reactor_get_wakeups.
void register_wakeups_methods(rpc::MethodTable& table, Runtime& runtime);

}  // namespace catnap
