// What reservations need of the target (ReservationHub), from its poll groups, controllers and worker pool.
// Owner: app_thread. Left out: everything that is decided (namespace_reservations.h).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "reactor/worker_pool.h"
#include "server/controller_table.h"
#include "server/reservations/namespace_reservations.h"
#include "server/server_group.h"

namespace catnap::server {

class TargetReservationHub : public ReservationHub {
 public:
  // All outlive the hub; `groups` are those there are now.
  TargetReservationHub(Thread& app_thread, const std::vector<ServerGroup*>& groups, ControllerTable& controllers, WorkerPool& workers)
      : app_thread_(app_thread), groups_(groups), controllers_(controllers), workers_(workers) {}

  Thread& home() override { return app_thread_; }
  void refresh_groups(const std::string& nqn, std::uint32_t nsid, Done done) override;
  void abort_commands(const std::string& nqn, std::uint32_t nsid, std::vector<HostId> hosts, Done done) override;
  void notify(const std::string& nqn, std::uint32_t nsid, const std::vector<HostNotice>& notices) override;
  void write_file(std::string path, std::string bytes, std::move_only_function<void(Result<void>)> done) override;

 private:
  Thread& app_thread_;
  const std::vector<ServerGroup*>& groups_;
  ControllerTable& controllers_;
  WorkerPool& workers_;
};

}  // namespace catnap::server
