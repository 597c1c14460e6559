// log_set_flag, log_clear_flag, log_get_flags, log_set_level, log_get_level, log_set_print_level, log_get_print_level, log_enable_timestamps.
// Owner: app_thread. Left out: log files.
#pragma once

#include "rpc/config_registry.h"
#include "rpc/method.h"

namespace catnap {

// `registry` shows what was set with "persist": true; null: nobody asks.
void register_log_methods(rpc::MethodTable& table, rpc::ConfigRegistry* registry = nullptr);

}  // namespace catnap
