// Option calls without effect. See foreign_options_rpc.h.
// Owner: app_thread.
#include "server/foreign_options_rpc.h"

#include <fmt/format.h>

#include <string>
#include <vector>

namespace catnap::server {
namespace {

struct ForeignOptions {
  const char* method;
  const char* of_what;
  std::vector<const char*> params;
};

// Names as in SPDK 26.09-pre (schema/schema.yaml).
std::vector<ForeignOptions> foreign_options() {
  return {
      {"accel_set_options",
       "accelerators; catnap uses the CPU",
       {"small_cache_size", "large_cache_size", "task_count", "sequence_count", "buf_count"}},
      {"sock_set_default_impl", "socket implementations; catnap has the kernel's", {"impl_name"}},
      {"sock_impl_set_options",
       "socket implementations; catnap has the kernel's",
       {"impl_name", "recv_buf_size", "send_buf_size", "enable_recv_pipe", "enable_quickack", "enable_placement_id", "enable_zerocopy_send_server",
        "enable_zerocopy_send_client", "zerocopy_threshold", "tls_version", "enable_ktls"}},
      {"bdev_nvme_set_hotplug", "local NVMe devices; they are the kernel's", {"enable", "period_us"}},
      {"bdev_iscsi_set_options", "iSCSI initiators; catnap has none", {"timeout_sec"}},
      {"bdev_virtio_blk_set_hotplug", "virtio devices; catnap has none", {"enable", "period_us"}},
      {"vmd_enable", "local NVMe devices; they are the kernel's", {}},
      {"keyring_linux_set_options", "keyrings; catnap has none", {"enable"}},
      {"fsdev_set_opts", "file system devices; catnap has none", {"fsdev_io_pool_size", "fsdev_io_cache_size"}},
      {"iscsi_set_options",
       "iSCSI targets; catnap serves NVMe over TCP only",
       {"auth_file",
        "node_base",
        "nop_timeout",
        "nop_in_interval",
        "disable_chap",
        "require_chap",
        "mutual_chap",
        "chap_group",
        "max_sessions",
        "max_queue_depth",
        "max_connections_per_session",
        "default_time2wait",
        "default_time2retain",
        "first_burst_length",
        "immediate_data",
        "error_recovery_level",
        "allow_duplicated_isid",
        "max_large_datain_per_connection",
        "max_r2t_per_connection",
        "pdu_pool_size",
        "immediate_data_pool_size",
        "data_out_pool_size"}},
  };
}

}  // namespace

void register_foreign_options(rpc::MethodTable& table) {
  for (const ForeignOptions& foreign : foreign_options()) {
    std::vector<rpc::Param> params;
    for (const char* name : foreign.params) params.push_back(rpc::Param(name, rpc::ParamType::any, "No effect").ignored());
    table.add(rpc::Method(foreign.method, fmt::format("Accepted from SPDK's configurations without effect: options of {}", foreign.of_what))
                  .with(std::move(params))
                  .in_phase(rpc::Phase::always)
                  .acts()
                  .handler([](const rpc::Params&) -> rpc::RpcResult<Json::Value> { return Json::Value(true); }));
  }
}

}  // namespace catnap::server
