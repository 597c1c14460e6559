// Methods about paths: which there are, which is preferred, by what policy they are chosen, and what went over them.
// Owner: app_thread. Left out: attaching (nvme_rpc.h).
#pragma once

#include "rpc/method.h"

namespace catnap::bdev {

// bdev_nvme_get_io_paths, _set_preferred_path, _set_multipath_policy, _get_path_iostat, _get_transport_statistics.
void register_bdev_nvme_path_methods(rpc::MethodTable& table);

}  // namespace catnap::bdev
