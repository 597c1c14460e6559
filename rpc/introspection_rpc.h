// Methods about the methods and the process: rpc_get_methods, rpc_get_schema, spdk_get_version, spdk_kill_instance.
// Owner: app_thread. Left out: framework_* (framework_rpc.h).
#pragma once

#include "rpc/lifecycle.h"
#include "rpc/method.h"

namespace catnap::rpc {

// Both arguments must outlive the table's use; the table shows itself.
void register_introspection_methods(MethodTable& table, const Lifecycle& lifecycle);

// The declarations as JSON, as rpc_get_schema answers: {"methods": [{name, description, phase, changes_state, aliases, params, result}]}.
Json::Value schema_of(const MethodTable& table);

}  // namespace catnap::rpc
