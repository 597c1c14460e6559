// nvmf_get_io_stats: I/O of hosts by namespace, host and connection.
// Owner: app_thread. Left out: counting (io_statistics.h), /metrics (metrics.h).
#pragma once

#include "rpc/method.h"
#include "server/controller_table.h"

namespace catnap::server {

void register_io_statistics_methods(rpc::MethodTable& table, ControllerTable& controllers);

}  // namespace catnap::server
