// Methods that send commands to a controller: any command, its health, and those that are refused in words.
// Owner: app_thread. Left out: attaching (nvme_rpc.h), error injection (nvme_injection_rpc.h).
#pragma once

#include "rpc/method.h"

namespace catnap::bdev {

// bdev_nvme_send_cmd, _get_controller_health_info, _apply_firmware, _set_keys.
void register_bdev_nvme_command_methods(rpc::MethodTable& table);

}  // namespace catnap::bdev
