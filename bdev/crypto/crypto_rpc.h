// RPC methods of the crypto bdev and of its keys. Owner: app_thread. Left out: what is common to all bdevs (bdev/bdev_rpc.h).
#pragma once

#include "rpc/config_registry.h"
#include "rpc/method.h"

namespace catnap::bdev {

void register_bdev_crypto_methods(rpc::MethodTable& table);

// The "accel" subsystem: the keys that come from files. Others are not in the configuration, since that would show them.
void register_crypto_key_config(rpc::ConfigRegistry& registry);

}  // namespace catnap::bdev
