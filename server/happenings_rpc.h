// What happens in the target, as notifications (notify_get_notifications).
// Owner: app_thread. Left out: bdevs and arrays (bdev_rpc.h, raid_rpc.h).
#pragma once

#include "bdev/nvme/module.h"
#include "reactor/thread.h"

namespace catnap::server {

// From now on; paths of the initiator too.
void notify_of_happenings(Thread& app_thread, bdev::NvmeModule& nvme);
// Before app_thread ends.
void end_notifying(bdev::NvmeModule& nvme);

}  // namespace catnap::server
