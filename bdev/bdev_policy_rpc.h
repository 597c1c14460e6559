// RPC methods about what I/O of any bdev may do: rate limits and time-outs.
// Owner: app_thread. Left out: limits of a whole target or host.
#pragma once

#include <json/json.h>

#include "bdev/bdev.h"
#include "rpc/method.h"

namespace catnap::bdev {

// bdev_set_qos_limit, bdev_set_timeout, bdev_get_timeouts. Called by register_bdev_methods().
void register_bdev_policy_methods(rpc::MethodTable& table);

// assigned_rate_limits of bdev_get_bdevs.
Json::Value rate_limits_json(const Bdev& bdev);

// The calls that bring these settings of a bdev about again.
void append_policies(Json::Value& calls, const Bdev& bdev);

}  // namespace catnap::bdev
