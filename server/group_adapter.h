// A ServerGroup as the configuration sees it.
// Owner: app_thread. Left out: everything else (ServerGroup does it).
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "server/group_port.h"
#include "server/server_group.h"

namespace catnap::server {

class GroupAdapter final : public GroupPort {
 public:
  explicit GroupAdapter(std::unique_ptr<ServerGroup> group) : group_(std::move(group)), on_the_way_(std::make_shared<std::atomic<std::uint32_t>>(0)) {}

  std::string name() const override { return group_->thread().name(); }
  void start(const tcp::TcpOptions& options) override { group_->start(options); }
  void install(std::shared_ptr<const TargetSnapshot> snapshot, std::move_only_function<void()> installed) override {
    group_->install(std::move(snapshot), std::move(installed));
  }
  void add_connection(int fd) override {
    on_the_way_->fetch_add(1, std::memory_order_relaxed);
    group_->add_connection(fd);
    // Messages of one sender stay in order: when this one runs, the group counts the connection itself.
    group_->thread().send([counter = on_the_way_] { counter->fetch_sub(1, std::memory_order_relaxed); });
  }
  std::uint32_t queue_count() const override { return group_->queue_count() + on_the_way_->load(std::memory_order_relaxed); }
  void shut_down(std::move_only_function<void()> done) override { group_->shut_down(std::move(done)); }

 private:
  std::unique_ptr<ServerGroup> group_;
  std::shared_ptr<std::atomic<std::uint32_t>> on_the_way_;
};

}  // namespace catnap::server
