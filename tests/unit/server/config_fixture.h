// A target on hand-driven reactors: app_thread and any number of poll groups that take up configurations when the test turns them.
// Owner: the test's thread. Left out: connections, controllers (scripted hooks stand for them).
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bdev/bdev.h"
#include "server/target.h"
#include "tests/unit/reactor/by_hand.h"

namespace catnap::server {

// Takes no I/O: the configuration never submits any.
class SilentBdev final : public bdev::Bdev {
 public:
  static bdev::BdevInfo make_info(const std::string& name, const std::string& uuid) {
    bdev::BdevInfo info;
    info.name = name;
    info.uuid = uuid;
    info.product_name = "Silent disk";
    info.num_blocks = 1024;
    return info;
  }
  SilentBdev(const std::string& name, const std::string& uuid) : Bdev(make_info(name, uuid)) {}
  bool supports(bdev::Op) const override { return false; }
  std::string config_json() const override { return "{}"; }
  void resize(std::uint64_t num_blocks) { set_num_blocks(num_blocks); }

 protected:
  Result<std::unique_ptr<bdev::Channel>> create_channel(Thread&) override { return fail(ENOTSUP, "no channels here"); }
};

// A poll group whose thread runs only when the test turns it.
class HandGroup final : public GroupPort {
 public:
  HandGroup(ByHand& home, ByHand& app, std::string name) : home_(home), app_(app), name_(std::move(name)) {}

  std::string name() const override { return name_; }
  void start(const tcp::TcpOptions& options) override {
    ++starts;
    started_with = options;
  }
  void install(std::shared_ptr<const TargetSnapshot> snapshot, std::move_only_function<void()> done) override {
    home_.thread->send([this, next = std::move(snapshot), answer = std::move(done)]() mutable {
      EXPECT_TRUE(held == nullptr || next->generation > held->generation) << "snapshots must come in order";
      held = std::move(next);
      app_.thread->send(std::move(answer));
    });
  }
  void add_connection(tcp::Incoming incoming) override { given.push_back(incoming.fd); }
  std::uint32_t queue_count() const override { return static_cast<std::uint32_t>(given.size()); }
  std::optional<unsigned> cpu() const override { return on_cpu; }
  void shut_down(std::move_only_function<void()> done) override { app_.thread->send(std::move(done)); }

  // Lets the group's thread take up what it was sent.
  void turn() { home_.settle(); }

  std::shared_ptr<const TargetSnapshot> held;
  int starts = 0;
  tcp::TcpOptions started_with;
  std::vector<int> given;
  std::optional<unsigned> on_cpu;

 private:
  ByHand& home_;
  ByHand& app_;
  std::string name_;
};

class TargetTest : public testing::Test {
 protected:
  static constexpr const char* nqn = "nqn.2026-11.io.catnap:one";
  static constexpr const char* other_nqn = "nqn.2026-11.io.catnap:two";
  static constexpr const char* host = "nqn.2026-11.io.catnap:host";

  TargetTest() {
    app.on_thread([this] {
      Target::Hooks hooks;
      hooks.committed = [this](const auto& old, const auto& next) { commits.emplace_back(old->generation, next->generation); };
      hooks.has_controllers = [this](const std::string&) { return controllers_left; };
      hooks.controllers_of_host = [this](const std::string&, const std::string&) { return host_controllers; };
      hooks.listen = [this](const ListenAddress& address, std::function<void(int)> on_accept) { return listen(address, std::move(on_accept)); };
      target = std::make_unique<Target>(*app.thread, std::move(hooks));
    });
  }
  ~TargetTest() override {
    turn_all();
    app.on_thread([this] { target->shut_down([this] { app.thread->send([this] { target->clear(); }); }); });
    turn_all();
    for (const auto& bdev : bdevs) {
      app.on_thread([name = bdev->name()] { bdev::Registry::instance().remove(name, [](Result<void>) {}); });
    }
    app.on_thread([this] { target.reset(); });
  }

  Result<std::shared_ptr<void>> listen(const ListenAddress& where, std::function<void(int)> on_accept) {
    if (listen_error != 0) return fail(listen_error, "scripted");
    if (where.traddr == refused_address) return fail(EADDRINUSE, "scripted");
    ++listening;
    accept = std::move(on_accept);
    opened.push_back(where);
    return std::shared_ptr<void>(&listening, [](int* count) { --*count; });
  }

  HandGroup& add_group(const std::string& name) {
    homes.push_back(std::make_unique<ByHand>());
    auto made = std::make_unique<HandGroup>(*homes.back(), app, name);
    HandGroup& group = *made;
    app.on_thread([&] { target->attach_group(std::move(made)); });
    return group;
  }
  void turn_all() {
    for (int round = 0; round < 4; ++round) {
      app.settle();
      for (const auto& home : homes) home->settle();
    }
    app.settle();
  }

  void add_bdev(const std::string& name, const std::string& uuid) {
    auto made = std::make_shared<SilentBdev>(name, uuid);
    bdevs.push_back(made);
    app.on_thread([made] { ASSERT_TRUE(bdev::Registry::instance().add(made).has_value()); });
  }
  // Runs a change on app_thread and gives its result back.
  template <typename Call>
  auto on_app(Call call) {
    std::optional<decltype(call())> result;
    app.on_thread([&] { result.emplace(call()); });
    return std::move(*result);
  }
  auto create(const std::string& name = nqn) {
    return on_app([&] {
      SubsystemOptions options;
      options.nqn = name;
      return target->create_subsystem(options);
    });
  }
  auto create_transport() {
    return on_app([&] { return target->create_transport(TransportConfig()); });
  }
  auto add_ns(const std::string& bdev, std::uint32_t nsid = 0, const std::string& name = nqn) {
    return on_app([&] {
      NamespaceOptions options;
      options.bdev_name = bdev;
      options.nsid = nsid;
      return target->add_namespace(name, options);
    });
  }
  auto add_listener(const std::string& traddr = "127.0.0.1", const std::string& name = nqn) {
    return on_app([&] { return target->add_listener(name, address(traddr)); });
  }
  static ListenAddress address(const std::string& traddr) {
    ListenAddress made;
    made.traddr = traddr;
    made.trsvcid = "4420";
    return made;
  }
  std::uint64_t generation() const { return target->current().generation; }
  std::uint64_t discovery_generation() const { return target->current().discovery_generation; }

  ByHand app;
  std::vector<std::unique_ptr<ByHand>> homes;  // of the groups
  std::vector<std::shared_ptr<SilentBdev>> bdevs;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> commits;
  bool controllers_left = false;
  int listening = 0;
  int listen_error = 0;
  std::string refused_address;  // listening there fails with EADDRINUSE
  std::size_t host_controllers = 0;
  std::vector<ListenAddress> opened;
  std::function<void(int)> accept;
  std::unique_ptr<Target> target;
};

inline constexpr const char* uuid_1 = "11111111-1111-4111-8111-111111111111";
inline constexpr const char* uuid_2 = "22222222-2222-4222-8222-222222222222";

}  // namespace catnap::server
