// RPC methods of the split bdev. Owner: app_thread. Left out: what is common to all bdevs (bdev/bdev_rpc.h).
#pragma once

#include "rpc/method.h"

namespace catnap::bdev {

void register_bdev_split_methods(rpc::MethodTable& table);

}  // namespace catnap::bdev
