// Limits and switches of commands as parameters of nvmf_create_transport (keep-alive times, commands taken away) and of nvmf_create_subsystem
// (Dataset Management, Write Zeroes, subsystem reset). Owner: app_thread. Left out: what they mean (io_limits.h, controller.h), limits of the
// transport itself (transport_limits_rpc.h).
#pragma once

#include <json/json.h>

#include <vector>

#include "rpc/method.h"
#include "server/snapshot.h"
#include "server/target.h"
#include "transport/command_sink.h"

namespace catnap::server {

std::vector<rpc::Param> transport_command_params();
// Reads what transport_command_params() declares. Errors: a name that is not one of the commands, KAS and the least keep-alive time at odds.
rpc::RpcResult<void> read_transport_commands(const rpc::Params& params, transport::TransportLimits& limits);
// Adds each to what nvmf_get_transports shows and save_config writes.
void show_transport_commands(const transport::TransportLimits& limits, Json::Value& json);

std::vector<rpc::Param> subsystem_command_params();
// Reads what subsystem_command_params() declares. Errors: old and new names together, a size that is no power of two.
rpc::RpcResult<void> read_subsystem_commands(const rpc::Params& params, SubsystemOptions& options);
// Adds what differs from the default.
void show_subsystem_commands(const SubsystemSnapshot& subsystem, Json::Value& json);

}  // namespace catnap::server
