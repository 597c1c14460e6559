// bdev_nvme_set_options, and the option groups that it shares with attach calls: time-outs of a loss, multipath. See nvme_rpc.h.
#include <fmt/core.h>

#include "bdev/nvme/module.h"
#include "bdev/nvme/nvme_rpc.h"
#include "bdev/nvme/retry_policy.h"
#include "bdev/rpc_common.h"
#include "reactor/base/log.h"

namespace catnap::bdev {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

constexpr std::uint64_t max_uint32 = 0xFFFFFFFF;

// Takes a value over when it is given.
template <typename T>
void take(const Params& params, const char* name, T& value) {
  if (!params.has(name)) return;
  if constexpr (std::is_same_v<T, bool>) {
    value = params.boolean(name);
  } else if constexpr (std::is_signed_v<T>) {
    value = static_cast<T>(params.signed_integer(name));
  } else {
    value = static_cast<T>(params.integer(name));
  }
}

RpcResult<Json::Value> set_options(const Params& params) {
  NvmeModule& module = *NvmeModule::instance();
  NvmeOptions options = module.options();
  if (params.has("action_on_timeout")) {
    const std::string action = params.string("action_on_timeout");
    options.action_on_timeout = action == "none" ? TimeoutAction::none : action == "reset" ? TimeoutAction::reset : TimeoutAction::abort;
  }
  take(params, "timeout_us", options.timeout_us);
  take(params, "timeout_admin_us", options.timeout_admin_us);
  take(params, "keep_alive_timeout_ms", options.keep_alive_timeout_ms);
  take(params, "nvme_adminq_poll_period_us", options.nvme_adminq_poll_period_us);
  take(params, "nvme_ioq_poll_period_us", options.nvme_ioq_poll_period_us);
  take(params, "io_queue_requests", options.io_queue_requests);
  take(params, "transport_retry_count", options.transport_retry_count);
  take(params, "bdev_retry_count", options.bdev_retry_count);
  take(params, "transport_ack_timeout", options.transport_ack_timeout);
  options.reconnect = reconnect_of(params, options.reconnect);
  take(params, "disable_auto_failback", options.disable_auto_failback);
  take(params, "generate_uuids", options.generate_uuids);
  take(params, "nvme_error_stat", options.nvme_error_stat);
  take(params, "io_path_stat", options.io_path_stat);
  take(params, "tcp_connect_timeout_ms", options.tcp_connect_timeout_ms);
  if (params.has("multipath_opts")) {
    auto multipath = multipath_opts_of(params.object("multipath_opts"));
    if (!multipath) return std::unexpected(RpcError(multipath.error()));
    options.multipath = *multipath;
  }
  if (params.has("dhchap_digests")) {
    const auto hashes = dhchap::parse_hashes("dhchap_digests", params.strings("dhchap_digests"));
    if (!hashes) return std::unexpected(RpcError(hashes.error()));
    options.dhchap.hashes = *hashes;
  }
  if (params.has("dhchap_dhgroups")) {
    const auto groups = dhchap::parse_groups("dhchap_dhgroups", params.strings("dhchap_dhgroups"));
    if (!groups) return std::unexpected(RpcError(groups.error()));
    options.dhchap.groups = *groups;
  }
  if (auto set = module.set_options(options); !set) return std::unexpected(RpcError(set.error()));
  return Json::Value(true);
}

std::vector<Param> options_params() {
  std::vector<Param> params;
  const auto number = [&params](const char* name, const char* help, std::uint64_t most = max_uint32) {
    params.push_back(Param(name, ParamType::integer, help).range(0, most));
  };
  const auto ignored = [&params](const char* name, ParamType type) {
    params.push_back(Param(name, type, "Of SPDK's other transports, or of its driver: no effect over TCP").ignored());
  };
  params.push_back(
      Param("action_on_timeout", ParamType::string, "What becomes of a command that is late: only told, controller reset, or command aborted")
          .one_of({"none", "reset", "abort"}));
  number("timeout_us", "After this long an I/O command is late; 0: never", std::uint64_t{1} << 53);
  number("timeout_admin_us", "The same for admin commands; 0: as timeout_us", std::uint64_t{1} << 53);
  number("keep_alive_timeout_ms", "KATO of connections made from now on; 0: none");
  number("nvme_adminq_poll_period_us", "0 and 10000 (SPDK's default): event driven; else the period at which admin queues are looked at",
         max_poll_period_us);
  number("nvme_ioq_poll_period_us", "0: event driven; else the period at which I/O queues are looked at", max_poll_period_us);
  number("io_queue_requests", "Depth of I/O queues made from now on; 0: 128", tcp::HostQueue::max_entries);
  params.push_back(Param("transport_retry_count", ParamType::integer, "Of SPDK's PCIe transport: kept, no effect over TCP").range(0, 255));
  params.push_back(Param("bdev_retry_count", ParamType::integer, "How often an I/O is tried again; -1: without limit").range(-1, 0x7FFFFFFF));
  number("transport_ack_timeout", "n: a connection ends when sent bytes stay unacknowledged for 2^n ms; 0: the system's", max_transport_ack_timeout);
  for (auto& param : reconnect_params()) params.push_back(std::move(param));
  params.push_back(Param("disable_auto_failback", ParamType::boolean, "Keep to a path that works although a better one came back"));
  params.push_back(Param("generate_uuids", ParamType::boolean, "UUIDs that stay the same for namespaces that have none"));
  params.push_back(Param("nvme_error_stat", ParamType::boolean, "Kept, no effect: errors are counted always"));
  params.push_back(Param("io_path_stat", ParamType::boolean, "Count I/O per path (bdev_nvme_get_path_iostat)"));
  number("tcp_connect_timeout_ms", "Until a TCP connection is there; 0: 5 s");
  params.push_back(Param("enable_flush", ParamType::boolean, "No effect: a flush always goes to a controller that has a volatile cache").ignored());
  params.push_back(multipath_opts_param());
  for (const char* name : {"arbitration_burst", "low_priority_weight", "medium_priority_weight", "high_priority_weight", "transport_tos",
                           "rdma_srq_size", "rdma_max_cq_size", "rdma_cm_event_timeout_ms"}) {
    ignored(name, ParamType::integer);
  }
  for (const char* name : {"delay_cmd_submit", "allow_accel_sequence", "rdma_umr_per_io"}) ignored(name, ParamType::boolean);
  params.push_back(
      Param("dhchap_digests", ParamType::array_of_string, "Hashes offered to controllers that demand authentication: sha256, sha384, sha512"));
  params.push_back(Param("dhchap_dhgroups", ParamType::array_of_string,
                         "Groups offered to controllers that demand authentication: null, ffdhe2048, ffdhe3072, ffdhe4096, ffdhe6144, ffdhe8192"));
  return params;
}

}  // namespace

std::vector<Param> reconnect_params() {
  return {
      Param("ctrlr_loss_timeout_sec", ParamType::integer, "A lost controller is given up after so long; -1: never, 0: no reconnect by itself")
          .range(-1, 0x7FFFFFFF),
      Param("reconnect_delay_sec", ParamType::integer, "Pause between attempts to reconnect").range(0, max_uint32),
      Param("fast_io_fail_timeout_sec", ParamType::integer, "I/O that waits for a lost controller fails after so long; 0: not before it is given up")
          .range(0, max_uint32)};
}

ReconnectTimeouts reconnect_of(const Params& params, const ReconnectTimeouts& otherwise) {
  ReconnectTimeouts timeouts = otherwise;
  take(params, "ctrlr_loss_timeout_sec", timeouts.ctrlr_loss_timeout_sec);
  take(params, "reconnect_delay_sec", timeouts.reconnect_delay_sec);
  take(params, "fast_io_fail_timeout_sec", timeouts.fast_io_fail_timeout_sec);
  return timeouts;
}

bool has_reconnect(const Params& params) {
  return params.has("ctrlr_loss_timeout_sec") || params.has("reconnect_delay_sec") || params.has("fast_io_fail_timeout_sec");
}

Param multipath_opts_param() {
  return Param("multipath_opts", ParamType::object, "How I/O is spread over the paths of a bdev")
      .with_fields({Param("policy", ParamType::string, "One path at a time, or all").one_of({"active_passive", "active_active"}),
                    Param("selector", ParamType::string, "Of active_active: in turn, or the least busy").one_of({"round_robin", "queue_depth"}),
                    Param("min_io", ParamType::integer, "Of round_robin: I/Os per path and turn").range(1, max_uint32)});
}

Result<MultipathOptions> multipath_opts_of(const Params& params) {
  auto policy = multipath_policy_from_name(params.has("policy") ? params.string("policy") : "active_passive");
  if (!policy) return std::unexpected(policy.error());
  std::optional<MultipathSelector> selector;
  if (params.has("selector")) {
    auto named = multipath_selector_from_name(params.string("selector"));
    if (!named) return std::unexpected(named.error());
    selector = *named;
  }
  std::optional<std::uint32_t> min_io;
  if (params.has("min_io")) min_io = static_cast<std::uint32_t>(params.integer("min_io"));
  return make_multipath_options(*policy, selector, min_io);
}

Json::Value multipath_opts_json(const MultipathOptions& options) {
  Json::Value json(Json::objectValue);
  json["policy"] = std::string(multipath_policy_name(options.policy));
  if (options.policy != MultipathPolicy::active_active) return json;
  json["selector"] = std::string(multipath_selector_name(options.selector));
  if (options.selector == MultipathSelector::round_robin) json["min_io"] = options.rr_min_io;
  return json;
}

Json::Value nvme_options_call(const NvmeOptions& options) {
  Json::Value params(Json::objectValue);
  params["action_on_timeout"] = std::string(timeout_action_name(options.action_on_timeout));
  params["timeout_us"] = json_u64(options.timeout_us);
  params["timeout_admin_us"] = json_u64(options.timeout_admin_us);
  params["keep_alive_timeout_ms"] = options.keep_alive_timeout_ms;
  params["nvme_adminq_poll_period_us"] = json_u64(options.nvme_adminq_poll_period_us);
  params["nvme_ioq_poll_period_us"] = json_u64(options.nvme_ioq_poll_period_us);
  params["io_queue_requests"] = options.io_queue_requests;
  params["transport_retry_count"] = options.transport_retry_count;
  params["bdev_retry_count"] = options.bdev_retry_count;
  params["transport_ack_timeout"] = options.transport_ack_timeout;
  params["ctrlr_loss_timeout_sec"] = options.reconnect.ctrlr_loss_timeout_sec;
  params["reconnect_delay_sec"] = options.reconnect.reconnect_delay_sec;
  params["fast_io_fail_timeout_sec"] = options.reconnect.fast_io_fail_timeout_sec;
  params["disable_auto_failback"] = options.disable_auto_failback;
  params["generate_uuids"] = options.generate_uuids;
  params["nvme_error_stat"] = options.nvme_error_stat;
  params["io_path_stat"] = options.io_path_stat;
  params["tcp_connect_timeout_ms"] = options.tcp_connect_timeout_ms;
  params["multipath_opts"] = multipath_opts_json(options.multipath);
  for (const auto& name : dhchap::hash_names(options.dhchap.hashes)) params["dhchap_digests"].append(name);
  for (const auto& name : dhchap::group_names(options.dhchap.groups)) params["dhchap_dhgroups"].append(name);
  Json::Value call(Json::objectValue);
  call["method"] = "bdev_nvme_set_options";
  call["params"] = std::move(params);
  return call;
}

void register_bdev_nvme_options(rpc::MethodTable& table) {
  table.add(Method("bdev_nvme_set_options", "Sets options of all NVMe controllers; what is not given stays. May be called at any time")
                .with(options_params())
                .in_phase(rpc::Phase::always)
                .mutates()
                .handler(set_options));
}

}  // namespace catnap::bdev
