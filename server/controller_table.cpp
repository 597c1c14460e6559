// All controllers. See controller_table.h.
// Owner: app_thread. Left out: what controllers do.
#include "server/controller_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <set>
#include <string_view>

#include "reactor/base/check.h"
#include "server/ana.h"
#include "server/connect.h"
#include "server/controller.h"
#include "server/discovery_view.h"
#include "server/happenings.h"
#include "server/server_group.h"

namespace catnap::server {

namespace {

bool is_generated(const QueueInfo& queue) { return queue.channel && queue.channel->generated; }

}  // namespace

namespace {

// Discovery controllers come and go all the time, and nobody's I/O depends on them.
void tell_of_host(const char* what, const std::string& nqn, std::uint16_t cntlid, const QueueInfo& admin) {
  Happenings::instance().tell_of_host(
      Happening(what, admin.hostnqn).with("subsystem", nqn).with("cntlid", fmt::to_string(cntlid)).with("address", admin.peer.traddr));
}

}  // namespace

ControllerTable::ControllerTable(Thread& app_thread) : app_thread_(app_thread) {}

ControllerTable::~ControllerTable() = default;

// --- Connect ---

// A controller of the same HOSTID that came through the same listener; one whose admin queue is gone counts until its last I/O is done.
const ControllerTable::Entry* ControllerTable::duplicate_of(const NewQueue& queue, const SubsystemSnapshot& subsystem) const {
  const auto* listener = subsystem.listener_for(queue.info.local.traddr, queue.info.local.trsvcid);
  for (auto at = entries_.lower_bound(Key(subsystem.nqn, 0)); at != entries_.end() && at->first.first == subsystem.nqn; ++at) {
    const Entry& entry = at->second;
    const transport::CommandQueue::Address& local = entry.admin.local;
    if (entry.hostid == queue.host.hostid && subsystem.listener_for(local.traddr, local.trsvcid) == listener) return &entry;
  }
  return nullptr;
}

std::expected<std::shared_ptr<Controller>, ConnectFailure> ControllerTable::create(const NewQueue& queue, const SubsystemSnapshot& subsystem) {
  const std::string& nqn = subsystem.nqn;
  if (const Entry* present = subsystem.one_controller_per_host ? duplicate_of(queue, subsystem) : nullptr) {
    return std::unexpected(ConnectFailure(
        nvme::FabricsStatus::controller_busy, 0,
        fmt::format("host {} has controller {} of subsystem {} through this listener already", queue.host.hostnqn, present->admin.cntlid, nqn)));
  }
  const std::uint32_t span = std::uint32_t{subsystem.max_cntlid} - subsystem.min_cntlid + 1;
  std::uint16_t& last = last_cntlid_.try_emplace(nqn, static_cast<std::uint16_t>(subsystem.min_cntlid - 1)).first->second;
  if (last < subsystem.min_cntlid - 1 || last > subsystem.max_cntlid) last = static_cast<std::uint16_t>(subsystem.min_cntlid - 1);
  for (std::uint32_t tried = 0; tried < span; ++tried) {
    last = last >= subsystem.max_cntlid ? subsystem.min_cntlid : static_cast<std::uint16_t>(last + 1);
    const Key key(nqn, last);
    if (entries_.contains(key)) continue;
    Entry& entry = entries_[key];
    entry.controller = std::make_shared<Controller>(*queue.group, queue.queue_id, queue.host, last, subsystem.discovery, queue.kato_ms);
    entry.admin = queue.info;
    entry.admin.cntlid = last;
    entry.hostid = queue.host.hostid;
    entry.discovery = subsystem.discovery;
    if (entry.discovery) ++discovery_controllers_;
    if (hosts_.add(nqn, entry.admin.hostnqn, entry.admin.peer)) tell_host_log(nqn, entry.admin.hostnqn);
    if (!entry.discovery) tell_of_host(host_connected, nqn, last, entry.admin);
    if (is_generated(entry.admin)) generated_psks_changed();
    return entry.controller;
  }
  return std::unexpected(
      ConnectFailure(nvme::FabricsStatus::controller_busy, 0,
                     fmt::format("every controller id of subsystem {} ({}..{}) is taken", nqn, subsystem.min_cntlid, subsystem.max_cntlid)));
}

std::expected<std::shared_ptr<Controller>, ConnectFailure> ControllerTable::attach(const NewQueue& queue) {
  const auto found = entries_.find(Key(queue.host.subnqn, queue.info.cntlid));
  if (found == entries_.end() || found->second.admin_gone) {
    return std::unexpected(bad_connect_data(offsetof(nvme::ConnectData, cntlid),
                                            fmt::format("subsystem {} has no controller {}", queue.host.subnqn, queue.info.cntlid)));
  }
  Entry& entry = found->second;
  if (entry.admin.hostnqn != queue.host.hostnqn) {
    return std::unexpected(
        bad_connect_data(offsetof(nvme::ConnectData, hostnqn),
                         fmt::format("controller {} belongs to host {}, not {}", queue.info.cntlid, entry.admin.hostnqn, queue.host.hostnqn)));
  }
  if (entry.hostid != queue.host.hostid) {
    return std::unexpected(
        bad_connect_data(offsetof(nvme::ConnectData, hostid), fmt::format("HOSTID is not that of controller {}", queue.info.cntlid)));
  }
  // Whoever could strip the one queue of its protection would have what passes on it.
  if (entry.admin.channel.has_value() != queue.info.channel.has_value()) {
    return std::unexpected(ConnectFailure(nvme::Status(nvme::FabricsStatus::connect_invalid_host).with_dnr(), 0,
                                          fmt::format("the admin queue of controller {} is {} by TLS, and its I/O queues must be as well",
                                                      queue.info.cntlid, entry.admin.channel ? "secured" : "not secured")));
  }
  ControllerShared& shared = entry.controller->shared();
  if (queue.info.qid > shared.granted_io_queues.load()) {
    return std::unexpected(bad_connect_command(offsetof(nvme::ConnectCommand, qid), fmt::format("QID {} is above the {} I/O queues granted",
                                                                                                queue.info.qid, shared.granted_io_queues.load())));
  }
  for (const IoRecord& record : entry.io_queues) {
    if (record.info.qid != queue.info.qid || record.ending) continue;
    return std::unexpected(bad_connect_command(offsetof(nvme::ConnectCommand, qid), fmt::format("QID {} is in use", queue.info.qid)));
  }
  // Counted first, then looked: see ControllerShared::accepting_io.
  shared.io_queues.fetch_add(1);
  if (!shared.accepting_io.load()) {
    shared.io_queues.fetch_sub(1);
    settle(found);  // a reset may have counted this queue and wait for it
    return std::unexpected(ConnectFailure(nvme::Status(nvme::GenericStatus::command_sequence_error).with_dnr(), 0,
                                          fmt::format("controller {} is not ready for I/O queues", queue.info.cntlid)));
  }
  IoRecord record;
  record.info = queue.info;
  record.group = queue.group;
  record.queue_id = queue.queue_id;
  entry.io_queues.push_back(std::move(record));
  return entry.controller;
}

// --- the end of queues ---

void ControllerTable::end_queues(Entry& entry, const std::string& reason, bool at_once) {
  for (IoRecord& record : entry.io_queues) {
    if (record.ending && !at_once) continue;
    record.ending = true;
    record.group->end_queue(record.queue_id, reason, at_once);
  }
}

void ControllerTable::end_io_queues(const std::string& nqn, std::uint16_t cntlid, const std::string& reason, bool at_once) {
  const auto found = entries_.find(Key(nqn, cntlid));
  if (found == entries_.end()) return;
  found->second.draining = true;
  end_queues(found->second, reason, at_once);
  settle(found);
}

void ControllerTable::reset_subsystem(const std::string& nqn) {
  for (auto at = entries_.lower_bound(Key(nqn, 0)); at != entries_.end() && at->first.first == nqn; ++at) {
    if (at->second.admin_gone) continue;
    at->second.controller->group().thread().send([controller = at->second.controller] { controller->subsystem_reset(); });
  }
}

void ControllerTable::abort_command(const std::string& nqn, std::uint16_t cntlid, std::uint16_t qid, std::uint16_t cid,
                                    std::move_only_function<void(bool)> done) {
  const auto found = entries_.find(Key(nqn, cntlid));
  if (found == entries_.end()) return done(false);
  const auto& queues = found->second.io_queues;
  const auto record = std::find_if(queues.begin(), queues.end(), [qid](const IoRecord& each) { return each.info.qid == qid && !each.ending; });
  if (record == queues.end()) return done(false);
  auto answer = [this, done = std::move(done)](bool aborted) mutable {
    app_thread_.send([done = std::move(done), aborted]() mutable { done(aborted); });
  };
  record->group->abort_command(record->queue_id, cid, std::move(answer));
}

std::vector<std::uint16_t> ControllerTable::controller_ids(const std::string& nqn, const SubsystemSnapshot& subsystem, std::uint32_t nsid) const {
  std::vector<std::uint16_t> ids;
  for (auto at = entries_.lower_bound(Key(nqn, 0)); at != entries_.end() && at->first.first == nqn; ++at) {
    if (at->second.admin_gone) continue;
    if (nsid != 0 && subsystem.visible_namespace(nsid, at->second.admin.hostnqn) == nullptr) continue;
    ids.push_back(at->first.second);
  }
  return ids;
}

void ControllerTable::admin_closed(const std::string& nqn, std::uint16_t cntlid) {
  const auto found = entries_.find(Key(nqn, cntlid));
  if (found == entries_.end()) return;
  found->second.admin_gone = true;
  end_queues(found->second, "the controller's admin queue is gone", false);
  settle(found);
}

void ControllerTable::io_closed(const std::string& nqn, std::uint16_t cntlid, std::uint16_t qid, std::uint64_t queue_id) {
  const auto found = entries_.find(Key(nqn, cntlid));
  if (found == entries_.end()) return;
  Entry& entry = found->second;
  const auto record = std::find_if(entry.io_queues.begin(), entry.io_queues.end(),
                                   [&](const IoRecord& each) { return each.info.qid == qid && each.queue_id == queue_id; });
  if (record == entry.io_queues.end()) return;
  entry.io_queues.erase(record);
  entry.controller->shared().io_queues.fetch_sub(1);
  settle(found);
}

// A host has its first controller of a subsystem, or lost its last: each discovery controller decides whether its host may know.
void ControllerTable::tell_host_log(const std::string& nqn, const std::string& hostnqn) {
  if (discovery_controllers_ == 0) return;
  for (const auto& [key, entry] : entries_) {
    if (!entry.discovery || entry.admin_gone) continue;
    const auto& controller = entry.controller;
    controller->group().thread().send([controller, nqn, hostnqn] { controller->host_log_changed(nqn, hostnqn); });
  }
}

// A key counts as in use as long as it protects a controller's admin queue, or was made over it in place of the one that does.
void ControllerTable::generated_psks_changed() {
  std::set<std::string_view> in_use;
  for (const auto& [key, entry] : entries_) {
    if (!entry.admin_gone && is_generated(entry.admin)) in_use.insert(entry.admin.channel->key_name);
  }
  const auto next_ns = generated_psks_.prune(app_thread_.now_ns(), [&](const GeneratedPsks::Shown& key) {
    if (in_use.contains(key.name)) return true;
    const auto maker = entries_.find(Key(key.controller_subnqn, key.cntlid));
    return maker != entries_.end() && !maker->second.admin_gone;
  });
  psk_timer_.disarm();
  if (next_ns) app_thread_.arm_at(psk_timer_, *next_ns);
}

// Takes the steps that waited for the last I/O queue.
void ControllerTable::settle(std::map<Key, Entry>::iterator at) {
  Entry& entry = at->second;
  if (!entry.io_queues.empty()) return;
  if (entry.admin_gone) {
    if (entry.discovery) --discovery_controllers_;
    const bool log_differs = hosts_.remove(at->first.first, entry.admin.hostnqn, entry.admin.peer);
    const auto gone = entries_.extract(at);
    if (!gone.mapped().discovery) tell_of_host(host_disconnected, gone.key().first, gone.key().second, gone.mapped().admin);
    if (is_generated(gone.mapped().admin)) generated_psks_changed();
    if (log_differs) tell_host_log(gone.key().first, gone.mapped().admin.hostnqn);
    return;
  }
  if (std::exchange(entry.draining, false)) {
    entry.controller->group().thread().send([controller = entry.controller] { controller->io_queues_ended(); });
  }
}

// --- configuration ---

namespace {

// NSIDs that this host sees come, go, or change.
std::vector<std::uint32_t> changed_namespaces(const SubsystemSnapshot& old, const SubsystemSnapshot& next, const std::string& hostnqn) {
  std::vector<std::uint32_t> changed;
  for (const auto& [nsid, config] : next.namespaces) {
    const NamespaceConfig* now = next.visible_namespace(nsid, hostnqn);
    const NamespaceConfig* before = old.visible_namespace(nsid, hostnqn);
    const bool differs = (now == nullptr) != (before == nullptr) || (now != nullptr && now->attributes_generation != before->attributes_generation);
    if (differs) changed.push_back(nsid);
  }
  for (const auto& [nsid, config] : old.namespaces) {
    if (!next.namespaces.contains(nsid) && old.visible_namespace(nsid, hostnqn) != nullptr) changed.push_back(nsid);
  }
  return changed;
}

}  // namespace

// What was counted for a namespace or subsystem goes with it.
void ControllerTable::forget_statistics(const TargetSnapshot& old, const TargetSnapshot& next) {
  for (const auto& [nqn, before] : old.subsystems) {
    const auto found = next.subsystems.find(nqn);
    if (found != next.subsystems.end() && found->second == before) continue;
    const SubsystemSnapshot* now = found == next.subsystems.end() ? nullptr : found->second.get();
    for (const auto& [nsid, config] : before->namespaces) {
      if (now == nullptr || !now->namespaces.contains(nsid)) io_statistics_.forget_namespace({nqn, nsid});
    }
    if (now == nullptr) io_statistics_.forget_subsystem(nqn);
  }
}

void ControllerTable::configuration_changed(const std::shared_ptr<const TargetSnapshot>& old, const std::shared_ptr<const TargetSnapshot>& next) {
  if (old != nullptr) forget_statistics(*old, *next);
  const bool discovery_differs = old == nullptr || old->discovery_generation != next->discovery_generation;
  for (const auto& [key, entry] : entries_) {
    if (entry.admin_gone) continue;
    const auto& controller = entry.controller;
    Thread& thread = controller->group().thread();
    if (entry.discovery) {
      // The log differs for some host; only those that read another one now are told.
      const bool told = discovery_differs && (old == nullptr || discovery_view_differs(*old, *next, entry.admin.hostnqn, entry.admin.local));
      if (told) thread.send([controller] { controller->discovery_changed(); });
      // Of other hosts it learns more, or less, by what it may enter now.
      const std::string& host = entry.admin.hostnqn;
      for (const std::string& nqn : discovery_differs&& old != nullptr ? hosts_.subsystems() : std::vector<std::string>()) {
        if (knows_hosts_of(*old, nqn, host) == knows_hosts_of(*next, nqn, host)) continue;
        thread.send([controller, nqn, host] { controller->host_log_changed(nqn, host); });
      }
      continue;
    }
    const SubsystemSnapshot* before = old == nullptr ? nullptr : old->find(key.first);
    const SubsystemSnapshot* now = next->find(key.first);
    if (before == nullptr || now == nullptr || before == now) continue;
    std::vector<std::uint32_t> nsids = changed_namespaces(*before, *now, entry.admin.hostnqn);
    const bool ana_differs = now->ana_reporting && ana_differs_for_host(*before, *now, entry.admin.local, entry.admin.hostnqn);
    if (nsids.empty() && !ana_differs) continue;
    thread.send([controller, nsids = std::move(nsids), ana_differs] {
      controller->namespaces_changed(nsids);
      if (ana_differs) controller->ana_changed();
    });
  }
}

// --- RPCs ---

bool ControllerTable::has_controllers(const std::string& nqn) const {
  const auto found = entries_.lower_bound(Key(nqn, 0));
  return found != entries_.end() && found->first.first == nqn;
}

std::size_t ControllerTable::controllers_of_host(const std::string& nqn, const std::string& hostnqn) const {
  std::size_t count = 0;
  for (auto at = entries_.lower_bound(Key(nqn, 0)); at != entries_.end() && at->first.first == nqn; ++at) {
    if (at->second.admin.hostnqn == hostnqn) ++count;
  }
  return count;
}

std::vector<ControllerInfo> ControllerTable::controllers(const std::string& nqn) const {
  std::vector<ControllerInfo> infos;
  for (auto at = entries_.lower_bound(Key(nqn, 0)); at != entries_.end() && at->first.first == nqn; ++at) {
    const Entry& entry = at->second;
    if (entry.admin_gone) continue;
    ControllerInfo info;
    info.cntlid = at->first.second;
    info.discovery = entry.discovery;
    info.hostnqn = entry.admin.hostnqn;
    info.hostid = entry.hostid;
    info.io_queues = static_cast<std::uint32_t>(entry.io_queues.size());
    infos.push_back(std::move(info));
  }
  return infos;
}

std::vector<QueueInfo> ControllerTable::queue_pairs(const std::string& nqn) const {
  std::vector<QueueInfo> infos;
  for (auto at = entries_.lower_bound(Key(nqn, 0)); at != entries_.end() && at->first.first == nqn; ++at) {
    const Entry& entry = at->second;
    if (!entry.admin_gone) infos.push_back(entry.admin);
    const std::size_t first = infos.size();
    for (const IoRecord& record : entry.io_queues) {
      infos.push_back(record.info);
      infos.back().ending = record.ending;
    }
    std::sort(infos.begin() + static_cast<std::ptrdiff_t>(first), infos.end(), [](const QueueInfo& a, const QueueInfo& b) { return a.qid < b.qid; });
  }
  return infos;
}

}  // namespace catnap::server
