// The state file over JSON-RPC. See state_rpc.h.
// Owner: app_thread.
#include "server/state_rpc.h"

namespace catnap::server {
namespace {

Json::Value get_state(const StateStore* store, const PendingCalls* pending) {
  Json::Value state(Json::objectValue);
  state["enabled"] = store != nullptr;
  if (store == nullptr) return state;
  const StateStore::Status& status = store->status();
  state["file"] = store->path();
  state["bytes"] = Json::UInt64(status.bytes);
  state["writes"] = Json::UInt64(status.writes);
  state["changes"] = Json::UInt64(status.changes);
  state["durable"] = !status.fault;
  if (status.fault) state["fault"] = status.fault->message;
  state["pending"] = pending->shown().size();
  return state;
}

}  // namespace

void register_state_methods(rpc::MethodTable& table, const StateStore* store, const PendingCalls* pending) {
  table.add(rpc::Method("framework_get_pending", "Calls of the state file that wait for an address, a device or a bdev, or were refused, and why")
                .result("[{subsystem, method, params, code, message, tries, retried}]; [] without --state")
                .in_phase(rpc::Phase::always)
                .handler([pending](const rpc::Params&) -> rpc::RpcResult<Json::Value> {
                  return pending != nullptr ? pending->shown() : Json::Value(Json::arrayValue);
                }));
  table.add(rpc::Method("framework_get_state", "The state file (--state): how often it was written, and whether it has what is in force")
                .result("{enabled, file, bytes, writes, changes, durable, fault, pending}")
                .in_phase(rpc::Phase::always)
                .handler([store, pending](const rpc::Params&) -> rpc::RpcResult<Json::Value> { return get_state(store, pending); }));
}

}  // namespace catnap::server
