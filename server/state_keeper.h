// Stands between the dispatcher and the state file: asks for room before a change, and holds its answer back until what is in force is on disk.
// Owner: app_thread. Left out: what the file has (state_text.h), writing (state_store.h), pending calls (pending_calls.h), reading at start
// (state_file.h).
#pragma once

#include "rpc/change_keeper.h"
#include "server/pending_calls.h"
#include "server/state_store.h"

namespace catnap::server {

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
