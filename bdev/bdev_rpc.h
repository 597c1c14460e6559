// RPC methods about all bdevs, whatever their module: list, statistics, configuration.
// Owner: app_thread. Left out: create and delete (each module's X_rpc.h), QoS, histograms.
#pragma once

#include <json/json.h>

#include "rpc/config_registry.h"
#include "rpc/method.h"

namespace catnap::bdev {

// bdev_get_bdevs, bdev_get_iostat, bdev_reset_iostat, bdev_wait_for_examine, thread_get_io_channels.
void register_bdev_methods(rpc::MethodTable& table);

// The "bdev" subsystem of framework_get_config: the call that creates each bdev, in order of creation.
void register_bdev_config(rpc::ConfigRegistry& registry);

}  // namespace catnap::bdev
