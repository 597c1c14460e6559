// nvmf_subsystem_get_controllers, nvmf_subsystem_get_qpairs, nvmf_get_stats. See controllers_rpc.h.
// Owner: app_thread. Left out: per-host statistics.
#include "server/controllers_rpc.h"

#include <cstdint>
#include <string>

#include "reactor/clock.h"
#include "server/authentication.h"
#include "server/controller_table.h"
#include "server/names.h"
#include "server/nvmf_common_rpc.h"
#include "server/server_group.h"
#include "server/transport_limits_rpc.h"

namespace catnap::server {

namespace {

using Address = transport::CommandQueue::Address;

Json::Value as_json(const Address& address) {
  ListenAddress shown;
  shown.adrfam = address.adrfam;
  shown.traddr = address.traddr;
  shown.trsvcid = address.trsvcid;
  return address_json(shown);
}

Json::Value as_json(const ControllerInfo& controller) {
  Json::Value json(Json::objectValue);
  json["cntlid"] = controller.cntlid;
  json["cntrltype"] = controller.discovery ? "discovery" : "io";
  json["hostnqn"] = controller.hostnqn;
  json["hostid"] = uuid_text(controller.hostid);
  json["num_io_qpairs"] = controller.io_queues;
  return json;
}

Json::Value channel_json(const transport::SecureChannel& channel) {
  Json::Value json(Json::objectValue);
  json["suite"] = channel.suite;
  json["identity_version"] = channel.identity_version;
  json["key_type"] = channel.generated ? "generated" : "configured";
  json["key"] = channel.key_name;
  json["ktls_tx"] = channel.kernel_sends;
  json["ktls_rx"] = channel.kernel_receives;
  return json;
}

Json::Value as_json(const QueueInfo& queue) {
  Json::Value json(Json::objectValue);
  json["cntlid"] = queue.cntlid;
  json["qid"] = queue.qid;
  json["state"] = queue.ending ? "deactivating" : "enabled";
  json["thread"] = queue.thread_name;
  json["hostnqn"] = queue.hostnqn;
  json["listen_address"] = as_json(queue.local);
  json["peer_address"] = as_json(queue.peer);
  json["tls"] = queue.channel ? channel_json(*queue.channel) : Json::Value();
  const AuthShown* auth = queue.authentication.get();
  if (auth == nullptr || auth->state.load(std::memory_order_relaxed) == AuthShown::none) return json;
  const std::uint8_t state = auth->state.load(std::memory_order_relaxed);
  json["auth"]["state"] = dhchap::TargetExchange::name_of(static_cast<dhchap::TargetExchange::State>(state));
  json["auth"]["digest"] = std::string(dhchap::name_of(static_cast<dhchap::AuthHash>(auth->hash.load(std::memory_order_relaxed))));
  json["auth"]["dhgroup"] = std::string(dhchap::name_of(static_cast<dhchap::AuthGroup>(auth->group.load(std::memory_order_relaxed))));
  return json;
}

Json::UInt64 number(std::uint64_t value) { return static_cast<Json::UInt64>(value); }

Json::Value transport_stats(const tcp::TcpStats& stats) {
  Json::Value json(Json::objectValue);
  json["trtype"] = "TCP";
  json["pdus_received"] = number(stats.pdus_received);
  json["pdus_sent"] = number(stats.pdus_sent);
  json["bytes_received"] = number(stats.bytes_received);
  json["bytes_sent"] = number(stats.bytes_sent);
  json["receive_calls"] = number(stats.receive_calls);
  json["send_calls"] = number(stats.send_calls);
  json["header_digest_errors"] = number(stats.header_digest_errors);
  json["data_digest_errors"] = number(stats.data_digest_errors);
  json["connections_total"] = number(stats.connections_total);
  json["terminations_sent"] = number(stats.terminations_sent);
  show_refusals(stats, json);
  return json;
}

Json::Value as_json(const ServerGroup& group) {
  const ServerGroup::Stats stats = group.stats();
  Json::Value json(Json::objectValue);
  json["name"] = group.thread().name();
  json["admin_qpairs"] = number(stats.admin_qpairs);
  json["io_qpairs"] = number(stats.io_qpairs);
  json["current_admin_qpairs"] = number(stats.current_admin_qpairs);
  json["current_io_qpairs"] = number(stats.current_io_qpairs);
  json["current_unassociated_qpairs"] = number(stats.current_unassociated_qpairs);
  json["pending_bdev_io"] = number(stats.pending_bdev_io);
  json["completed_nvme_io"] = number(stats.completed_nvme_io);
  json["transports"] = Json::Value(Json::arrayValue);
  if (target().transport()) json["transports"].append(transport_stats(group.tcp_stats()));
  return json;
}

template <typename Infos>
Json::Value list(const Infos& infos) {
  Json::Value json(Json::arrayValue);
  for (const auto& info : infos) json.append(as_json(info));
  return json;
}

}  // namespace

void register_controllers_methods(rpc::MethodTable& table, ControllerTable& controllers, const std::vector<ServerGroup*>& groups) {
  table.add(rpc::Method("nvmf_subsystem_get_controllers", "List the controllers of a subsystem")
                .with({nqn_param(), tgt_name_param()})
                .result("array of {cntlid, cntrltype, hostnqn, hostid, num_io_qpairs}")
                .handler([&controllers](const rpc::Params& params) -> Reply {
                  const auto subsystem = target().find(nqn_of(params));
                  if (!subsystem) return std::unexpected(rpc::RpcError(subsystem.error()));
                  return list(controllers.controllers((*subsystem)->nqn));
                }));
  table.add(rpc::Method("nvmf_subsystem_get_qpairs", "List the queue pairs of a subsystem, admin queues included")
                .with({nqn_param(), tgt_name_param()})
                .result("array of {cntlid, qid, state, thread, hostnqn, listen_address, peer_address, tls: null or {suite, identity_version, "
                        "key_type, key, ktls_tx, ktls_rx}, auth: {state, digest, dhgroup} once that began}")
                .handler([&controllers](const rpc::Params& params) -> Reply {
                  const auto subsystem = target().find(nqn_of(params));
                  if (!subsystem) return std::unexpected(rpc::RpcError(subsystem.error()));
                  return list(controllers.queue_pairs((*subsystem)->nqn));
                }));
  table.add(rpc::Method("nvmf_get_stats", "Counters of every poll group")
                .with({tgt_name_param()})
                .result("object {tick_rate, connections: what came and was refused, poll_groups: array of counters}")
                .handler([&groups](const rpc::Params&) -> Reply {
                  Json::Value json(Json::objectValue);
                  json["tick_rate"] = number(ns_per_s);
                  json["connections"] = accept_counters(target().transport() ? &target().transport()->tcp : nullptr);
                  json["connections"]["current"] = target().connection_count();
                  json["connections"]["tls_handshakes"] = handshake_counters();
                  json["poll_groups"] = Json::Value(Json::arrayValue);
                  for (const ServerGroup* group : groups) json["poll_groups"].append(as_json(*group));
                  return json;
                }));
}

}  // namespace catnap::server
