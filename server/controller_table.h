// All controllers of the target: allocates controller ids, finds the controller for an I/O queue, ends the queues of a lost controller, and tells
// controllers of configuration changes.
// Owner: app_thread, every member. Left out: what a controller does (controller.h, on its admin queue's thread).
#pragma once

#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "reactor/thread.h"
#include "reactor/timer.h"
#include "server/generated_psks.h"
#include "server/host_directory.h"
#include "server/host_identity.h"
#include "server/io_statistics.h"
#include "server/reservations/rules.h"
#include "server/snapshot.h"
#include "transport/nvme/status.h"

namespace catnap::server {

class Controller;
class ServerGroup;

// How a Connect failed: its status and DW0 (IPO and IATTR for Connect Invalid Parameters), and a sentence for the log.
struct ConnectFailure {
  ConnectFailure(nvme::Status connect_status, std::uint32_t connect_dw0, std::string text)
      : status(connect_status), dw0(connect_dw0), reason(std::move(text)) {}
  nvme::Status status;
  std::uint32_t dw0;
  std::string reason;
};

class ControllerTable {
 public:
  explicit ControllerTable(Thread& app_thread);
  ~ControllerTable();
  ControllerTable(const ControllerTable&) = delete;
  ControllerTable& operator=(const ControllerTable&) = delete;

  Thread& app_thread() const { return app_thread_; }

  // --- for the configuration ---
  // After the commit of `next` (every group has acknowledged it): raises the asynchronous events that hosts asked for.
  void configuration_changed(const std::shared_ptr<const TargetSnapshot>& old, const std::shared_ptr<const TargetSnapshot>& next);
  // Notices of a reservation command to all controllers of the hosts concerned (reservations/target_hub.cpp).
  void tell_reservation(const std::string& nqn, std::uint32_t nsid, const std::vector<HostNotice>& notices);
  // By cntlid.
  std::vector<ControllerInfo> controllers(const std::string& nqn) const;
  // By cntlid and qid, admin queues included.
  std::vector<QueueInfo> queue_pairs(const std::string& nqn) const;
  // True as long as one queue of the subsystem's controllers is not closed.
  bool has_controllers(const std::string& nqn) const;
  bool empty() const { return entries_.empty(); }
  // Controllers that the host has in the subsystem, ending ones included.
  std::size_t controllers_of_host(const std::string& nqn, const std::string& hostnqn) const;
  // Any OS thread.
  const HostDirectory& hosts() const { return hosts_; }
  IoStatistics& io_statistics() { return io_statistics_; }
  // TLS keys out of authentication. Any OS thread; who adds one sends generated_psks_changed() here.
  GeneratedPsks& generated_psks() { return generated_psks_; }
  void generated_psks_changed();

  // --- for groups (by message) ---
  struct NewQueue {
    HostIdentity host;
    QueueInfo info;  // cntlid: asked for by an I/O queue, filled in for an admin queue
    ServerGroup* group = nullptr;
    std::uint64_t queue_id = 0;  // group's
    std::uint32_t kato_ms = 0;
    std::shared_ptr<AuthShown> authentication;
  };
  // An admin queue's Connect, already checked against the subsystem. Failures, both Controller Busy: every controller id is taken; the host has a
  // controller there and may have but one (dup_host_policy).
  std::expected<std::shared_ptr<Controller>, ConnectFailure> create(const NewQueue& queue, const SubsystemSnapshot& subsystem);
  // An I/O queue's Connect. Failures name the field: unknown CNTLID, another host's controller, QID taken or above what was granted; Command
  // Sequence Error while the controller is not ready.
  std::expected<std::shared_ptr<Controller>, ConnectFailure> attach(const NewQueue& queue);
  // The admin queue's connection is gone: ends the I/O queues, then forgets the controller.
  void admin_closed(const std::string& nqn, std::uint16_t cntlid);
  void io_closed(const std::string& nqn, std::uint16_t cntlid, std::uint16_t qid, std::uint64_t queue_id);
  // Reset, shutdown, or the end of the keep-alive time (`at_once`): ends all I/O queues; Controller::io_queues_ended() (by message) when none is
  // left.
  void end_io_queues(const std::string& nqn, std::uint16_t cntlid, const std::string& reason, bool at_once);
  // NVM subsystem reset (Base 2.0 section 3.7.1): every controller of the subsystem.
  void reset_subsystem(const std::string& nqn);
  // The Abort command: asks the queue's group, `done` here, on app_thread.
  void abort_command(const std::string& nqn, std::uint16_t cntlid, std::uint16_t qid, std::uint16_t cid, std::move_only_function<void(bool)> done);
  // Controller ids of the subsystem, ascending (Identify CNS 12h and 13h); `nsid` not 0: only of hosts that see this namespace.
  std::vector<std::uint16_t> controller_ids(const std::string& nqn, const SubsystemSnapshot& subsystem, std::uint32_t nsid) const;

 private:
  struct IoRecord {
    QueueInfo info;
    ServerGroup* group = nullptr;
    std::uint64_t queue_id = 0;
    bool ending = false;  // told to end; its qid is free for a new queue
  };
  struct Entry {
    std::shared_ptr<Controller> controller;
    QueueInfo admin;
    std::array<std::uint8_t, 16> hostid{};
    bool discovery = false;
    std::vector<IoRecord> io_queues;
    bool admin_gone = false;
    bool draining = false;
  };
  using Key = std::pair<std::string, std::uint16_t>;

  const Entry* duplicate_of(const NewQueue& queue, const SubsystemSnapshot& subsystem) const;
  void end_queues(Entry& entry, const std::string& reason, bool at_once);
  void settle(std::map<Key, Entry>::iterator at);
  void forget_statistics(const TargetSnapshot& old, const TargetSnapshot& next);
  void tell_host_log(const std::string& nqn, const std::string& hostnqn);

  Thread& app_thread_;
  std::map<Key, Entry> entries_;
  std::size_t discovery_controllers_ = 0;  // of entries_
  HostDirectory hosts_;
  IoStatistics io_statistics_;
  GeneratedPsks generated_psks_;
  Timer psk_timer_{[this] { generated_psks_changed(); }};  // the next one that nobody uses is forgotten
  std::map<std::string, std::uint16_t> last_cntlid_;       // so that an id is not reused soon after its controller went
};

}  // namespace catnap::server
