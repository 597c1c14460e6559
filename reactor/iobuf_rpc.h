// RPC methods about data buffers: SPDK's iobuf methods upon the reactors' pools.
// Owner: app_thread. Left out: separate pools for small and large buffers (a pool here has all sizes), caches per module.
#pragma once

#include "rpc/config_registry.h"
#include "rpc/method.h"

namespace catnap {

// iobuf_set_options, iobuf_get_stats.
void register_iobuf_methods(rpc::MethodTable& table);

// The "iobuf" subsystem of framework_get_config.
void register_iobuf_config(rpc::ConfigRegistry& registry);

}  // namespace catnap
