// JSON-RPC methods of the NVMe/TCP initiator: attach, detach, get, reset, enable, disable, set_options.
// Owner: app_thread. Left out: paths, statistics, discovery, passthrough (nvme_path_rpc.h and others beside this).
#pragma once

#include <json/json.h>

#include <vector>

#include "bdev/nvme/options.h"
#include "bdev/nvme/subsystem.h"
#include "rpc/config_registry.h"
#include "rpc/method.h"

namespace catnap::bdev {

// NvmeModule::instance() is there when methods are called.
void register_bdev_nvme_methods(rpc::MethodTable& table);
// bdev_nvme_set_options and the attach calls, in the order of attaching.
void register_bdev_nvme_config(rpc::ConfigRegistry& registry);

// The calls that bring back a controller which is being given up, and what of its subsystem goes with it; none when it came from a discovery.
std::vector<Json::Value> nvme_lost_calls(const NvmeSubsystem& subsystem, const NvmeController& controller);

// --- for the family's other files ---
// What is attached under this name, with at least one controller. Errors: -ENODEV in words.
rpc::RpcResult<std::shared_ptr<NvmeSubsystem>> attached_as(const std::string& name);
// The address parameters: traddr, adrfam, trsvcid, subnqn, hostaddr, hostsvcid.
std::vector<rpc::Param> transport_id_params();
TransportId transport_id_of(const rpc::Params& params);
// {trtype, adrfam, traddr, trsvcid, subnqn}.
Json::Value transport_id_json(const TransportId& id);
// dhchap_key and dhchap_ctrlr_key: from call to options (errors: ENOKEY, EINVAL; `user` for the message), and back.
std::vector<rpc::Param> dhchap_key_params();
// The same of psk, psk_identity_version and secure_concatenation, behind take_keys(); show_keys() shows them too.
std::vector<rpc::Param> psk_params();
Result<void> take_psk(const rpc::Params& params, const std::string& user, ControllerOptions& options);
Result<void> take_keys(const rpc::Params& params, const std::string& user, ControllerOptions& options);
void show_keys(const ControllerOptions& options, Json::Value& to);
void register_bdev_nvme_key_methods(rpc::MethodTable& table);  // nvme_keys_rpc.cpp
// Refuses any trtype but TCP in words.
Result<void> check_trtype(const std::string& trtype);
// ctrlr_loss_timeout_sec, reconnect_delay_sec, fast_io_fail_timeout_sec; what is not given is taken from `otherwise`.
std::vector<rpc::Param> reconnect_params();
ReconnectTimeouts reconnect_of(const rpc::Params& params, const ReconnectTimeouts& otherwise);
bool has_reconnect(const rpc::Params& params);
// multipath_opts as SPDK has it ({policy, selector, min_io}).
rpc::Param multipath_opts_param();
Result<MultipathOptions> multipath_opts_of(const rpc::Params& params);
Json::Value multipath_opts_json(const MultipathOptions& options);

// bdev_nvme_set_options (nvme_options_rpc.cpp).
void register_bdev_nvme_options(rpc::MethodTable& table);
Json::Value nvme_options_call(const NvmeOptions& options);

}  // namespace catnap::bdev
