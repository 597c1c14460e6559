// The limits of the TCP transport against slow, many and greedy hosts, as parameters of nvmf_create_transport and as counters of what they refused.
// Owner: app_thread. Left out: what they mean (docs/limits.md, transport/tcp/poll_group.h).
#pragma once

#include <json/json.h>

#include <vector>

#include "rpc/method.h"
#include "transport/tcp/poll_group.h"

namespace catnap::server {

std::vector<rpc::Param> transport_limit_params();
// Reads what transport_limit_params() declares.
void read_transport_limits(const rpc::Params& params, tcp::TcpOptions& options);
// Adds each limit to what nvmf_get_transports shows and save_config writes.
void show_transport_limits(const tcp::TcpOptions& options, Json::Value& json);
// {"refused": {...}, "timed_out": {...}}, added to the counters of one poll group.
void show_refusals(const tcp::TcpStats& stats, Json::Value& json);
// Connections in all and what listening could not take: {"accepted", "refused_no_fds", "half_open"}.
Json::Value accept_counters(const tcp::TcpOptions* options);

// {"under_way", "secured", "wrong_key", …}: TLS handshakes by how they ended.
Json::Value handshake_counters();

}  // namespace catnap::server
