// Methods about paths: which there are, which is preferred, by what policy they are chosen, and what went over them.
// Owner: app_thread. Left out: attaching (nvme_rpc.h).
#pragma once

#include <json/json.h>

#include <vector>

#include "bdev/nvme/subsystem.h"
#include "rpc/method.h"

namespace catnap::bdev {

// bdev_nvme_get_io_paths, _set_preferred_path, _set_multipath_policy, _get_path_iostat, _get_transport_statistics.
void register_bdev_nvme_path_methods(rpc::MethodTable& table);
// The calls that bring back what was chosen for the bdevs of a subsystem, behind its attach calls; `only`: what prefers this controller.
std::vector<Json::Value> nvme_path_calls(const NvmeSubsystem& subsystem, const NvmeController* only = nullptr);

}  // namespace catnap::bdev
