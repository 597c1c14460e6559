// The target's part on one poll group: takes Connects of new queues, holds the published configuration and the bdev channels of the namespaces that
// its I/O queues use.
// Owner: its poll group's thread; members marked "any OS thread" are safe elsewhere. Made on app_thread, freed there after shut_down().
// Left out: which group a connection goes to (target.h), what commands mean (controller.h, io_queue.h).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "reactor/thread.h"
#include "server/authentication.h"
#include "server/controller_table.h"
#include "server/io_statistics.h"
#include "server/snapshot.h"
#include "transport/command_sink.h"
#include "transport/tcp/poll_group.h"

namespace catnap::server {

class IoQueue;
class ServerGroup;

// A namespace as one group serves it. Lives until no queue can reach it and its last I/O here is done.
struct NamespaceSlot {
  std::shared_ptr<const NamespaceConfig> config;
  bdev::ChannelRef channel;
  std::shared_ptr<IoCounts> counts;
  std::uint32_t in_flight = 0;
  std::uint8_t block_shift = 9;  // log2 of the block size in bytes
  bool retired = false;
};

// One connected queue: the sink of its commands. Freed when its connection is closed.
class ServedQueue : public transport::CommandSink, public std::enable_shared_from_this<ServedQueue> {
 public:
  ServedQueue(ServerGroup& group, std::uint64_t queue_id, HostIdentity host) : group_(group), id_(queue_id), host_(std::move(host)) {}

  ServerGroup& group() const { return group_; }
  std::uint64_t id() const { return id_; }
  const HostIdentity& host() const { return host_; }
  transport::CommandQueue* queue() const { return queue_; }
  virtual std::uint16_t qid() const = 0;
  // The group has swapped in another snapshot, in which this queue still has its place.
  virtual void configuration_installed() = 0;
  void bind(transport::CommandQueue& queue) { queue_ = &queue; }
  // In-band authentication, for as long as the queue is connected; null only in tests.
  Authentication* authentication() const { return authentication_.get(); }
  void set_authentication(std::unique_ptr<Authentication> authentication) { authentication_ = std::move(authentication); }

 protected:
  ServerGroup& group_;
  transport::CommandQueue* queue_ = nullptr;

  // First thing in queue_closed(): timers belong to this thread, and the object may die on another.
  void end_authentication() {
    if (authentication_ != nullptr) authentication_->end();
  }

 private:
  std::uint64_t id_;
  HostIdentity host_;
  std::unique_ptr<Authentication> authentication_;
};

class ServerGroup final : public transport::CommandSink {
 public:
  // Counters since start, written by the group's thread.
  struct Stats {
    std::uint64_t admin_qpairs = 0, io_qpairs = 0;                  // connected ever
    std::uint64_t current_admin_qpairs = 0, current_io_qpairs = 0;  // connected now
    std::uint64_t current_unassociated_qpairs = 0;                  // connections that have not finished Connect
    std::uint64_t pending_bdev_io = 0;                              // submitted to bdevs and not completed
    std::uint64_t completed_nvme_io = 0;
  };

  // `thread` is the poll group's; `table` outlives the group.
  ServerGroup(Thread& thread, ControllerTable& table);
  ~ServerGroup() override;
  ServerGroup(const ServerGroup&) = delete;
  ServerGroup& operator=(const ServerGroup&) = delete;

  Thread& thread() const { return thread_; }
  ControllerTable& table() const { return table_; }

  // --- on the group's thread (group_adapter.h brings the calls here) ---
  // Before the first connection.
  void set_options(const tcp::TcpOptions& options) { options_ = options; }
  // Takes over a connection.
  void add_connection(tcp::Incoming incoming);
  // Swaps the configuration, ends the queues that have no place in it, then calls `installed`.
  void install(std::shared_ptr<const TargetSnapshot> snapshot, std::move_only_function<void()> installed);
  // Ends all connections, waits for what is in execution, releases every channel, then calls `done`: the group may be freed.
  void shut_down(std::move_only_function<void()> done);

  // Connections now, before or after Connect. Any OS thread.
  std::uint32_t queue_count() const;
  // Sockets given to add_connection() that are gone again, ever. Any OS thread.
  std::uint64_t finished_count() const;
  Stats stats() const;  // any OS thread
  // I/O commands that failed with this status; any OS thread.
  std::uint64_t errors(nvme::StatusCodeType type, std::uint8_t code) const {
    return errors_[error_index(type, code)].load(std::memory_order_relaxed);
  }
  tcp::TcpStats tcp_stats() const;  // any OS thread; zeros before the first connection

  // Ends one queue, `at_once` without time for what is in execution; nothing happens when it is gone. Any OS thread (a message).
  void end_queue(std::uint64_t queue_id, std::string reason, bool at_once = false);
  // IoQueue::abort_command() of that queue; `done` on the group's thread, with false when it is gone. Any OS thread (a message).
  void abort_command(std::uint64_t queue_id, std::uint16_t cid, std::move_only_function<void(bool aborted)> done);

  // --- CommandSink of queues that are not connected yet (fabrics_commands.cpp) ---
  transport::PlanAction plan(transport::Request& request) override;
  void execute(transport::Request& request) override;
  void abandon(transport::Request& request) override;
  void queue_closed(transport::CommandQueue& queue) override;

  // --- for queues, on the group's thread ---
  const std::shared_ptr<const TargetSnapshot>& snapshot() const { return snapshot_; }
  // Null when the subsystem is not there (any more).
  std::shared_ptr<const SubsystemSnapshot> subsystem(std::string_view nqn) const;
  const transport::TransportLimits& limits() const { return options_.limits; }
  void forget(ServedQueue& queue);

  // The namespaces of a subsystem on this group; a slot is null when its channel could not be had (logged).
  void attach_io_queue(IoQueue& queue);
  void detach_io_queue(IoQueue& queue);
  NamespaceSlot* slot(const std::string& nqn, std::uint32_t nsid);

  // --- reservations, on the group's thread ---
  // The published reservation state of this namespace differs: every queue looks anew.
  void reservation_changed(const std::string& nqn, std::uint32_t nsid);
  // Ends what these hosts have outstanding on the namespace; `holds` is kept until nothing of it is in execution any more.
  void abort_preempted(const std::string& nqn, std::uint32_t nsid, const std::vector<std::array<std::uint8_t, 16>>& hosts,
                       const std::shared_ptr<void>& holds);

  void io_started() { pending_bdev_io_.store(pending_bdev_io_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed); }
  // The I/O of this slot is done; a retired slot is freed behind its last one.
  void io_done(NamespaceSlot& slot);
  // An I/O command has been answered with success; counted at the end of the turn, for that is about when the answer goes out. `name_space`: null
  // when it is none.
  void count_later(IoCounts& connection, IoCounts* name_space, std::uint64_t began_ns, std::uint32_t bytes, IoClass io_class) {
    if (finished_count_ == finished_.size()) [[unlikely]]
      count_finished();
    FinishedIo& io = finished_[finished_count_++];
    io.connection = &connection;
    io.name_space = name_space;
    io.began_ns = began_ns;
    io.bytes = bytes;
    io.io_class = io_class;
  }
  // Behind the sends that are queued for the end of the turn by now.
  void count_at_turn_end() { thread_.last_at_turn_end(count_finished_); }
  // How commands failed, by status.
  void count_error(nvme::Status status) {
    std::atomic<std::uint64_t>& counter = errors_[error_index(status.sct, status.sc)];
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  // What is to be counted later: counted now. Before any IoCounts goes.
  void count_finished();
  void count_completed() {
    completed_nvme_io_.store(completed_nvme_io_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    thread_.count_progress();
  }

 private:
  struct GroupSubsystem {
    std::map<std::uint32_t, std::unique_ptr<NamespaceSlot>> slots;  // by NSID
    std::vector<IoQueue*> queues;
  };

  void swap_in(std::shared_ptr<const TargetSnapshot> snapshot);
  void end_displaced_queues();
  void refresh_slots(const std::string& nqn, GroupSubsystem& served);
  void open_channel(NamespaceSlot& slot);
  void retire(const std::string& nqn, std::unique_ptr<NamespaceSlot> slot);
  void release_later(NamespaceSlot& slot);
  void finish_shut_down();

  // fabrics_commands.cpp
  void start_connect(transport::Request& request);
  void finish_connect(transport::Request& request, ControllerTable::NewQueue asked,
                      std::expected<std::shared_ptr<Controller>, ConnectFailure> result);
  void refuse_connect(transport::Request& request, const ConnectFailure& failure);
  std::uint32_t begin_authentication(ServedQueue& served, const transport::Request& request, const SubsystemSnapshot& subsystem,
                                     const ControllerTable::NewQueue& asked);

  Thread& thread_;
  ControllerTable& table_;
  tcp::TcpOptions options_;
  std::unique_ptr<tcp::PollGroup> poll_group_;
  std::atomic<tcp::PollGroup*> visible_poll_group_{nullptr};
  std::shared_ptr<const TargetSnapshot> snapshot_;
  std::unordered_map<std::uint64_t, std::shared_ptr<ServedQueue>> queues_;
  std::map<std::string, GroupSubsystem, std::less<>> served_;
  std::unordered_map<NamespaceSlot*, std::unique_ptr<NamespaceSlot>> retired_;
  std::uint64_t next_queue_id_ = 1;
  std::move_only_function<void()> shut_down_done_;

  static std::size_t error_index(nvme::StatusCodeType type, std::uint8_t code) { return (static_cast<std::size_t>(type) & 7U) << 8 | code; }
  std::array<std::atomic<std::uint64_t>, 8 * 256> errors_{};
  std::array<FinishedIo, 64> finished_{};  // more in one turn are counted on the way
  std::size_t finished_count_ = 0;
  Deferred count_finished_;

  std::atomic<std::uint64_t> admin_qpairs_{0}, io_qpairs_{0}, current_admin_qpairs_{0}, current_io_qpairs_{0};
  std::atomic<std::uint64_t> pending_bdev_io_{0}, completed_nvme_io_{0};
};

}  // namespace catnap::server
