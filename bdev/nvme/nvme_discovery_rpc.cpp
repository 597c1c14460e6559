// See nvme_discovery_rpc.h. Names and result keys are SPDK's (schema/schema.yaml, module/bdev/nvme of SPDK 26.09-pre).
// Owner: app_thread. Left out: what nvme_discovery_rpc.h names.
#include "bdev/nvme/nvme_discovery_rpc.h"

#include <fmt/core.h>

#include <utility>
#include <vector>

#include "bdev/nvme/discovery.h"
#include "bdev/nvme/nvme_rpc.h"
#include "rpc/turn.h"

namespace catnap::bdev {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

DiscoveryServices& services() {
  if (DiscoveryServices::instance() == nullptr) DiscoveryServices::set_instance(std::make_unique<DiscoveryServices>(*NvmeModule::instance()));
  return *DiscoveryServices::instance();
}

RpcResult<DiscoveryRequest> request_of(const Params& params) {
  DiscoveryRequest request;
  request.name = params.string("name");
  if (request.name.empty()) return std::unexpected(RpcError(-EINVAL, "name is empty"));
  if (auto tcp = check_trtype(params.string("trtype")); !tcp) return std::unexpected(RpcError(tcp.error()));
  request.id = transport_id_of(params);
  if (request.id.trsvcid.empty()) request.id.trsvcid = "8009";  // the port that is registered for NVMe discovery
  request.controller.hostnqn = params.string("hostnqn");
  if (has_reconnect(params)) request.controller.reconnect = reconnect_of(params, NvmeModule::instance()->options().reconnect);
  auto keyed = take_keys(params, request.name, request.controller);
  if (!keyed) return std::unexpected(RpcError(keyed.error()));
  auto secured = take_psk(params, request.name, request.controller);
  if (!secured) return std::unexpected(RpcError(secured.error()));
  request.wait_for_attach = params.boolean("wait_for_attach");
  request.attach_timeout_us = params.integer("attach_timeout_ms") * 1000;
  return request;
}

Task<RpcResult<Json::Value>> start_discovery(Params params) {
  rpc::Turn turn = rpc::Turn::current();
  auto request = request_of(params);
  if (!request) co_return std::unexpected(request.error());
  // What follows takes as long as controllers far away do; the others need not wait for them.
  turn.give_up();
  auto started = co_await services().start(std::move(*request));
  if (!started) co_return std::unexpected(RpcError(started.error()));
  co_return Json::Value(true);
}

Task<RpcResult<Json::Value>> stop_discovery(Params params) {
  std::string name = params.string("name");
  auto stopped = co_await services().stop(std::move(name));
  if (!stopped) co_return std::unexpected(RpcError(stopped.error()));
  co_return Json::Value(true);
}

Json::Value service_json(const DiscoveryService& service) {
  Json::Value json(Json::objectValue);
  json["name"] = service.request().name;
  json["trid"] = transport_id_json(service.request().id);
  json["referrals"] = Json::Value(Json::arrayValue);
  json["controllers"] = Json::Value(Json::arrayValue);
  const auto points = service.points();
  for (const auto& point : points) {
    Json::Value entry(Json::objectValue);
    entry["trid"] = transport_id_json(point.id);
    if (&point != &points.front()) json["referrals"].append(entry);
    entry["connected"] = point.connected;
    entry["last_error"] = point.last_error;
    json["controllers"].append(std::move(entry));
  }
  json["subsystems"] = Json::Value(Json::arrayValue);
  for (const auto& known : service.entries()) {
    Json::Value entry(Json::objectValue);
    entry["name"] = known.name;
    entry["trid"] = transport_id_json(known.id);
    entry["attached"] = known.attached;
    entry["last_error"] = known.last_error;
    json["subsystems"].append(std::move(entry));
  }
  return json;
}

RpcResult<Json::Value> get_discovery_info(const Params&) {
  Json::Value all(Json::arrayValue);
  for (const auto& service : services().all()) all.append(service_json(*service));
  return all;
}

}  // namespace

Json::Value discovery_config_calls() {
  Json::Value calls(Json::arrayValue);
  if (NvmeModule::instance() == nullptr) return calls;
  for (const auto& service : services().all()) {
    const DiscoveryRequest& request = service->request();
    Json::Value params = transport_id_json(request.id);
    params.removeMember("subnqn");  // is always the same, and no parameter
    params["name"] = request.name;
    if (!request.controller.hostnqn.empty()) params["hostnqn"] = request.controller.hostnqn;
    show_keys(request.controller, params);
    if (request.controller.reconnect) {
      params["ctrlr_loss_timeout_sec"] = request.controller.reconnect->ctrlr_loss_timeout_sec;
      params["reconnect_delay_sec"] = request.controller.reconnect->reconnect_delay_sec;
      params["fast_io_fail_timeout_sec"] = request.controller.reconnect->fast_io_fail_timeout_sec;
    }
    Json::Value call(Json::objectValue);
    call["method"] = "bdev_nvme_start_discovery";
    call["params"] = std::move(params);
    calls.append(std::move(call));
  }
  return calls;
}

void register_bdev_nvme_discovery_methods(rpc::MethodTable& table) {
  std::vector<Param> params;
  params.push_back(Param("name", ParamType::string, "Name of the service; its controllers are called this and a number").required());
  params.push_back(Param("trtype", ParamType::string, "TCP").required());
  params.push_back(Param("traddr", ParamType::string, "Address of the discovery controller, in numbers").required());
  params.push_back(Param("adrfam", ParamType::string, "IPv4 or IPv6; traddr says it without this"));
  params.push_back(Param("trsvcid", ParamType::string, "Port of the discovery controller; 8009 without it"));
  params.push_back(Param("hostnqn", ParamType::string, "NQN as which this host connects; one made of the machine's id without it"));
  params.push_back(Param("wait_for_attach", ParamType::boolean, "Answer when all that the log shows is attached").or_default(false));
  params.push_back(
      Param("attach_timeout_ms", ParamType::integer, "Answer then, at the latest, and give up; 0: no such limit").range(0, 86'400'000).or_default(0));
  for (auto& param : reconnect_params()) params.push_back(std::move(param));
  for (auto& param : dhchap_key_params()) params.push_back(std::move(param));  // ours: SPDK's discovery cannot authenticate
  for (auto& param : psk_params()) params.push_back(std::move(param));
  table.add(Method("bdev_nvme_start_discovery",
                   "Follows the log of a discovery controller: attaches what it shows, and detaches what it does not show any more")
                .with(std::move(params))
                .mutates()
                .coroutine(start_discovery));
  table.add(Method("bdev_nvme_stop_discovery", "Ends a discovery service and detaches what it has attached")
                .with({Param("name", ParamType::string, "Name of the service").required()})
                .mutates()
                .takes_back_waiting({"bdev_nvme_start_discovery"}, {{"name", "name"}})
                .coroutine(stop_discovery));
  table.add(Method("bdev_nvme_get_discovery_info", "Shows the discovery services")
                .result("[{\"name\", \"trid\", \"referrals\": [{\"trid\"}], \"controllers\", \"subsystems\"}]")
                .handler(get_discovery_info));
}

}  // namespace catnap::bdev
