// A catnapd that attaches controllers: what tests of the initiator do with its RPCs, and what they look at.
// Owner: the test's thread. Left out: the controllers (fake/, or another catnapd).
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/protocol/client/host.h"
#include "tests/protocol/client/server_process.h"

namespace catnap::protocol {

inline constexpr const char* front_nqn = "nqn.2026-11.io.catnap:front";

// The catnapd of this build (initiator_fixture.cpp).
const char* server_program();

class InitiatorTest : public testing::Test {
 protected:
  using Clock = std::chrono::steady_clock;

  void SetUp() override {
    auto started = ServerProcess::start(server_program(), {"-m", two_cpus()});
    ASSERT_TRUE(started.has_value()) << started.error().message;
    server_ = std::move(*started);
  }
  void TearDown() override {
    if (server_ == nullptr) return;
    EXPECT_EQ(server_->stop(), 0) << "leaks and faults that a sanitizer finds show here";
    if (!HasFailure()) return;
    const std::string log = server_->log();
    printf("---- server log ----\n%s\n", log.substr(log.size() - std::min<std::size_t>(log.size(), 12000)).c_str());
  }

  Result<Json::Value> call(const std::string& method, const Json::Value& params = Json::Value()) {
    if (server_ == nullptr) return fail(ENOTCONN, "catnapd did not start");
    return server_->rpc().call(method, params);
  }
  // A call that must succeed.
  Json::Value must(const std::string& method, const Json::Value& params = Json::Value()) {
    auto answer = call(method, params);
    EXPECT_TRUE(answer.has_value()) << method << ": " << (answer ? "" : answer.error().message);
    return answer ? *answer : Json::Value();
  }
  Json::Value must(const std::string& method, const std::string& params) { return must(method, json(params)); }
  Json::Value must(const std::string& method, const char* params) { return must(method, json(params)); }

  // Parameters of an attach over loopback; `more` is added.
  static Json::Value path_to(std::uint16_t port, const std::string& subnqn, const std::string& more = "{}", const std::string& name = "Nvme0") {
    Json::Value params = json(more);
    params["name"] = name;
    params["trtype"] = "TCP";
    params["adrfam"] = "IPv4";
    params["traddr"] = "127.0.0.1";
    params["trsvcid"] = std::to_string(port);
    params["subnqn"] = subnqn;
    return params;
  }

  // Exports a bdev, and gives the port.
  std::uint16_t serve(const std::string& bdev) {
    const std::uint16_t port = free_port();
    const std::string subsystem = std::string(R"({"nqn": ")") + front_nqn + "\"";
    must("nvmf_create_transport", R"({"trtype": "TCP"})");
    must("nvmf_create_subsystem", subsystem + R"(, "allow_any_host": true})");
    must("nvmf_subsystem_add_ns", subsystem + R"(, "namespace": {"nsid": 1, "bdev_name": ")" + bdev + "\"}}");
    must("nvmf_subsystem_add_listener", subsystem + R"(, "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" +
                                            std::to_string(port) + R"("}})");
    return port;
  }
  struct Host {
    Connection admin;
    Connection io;
  };
  // A host of what serve() exports. Not connected: io is closed.
  static Host connect_host(std::uint16_t port) {
    Host host;
    auto admin = Connection::open(port);
    if (!admin) return host;
    host.admin = std::move(*admin);
    const CommandResult connected = connect_queue(host.admin, {.subnqn = front_nqn});
    if (!connected.ok() || !enable(host.admin) || !set_feature(host.admin, nvme::Feature::number_of_queues, 0).ok()) return host;
    auto io = Connection::open(port);
    if (!io) return host;
    const auto cntlid = static_cast<std::uint16_t>(std::uint32_t{connected.cqe.dw0});
    if (connect_queue(*io, {.subnqn = front_nqn, .cntlid = cntlid, .qid = 1}).ok()) host.io = std::move(*io);
    return host;
  }

  // Waits for a state, asking by RPC. False: it does not come.
  template <typename Condition>
  static bool eventually(Condition condition, Milliseconds limit = patience) {
    const auto deadline = Clock::now() + limit;
    while (!condition()) {
      if (Clock::now() > deadline) return false;
      std::this_thread::sleep_for(Milliseconds(5));
    }
    return true;
  }

  std::size_t open_fds() const {
    std::error_code ignored;
    const std::filesystem::directory_iterator all("/proc/" + std::to_string(server_->pid()) + "/fd", ignored);
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
  }

  std::unique_ptr<ServerProcess> server_;
};

}  // namespace catnap::protocol
