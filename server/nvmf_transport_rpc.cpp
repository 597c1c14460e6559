// nvmf_create_transport, nvmf_get_transports.
// Owner: app_thread. Left out: transports other than TCP; buffers, which every reactor has of its own (iobuf options have no effect).
#include <fmt/format.h>

#include "server/command_limits_rpc.h"
#include "server/names.h"
#include "server/nvmf_common_rpc.h"
#include "server/nvmf_rpc.h"
#include "server/transport_limits_rpc.h"

namespace catnap::server {
namespace {

using rpc::Param;
using rpc::ParamType;

// A queue's requests are an array made at Connect, 256 bytes per entry: 4096 entries are 1 MiB.
constexpr std::uint64_t max_queue_depth_limit = 4096;
constexpr std::int64_t min_aq_depth = 32;            // NVMe-oF 1.1a, section 2.4.2: an admin queue has at least 32 entries
constexpr std::uint64_t max_qpairs_limit = 1024;     // per controller; the largest hosts have some hundred CPUs
constexpr std::int64_t min_io_size_bytes = 8192;     // SPDK's; MDTS is a power of two of 4 KiB pages
constexpr std::uint32_t in_capsule_unit_bytes = 16;  // IOCCSZ counts in 16 bytes
constexpr std::uint64_t max_sock_priority = 15;      // SO_PRIORITY of unprivileged processes ends at 6, with CAP_NET_ADMIN at 15
constexpr std::uint64_t no_bound = 0xFFFFFFFF;       // of what is only kept and shown

Param ignored(const char* name, const char* why) { return Param(name, ParamType::any, why).ignored(); }

std::vector<Param> transport_params() {
  const tcp::TcpOptions defaults;
  const auto& limits = defaults.limits;
  std::vector<Param> params;
  params.push_back(Param("trtype", ParamType::string, "Transport type: TCP, in any case").required());
  params.push_back(tgt_name_param());
  params.push_back(
      Param("max_queue_depth", ParamType::integer, "Entries of an I/O queue").or_default(limits.max_queue_depth).range(2, max_queue_depth_limit));
  params.push_back(Param("max_io_qpairs_per_ctrlr", ParamType::integer, "I/O queues of a controller")
                       .or_default(limits.max_io_qpairs_per_ctrlr)
                       .range(1, max_qpairs_limit));
  params.push_back(
      Param("in_capsule_data_size", ParamType::integer, "Bytes of data a command capsule may carry; a multiple of 16, at most max_io_size")
          .or_default(limits.in_capsule_data_size_bytes)
          .range(0, BufferPool::max_size_bytes));
  params.push_back(Param("max_io_size", ParamType::integer, "Largest I/O in bytes (MDTS); a power of two")
                       .or_default(limits.max_io_size_bytes)
                       .range(min_io_size_bytes, BufferPool::max_size_bytes));
  params.push_back(Param("max_aq_depth", ParamType::integer, "Entries of an admin queue")
                       .or_default(limits.max_aq_depth)
                       .range(min_aq_depth, max_queue_depth_limit));
  params.push_back(
      Param("c2h_success", ParamType::boolean, "Save the response after read data where the host allows it").or_default(defaults.c2h_success));
  params.push_back(
      Param("sock_priority", ParamType::integer, "SO_PRIORITY of connections").or_default(defaults.sock_priority).range(0, max_sock_priority));
  params.push_back(Param("abort_timeout_sec", ParamType::integer, "Kept and shown; an Abort is answered at once").or_default(1).range(0, no_bound));
  for (Param& limit : transport_limit_params()) params.push_back(std::move(limit));
  for (Param& param : transport_command_params()) params.push_back(std::move(param));
  const char* buffers = "No effect: every reactor has a buffer pool of its own that grows as needed";
  for (const char* name : {"io_unit_size", "num_shared_buffers", "buf_cache_size", "iobuf_small_cache_size", "iobuf_large_cache_size", "zcopy"}) {
    params.push_back(ignored(name, buffers));
  }
  for (const char* name : {"num_cqe", "max_srq_depth", "no_srq", "acceptor_backlog", "no_wr_batching", "data_wr_pool_size", "ack_timeout"}) {
    params.push_back(ignored(name, "No effect: an option of RDMA"));
  }
  for (const char* name : {"disable_mappable_bar0", "disable_adaptive_irq", "disable_shadow_doorbells"}) {
    params.push_back(ignored(name, "No effect: an option of vfio-user"));
  }
  for (const char* name : {"control_msg_num", "acceptor_poll_rate", "disable_command_passthru"}) {
    params.push_back(ignored(name, "No effect here"));
  }
  params.push_back(Param("dif_insert_or_strip", ParamType::boolean, "Only false: there are no bdevs with metadata"));
  return params;
}

rpc::RpcResult<TransportConfig> transport_config(const rpc::Params& params) {
  const auto in_capsule = static_cast<std::uint32_t>(params.integer("in_capsule_data_size"));
  const auto max_io = static_cast<std::uint32_t>(params.integer("max_io_size"));
  if ((max_io & (max_io - 1)) != 0)
    return std::unexpected(rpc::RpcError(rpc::invalid_params, fmt::format("max_io_size {} is not a power of two", max_io)));
  if (in_capsule % in_capsule_unit_bytes != 0 || in_capsule > max_io) {
    return std::unexpected(rpc::RpcError(
        rpc::invalid_params,
        fmt::format("in_capsule_data_size {} must be a multiple of {} and at most max_io_size {}", in_capsule, in_capsule_unit_bytes, max_io)));
  }
  if (params.boolean("dif_insert_or_strip")) {
    return std::unexpected(rpc::RpcError(Error(ENOTSUP, "dif_insert_or_strip true is not supported: there are no bdevs with metadata")));
  }
  TransportConfig config;
  config.tcp.limits.max_queue_depth = static_cast<std::uint16_t>(params.integer("max_queue_depth"));
  config.tcp.limits.max_aq_depth = static_cast<std::uint16_t>(params.integer("max_aq_depth"));
  config.tcp.limits.max_io_qpairs_per_ctrlr = static_cast<std::uint16_t>(params.integer("max_io_qpairs_per_ctrlr"));
  config.tcp.limits.in_capsule_data_size_bytes = in_capsule;
  config.tcp.limits.max_io_size_bytes = max_io;
  config.tcp.c2h_success = params.boolean("c2h_success");
  config.tcp.sock_priority = static_cast<std::uint32_t>(params.integer("sock_priority"));
  config.abort_timeout_sec = static_cast<std::uint32_t>(params.integer("abort_timeout_sec"));
  read_transport_limits(params, config.tcp);
  if (const auto read = read_transport_commands(params, config.tcp.limits); !read) return std::unexpected(read.error());
  return config;
}

Reply create_transport(const rpc::Params& params) {
  const auto trtype = normalise_trtype(params.string("trtype"));
  if (!trtype)
    return std::unexpected(rpc::RpcError(trtype.error().err == EINVAL ? rpc::invalid_params : -trtype.error().err, trtype.error().message));
  const auto config = transport_config(params);
  if (!config) return std::unexpected(config.error());
  const auto created = target().create_transport(*config);
  if (!created) return std::unexpected(rpc::RpcError(transport_exists_code, transport_exists_text));
  return Json::Value(true);
}

Reply get_transports(const rpc::Params& params) {
  Json::Value list(Json::arrayValue);
  if (params.has("trtype")) {
    const auto trtype = normalise_trtype(params.string("trtype"));
    if (!trtype || !target().transport()) {
      return std::unexpected(rpc::RpcError(Error(ENODEV, fmt::format("trtype '{}': there is no such transport", params.string("trtype")))));
    }
  }
  if (target().transport()) list.append(transport_json(*target().transport()));
  return list;
}

}  // namespace

Json::Value transport_json(const TransportConfig& config) {
  const auto& limits = config.tcp.limits;
  Json::Value json(Json::objectValue);
  json["trtype"] = "TCP";
  json["max_queue_depth"] = limits.max_queue_depth;
  json["max_io_qpairs_per_ctrlr"] = limits.max_io_qpairs_per_ctrlr;
  json["in_capsule_data_size"] = limits.in_capsule_data_size_bytes;
  json["max_io_size"] = limits.max_io_size_bytes;
  json["max_aq_depth"] = limits.max_aq_depth;
  json["dif_insert_or_strip"] = false;
  json["c2h_success"] = config.tcp.c2h_success;
  json["sock_priority"] = config.tcp.sock_priority;
  json["abort_timeout_sec"] = config.abort_timeout_sec;
  show_transport_limits(config.tcp, json);
  show_transport_commands(limits, json);
  return json;
}

void register_nvmf_transport_methods(rpc::MethodTable& table) {
  table.add(rpc::Method("nvmf_create_transport", "Make the NVMe/TCP transport; before the first listener")
                .with(transport_params())
                .mutates()
                .handler(create_transport));
  table.add(rpc::Method("nvmf_get_transports", "Show transports and their options")
                .with({Param("trtype", ParamType::string, "Only this one"), tgt_name_param()})
                .result("Array of transports with their options")
                .handler(get_transports));
}

}  // namespace catnap::server
