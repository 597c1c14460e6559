// What the nvmf_* methods have in common: the parameters nqn, tgt_name and listen_address, and the way from a change to its reply.
// Owner: app_thread. Left out: everything about one method.
#pragma once

#include <json/json.h>

#include <string>

#include "reactor/task.h"
#include "rpc/method.h"
#include "server/snapshot.h"
#include "server/target.h"

namespace catnap::server {

using Reply = rpc::RpcResult<Json::Value>;

// "nqn", required.
rpc::Param nqn_param();
// "tgt_name": there is one target, under SPDK's default name.
rpc::Param tgt_name_param();
// "listen_address", required: trtype, adrfam, traddr, trsvcid. The members are checked by Target.
rpc::Param listen_address_param();

ListenAddress listen_address(const rpc::Params& params);
Json::Value address_json(const ListenAddress& address);
// Options as nvmf_create_transport takes them and nvmf_get_transports shows them.
Json::Value transport_json(const TransportConfig& config);
// `nqn` of the call; "discovery" stands for the discovery NQN.
std::string nqn_of(const rpc::Params& params);

Target& target();

// The reply to a change: true once it is committed.
Task<Reply> reply_when_settled(Target::Change change);
// The same for what takes something away: waits, bounded, until it is gone.
Task<Reply> reply_when_released(Target::Change change, Target::Watch released, std::string ended_nqn);

}  // namespace catnap::server
