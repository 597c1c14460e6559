// Reading and replaying a configuration. See config_file.h.
// Owner: parsing: none; replaying: app_thread.
#include "server/config_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "reactor/base/log.h"
#include "rpc/json.h"

namespace catnap::server {
namespace {

constexpr const char* demo_text = R"({"subsystems": [
  {"subsystem": "bdev", "config": [
    {"method": "bdev_malloc_create", "params": {"name": "Malloc0", "num_blocks": 2097152, "block_size": 512}}]},
  {"subsystem": "nvmf", "config": [
    {"method": "nvmf_create_transport", "params": {"trtype": "TCP"}},
    {"method": "nvmf_create_subsystem", "params": {"nqn": "nqn.2026-11.io.catnap:demo", "allow_any_host": true, "serial_number": "CATNAPDEMO"}},
    {"method": "nvmf_subsystem_add_ns", "params": {"nqn": "nqn.2026-11.io.catnap:demo", "namespace": {"bdev_name": "Malloc0"}}},
    {"method": "nvmf_subsystem_add_listener", "params": {"nqn": "nqn.2026-11.io.catnap:demo",
      "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4420"}}}]}
]})";

// Comments become blanks, so that places in error messages stay true.
std::string without_comments(std::string text) {
  bool in_string = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (in_string) {
      if (text[at] == '\\')
        ++at;
      else if (text[at] == '"')
        in_string = false;
      continue;
    }
    if (text[at] == '"') in_string = true;
    const bool line = text.compare(at, 2, "//") == 0;
    if (!line && text.compare(at, 2, "/*") != 0) continue;
    const auto found = text.find(line ? "\n" : "*/", at + 2);
    const auto end = found == std::string::npos ? text.size() : found + (line ? 0 : 2);
    std::replace_if(
        text.begin() + static_cast<std::ptrdiff_t>(at), text.begin() + static_cast<std::ptrdiff_t>(end), [](char c) { return c != '\n'; }, ' ');
    at = end - 1;
  }
  return text;
}

// One entry of "config": a call, or an array of them.
Result<void> collect(const std::string& file, const std::string& subsystem, const Json::Value& entry, std::vector<ConfigCall>& calls) {
  if (entry.isArray()) {
    for (const Json::Value& one : entry) {
      if (auto collected = collect(file, subsystem, one, calls); !collected) return collected;
    }
    return {};
  }
  if (!entry.isObject() || !entry["method"].isString()) {
    return fail(EINVAL,
                fmt::format("{}: subsystem '{}': an entry of \"config\" has no \"method\" string: {}", file, subsystem, rpc::json_excerpt(entry)));
  }
  ConfigCall call;
  call.subsystem = subsystem;
  call.method = entry["method"].asString();
  call.params = entry["params"];
  if (!call.params.isNull() && !call.params.isObject()) {
    return fail(EINVAL, fmt::format("{}: subsystem '{}': method '{}': \"params\" is not an object", file, subsystem, call.method));
  }
  calls.push_back(std::move(call));
  return {};
}

Result<void> collect_subsystem(const std::string& file, const Json::Value& subsystem, std::vector<ConfigCall>& calls) {
  if (!subsystem.isObject() || !subsystem["subsystem"].isString()) {
    return fail(EINVAL, fmt::format("{}: an entry of \"subsystems\" has no \"subsystem\" string: {}", file, rpc::json_excerpt(subsystem)));
  }
  const std::string name = subsystem["subsystem"].asString();
  const Json::Value& config = subsystem["config"];
  if (config.isNull()) return {};
  if (!config.isArray()) return fail(EINVAL, fmt::format("{}: subsystem '{}': \"config\" is not an array", file, name));
  return collect(file, name, config, calls);
}

}  // namespace

Result<ConfigFile> ConfigFile::read(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"), std::fclose);
  if (file == nullptr) return fail(errno, fmt::format("configuration file {}: {}", path, errno_text(errno)));
  std::string text;
  char chunk[65536];
  std::size_t got = 0;
  while ((got = std::fread(chunk, 1, sizeof(chunk), file.get())) > 0) {
    text.append(chunk, got);
    if (text.size() > max_bytes) return fail(EFBIG, fmt::format("configuration file {} is longer than {} bytes", path, max_bytes));
  }
  if (std::ferror(file.get()) != 0) return fail(EIO, fmt::format("configuration file {}: {}", path, errno_text(errno)));
  return parse(path, text);
}

Result<ConfigFile> ConfigFile::parse(const std::string& name, const std::string& text) {
  const auto root = rpc::parse_json(without_comments(text));
  if (!root) {
    const bool duplicate = root.error().kind == rpc::JsonError::Kind::duplicate_key;
    return fail(EINVAL,
                fmt::format("configuration file {}: {}{}", name, duplicate ? "a member stands twice in its object: " : "", root.error().message));
  }
  ConfigFile file;
  file.name_ = fmt::format("configuration file {}", name);
  if (!root->isObject() || !(*root)["subsystems"].isArray()) return fail(EINVAL, fmt::format("{}: there is no \"subsystems\" array", file.name_));
  for (const Json::Value& subsystem : (*root)["subsystems"]) {
    if (auto collected = collect_subsystem(file.name_, subsystem, file.calls_); !collected) return std::unexpected(collected.error());
  }
  return file;
}

ConfigFile ConfigFile::demo() {
  auto parsed = parse("of --demo", demo_text);
  CATNAP_CHECK(parsed.has_value());
  return std::move(*parsed);
}

Task<Result<void>> ConfigFile::replay(rpc::Dispatcher* dispatcher, Which which, bool ignore_errors) const {
  for (const ConfigCall& call : calls_) {
    const rpc::Method* method = dispatcher->methods().find(call.method);
    const bool is_startup = method != nullptr && method->phase == rpc::Phase::startup_only;
    if (is_startup != (which == Which::startup)) continue;
    rpc::RpcResult<Json::Value> reply = co_await dispatcher->call(call.method, call.params, rpc::Origin::config_file);
    if (reply) continue;
    std::string what = fmt::format("{}: subsystem '{}': {} failed: {} ({})", name_, call.subsystem, rpc::printable(call.method),
                                   reply.error().message, reply.error().code);
    if (!ignore_errors) co_return fail(reply.error().code > -4096 ? -reply.error().code : EINVAL, std::move(what));
    log_error("{}", what);
  }
  co_return Result<void>();
}

}  // namespace catnap::server
