// RPC methods. Where a thread may run, and how its reactor waits for its sake.
// Owner: app_thread. Left out: listing threads (reactor_rpc.h), moving them by load (scheduler_rpc.h).
#pragma once

#include <json/json.h>

#include <memory>

#include "reactor/kept_settings.h"
#include "reactor/runtime.h"
#include "rpc/method.h"

namespace catnap {

// thread_set_cpumask, thread_set_mode.
void register_thread_methods(rpc::MethodTable& table, Runtime& runtime, std::shared_ptr<KeptSettings> kept);

// Calls that bring the present modes of reactors and threads, and where threads may run, about, where they are not those of the start:
// {"method", "params"} each.
Json::Value thread_config_calls(const Runtime& runtime, const KeptSettings& kept);

// Moves a thread and answers when it is there. Errors: ESRCH, ECANCELED (it, or everything, ends).
Task<Result<void>> move_thread(Thread* thread, Reactor* target);

}  // namespace catnap
