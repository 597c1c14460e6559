// RPC methods of the delay bdev. Owner: app_thread. Left out: what is common to all bdevs (bdev/bdev_rpc.h).
#pragma once

#include "rpc/method.h"

namespace catnap::bdev {

void register_bdev_delay_methods(rpc::MethodTable& table);

}  // namespace catnap::bdev
