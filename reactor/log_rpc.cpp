// The log's switches over JSON-RPC (log_rpc.h), with SPDK's names and answers.
// They are switches for a look, not configuration: only what is set with "persist" outlives a restart.
// Owner: app_thread. Left out: log files.
#include "reactor/log_rpc.h"

#include <fmt/format.h>

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "reactor/base/log.h"
#include "rpc/json.h"

namespace catnap {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

// What was set with "persist".
struct KeptLog {
  std::optional<bool> all_flags;
  std::map<std::string, bool> flags;  // on top of that
  std::optional<LogLevel> level, print_level;
};

void keep_flag(KeptLog& kept, const std::string& name, bool on) {
  if (name != "all") {
    kept.flags[name] = on;
    return;
  }
  kept.flags.clear();
  kept.all_flags = on;
}

RpcResult<Json::Value> switch_flag(const Params& params, KeptLog& kept, bool on) {
  const std::string name = params.string("flag");
  bool found = name == "all";
  std::set<std::string> known;  // two components may share a name; it switches both
  for (LogFlag* flag : log_flags()) {
    known.insert(flag->name());
    if (name != "all" && name != flag->name()) continue;
    flag->set(on);
    found = true;
  }
  if (found && params.boolean(rpc::persist_param_name)) keep_flag(kept, name, on);
  if (found) return Json::Value(true);
  return std::unexpected<RpcError>(
      std::in_place, -ENOENT,
      fmt::format("parameter 'flag': no log flag is named '{}' (there are {}, and all)", rpc::printable(name), fmt::join(known, ", ")));
}

RpcResult<Json::Value> get_flags(const Params&) {
  Json::Value flags(Json::objectValue);
  for (const LogFlag* flag : log_flags()) flags[flag->name()] = flag->enabled();
  return flags;
}

Json::Value name_of(LogLevel level) { return Json::Value(std::string(log_level_name(level))); }

Param level_param() {
  return Param("level", ParamType::string, "Lines of this level and of graver ones")
      .required()
      .one_of({"ERROR", "WARNING", "NOTICE", "INFO", "DEBUG", "DISABLED"}, true);
}

// Within the declared choices, so the name is known.
LogLevel level_of(const Params& params) { return log_level_from_name(params.string("level")).value_or(LogLevel::notice); }

Param flag_param() { return Param("flag", ParamType::string, "Name of a flag as log_get_flags shows it, or \"all\"").required(); }

void add_call(Json::Value& calls, const char* method, const char* param, const std::string& value) {
  Json::Value call(Json::objectValue);
  call["method"] = method;
  call["params"][param] = value;
  call["params"][rpc::persist_param_name] = true;
  calls.append(std::move(call));
}

Json::Value config_calls(const KeptLog& kept) {
  Json::Value calls(Json::arrayValue);
  const auto method = [](bool on) { return on ? "log_set_flag" : "log_clear_flag"; };
  const bool all = kept.all_flags.value_or(false);  // off is how they begin
  if (all) add_call(calls, method(true), "flag", "all");
  for (const auto& [name, on] : kept.flags) {
    if (on != all) add_call(calls, method(on), "flag", name);
  }
  if (kept.level) add_call(calls, "log_set_level", "level", std::string(log_level_name(*kept.level)));
  if (kept.print_level) add_call(calls, "log_set_print_level", "level", std::string(log_level_name(*kept.print_level)));
  return calls;
}

}  // namespace

void register_log_methods(rpc::MethodTable& table, rpc::ConfigRegistry* registry) {
  const auto kept = std::make_shared<KeptLog>();
  if (registry != nullptr) registry->add("log", [kept] { return config_calls(*kept); });
  table.add(Method("log_set_flag", "Switches the info and debug lines of a component on")
                .with({flag_param(), rpc::persist_param()})
                .in_phase(rpc::Phase::always)
                .mutates()
                .handler([kept](const Params& params) { return switch_flag(params, *kept, true); }));
  table.add(Method("log_clear_flag", "Switches the info and debug lines of a component off")
                .with({flag_param(), rpc::persist_param()})
                .in_phase(rpc::Phase::always)
                .mutates()
                .handler([kept](const Params& params) { return switch_flag(params, *kept, false); }));
  table.add(Method("log_get_flags", "All flags and whether they are on").result("{FLAG: boolean}").in_phase(rpc::Phase::always).handler(get_flags));
  table.add(Method("log_set_level", "Level of what would go to syslog; kept for callers that set it, catnap writes to standard error only")
                .with({level_param(), rpc::persist_param()})
                .in_phase(rpc::Phase::always)
                .mutates()
                .handler([kept](const Params& params) -> RpcResult<Json::Value> {
                  log_set_level(level_of(params));
                  if (params.boolean(rpc::persist_param_name)) kept->level = level_of(params);
                  return Json::Value(true);
                }));
  table.add(Method("log_get_level", "What log_set_level set")
                .result("Name of a level")
                .in_phase(rpc::Phase::always)
                .handler([](const Params&) -> RpcResult<Json::Value> { return name_of(log_level()); }));
  table.add(Method("log_set_print_level", "Level of what goes to standard error")
                .with({level_param(), rpc::persist_param()})
                .in_phase(rpc::Phase::always)
                .mutates()
                .handler([kept](const Params& params) -> RpcResult<Json::Value> {
                  log_set_print_level(level_of(params));
                  if (params.boolean(rpc::persist_param_name)) kept->print_level = level_of(params);
                  return Json::Value(true);
                }));
  table.add(Method("log_get_print_level", "What log_set_print_level set")
                .result("Name of a level")
                .in_phase(rpc::Phase::always)
                .handler([](const Params&) -> RpcResult<Json::Value> { return name_of(log_print_level()); }));
  table.add(Method("log_enable_timestamps", "A time stamp in front of each line, or none")
                .with({Param("enabled", ParamType::boolean, "On or off").required()})
                .in_phase(rpc::Phase::always)
                .acts()
                .handler([](const Params& params) -> RpcResult<Json::Value> {
                  log_enable_timestamps(params.boolean("enabled"));
                  return Json::Value(true);
                }));
}

}  // namespace catnap
