// One NVMe controller: properties and their state machine, keep-alive, asynchronous events, and the admin commands. It is the sink of its admin
// queue. Owner: the admin queue's thread, except shared() and what is immutable. Kept by the ControllerTable and by the I/O queues; dies on any
// thread, its timer disarmed. Left out: the contents of Identify, log pages and features (identify.h, log_pages.h, features.h), I/O commands
// (io_queue.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "reactor/timer.h"
#include "server/async_events.h"
#include "server/command_error.h"
#include "server/controller_shared.h"
#include "server/features.h"
#include "server/reservations/notification_log.h"
#include "server/server_group.h"
#include "server/snapshot.h"
#include "transport/nvme/fabrics.h"

namespace catnap::server {

// Discovery controllers connected without KATO end after this much silence (Base 2.0 section 3.1.2.2: two minutes).
inline constexpr std::uint32_t discovery_activity_timeout_ms = 120'000;
// A controller that is not enabled (never, reset, or shut down) ends after this: its host is gone or has forgotten it. Linux connects again within 10
// s.
inline constexpr std::uint32_t association_timeout_ms = 120'000;
// Command Quiesce Time (Base 2.1 section 9.6): after the keep-alive time, or the end of a connection, nothing new of an association begins; what
// waits here is taken back within half a second (the grid of a connection's deadlines), and what a healthy medium has is over long before the rest.
inline constexpr std::uint16_t command_quiesce_ms = 1000;
inline constexpr std::size_t max_async_event_requests = 4;  // AERL + 1
inline constexpr std::size_t max_abort_commands = 4;        // ACL + 1; more than one is unusual, and each may wait for a block device
// Errors of the medium after which the reliability of the subsystem is reported as degraded: a block or two that were marked uncorrectable, or lost,
// are no trend.
inline constexpr std::uint64_t media_error_warning = 32;
// CAP.TO and CRTO.CRWMT in 500 ms: reset waits for I/O in flight, which a slow disk may keep for seconds.
inline constexpr std::uint8_t ready_timeout_500ms = 30;
// Base 2.0c. What it makes mandatory for an I/O controller over Fabrics is there.
inline constexpr std::uint32_t nvme_version = nvme::version_value(2, 0, 0);

class Controller final : public ServedQueue {
 public:
  Controller(ServerGroup& group, std::uint64_t queue_id, HostIdentity host, std::uint16_t cntlid, bool discovery, std::uint32_t kato_ms);
  ~Controller() override;

  // --- immutable, any OS thread ---
  std::uint16_t cntlid() const { return cntlid_; }
  bool discovery() const { return discovery_; }
  ControllerShared& shared() { return shared_; }
  const ControllerShared& shared() const { return shared_; }

  // --- sink of the admin queue ---
  transport::PlanAction plan(transport::Request& request) override;
  void execute(transport::Request& request) override;
  void abandon(transport::Request& request) override;
  void queue_closed(transport::CommandQueue& queue) override;
  std::uint16_t qid() const override { return 0; }
  void configuration_installed() override {}  // looked up anew by every command

  // The connection is in place: time begins to run.
  void start();
  // --- configuration changes, by message from the table ---
  void namespaces_changed(const std::vector<std::uint32_t>& nsids);
  void ana_changed();
  void reservation_notice(std::uint32_t nsid, nvme::ReservationNotice type);
  void discovery_changed();
  // A host came to, or left, a subsystem: told by a discovery controller whose host may know of it.
  void host_log_changed(const std::string& subnqn, const std::string& hostnqn);
  // A command ended with an error that is none of the host's: counted, and told to hosts that asked. Any OS thread.
  void note_error(nvme::Status status);
  // The whole subsystem is reset (property NSSR of any of its controllers).
  void subsystem_reset();
  // No I/O queue is left after ControllerTable::end_io_queues().
  void io_queues_ended();

  // --- for commands ---
  // Null when the subsystem was deleted; the queue is about to end then.
  std::shared_ptr<const SubsystemSnapshot> subsystem() const { return group_.subsystem(host().subnqn); }
  // The listener this host came through; null when it is gone.
  static const SubsystemSnapshot::ListenerEntry* listener(const SubsystemSnapshot& subsystem, const transport::CommandQueue& queue);
  FeatureValues& features() { return features_; }
  std::uint32_t supported_events(const SubsystemSnapshot& subsystem) const;  // OAES
  AsyncEvents& events() { return events_; }
  NotificationLog& notifications() { return notifications_; }
  std::uint32_t kato_ms() const { return kato_ms_; }
  void set_kato_ms(std::uint32_t kato_ms);  // rounded up
  // To what a controller of this transport keeps: 0, or at least the least, rounded up to the granularity.
  static std::uint32_t round_kato_ms(std::uint32_t kato_ms, const transport::TransportLimits& limits);
  // Feature 16h: from now on the host heeds command retry delays, where any are configured.
  void set_advanced_command_retry(bool on);
  bool health_warning() const { return shared_.media_errors.load(std::memory_order_relaxed) >= media_error_warning; }
  std::set<std::uint32_t>& changed_namespaces() { return changed_namespaces_; }
  std::uint64_t age_ns() const;
  // Tells pending events to waiting requests.
  void deliver_events();

  // --- properties (fabrics_commands.cpp calls them) ---
  std::expected<std::uint64_t, CommandError> read_property(nvme::Property property, nvme::PropertySize size) const;
  CommandError write_property(nvme::Property property, nvme::PropertySize size, std::uint64_t value);

 private:
  friend struct AdminCommands;  // the table of admin commands (admin_commands.cpp)

  // Answers to plan().
  transport::PlanAction refuse(transport::Request& request, CommandError error);
  transport::PlanAction succeed(transport::Request& request, std::uint32_t dw0 = 0);
  transport::PlanAction transfer(transport::Request& request, transport::DataDirection direction, std::uint64_t length_bytes);
  void finish(transport::Request& request, CommandError error);
  void record_error(const transport::Request& request, CommandError error);

  // The commands (admin_commands.cpp).
  transport::PlanAction plan_fabrics(transport::Request& request);
  void execute_fabrics(transport::Request& request);
  transport::PlanAction plan_identify(transport::Request& request);
  void execute_identify(transport::Request& request);
  transport::PlanAction plan_get_log_page(transport::Request& request);
  void execute_get_log_page(transport::Request& request);
  transport::PlanAction plan_get_features(transport::Request& request);
  void execute_get_features(transport::Request& request);
  transport::PlanAction plan_set_features(transport::Request& request);
  void execute_set_features(transport::Request& request);  // what was deferred
  transport::PlanAction plan_abort(transport::Request& request);
  void execute_abort(transport::Request& request);
  void finish_abort(transport::Request& request, bool aborted);
  void list_controllers(transport::Request& request);
  transport::PlanAction plan_async_event(transport::Request& request);
  transport::PlanAction plan_keep_alive(transport::Request& request);

  // The state machine.
  CommandError write_cc(std::uint32_t value);
  CommandError write_nssr(std::uint32_t value);
  void raise(AsyncEvents::Kind kind);
  void enable();
  void disable();
  void begin_shutdown();
  // `at_once`: without time for what is in execution. False: there were none.
  bool end_io_queues(const char* reason, bool at_once = false);
  nvme::Cap cap() const;
  nvme::Csts idle_csts();

  void release_async_events(nvme::Status status);
  void answer_async_event(transport::Request& request, nvme::Status status, std::uint32_t dw0);

  std::uint64_t silence_limit_ms() const;
  void rearm();
  void check_silence();

  const std::uint16_t cntlid_;
  const bool discovery_;
  ControllerShared shared_;

  nvme::Cc cc_;
  nvme::Csts csts_;
  bool nssr_occurred_ = false;  // CSTS.NSSRO as soon as the reset is over
  FeatureValues features_;
  std::set<std::uint32_t> changed_namespaces_;

  AsyncEvents events_;
  NotificationLog notifications_;
  std::vector<transport::Request*> waiting_events_;   // outstanding, oldest first
  std::vector<transport::Request*> answered_events_;  // their cqe is set; plan() is asked again for them

  std::uint32_t kato_ms_;
  std::uint64_t created_ns_ = 0;
  std::size_t aborts_ = 0;  // Abort commands that wait for an answer
  bool closed_ = false;
  Timer silence_timer_;
};

}  // namespace catnap::server
