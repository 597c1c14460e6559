// What this process can do, and what it is (introspection_rpc.h).
// Owner: app_thread. Left out: the reference page (generated from rpc_get_schema).
#include "rpc/introspection_rpc.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "rpc/version.h"

namespace catnap::rpc {
namespace {

const char* type_name(ParamType type) {
  switch (type) {
    case ParamType::string:
      return "string";
    case ParamType::boolean:
      return "boolean";
    case ParamType::integer:
      return "integer";
    case ParamType::number:
      return "number";
    case ParamType::object:
      return "object";
    case ParamType::array_of_string:
      return "array of string";
    case ParamType::array_of_object:
      return "array of object";
    case ParamType::any:
      return "any";
  }
  return "any";
}

const char* phase_name(Phase phase) {
  switch (phase) {
    case Phase::startup_only:
      return "startup";
    case Phase::runtime_only:
      return "runtime";
    case Phase::always:
      return "always";
  }
  return "always";
}

Json::Value array_of(const std::vector<std::string>& texts) {
  Json::Value list(Json::arrayValue);
  for (const std::string& text : texts) list.append(text);
  return list;
}

Json::Value schema_of_params(const std::vector<Param>& params) {
  Json::Value list(Json::arrayValue);
  for (const Param& param : params) {
    Json::Value entry(Json::objectValue);
    entry["name"] = param.name;
    entry["type"] = type_name(param.type);
    entry["description"] = param.help;
    entry["required"] = param.is_required;
    if (param.default_value) entry["default"] = *param.default_value;
    if (param.minimum) entry["minimum"] = Json::Int64(*param.minimum);
    if (param.maximum) entry["maximum"] = Json::UInt64(*param.maximum);
    if (!param.choices.empty()) entry["one_of"] = array_of(param.choices);
    if (!param.choices.empty() && param.ignore_case) entry["ignore_case"] = true;
    if (!param.aliases.empty()) entry["aliases"] = array_of(param.aliases);
    if (param.is_ignored) entry["ignored"] = true;
    if (param.is_secret) entry["secret"] = true;
    if (param.does_something) entry["acts"] = true;
    if (!param.fields.empty()) entry["fields"] = schema_of_params(param.fields);
    list.append(std::move(entry));
  }
  return list;
}

Json::Value get_methods(const MethodTable& table, const Lifecycle& lifecycle, const Params& params) {
  Json::Value names(Json::arrayValue);
  for (const Method* method : table.all()) {
    if (!method->is_allowed || (params.boolean("current") && !lifecycle.allows(method->phase))) continue;
    names.append(method->name);
    if (!params.boolean("include_aliases")) continue;
    for (const std::string& alias : method->aliases) names.append(alias);
  }
  return names;
}

Json::Value get_version(const Params&) {
  const Version number = version();
  Json::Value fields(Json::objectValue);
  fields["major"] = number.major;
  fields["minor"] = number.minor;
  fields["patch"] = number.patch;
  fields["suffix"] = "";
  Json::Value reply(Json::objectValue);
  reply["version"] = version_text() + " (NVMe-oF/TCP target, SPDK-compatible JSON-RPC)";
  reply["fields"] = std::move(fields);
  return reply;
}

struct SignalName {
  const char* name;
  int number;
};
constexpr std::array<SignalName, 6> signals = {
    {{"SIGINT", SIGINT}, {"SIGTERM", SIGTERM}, {"SIGQUIT", SIGQUIT}, {"SIGHUP", SIGHUP}, {"SIGKILL", SIGKILL}, {"SIGUSR1", SIGUSR1}}};

// SPDK takes the number too, as text ("15").
RpcResult<Json::Value> kill_instance(const Params& params) {
  const std::string name = params.string("sig_name");
  for (const SignalName& known : signals) {
    if (name != known.name && name != std::to_string(known.number)) continue;
    if (::kill(::getpid(), known.number) != 0) return std::unexpected<RpcError>(fail(errno, errno_text(errno)).error());
    return Json::Value(true);
  }
  return std::unexpected<RpcError>(std::in_place, invalid_params, fmt::format("Invalid parameters: no signal is named '{}'", name));
}

std::vector<std::string> signal_spellings() {
  std::vector<std::string> names;
  for (const SignalName& known : signals) names.push_back(known.name);
  for (const SignalName& known : signals) names.push_back(std::to_string(known.number));
  return names;
}

}  // namespace

Json::Value schema_of(const MethodTable& table) {
  Json::Value methods(Json::arrayValue);
  for (const Method* method : table.all()) {
    Json::Value entry(Json::objectValue);
    entry["name"] = method->name;
    entry["description"] = method->help;
    entry["phase"] = phase_name(method->phase);
    entry["changes_state"] = method->changes_state;
    if (method->changes_state && !method->is_kept) entry["kept"] = false;
    if (method->does_something) entry["acts"] = true;
    entry["aliases"] = array_of(method->aliases);
    entry["params"] = schema_of_params(method->params);
    entry["result"] = method->result_help;
    methods.append(std::move(entry));
  }
  Json::Value schema(Json::objectValue);
  schema["version"] = version_text();
  schema["methods"] = std::move(methods);
  return schema;
}

void register_introspection_methods(MethodTable& table, const Lifecycle& lifecycle) {
  table.add(Method("rpc_get_methods", "Names of the methods this process knows, and --rpcs-allowed lists")
                .with({Param("current", ParamType::boolean, "Only those that may be called now").or_default(false),
                       Param("include_aliases", ParamType::boolean, "Deprecated names too").or_default(false)})
                .result("Array of names, sorted")
                .in_phase(Phase::always)
                .handler([&table, &lifecycle](const Params& params) -> RpcResult<Json::Value> { return get_methods(table, lifecycle, params); }));
  table.add(Method("rpc_get_schema", "Every method with its parameters, bounds and help")
                .result("{version, methods: [{name, description, phase, changes_state, kept, acts, aliases, params, result}]}")
                .in_phase(Phase::always)
                .handler([&table](const Params&) -> RpcResult<Json::Value> { return schema_of(table); }));
  table.add(Method("spdk_get_version", "Name and version of this process")
                .result("{version, fields: {major, minor, patch, suffix}}")
                .in_phase(Phase::always)
                .handler([](const Params& params) -> RpcResult<Json::Value> { return get_version(params); }));
  table.add(Method("spdk_kill_instance", "Sends a signal to this process")
                .with({Param("sig_name", ParamType::string, "Name or number of the signal; SIGTERM and SIGINT end it in good order")
                           .required()
                           .one_of(signal_spellings())})
                .in_phase(Phase::always)
                .acts()
                .handler(kill_instance));
}

}  // namespace catnap::rpc
