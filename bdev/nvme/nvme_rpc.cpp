// See nvme_rpc.h. SPDK's names and parameters (schema/schema.yaml of SPDK 26.09-pre).
#include "bdev/nvme/nvme_rpc.h"

#include <fmt/core.h>
#include <strings.h>

#include <algorithm>
#include <charconv>

#include "bdev/nvme/module.h"
#include "bdev/nvme/nvme_command_rpc.h"
#include "bdev/nvme/nvme_discovery_rpc.h"
#include "bdev/nvme/nvme_injection_rpc.h"
#include "bdev/nvme/nvme_path_rpc.h"
#include "bdev/rpc_common.h"
#include "rpc/turn.h"

namespace catnap::bdev {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

std::unexpected<RpcError> no_such_controller(const std::string& name) {
  return std::unexpected(RpcError(-ENODEV, fmt::format("No such device: there is no controller named {}", name)));
}

// What of SPDK's attach parameters this initiator does not have: refused unless it is off, so that nobody believes in a protection that is not there.
Result<void> check_unsupported(const Params& params) {
  for (const char* check : {"prchk_reftag", "prchk_guard"}) {
    if (params.boolean(check)) return fail(ENOTSUP, fmt::format("{} true: protection information is not supported", check));
  }
  if (params.boolean("allow_unrecognized_csi")) return fail(ENOTSUP, "allow_unrecognized_csi true: only the NVM command set is supported");
  return {};
}

Result<MultipathMode> multipath_mode_of(const Params& params) {
  if (params.string("multipath") == "failover") return MultipathMode::failover;
  return params.string("multipath") == "disable" ? MultipathMode::disable : MultipathMode::multipath;
}

Result<AttachRequest> attach_request(const Params& params) {
  if (auto supported = check_unsupported(params); !supported) return std::unexpected(supported.error());
  AttachRequest request;
  request.name = params.string("name");
  if (request.name.empty()) return fail(EINVAL, "name is empty");
  request.id = transport_id_of(params);
  ControllerOptions& options = request.options;
  options.hostnqn = params.string("hostnqn");
  if (params.has("hostid")) {
    auto uuid = parse_uuid(params.string("hostid"));
    if (!uuid) return fail(EINVAL, fmt::format("hostid: {}", uuid.error().message));
    options.hostid = hostid_for("uuid:" + *uuid);
  }
  if (auto keyed = take_keys(params, request.name, options); !keyed) return std::unexpected(keyed.error());
  if (auto keyed = take_psk(params, request.name, options); !keyed) return std::unexpected(keyed.error());
  options.hdgst = params.boolean("hdgst");
  options.ddgst = params.boolean("ddgst");
  options.multipath = *multipath_mode_of(params);
  options.num_io_queues = static_cast<std::uint32_t>(params.integer("num_io_queues"));
  options.fabrics_connect_timeout_us = params.integer("fabrics_connect_timeout_us");
  options.disable_sq_flow_control = params.boolean("disable_sq_flow_control");
  if (params.has("priority")) {
    const std::string text = params.string("priority");
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), options.priority);
    if (error != std::errc{} || end != text.data() + text.size()) return fail(EINVAL, fmt::format("priority '{}' is no number", text));
  }
  if (has_reconnect(params)) options.reconnect = reconnect_of(params, NvmeModule::instance()->options().reconnect);
  if (params.has("multipath_opts")) {
    auto multipath = multipath_opts_of(params.object("multipath_opts"));
    if (!multipath) return std::unexpected(multipath.error());
    options.multipath_opts = *multipath;
  }
  return request;
}

// Connecting takes what it takes: others need not wait for it. What it changes, it changes at its end in one step.
Task<RpcResult<Json::Value>> attach(Params params) {
  auto turn = rpc::Turn::current();
  // Not declared as required: who attaches a local disk (trtype PCIe) has none, and is told of the transport instead.
  if (auto tcp = check_trtype(params.string("trtype")); !tcp) co_return std::unexpected(RpcError(tcp.error()));
  if (!params.has("subnqn"))
    co_return std::unexpected(RpcError(rpc::invalid_params, "Invalid parameters: missing parameter 'subnqn' (NQN of the subsystem)"));
  auto request = attach_request(params);
  if (!request) co_return std::unexpected(RpcError(request.error()));
  turn.give_up();
  auto attached = co_await NvmeModule::instance()->attach(std::move(*request));
  if (!attached) co_return std::unexpected(RpcError(attached.error()));
  Json::Value names(Json::arrayValue);
  for (const auto& name : *attached) names.append(name);
  co_return names;
}

Task<RpcResult<Json::Value>> detach(Params params) {
  auto turn = rpc::Turn::current();
  if (params.has("trtype")) {
    if (auto tcp = check_trtype(params.string("trtype")); !tcp) co_return std::unexpected(RpcError(tcp.error()));
  }
  std::optional<TransportId> path;
  for (const Param& param : transport_id_params()) {
    if (params.has(param.name)) path = transport_id_of(params);
  }
  std::string name = params.string("name");
  turn.give_up();
  auto detached = co_await NvmeModule::instance()->detach(std::move(name), std::move(path));
  if (!detached) co_return std::unexpected(RpcError(detached.error()));
  co_return Json::Value(true);
}

std::string poll_text(std::uint64_t period_us) { return period_us == 0 ? "event" : "poll"; }

Json::Value controller_json(const NvmeController& controller) {
  Json::Value json(Json::objectValue);
  json["state"] = std::string(NvmeController::state_name(controller.state()));
  json["trid"] = transport_id_json(controller.id());
  for (const TransportId& id : controller.alternates()) json["alternate_trids"].append(transport_id_json(id));
  json["cntlid"] = controller.cntlid();
  json["host"]["nqn"] = controller.options().hostnqn;
  json["host"]["addr"] = controller.id().hostaddr;
  json["host"]["svcid"] = controller.id().hostsvcid;
  // Ours: how its queues wait, as in effect now, and what went wrong last.
  json["adminq_mode"] = poll_text(controller.admin_poll_period_us());
  json["adminq_poll_period_us"] = json_u64(controller.admin_poll_period_us());
  json["ioq_mode"] = poll_text(controller.io_poll_period_us());
  json["ioq_poll_period_us"] = json_u64(controller.io_poll_period_us());
  json["num_io_queues"] = controller.granted_queues();
  const auto* association = controller.association();
  const auto* channel = association == nullptr ? nullptr : association->secure_channel();
  if (channel != nullptr) {
    json["tls"]["suite"] = channel->suite;
    json["tls"]["identity_version"] = channel->identity_version;
    json["tls"]["key"] = channel->key_name;
    json["tls"]["key_type"] = channel->generated ? "generated" : "configured";
    json["tls"]["ktls_tx"] = channel->kernel_sends;
    json["tls"]["ktls_rx"] = channel->kernel_receives;
  } else {
    json["tls"] = Json::Value();
  }
  json["last_error"] = controller.last_error();
  return json;
}

RpcResult<Json::Value> get_controllers(const Params& params) {
  Json::Value all(Json::arrayValue);
  for (const auto& subsystem : NvmeModule::instance()->all()) {
    if (params.has("name") && params.string("name") != subsystem->name()) continue;
    Json::Value entry(Json::objectValue);
    entry["name"] = subsystem->name();
    entry["ctrlrs"] = Json::Value(Json::arrayValue);
    for (const auto& controller : subsystem->controllers()) entry["ctrlrs"].append(controller_json(*controller));
    all.append(std::move(entry));
  }
  if (params.has("name") && all.empty()) return no_such_controller(params.string("name"));
  return all;
}

// The controllers that `name` and `cntlid` mean.
RpcResult<std::vector<std::shared_ptr<NvmeController>>> chosen(const Params& params) {
  const auto attached = attached_as(params.string("name"));
  if (!attached) return std::unexpected(attached.error());
  const NvmeSubsystem* const subsystem = attached->get();
  if (!params.has("cntlid")) return subsystem->controllers();
  const auto cntlid = static_cast<std::uint16_t>(params.integer("cntlid"));
  const auto controller = subsystem->find_controller(cntlid);
  if (controller != nullptr) return std::vector{controller};
  return std::unexpected(
      RpcError(-ENODEV, fmt::format("No such device: controller {} has no path with controller id {}", subsystem->name(), cntlid)));
}

enum class Deed : std::uint8_t { reset, enable, disable };

Task<Result<void>> done_to(std::shared_ptr<NvmeController> controller, Deed deed) {
  Result<void> result;
  switch (deed) {
    case Deed::reset:
      result = co_await controller->reset();
      break;
    case Deed::enable:
      result = co_await controller->enable();
      break;
    case Deed::disable:
      result = co_await controller->disable();
      break;
  }
  co_return result;
}

// One after the other, so that I/O keeps a path where there are several.
Task<RpcResult<Json::Value>> do_to_all(Params params, Deed deed) {
  auto controllers = chosen(params);
  if (!controllers) co_return std::unexpected(controllers.error());
  Result<void> worst;
  for (const auto& controller : *controllers) {
    auto result = co_await done_to(controller, deed);
    if (!result && worst) worst = result;
  }
  if (!worst) co_return std::unexpected(RpcError(worst.error()));
  co_return Json::Value(true);
}

Task<RpcResult<Json::Value>> reset(Params params) { return do_to_all(std::move(params), Deed::reset); }
Task<RpcResult<Json::Value>> enable(Params params) { return do_to_all(std::move(params), Deed::enable); }
Task<RpcResult<Json::Value>> disable(Params params) { return do_to_all(std::move(params), Deed::disable); }

std::vector<Param> attach_params() {
  std::vector<Param> params;
  params.push_back(Param("name", ParamType::string, "Name of the controller, and prefix of its bdevs' names: Nvme0 gives Nvme0n1").required());
  params.push_back(Param("trtype", ParamType::string, "TCP").required());
  for (auto& param : transport_id_params()) {
    params.push_back(param.name == "traddr" ? std::move(param).required() : std::move(param));
  }
  params.push_back(Param("hostnqn", ParamType::string, "NQN of this host; one made of the machine id without it"));
  params.push_back(Param("hostid", ParamType::string, "UUID of this host (ours; SPDK makes one up); that of the host NQN without it"));
  params.push_back(Param("hdgst", ParamType::boolean, "Header digests"));
  params.push_back(Param("ddgst", ParamType::boolean, "Data digests"));
  params.push_back(Param("multipath", ParamType::string, "What a second address for a name is: refused, a reserve, or a path of its own")
                       .one_of({"disable", "failover", "multipath"})
                       .or_default("multipath"));
  params.push_back(Param("num_io_queues", ParamType::integer, "I/O queues asked for at most").range(1, 65536).or_default(1024));
  params.push_back(Param("fabrics_connect_timeout_us", ParamType::integer, "For each step of connecting; 0: 5 s"));
  for (auto& param : reconnect_params()) params.push_back(std::move(param));
  params.push_back(Param("priority", ParamType::string, "SO_PRIORITY of the connections"));
  params.push_back(Param("disable_sq_flow_control", ParamType::boolean, "Ask for queues without SQ flow control"));
  params.push_back(multipath_opts_param());
  params.push_back(Param("max_bdevs", ParamType::integer, "Of SPDK: names that the answer has room for; here it has room for all").ignored());
  for (auto& param : psk_params()) params.push_back(std::move(param));
  for (auto& param : dhchap_key_params()) params.push_back(std::move(param));
  for (const char* name : {"prchk_reftag", "prchk_guard"}) {
    params.push_back(Param(name, ParamType::boolean, "Refused unless false: protection information is not supported"));
  }
  params.push_back(Param("allow_unrecognized_csi", ParamType::boolean, "Refused unless false: only the NVM command set is supported"));
  return params;
}

std::vector<Param> deed_params() {
  return {Param("name", ParamType::string, "Name of the controller").required(),
          Param("cntlid", ParamType::integer, "Only the path with this controller id").range(0, 65535)};
}

std::string uuid_text(const std::array<std::uint8_t, 16>& bytes) {
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", bytes[i]);
  }
  return text;
}

Json::Value attach_call(const NvmeSubsystem& subsystem, const NvmeController& controller, const TransportId& id) {
  const ControllerOptions& options = controller.options();
  Json::Value params = transport_id_json(id);
  params["name"] = subsystem.name();
  params["hostnqn"] = options.hostnqn;
  if (options.hostid && *options.hostid != hostid_for(options.hostnqn)) params["hostid"] = uuid_text(*options.hostid);
  if (!id.hostaddr.empty()) params["hostaddr"] = id.hostaddr;
  if (!id.hostsvcid.empty()) params["hostsvcid"] = id.hostsvcid;
  show_keys(options, params);
  params["hdgst"] = options.hdgst;
  params["ddgst"] = options.ddgst;
  params["multipath"] = std::string(multipath_mode_name(options.multipath));
  params["num_io_queues"] = options.num_io_queues;
  params["fabrics_connect_timeout_us"] = json_u64(options.fabrics_connect_timeout_us);
  params["disable_sq_flow_control"] = options.disable_sq_flow_control;
  const ReconnectTimeouts timeouts = controller.timeouts();
  if (options.reconnect) {
    params["ctrlr_loss_timeout_sec"] = timeouts.ctrlr_loss_timeout_sec;
    params["reconnect_delay_sec"] = timeouts.reconnect_delay_sec;
    params["fast_io_fail_timeout_sec"] = timeouts.fast_io_fail_timeout_sec;
  }
  if (options.priority != 0) params["priority"] = std::to_string(options.priority);
  if (options.multipath_opts) params["multipath_opts"] = multipath_opts_json(*options.multipath_opts);
  Json::Value call(Json::objectValue);
  call["method"] = "bdev_nvme_attach_controller";
  call["params"] = std::move(params);
  return call;
}

// Detaching a controller wholly also means what waits for bdevs of it; detaching one of its paths does not.
bool waits_for_bdev_of(const Json::Value& detached, const Json::Value& waiting) {
  for (const Param& param : transport_id_params()) {
    if (detached.isMember(param.name)) return false;
  }
  if (!waiting.isObject()) return false;
  const Json::Value& bdev_name = waiting["namespace"].isObject() ? waiting["namespace"]["bdev_name"] : waiting["name"];
  if (!bdev_name.isString()) return false;
  const std::string name = bdev_name.asString(), prefix = detached["name"].asString() + "n";
  return name.starts_with(prefix) && name.size() > prefix.size() && name.find_first_not_of("0123456789", prefix.size()) == std::string::npos;
}

}  // namespace

RpcResult<std::shared_ptr<NvmeSubsystem>> attached_as(const std::string& name) {
  auto subsystem = NvmeModule::instance()->find(name);
  if (subsystem == nullptr || subsystem->controllers().empty()) return no_such_controller(name);
  return subsystem;
}

Result<void> check_trtype(const std::string& trtype) {
  if (strcasecmp(trtype.c_str(), "tcp") == 0) return {};
  return fail(ENOTSUP, fmt::format("trtype '{}' is not supported: catnap's initiator attaches NVMe over TCP only", trtype));
}

std::vector<Param> transport_id_params() {
  return {Param("traddr", ParamType::string, "Address of the controller, in numbers"),
          Param("adrfam", ParamType::string, "IPv4 or IPv6; traddr decides without it"),
          Param("trsvcid", ParamType::string, "Port; 4420 without it"),
          Param("subnqn", ParamType::string, "NQN of the subsystem"),
          Param("hostaddr", ParamType::string, "Local address to connect from"),
          Param("hostsvcid", ParamType::string, "Local port to connect from")};
}

TransportId transport_id_of(const Params& params) {
  TransportId id;
  id.traddr = params.string("traddr");
  id.adrfam = params.string("adrfam");
  id.trsvcid = params.string("trsvcid");
  id.subnqn = params.string("subnqn");
  id.hostaddr = params.string("hostaddr");
  id.hostsvcid = params.string("hostsvcid");
  // One spelling, so that addresses compare.
  if (strcasecmp(id.adrfam.c_str(), "ipv4") == 0) id.adrfam = "IPv4";
  if (strcasecmp(id.adrfam.c_str(), "ipv6") == 0) id.adrfam = "IPv6";
  return id;
}

Json::Value transport_id_json(const TransportId& id) {
  Json::Value json(Json::objectValue);
  json["trtype"] = "TCP";
  json["adrfam"] = id.adrfam;
  json["traddr"] = id.traddr;
  json["trsvcid"] = id.trsvcid;
  json["subnqn"] = id.subnqn;
  return json;
}

void register_bdev_nvme_methods(rpc::MethodTable& table) {
  table.add(Method("bdev_nvme_attach_controller",
                   "Attaches an NVMe/TCP controller and makes bdevs of its namespaces, or adds a path to one that is attached")
                .with(attach_params())
                .result("array of the bdevs' names")
                .mutates()
                .supersedes_waiting({"bdev_nvme_attach_controller"},
                                    {{"name", "name"}, {"traddr", "traddr"}, {"?trsvcid", "trsvcid"}, {"?subnqn", "subnqn"}})
                .coroutine(attach));
  std::vector<Param> detach_params = {Param("name", ParamType::string, "Name of the controller").required(),
                                      Param("trtype", ParamType::string, "TCP")};
  for (auto& param : transport_id_params()) detach_params.push_back(std::move(param));
  table.add(
      Method("bdev_nvme_detach_controller", "Detaches a controller and removes its bdevs; with an address, only that path while others are left")
          .with(std::move(detach_params))
          .mutates()
          .takes_back_waiting({"bdev_nvme_attach_controller"},
                              {{"name", "name"}, {"?traddr", "traddr"}, {"?trsvcid", "trsvcid"}, {"?subnqn", "subnqn"}})
          .takes_back_waiting_if({"bdev_*", "nvmf_subsystem_add_ns"}, waits_for_bdev_of)
          .coroutine(detach));
  table.add(Method("bdev_nvme_get_controllers", "Shows the attached controllers, their paths and states")
                .with({Param("name", ParamType::string, "Only this one")})
                .result("[{name, ctrlrs: [{state, trid, alternate_trids, cntlid, host, adminq_mode, ioq_mode, …}]}]")
                .handler(get_controllers));
  table.add(
      Method("bdev_nvme_reset_controller", "Connects anew; I/O waits meanwhile, or takes another path").with(deed_params()).acts().coroutine(reset));
  table.add(Method("bdev_nvme_enable_controller", "Connects a disabled controller again").with(deed_params()).acts().coroutine(enable));
  table.add(Method("bdev_nvme_disable_controller", "Disconnects a controller until it is enabled").with(deed_params()).acts().coroutine(disable));
  register_bdev_nvme_options(table);
  register_bdev_nvme_path_methods(table);
  register_bdev_nvme_command_methods(table);
  register_bdev_nvme_discovery_methods(table);
  register_bdev_nvme_injection_methods(table);
  register_bdev_nvme_key_methods(table);
}

std::vector<Json::Value> nvme_lost_calls(const NvmeSubsystem& subsystem, const NvmeController& controller) {
  std::vector<Json::Value> calls;
  if (controller.options().from_discovery) return calls;  // the discovery attaches it again
  calls.push_back(attach_call(subsystem, controller, controller.id()));
  for (const TransportId& id : controller.alternates()) calls.push_back(attach_call(subsystem, controller, id));
  const bool last = subsystem.controllers().size() == 1;
  for (auto& call : nvme_path_calls(subsystem, last ? nullptr : &controller)) calls.push_back(std::move(call));
  return calls;
}

void register_bdev_nvme_config(rpc::ConfigRegistry& registry) {
  registry.add("bdev", [] {
    Json::Value calls(Json::arrayValue);
    NvmeModule& module = *NvmeModule::instance();
    if (module.options_changed()) calls.append(nvme_options_call(module.options()));
    for (const auto& subsystem : module.all()) {
      for (const auto& controller : subsystem->controllers()) {
        if (controller->options().from_discovery) continue;
        calls.append(attach_call(*subsystem, *controller, controller->id()));
        for (const TransportId& id : controller->alternates()) calls.append(attach_call(*subsystem, *controller, id));
      }
      if (subsystem->controllers().front()->options().from_discovery) continue;
      for (auto& call : nvme_path_calls(*subsystem)) calls.append(std::move(call));
    }
    for (auto& call : discovery_config_calls()) calls.append(std::move(call));
    return calls;
  });
}

}  // namespace catnap::bdev
