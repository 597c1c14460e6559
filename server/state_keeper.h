// What --state keeps, put together: the calls that make the configuration in force, without what a restart shall not bring back, and those still
// pending. Stands between the dispatcher and the state file. Owner: app_thread. Left out: writing (state_store.h), pending calls (pending_calls.h),
// reading at start (state_file.h).
#pragma once

#include "rpc/change_keeper.h"
#include "rpc/config_registry.h"
#include "server/pending_calls.h"
#include "server/state_store.h"

namespace catnap::server {

// `config` in rpc::ConfigRegistry::all()'s form, as a state file keeps it: calls whose declaration says so are left out or have other values, of
// those with a parameter "persist" the ones where it is true stay, and calls that change nothing (waits) stay.
Json::Value kept_state(const rpc::MethodTable& methods, Json::Value config);

class StateKeeper final : public rpc::ChangeKeeper {
 public:
  StateKeeper(StateStore& store, PendingCalls& pending) : store_(store), pending_(pending) {}

  void prepare(const rpc::Method& method, const rpc::Params& params, Prepared prepared) override;
  void begins(bool prepared) override { store_.begins(prepared); }
  void made() override { store_.made(); }
  void settle(const rpc::Method& method, const rpc::Params& params, rpc::RpcResult<Json::Value> outcome, Answer answer) override;

 private:
  StateStore& store_;
  PendingCalls& pending_;
};

}  // namespace catnap::server
