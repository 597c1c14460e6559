// What the nvmf_* methods have in common: the parameters nqn, tgt_name and listen_address, and the way from a change to its reply.
// Owner: app_thread. Left out: everything about one method.
#pragma once

#include <json/json.h>

#include <cstdint>
#include <string>
#include <vector>

#include "reactor/task.h"
#include "rpc/method.h"
#include "server/snapshot.h"
#include "server/target.h"

namespace catnap::server {

using Reply = rpc::RpcResult<Json::Value>;

inline constexpr const char* target_name = "nvmf_tgt";        // SPDK's default
inline constexpr std::uint64_t max_nsid = 0xFFFFFFFE;         // NVMe Base 2.0, section 3.2.1.2: FFFFFFFFh is the broadcast value
inline constexpr std::uint64_t max_subsystems_limit = 65536;  // more than any caller asks for; each costs a few KiB

// "nqn", required.
rpc::Param nqn_param();
// "tgt_name": there is one target, under SPDK's default name.
rpc::Param tgt_name_param();
// "listen_address", required: trtype, adrfam, traddr, trsvcid. The members are checked by Target.
rpc::Param listen_address_param();

ListenAddress listen_address(const rpc::Params& params, const char* member = "listen_address");
// Array of {"nqn": …}.
Json::Value hosts_json(const std::vector<std::string>& hosts);
// The names of a host's keys, under the parameters of nvmf_subsystem_add_host; `keys` may be null.
void show_keys(const HostKeys* keys, Json::Value& to);
Json::Value address_json(const ListenAddress& address);
// Options as nvmf_create_transport takes them and nvmf_get_transports shows them.
Json::Value transport_json(const TransportConfig& config);
// `nqn` of the call; "discovery", and the discovery subsystem's unique NQN, stand for the discovery NQN.
std::string nqn_of(const rpc::Params& params);

// "ana_state": one of the five states (nvmf_ana_rpc.cpp).
rpc::Param ana_state_param();
// Array of {"ana_group", "ana_state"}, one per group there may be.
Json::Value ana_states_json(const SubsystemSnapshot& subsystem, const SubsystemSnapshot::ListenerEntry& listener);
// Calls that bring about what is not the listener's default state.
void append_ana_calls(const SubsystemSnapshot& subsystem, const SubsystemSnapshot::ListenerEntry& listener, Json::Value& calls);

Target& target();

// The reply to a change: true once it is committed.
Task<Reply> reply_when_settled(Target::Change change);
// The same for what takes something away: waits, bounded, until it is gone.
Task<Reply> reply_when_released(Target::Change change, Target::Watch released, std::string ended_nqn);

}  // namespace catnap::server
