// RPC methods about all bdevs, whatever their module: list, statistics, configuration.
// Owner: app_thread. Left out: create and delete (each module's X_rpc.h).
#pragma once

#include <json/json.h>

#include "rpc/config_registry.h"
#include "rpc/method.h"

namespace catnap::bdev {

// bdev_get_bdevs, bdev_set_options, bdev_examine, bdev_wait_for_examine, thread_get_io_channels, and those of bdev_statistics_rpc.h and
// bdev_policy_rpc.h.
void register_bdev_methods(rpc::MethodTable& table);

// The "bdev" subsystem of framework_get_config: the call that creates each bdev, in order of creation.
void register_bdev_config(rpc::ConfigRegistry& registry);
// And then, when all modules have added theirs to that subsystem, what is set for bdevs: rate limits, time-outs.
void register_bdev_policy_config(rpc::ConfigRegistry& registry);

// Has bdevs that come, go or change size told to notify_get_notifications.
void register_bdev_notifications();

}  // namespace catnap::bdev
