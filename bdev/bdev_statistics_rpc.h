// RPC methods about what bdevs did: counters, latency histograms, queue depth.
// Owner: app_thread. Left out: keeping them over a restart.
#pragma once

#include "rpc/method.h"

namespace catnap::bdev {

// bdev_get_iostat, bdev_reset_iostat, bdev_enable_histogram, bdev_get_histogram, bdev_get_histogram_borders, bdev_set_qd_sampling_period. Called by
// register_bdev_methods().
void register_bdev_statistics_methods(rpc::MethodTable& table);

}  // namespace catnap::bdev
