// A ServerGroup as the configuration sees it: calls go to the group's thread as messages, answers come back to app_thread.
// Owner: app_thread. Left out: what a group does with them.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "reactor/reactor.h"
#include "server/group_port.h"
#include "server/server_group.h"

namespace catnap::server {

class GroupAdapter final : public GroupPort {
 public:
  GroupAdapter(std::unique_ptr<ServerGroup> group, Thread& app_thread) : group_(std::move(group)), app_thread_(app_thread) {}

  std::string name() const override { return group_->thread().name(); }
  void start(const tcp::TcpOptions& options) override {
    group_->thread().send([group = group_.get(), options] { group->set_options(options); });
  }
  void install(std::shared_ptr<const TargetSnapshot> snapshot, std::move_only_function<void()> installed) override {
    group_->thread().send([group = group_.get(), home = &app_thread_, next = std::move(snapshot), answer = std::move(installed)]() mutable {
      group->install(std::move(next), [home, answer = std::move(answer)]() mutable { home->send(std::move(answer)); });
    });
  }
  void add_connection(tcp::Incoming incoming) override {
    ++given_;
    group_->thread().send([group = group_.get(), incoming = std::move(incoming)]() mutable { group->add_connection(std::move(incoming)); });
  }
  std::uint32_t queue_count() const override { return static_cast<std::uint32_t>(given_ - group_->finished_count()); }
  std::optional<unsigned> cpu() const override {
    const Reactor* reactor = group_->thread().reactor();
    return reactor == nullptr ? std::nullopt : std::optional<unsigned>(reactor->lcore());
  }
  // A reactor that sleeps although messages are there has lost a wake-up; one that runs has too much to do, or too little of its CPU.
  std::string doing() const override {
    const Reactor* reactor = group_->thread().reactor();
    if (reactor == nullptr) return "on its way to another reactor";
    const Reactor::WaitState wait = reactor->wait_state();
    if (!wait.waiting) return fmt::format("{} runs, or waits for CPU {}", reactor->name(), reactor->lcore());
    if (wait.due.empty()) return fmt::format("{} sleeps with nothing to do", reactor->name());
    return fmt::format("{} sleeps although there are {}{}", reactor->name(), wait.due, wait.notified ? ", and is about to wake up" : "");
  }
  // The group may be freed when `done` runs. It may have been told to end queues (ControllerTable, on app_thread) that ended by themselves meanwhile;
  // these messages are behind the group's own end, so one more turns round behind them.
  void shut_down(std::move_only_function<void()> done) override {
    Thread* const thread = &group_->thread();
    thread->send([group = group_.get(), thread, home = &app_thread_, answer = std::move(done)]() mutable {
      group->shut_down([thread, home, answer = std::move(answer)]() mutable {
        home->send([thread, home, answer = std::move(answer)]() mutable {
          thread->send([home, answer = std::move(answer)]() mutable { home->send(std::move(answer)); });
        });
      });
    });
  }

 private:
  std::unique_ptr<ServerGroup> group_;
  Thread& app_thread_;
  std::uint64_t given_ = 0;  // sockets, ever
};

}  // namespace catnap::server
