// RPC methods. Where a thread may run, and how its reactor waits for its sake.
// Owner: app_thread. Left out: listing threads (reactor_rpc.h), moving them by load (scheduler_rpc.h).
#pragma once

#include <json/json.h>

#include "reactor/runtime.h"
#include "rpc/method.h"

namespace catnap {

// thread_set_cpumask, thread_set_mode.
void register_thread_methods(rpc::MethodTable& table, Runtime& runtime);

// Calls that bring the present modes of reactors and threads about, where they are not those of the start: {"method", "params"} each.
Json::Value mode_config_calls(const Runtime& runtime);

// Moves a thread and answers when it is there. Errors: ESRCH, ECANCELED (it, or everything, ends).
Task<Result<void>> move_thread(Thread* thread, Reactor* target);

}  // namespace catnap
