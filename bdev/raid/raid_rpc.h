// RPC methods of arrays (bdev_raid_*), their notifications and their place in the configuration.
// Owner: app_thread. Left out: what is common to all bdevs (bdev/bdev_rpc.h).
#pragma once

#include "rpc/config_registry.h"
#include "rpc/method.h"

namespace catnap::bdev {

void register_bdev_raid_methods(rpc::MethodTable& table);
// Behind the calls of those bdevs that members may be.
void register_bdev_raid_config(rpc::ConfigRegistry& registry);
void register_bdev_raid_notifications();

}  // namespace catnap::bdev
