// Methods that inject faults into the commands of a controller.
// Owner: app_thread. Left out: the faults (error_injection.h).
#pragma once

#include "rpc/method.h"

namespace catnap::bdev {

// bdev_nvme_add_error_injection, _remove_error_injection.
void register_bdev_nvme_injection_methods(rpc::MethodTable& table);

}  // namespace catnap::bdev
