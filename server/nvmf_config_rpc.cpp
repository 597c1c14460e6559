// nvmf_set_config, nvmf_set_max_subsystems, and the calls that bring the present nvmf configuration about.
// Owner: app_thread. Left out: admin command passthrough.
#include <fmt/format.h>

#include <map>

#include "rpc/json.h"
#include "server/ana.h"
#include "server/command_limits_rpc.h"
#include "server/names.h"
#include "server/nvmf_common_rpc.h"
#include "server/nvmf_rpc.h"
#include "transport/dhchap/names.h"

namespace catnap::server {
namespace {

using rpc::Param;
using rpc::ParamType;

constexpr const char* restrict_policy_name = "restrict_per_listener";

rpc::RpcResult<std::uint8_t> parse_filters(const std::string& text) {
  static const std::map<std::string, std::uint8_t, std::less<>> bits = {{"match_any", discovery_match_any},
                                                                        {"transport", discovery_match_transport},
                                                                        {"address", discovery_match_address},
                                                                        {"svcid", discovery_match_svcid}};
  std::uint8_t filters = 0;
  std::string_view rest = text;
  for (;;) {
    const auto comma = rest.find(',');
    const auto found = bits.find(rest.substr(0, comma));
    if (found == bits.end()) {
      return std::unexpected(rpc::RpcError(
          rpc::invalid_params, fmt::format("discovery_filters '{}' may have match_any, or transport, address and svcid separated by commas", text)));
    }
    filters = static_cast<std::uint8_t>(filters | found->second);
    if (comma == std::string_view::npos) return filters;
    rest.remove_prefix(comma + 1);
  }
}

// An array of names, or names separated by commas: SPDK reads both.
std::string filters_text(const rpc::Params& params) {
  const Json::Value& given = params.json("discovery_filters");
  if (!given.isArray()) return given.isString() ? given.asString() : std::string("?");
  std::string text;
  for (const Json::Value& name : given) text += (text.empty() ? "" : ",") + (name.isString() ? name.asString() : std::string("?"));
  return text.empty() ? "match_any" : text;
}

// Shorter than this, hosts on slow links and CPUs could not keep it; longer than this, the spec's own limit is over.
constexpr std::uint64_t min_auth_timeout_ms = 1'000;
constexpr std::uint64_t max_auth_timeout_ms = 120'000;
constexpr std::uint64_t max_auth_failures_per_minute = 1'000'000;
// Below, a host that was just let in might be too late; a key that lies about for longer than a day serves nobody who is still coming back.
constexpr std::uint64_t min_generated_psk_timeout_ms = 100;
constexpr std::uint64_t max_generated_psk_timeout_ms = 86'400'000;

rpc::RpcResult<AuthenticationRules> authentication_of(const rpc::Params& params) {
  AuthenticationRules rules = target().current().authentication;
  if (params.has("dhchap_digests")) {
    const auto parsed = dhchap::parse_hashes("dhchap_digests", params.strings("dhchap_digests"));
    if (!parsed) return std::unexpected(rpc::RpcError(parsed.error()));
    rules.dhchap_digests = *parsed;
  }
  if (params.has("dhchap_dhgroups")) {
    const auto parsed = dhchap::parse_groups("dhchap_dhgroups", params.strings("dhchap_dhgroups"));
    if (!parsed) return std::unexpected(rpc::RpcError(parsed.error()));
    rules.dhchap_dhgroups = *parsed;
  }
  if (params.has("dhchap_timeout_ms")) rules.timeout_ms = static_cast<std::uint32_t>(params.integer("dhchap_timeout_ms"));
  if (params.has("dhchap_failures_per_minute")) {
    rules.failures_per_minute = static_cast<std::uint32_t>(params.integer("dhchap_failures_per_minute"));
  }
  if (params.has("generated_psk_timeout_ms")) {
    rules.generated_psk_timeout_ms = static_cast<std::uint32_t>(params.integer("generated_psk_timeout_ms"));
  }
  return rules;
}

Json::Value names_json(const std::vector<std::string>& names) {
  Json::Value list(Json::arrayValue);
  for (const std::string& name : names) list.append(name);
  return list;
}

void show_authentication(const AuthenticationRules& rules, Json::Value& config) {
  const AuthenticationRules usual;
  if (rules.dhchap_digests != usual.dhchap_digests) config["dhchap_digests"] = names_json(dhchap::hash_names(rules.dhchap_digests));
  if (rules.dhchap_dhgroups != usual.dhchap_dhgroups) config["dhchap_dhgroups"] = names_json(dhchap::group_names(rules.dhchap_dhgroups));
  if (rules.timeout_ms != usual.timeout_ms) config["dhchap_timeout_ms"] = rules.timeout_ms;
  if (rules.failures_per_minute != usual.failures_per_minute) config["dhchap_failures_per_minute"] = rules.failures_per_minute;
  if (rules.generated_psk_timeout_ms != usual.generated_psk_timeout_ms) config["generated_psk_timeout_ms"] = rules.generated_psk_timeout_ms;
}

Reply set_config(const rpc::Params& params) {
  const rpc::Params passthru = params.object("admin_cmd_passthru");
  for (const std::string& name : passthru.all().getMemberNames()) {
    if (!passthru.json(name).isBool()) {
      return std::unexpected(rpc::RpcError(rpc::invalid_params, fmt::format("Invalid parameters: parameter 'admin_cmd_passthru.{}' is {}, it must be "
                                                                            "true or false",
                                                                            rpc::printable(name), rpc::json_excerpt(passthru.json(name)))));
    }
    if (!passthru.boolean(name)) continue;
    return std::unexpected(rpc::RpcError(Error(ENOTSUP, fmt::format("admin_cmd_passthru.{} true is not supported: there are no NVMe bdevs", name))));
  }
  CpuMask mask;
  if (params.has("poll_groups_mask")) {
    const auto parsed = CpuMask::parse(params.string("poll_groups_mask"));
    if (!parsed) return std::unexpected(rpc::RpcError(rpc::invalid_params, "poll_groups_mask: " + parsed.error().message));
    mask = *parsed;
  }
  std::uint8_t filters = discovery_match_any;
  if (params.has("discovery_filters")) {
    const auto parsed = parse_filters(filters_text(params));
    if (!parsed) return std::unexpected(parsed.error());
    filters = *parsed;
  }
  const auto authentication = authentication_of(params);
  if (!authentication) return std::unexpected(authentication.error());
  if (params.has("discovery_nqn")) {
    const auto named = target().set_discovery_nqn(params.string("discovery_nqn"));
    if (!named) return std::unexpected(rpc::RpcError(named.error()));
  }
  if (params.has("dup_host_policy")) {
    const bool restricted = params.string("dup_host_policy") == restrict_policy_name;
    target().set_dup_host_policy(restricted ? DupHostPolicy::restrict_per_listener : DupHostPolicy::allow);
  }
  if (!mask.empty()) target().set_poll_groups_mask(mask);
  if (params.has("prefer_incoming_cpu")) target().set_prefer_incoming_cpu(params.boolean("prefer_incoming_cpu"));
  if (filters != target().current().discovery_filters) target().set_discovery_filters(filters);
  target().set_authentication(*authentication);
  return Json::Value(true);
}

Reply set_max_subsystems(const rpc::Params& params) {
  target().set_max_subsystems(static_cast<std::uint32_t>(params.integer("max_subsystems")));
  return Json::Value(true);
}

Json::Value call(const char* method, Json::Value params) {
  Json::Value json(Json::objectValue);
  json["method"] = method;
  json["params"] = std::move(params);
  return json;
}

Json::Value filters_json(std::uint8_t filters) {
  std::string text;
  const std::pair<std::uint8_t, const char*> names[] = {
      {discovery_match_transport, "transport"}, {discovery_match_address, "address"}, {discovery_match_svcid, "svcid"}};
  for (const auto& [bit, name] : names) {
    if ((filters & bit) != 0) text += (text.empty() ? "" : ",") + std::string(name);
  }
  return text.empty() ? "match_any" : text;
}

Json::Value create_subsystem_params(const SubsystemSnapshot& subsystem) {
  Json::Value params(Json::objectValue);
  params["nqn"] = subsystem.nqn;
  params["allow_any_host"] = subsystem.allow_any_host;
  params["serial_number"] = subsystem.serial_number;
  params["model_number"] = subsystem.model_number;
  if (!subsystem.admin_label.empty()) params["admin_label"] = subsystem.admin_label;
  params["max_namespaces"] = subsystem.max_namespaces;
  params["min_cntlid"] = subsystem.min_cntlid;
  params["max_cntlid"] = subsystem.max_cntlid;
  params["ana_reporting"] = subsystem.ana_reporting;
  show_subsystem_commands(subsystem, params);
  return params;
}

Json::Value add_ns_params(const SubsystemSnapshot& subsystem, const NamespaceConfig& config) {
  Json::Value described(Json::objectValue);
  described["nsid"] = config.nsid;
  described["bdev_name"] = config.bdev->name();
  if (config.nguid != std::array<std::uint8_t, 16>{}) described["nguid"] = hex_text(config.nguid);
  if (config.eui64 != std::array<std::uint8_t, 8>{}) described["eui64"] = hex_text(config.eui64);
  described["uuid"] = uuid_text(config.uuid);
  if (subsystem.ana_reporting) described["anagrpid"] = config.anagrpid;
  described["no_auto_visible"] = config.no_auto_visible;
  if (!config.ptpl_file.empty()) described["ptpl_file"] = config.ptpl_file;
  Json::Value params(Json::objectValue);
  params["nqn"] = subsystem.nqn;
  params["namespace"] = std::move(described);
  return params;
}

void append_visibility_calls(const SubsystemSnapshot& subsystem, const NamespaceConfig& config, Json::Value& calls) {
  for (const auto& host : config.visible_hosts) {
    Json::Value params(Json::objectValue);
    params["nqn"] = subsystem.nqn;
    params["nsid"] = config.nsid;
    params["host"] = host;
    calls.append(call("nvmf_ns_add_host", std::move(params)));
  }
}

void append_namespace_calls(const SubsystemSnapshot& subsystem, const NamespaceConfig& config, Json::Value& calls) {
  calls.append(call("nvmf_subsystem_add_ns", add_ns_params(subsystem, config)));
  append_visibility_calls(subsystem, config, calls);
}

Json::Value add_referral_params(const Referral& referral) {
  Json::Value params(Json::objectValue);
  params["address"] = address_json(referral.address);
  params["subnqn"] = referral.subnqn;
  params["secure_channel"] = referral.secure_channel;
  params["allow_any_host"] = referral.allow_any_host;
  params["hosts"] = Json::Value(Json::arrayValue);
  for (const auto& host : referral.hosts) params["hosts"].append(host);
  return params;
}

Json::Value crdt_params(const TargetSnapshot& current) {
  Json::Value params(Json::objectValue);
  for (std::size_t i = 0; i < current.crdt_100ms.size(); ++i) params[fmt::format("crdt{}", i + 1)] = current.crdt_100ms[i];
  return params;
}

// From the snapshot alone, which never changes (ConfigRegistry::Listener::same_for).
void append_subsystem_calls(const SubsystemSnapshot& subsystem, Json::Value& calls) {
  if (!subsystem.discovery) calls.append(call("nvmf_create_subsystem", create_subsystem_params(subsystem)));
  for (const auto& host : subsystem.hosts) {
    Json::Value params(Json::objectValue);
    params["nqn"] = subsystem.nqn;
    params["host"] = host;
    show_keys(subsystem.keys_of(host), params);
    calls.append(call("nvmf_subsystem_add_host", std::move(params)));
  }
  if (subsystem.discovery && !subsystem.allow_any_host) {
    Json::Value params(Json::objectValue);
    params["nqn"] = subsystem.nqn;
    params["allow_any_host"] = false;
    calls.append(call("nvmf_subsystem_allow_any_host", std::move(params)));
  }
  for (const auto& [nsid, config] : subsystem.namespaces) append_namespace_calls(subsystem, *config, calls);
  for (const auto& listener : subsystem.listeners) {
    Json::Value params(Json::objectValue);
    params["nqn"] = subsystem.nqn;
    params["listen_address"] = address_json(listener.address);
    params["secure_channel"] = listener.secure_channel;
    if (listener.concatenation != Concatenation::none) params["secure_concatenation"] = concatenation_name(listener.concatenation);
    // Also the usual one: a state file keeps it as inaccessible.
    if (subsystem.ana_reporting) params["ana_state"] = ana_state_name(listener.ana_default);
    calls.append(call("nvmf_subsystem_add_listener", std::move(params)));
    append_ana_calls(subsystem, listener, calls);
  }
}

}  // namespace

Json::Value namespace_calls(const SubsystemSnapshot& subsystem, const NamespaceConfig& config) {
  Json::Value calls(Json::arrayValue);
  append_namespace_calls(subsystem, config, calls);
  return calls;
}

void tell_nvmf_config(rpc::ConfigRegistry::Listener& listener) {
  const TargetSnapshot& current = target().current();
  Json::Value config(Json::objectValue);
  config["discovery_filters"] = filters_json(current.discovery_filters);
  if (!target().poll_groups_mask().empty()) config["poll_groups_mask"] = target().poll_groups_mask().hex();
  if (target().prefer_incoming_cpu()) config["prefer_incoming_cpu"] = true;
  if (target().dup_host_policy() == DupHostPolicy::restrict_per_listener) config["dup_host_policy"] = restrict_policy_name;
  show_authentication(current.authentication, config);
  const SubsystemSnapshot* discovery = current.find(discovery_nqn);
  if (discovery != nullptr && !discovery->unique_nqn.empty()) config["discovery_nqn"] = discovery->unique_nqn;
  listener.call(call("nvmf_set_config", std::move(config)));
  Json::Value limits(Json::objectValue);
  limits["max_subsystems"] = target().limits().max_subsystems;
  listener.call(call("nvmf_set_max_subsystems", std::move(limits)));
  if (target().transport()) listener.call(call("nvmf_create_transport", transport_json(*target().transport())));
  listener.call(call("nvmf_set_crdt", crdt_params(current)));
  for (const Referral& referral : current.referrals) listener.call(call("nvmf_discovery_add_referral", add_referral_params(referral)));
  for (const auto& [nqn, subsystem] : current.subsystems) {
    if (target().gathering()) {  // it may still change in its place
      Json::Value calls(Json::arrayValue);
      append_subsystem_calls(*subsystem, calls);
      for (Json::Value& each : calls) listener.call(std::move(each));
      continue;
    }
    listener.same_for(subsystem, [&subsystem] {
      Json::Value calls(Json::arrayValue);
      append_subsystem_calls(*subsystem, calls);
      return calls;
    });
  }
}

void register_nvmf_config_methods(rpc::MethodTable& table) {
  table.add(
      rpc::Method("nvmf_set_config", "Set options of the whole target, before it is initialised")
          .with({Param("poll_groups_mask", ParamType::string, "CPUs that get a poll group, of those of --cpumask; without it all"),
                 Param("prefer_incoming_cpu", ParamType::boolean,
                       "Of poll groups with equally few connections, choose one on or near the CPU where a new connection's packets arrive"),
                 Param("discovery_filters", ParamType::any,
                       "What a discovery log entry must share with the host's connection: match_any, or transport, address, svcid")
                     .alias("discovery_filter"),
                 Param("admin_cmd_passthru", ParamType::object, "Only false members: there are no NVMe bdevs"),
                 Param("dhchap_digests", ParamType::array_of_string, "Hashes that hosts may authenticate with: sha256, sha384, sha512"),
                 Param("dhchap_dhgroups", ParamType::array_of_string,
                       "Groups that hosts may authenticate with: null, ffdhe2048, ffdhe3072, ffdhe4096, ffdhe6144, ffdhe8192"),
                 Param("dhchap_timeout_ms", ParamType::integer, "A queue that has not authenticated itself after this ends (not in SPDK)")
                     .range(min_auth_timeout_ms, max_auth_timeout_ms),
                 Param("dhchap_failures_per_minute", ParamType::integer,
                       "Failed authentications of a host from an address, beyond which further ones are refused at once; 0: no limit (not in SPDK)")
                     .range(0, max_auth_failures_per_minute),
                 Param("generated_psk_timeout_ms", ParamType::integer,
                       "A TLS key made by authenticating is forgotten after this without a controller of its host (not in SPDK)")
                     .range(min_generated_psk_timeout_ms, max_generated_psk_timeout_ms),
                 Param("dup_host_policy", ParamType::string,
                       "What happens when a HOSTID connects again: allow, or restrict_per_listener: Controller Busy while it has a controller there")
                     .one_of({"allow", restrict_policy_name}),
                 Param("discovery_nqn", ParamType::string, "What the discovery subsystem calls itself, besides the well-known NQN")})
          .in_phase(rpc::Phase::startup_only)
          .mutates()
          .handler(set_config));
  table.add(rpc::Method("nvmf_set_max_subsystems", "Set how many subsystems there may be, before the target is initialised")
                .with({Param("max_subsystems", ParamType::integer, "Most subsystems, the discovery subsystem not counted")
                           .required()
                           .range(1, max_subsystems_limit)})
                .in_phase(rpc::Phase::startup_only)
                .mutates()
                .handler(set_max_subsystems));
}

}  // namespace catnap::server
