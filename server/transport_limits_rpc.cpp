// See transport_limits_rpc.h.
// Owner: app_thread.
#include "server/transport_limits_rpc.h"

#include <array>
#include <cstdint>

#include "transport/tcp/secure_acceptor.h"

namespace catnap::server {
namespace {

using rpc::Param;
using rpc::ParamType;

struct TimeLimit {
  const char* name;
  const char* help;
  std::uint64_t tcp::TcpOptions::* field;  // microseconds; the parameter is in milliseconds
};

constexpr std::array<TimeLimit, 6> time_limits = {{
    {"icreq_timeout_ms", "A connection without ICReq ends after this", &tcp::TcpOptions::ic_timeout_us},
    {"connect_timeout_ms", "A connection without a successful Connect ends after this", &tcp::TcpOptions::handshake_timeout_us},
    {"pdu_timeout_ms", "A connection ends when a PDU that was begun is not there after this", &tcp::TcpOptions::pdu_timeout_us},
    {"r2t_timeout_ms", "A connection ends when the data of an R2T is not there after this", &tcp::TcpOptions::r2t_timeout_us},
    {"stall_timeout_ms", "A host that takes or sends nothing for this long ends when others wait for its buffers", &tcp::TcpOptions::send_stall_us},
    {"term_linger_ms", "After C2HTermReq the host has this long to close", &tcp::TcpOptions::term_linger_us},
}};
// Below 100 ms a host on a busy machine is cut off without fault; above 10 minutes a limit is none.
constexpr std::int64_t min_time_ms = 100, max_time_ms = 600'000;
constexpr std::uint64_t us_per_ms = 1000;
constexpr std::int64_t min_buffered_bytes = 65536;  // a few capsules
constexpr std::int64_t max_buffered_bytes = std::int64_t{1} << 30;
constexpr std::int64_t max_count = 1 << 20;  // as --max-connections

Json::UInt64 number(std::uint64_t value) { return static_cast<Json::UInt64>(value); }

}  // namespace

std::vector<Param> transport_limit_params() {
  const tcp::TcpOptions defaults;
  const tcp::AdmissionLimits admission;
  std::vector<Param> params;
  for (const TimeLimit& limit : time_limits) {
    params.push_back(Param(limit.name, ParamType::integer, limit.help)
                         .or_default(static_cast<std::int64_t>(defaults.*limit.field / us_per_ms))
                         .range(min_time_ms, max_time_ms));
  }
  params.push_back(Param("max_half_open", ParamType::integer, "Connections that have not finished Connect")
                       .or_default(admission.max_half_open)
                       .range(1, max_count));
  params.push_back(Param("max_half_open_per_host", ParamType::integer, "Of these, from one address (IPv6: from one /64)")
                       .or_default(admission.max_half_open_per_host)
                       .range(1, max_count));
  params.push_back(Param("max_connections_per_host", ParamType::integer, "Connections from one address (IPv6: from one /64); 0: no limit of its own")
                       .or_default(admission.max_connections_per_host)
                       .range(0, max_count));
  params.push_back(
      Param("max_buffered_bytes", ParamType::integer, "In-capsule data of a connection beside the buffer pool; above it, it is not read from")
          .or_default(defaults.max_buffered_bytes)
          .range(min_buffered_bytes, max_buffered_bytes));
  params.push_back(Param("tls_handshake_timeout_ms", ParamType::integer, "A TLS handshake that has not ended after this is given up")
                       .or_default(static_cast<std::int64_t>(defaults.secure.handshake_timeout_us / us_per_ms))
                       .range(min_time_ms, max_time_ms));
  params.push_back(Param("max_tls_handshakes", ParamType::integer, "TLS handshakes under way; further connections are refused meanwhile")
                       .or_default(defaults.secure.max_handshakes)
                       .range(1, max_count));
  params.push_back(Param("enable_ktls", ParamType::boolean, "Let the kernel encrypt and decrypt secure channels where it can")
                       .or_default(defaults.secure.stream.use_kernel));
  return params;
}

void read_transport_limits(const rpc::Params& params, tcp::TcpOptions& options) {
  for (const TimeLimit& limit : time_limits) options.*limit.field = static_cast<std::uint64_t>(params.integer(limit.name)) * us_per_ms;
  options.admission_limits.max_half_open = static_cast<std::uint32_t>(params.integer("max_half_open"));
  options.admission_limits.max_half_open_per_host = static_cast<std::uint32_t>(params.integer("max_half_open_per_host"));
  options.admission_limits.max_connections_per_host = static_cast<std::uint32_t>(params.integer("max_connections_per_host"));
  options.max_buffered_bytes = static_cast<std::uint32_t>(params.integer("max_buffered_bytes"));
  options.admission = std::make_shared<tcp::Admission>(options.admission_limits);
  options.secure.handshake_timeout_us = static_cast<std::uint64_t>(params.integer("tls_handshake_timeout_ms")) * us_per_ms;
  options.secure.max_handshakes = static_cast<std::uint32_t>(params.integer("max_tls_handshakes"));
  options.secure.stream.use_kernel = params.boolean("enable_ktls");
}

void show_transport_limits(const tcp::TcpOptions& options, Json::Value& json) {
  for (const TimeLimit& limit : time_limits) json[limit.name] = number(options.*limit.field / us_per_ms);
  json["max_half_open"] = options.admission_limits.max_half_open;
  json["max_half_open_per_host"] = options.admission_limits.max_half_open_per_host;
  json["max_connections_per_host"] = options.admission_limits.max_connections_per_host;
  json["max_buffered_bytes"] = options.max_buffered_bytes;
  json["tls_handshake_timeout_ms"] = number(options.secure.handshake_timeout_us / us_per_ms);
  json["max_tls_handshakes"] = options.secure.max_handshakes;
  json["enable_ktls"] = options.secure.stream.use_kernel;
}

void show_refusals(const tcp::TcpStats& stats, Json::Value& json) {
  Json::Value refused(Json::objectValue);
  refused["half_open"] = number(stats.refused_half_open);
  refused["half_open_per_host"] = number(stats.refused_half_open_per_host);
  refused["connections_per_host"] = number(stats.refused_connections_per_host);
  json["refused"] = refused;
  Json::Value timed_out(Json::objectValue);
  timed_out["icreq"] = number(stats.timed_out_icreq);
  timed_out["connect"] = number(stats.timed_out_connect);
  timed_out["pdu"] = number(stats.timed_out_pdu);
  timed_out["r2t"] = number(stats.timed_out_r2t);
  timed_out["stalled"] = number(stats.stalled);
  timed_out["term"] = number(stats.timed_out_term);
  json["timed_out"] = timed_out;
  json["receive_pauses"] = number(stats.receive_pauses);
}

Json::Value accept_counters(const tcp::TcpOptions* options) {
  Json::Value json(Json::objectValue);
  json["accepted"] = number(tcp::accept_stats().accepted);
  json["refused_no_fds"] = number(tcp::accept_stats().refused_no_fds);
  json["refused_max_connections"] = number(tcp::accept_stats().refused_max_connections);
  json["half_open"] = options == nullptr || options->admission == nullptr ? 0 : options->admission->counts().half_open;
  return json;
}

Json::Value handshake_counters() {
  Json::Value json(Json::objectValue);
  json["under_way"] = number(tcp::handshakes_under_way());
  for (std::size_t i = 0; i < tcp::handshake_end_count; ++i) {
    const auto end = static_cast<tcp::HandshakeEnd>(i);
    json[tcp::handshake_end_name(end)] = number(tcp::handshakes_ended(end));
  }
  return json;
}

}  // namespace catnap::server
