// The keyring's methods: names, parameters and results of SPDK 26.09-pre (schema/schema.yaml). See keyring_rpc.h.
// Owner: app_thread; files are looked at on the worker pool.
#include "keyring/keyring_rpc.h"

#include "keyring/keyring.h"
#include "reactor/runtime.h"
#include "reactor/task.h"
#include "reactor/worker_pool.h"

namespace catnap::keyring {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

Promise<Result<void>> checking(const std::string& path) {
  auto work = [path] { return check_key_file(path); };
  return call_blocking<Result<void>>(Runtime::instance()->workers(), std::move(work));
}

Task<RpcResult<Json::Value>> add_key(Params params) {
  const std::string path = params.string("path");
  const Promise<Result<void>> check = checking(path);
  const Result<void> fit = co_await check;
  if (!fit) co_return std::unexpected(RpcError(fit.error()));
  const auto added = Keyring::instance().add_file(params.string("name"), path);
  if (!added) co_return std::unexpected(RpcError(added.error()));
  co_return Json::Value(true);
}

RpcResult<Json::Value> remove_key(const Params& params) {
  const auto removed = Keyring::instance().remove(params.string("name"));
  if (!removed) return std::unexpected(RpcError(removed.error()));
  return Json::Value(true);
}

RpcResult<Json::Value> get_keys(const Params&) {
  Json::Value list(Json::arrayValue);
  for (const Keyring::Entry& key : Keyring::instance().all()) {
    Json::Value entry(Json::objectValue);
    entry["name"] = key.name;
    entry["module"] = "keyring_file";
    entry["removed"] = key.removed;
    entry["probed"] = false;  // of modules that find keys by themselves
    entry["refcnt"] = static_cast<Json::Int64>(key.refcnt);
    if (!key.removed) entry["path"] = key.path;
    list.append(entry);
  }
  return list;
}

Json::Value calls() {
  Json::Value list(Json::arrayValue);
  for (const Keyring::Entry& key : Keyring::instance().all()) {
    if (key.removed) continue;
    Json::Value call(Json::objectValue);
    call["method"] = "keyring_file_add_key";
    call["params"]["name"] = key.name;
    call["params"]["path"] = key.path;
    list.append(call);
  }
  return list;
}

}  // namespace

void register_keyring_methods(rpc::MethodTable& table) {
  table.add(Method("keyring_file_add_key", "Makes the contents of a file usable as a key under a name; the file is read at each use, never shown")
                .with({Param("name", ParamType::string, "Name of the key").required(),
                       Param("path", ParamType::string,
                             "Absolute path of the file, which must belong to the user of this process and give group and others no right")
                           .required()})
                .mutates()
                .coroutine(add_key));
  table.add(Method("keyring_file_remove_key", "Forgets a key; what uses it stays connected and cannot authenticate again with it")
                .with({Param("name", ParamType::string, "Name of the key").required()})
                .mutates()
                .takes_back_waiting({"keyring_file_add_key"}, {{"name", "name"}})
                .handler(remove_key));
  table.add(Method("keyring_get_keys", "Shows which keys there are and how many use each, not what they are")
                .result("array of {name, module, removed, probed, refcnt, path}")
                .handler(get_keys));
}

void register_keyring_config(rpc::ConfigRegistry& registry) { registry.add("keyring", calls); }

}  // namespace catnap::keyring
