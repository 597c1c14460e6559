// Methods of discovery services.
// Owner: app_thread. Left out: what they do (discovery.h).
#pragma once

#include <json/json.h>

#include "rpc/method.h"

namespace catnap::bdev {

// bdev_nvme_start_discovery, _stop_discovery, _get_discovery_info.
void register_bdev_nvme_discovery_methods(rpc::MethodTable& table);
// The calls that start the present services again.
Json::Value discovery_config_calls();

}  // namespace catnap::bdev
