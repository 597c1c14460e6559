// Discovery services: each follows the logs of a discovery controller, and of those that it refers to, and attaches and detaches what stands there.
//
// A log is read when the connection is made and at each event; nothing is asked periodically. A discovery controller that cannot be reached is tried
// again after a pause; what its log said last still holds, so losing it detaches nothing.
//
// Owner: app_thread. Left out: pages (discovery_log.h), controllers (module.h), JSON (nvme_discovery_rpc.cpp), mDNS.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bdev/nvme/association.h"
#include "bdev/nvme/discovery_log.h"
#include "bdev/nvme/module.h"
#include "bdev/nvme/options.h"
#include "bdev/nvme/wake_up.h"
#include "reactor/task.h"

namespace catnap::bdev {

struct DiscoveryRequest {
  DiscoveryRequest() = default;
  std::string name;              // of the service, and the beginning of its controllers' names: "disc" gives "disc0", "disc1"
  TransportId id;                // of the discovery controller; the NQN is the well-known one
  ControllerOptions controller;  // of what is attached; hostnqn and hostid also of the discovery controller's connection
  bool wait_for_attach = false;
  std::uint64_t attach_timeout_us = 0;  // 0: none; not 0 means to wait as well
};

class DiscoveryService : public std::enable_shared_from_this<DiscoveryService> {
 public:
  // Pauses between attempts to reach a discovery controller, or to attach what it shows: doubling from the first to the longest.
  static constexpr std::uint64_t first_pause_us = 1'000'000;
  static constexpr std::uint64_t longest_pause_us = 30'000'000;
  // Discovery controllers that one service follows at most, so that referrals cannot lead round the world.
  static constexpr std::size_t max_points = 32;
  // A log that changes while it is read is read again so often; then the next event is waited for.
  static constexpr unsigned max_rereads = 8;

  // A subsystem's address that stands in some log.
  struct Entry {
    TransportId id;
    std::string name;  // under which it is attached
    bool attached = false;
    bool ours = false;  // not attached by hand before: to be detached when it goes
    std::string last_error;
  };
  struct PointReport {
    TransportId id;
    bool connected = false;
    std::string last_error;
    std::vector<TransportId> referrals;
  };

  static std::shared_ptr<DiscoveryService> create(NvmeModule& module, DiscoveryRequest request);
  // Starts following. Returns at once, or, when it is to wait, when all that the first log shows is attached. Errors (only when waiting): ETIMEDOUT,
  // or why the discovery controller or a subsystem cannot be attached; then the service is to be stopped.
  Task<Result<void>> start();
  // Ends connections and detaches what was attached.
  Task<void> stop();

  const DiscoveryRequest& request() const { return request_; }
  const std::vector<Entry>& entries() const { return entries_; }
  std::vector<PointReport> points() const;  // the first is the one that was asked for
  bool follows(const TransportId& id) const;
  // A controller of this service was removed because its loss time-out was over: it is attached again as long as a log shows it.
  void controller_removed(const std::string& name, const TransportId& id);

 private:
  // One discovery controller.
  struct Point {
    explicit Point(TransportId address, Thread& thread);
    TransportId id;
    std::shared_ptr<Association> association;
    std::optional<DiscoveryLog> log;
    std::string last_error;
    bool connected = false;
    bool gone = false;     // no log refers to it any more
    bool changed = false;  // an event said so
    std::uint64_t pause_us = first_pause_us;
    WakeUp wake;
    Timer timer;
    Thread& owner;
  };

  DiscoveryService(NvmeModule& module, DiscoveryRequest request);
  AssociationOptions association_options(const TransportId& id) const;
  void add_point(const TransportId& id);
  Task<void> run_point(std::shared_ptr<Point> point);
  Task<void> follow_point(std::shared_ptr<Point> point, std::shared_ptr<Association> association);
  Task<Result<DiscoveryLog>> read_log(std::shared_ptr<Association> association);
  void point_failed(Point& point, const Error& why);
  void reconcile_later();
  Task<void> reconcile();
  void follow_referrals();
  std::vector<TransportId> wanted() const;
  Task<void> attach_missing();
  Task<void> detach_superfluous();
  std::string name_for(const std::string& subnqn);
  void settle(Result<void> outcome);

  NvmeModule& module_;
  DiscoveryRequest request_;
  std::vector<std::shared_ptr<Point>> points_;
  std::vector<Entry> entries_;
  std::uint32_t next_number_ = 0;
  std::uint32_t running_ = 0;  // sequences
  bool stopping_ = false;
  bool reconciling_ = false;
  bool dirty_ = false;
  std::uint64_t attach_pause_us_ = first_pause_us;
  Timer attach_again_;
  std::optional<Promise<bool>> ended_;  // stop() waits for running_ 0
  std::optional<Result<void>> outcome_;
  std::optional<Promise<bool>> started_;
};

// All services of the process.
class DiscoveryServices {
 public:
  explicit DiscoveryServices(NvmeModule& module) : module_(module) {}

  // Errors: EEXIST for a name, or an address that some service follows; EINVAL; those of DiscoveryService::start, and then nothing is left.
  Task<Result<void>> start(DiscoveryRequest request);
  Task<Result<void>> stop(std::string name);  // ENODEV
  Task<void> stop_all();
  const std::vector<std::shared_ptr<DiscoveryService>>& all() const { return services_; }
  // The name under which some service has a subsystem; empty: none.
  std::string name_of(const std::string& subnqn) const;
  void controller_removed(const std::string& name, const TransportId& id);

  static DiscoveryServices* instance();
  static void set_instance(std::unique_ptr<DiscoveryServices> services);

 private:
  NvmeModule& module_;
  std::vector<std::shared_ptr<DiscoveryService>> services_;
};

}  // namespace catnap::bdev
