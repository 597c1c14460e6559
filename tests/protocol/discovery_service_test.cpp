// Discovery services of the initiator against catnap's own targets: what comes and goes there comes and goes here, over referrals and restarts.
// Owner: the test's thread. Left out: broken discovery logs (tests/unit/bdev_nvme), the target's side (discovery_test.cpp, referral_test.cpp).
#include <csignal>
#include <set>

#include "tests/protocol/full_listener.h"
#include "tests/protocol/initiator_fixture.h"

namespace catnap::protocol {
namespace {

using Names = std::set<std::string>;

// A target with one listener per subsystem's path.
class Target {
 public:
  void start(std::uint16_t port = free_port()) {
    port_ = port;
    auto started = ServerProcess::start(CATNAP_SERVER, {"-m", "[0]"});
    ASSERT_TRUE(started.has_value()) << started.error().message;
    server_ = std::move(*started);
    call("nvmf_create_transport", R"({"trtype": "TCP"})");
  }
  void kill() {
    ::kill(server_->pid(), SIGKILL);
    server_.reset();
  }
  void call(const std::string& method, const std::string& params) {
    const auto answer = server_->rpc().call(method, json(params));
    EXPECT_TRUE(answer.has_value()) << method << ": " << (answer ? "" : answer.error().message);
  }
  static std::string nqn(const std::string& name) { return "nqn.2026-11.io.catnap:" + name; }
  static std::string address(std::uint16_t port) {
    return R"({"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" + std::to_string(port) + "\"}";
  }
  // A subsystem with a namespace of its own, heard at `port`.
  void add(const std::string& name, std::uint16_t port = 0) {
    call("bdev_null_create", R"({"name": "Null-)" + name + R"(", "num_blocks": 2048, "block_size": 512})");
    call("nvmf_create_subsystem", R"({"nqn": ")" + nqn(name) + R"(", "allow_any_host": true})");
    call("nvmf_subsystem_add_ns", R"({"nqn": ")" + nqn(name) + R"(", "namespace": {"bdev_name": "Null-)" + name + "\"}}");
    listen(name, port == 0 ? port_ : port);
  }
  void listen(const std::string& name, std::uint16_t port) {
    call("nvmf_subsystem_add_listener", R"({"nqn": ")" + nqn(name) + R"(", "listen_address": )" + address(port) + "}");
  }
  void deafen(const std::string& name, std::uint16_t port) {
    call("nvmf_subsystem_remove_listener", R"({"nqn": ")" + nqn(name) + R"(", "listen_address": )" + address(port) + "}");
  }
  void remove(const std::string& name) {
    call("nvmf_delete_subsystem", R"({"nqn": ")" + nqn(name) + "\"}");
    call("bdev_null_delete", R"({"name": "Null-)" + name + "\"}");
  }
  void refer(bool add, std::uint16_t port) {
    call(add ? "nvmf_discovery_add_referral" : "nvmf_discovery_remove_referral", R"({"address": )" + address(port) + "}");
  }
  std::uint16_t port() const { return port_; }

 private:
  std::uint16_t port_ = 0;
  std::unique_ptr<ServerProcess> server_;
};

class DiscoveryServiceTest : public InitiatorTest {
 protected:
  static Json::Value service(std::uint16_t port, const std::string& more = "{}") {
    Json::Value params = path_to(port, "", more, "disc");
    params.removeMember("subnqn");
    return params;
  }
  Names bdevs() {
    Names names;
    for (const auto& bdev : must("bdev_get_bdevs", "{}")) names.insert(bdev["name"].asString());
    return names;
  }
  std::size_t paths(const std::string& name) {
    for (const auto& one : must("bdev_nvme_get_controllers", "{}")) {
      if (one["name"] == name) return one["ctrlrs"].size();
    }
    return 0;
  }
  void expect_soon(const Names& names) {
    EXPECT_TRUE(eventually([&] { return bdevs() == names; })) << "there are " << testing::PrintToString(bdevs()) << "\n"
                                                              << must("bdev_nvme_get_discovery_info", "{}").toStyledString();
  }
};

TEST_F(DiscoveryServiceTest, WhatTheLogShowsComesAndGoes) {
  Target target;
  ASSERT_NO_FATAL_FAILURE(target.start());
  target.add("a");
  target.add("b");
  must("bdev_nvme_start_discovery", service(target.port(), R"({"wait_for_attach": true, "attach_timeout_ms": 20000})"));
  EXPECT_EQ(bdevs(), (Names{"disc0n1", "disc1n1"})) << "all there when the call answers";
  target.add("c");
  expect_soon({"disc0n1", "disc1n1", "disc2n1"});
  target.remove("a");
  expect_soon({"disc1n1", "disc2n1"});
  // The same subsystem again is a new one; numbers are not used twice.
  target.add("a");
  expect_soon({"disc1n1", "disc2n1", "disc3n1"});

  EXPECT_TRUE(eventually([&] { return must("bdev_nvme_get_discovery_info", "{}")[0]["subsystems"].size() == 3; }));
  const Json::Value info = must("bdev_nvme_get_discovery_info", "{}");
  ASSERT_EQ(info.size(), 1U);
  EXPECT_EQ(info[0]["name"], "disc");
  EXPECT_EQ(info[0]["trid"]["trsvcid"], std::to_string(target.port()));
  // A second one of the name or for the address is refused.
  EXPECT_EQ(call("bdev_nvme_start_discovery", service(target.port())).error().err, -EEXIST);
  Json::Value other = service(target.port());
  other["name"] = "other";
  EXPECT_EQ(call("bdev_nvme_start_discovery", other).error().err, -EEXIST);

  must("bdev_nvme_stop_discovery", R"({"name": "disc"})");
  EXPECT_EQ(bdevs(), Names{});
  EXPECT_TRUE(must("bdev_nvme_get_discovery_info", "{}").empty());
  EXPECT_EQ(call("bdev_nvme_stop_discovery", json(R"({"name": "disc"})")).error().err, -ENODEV);
}

TEST_F(DiscoveryServiceTest, AnotherListenerIsAnotherPathOfTheSameController) {
  Target target;
  ASSERT_NO_FATAL_FAILURE(target.start());
  target.add("a");
  must("bdev_nvme_start_discovery", service(target.port(), R"({"wait_for_attach": true})"));
  EXPECT_EQ(paths("disc0"), 1U);
  const std::uint16_t second = free_port();
  target.listen("a", second);
  EXPECT_TRUE(eventually([&] { return paths("disc0") == 2; }));
  target.deafen("a", second);
  EXPECT_TRUE(eventually([&] { return paths("disc0") == 1; }));
  EXPECT_EQ(bdevs(), Names{"disc0n1"});
}

TEST_F(DiscoveryServiceTest, WhatWasAttachedByHandStays) {
  Target target;
  ASSERT_NO_FATAL_FAILURE(target.start());
  target.add("a");
  target.add("b");
  must("bdev_nvme_attach_controller", path_to(target.port(), Target::nqn("a"), R"({"multipath": "multipath"})", "disc0"));
  must("bdev_nvme_start_discovery", service(target.port(), R"({"wait_for_attach": true})"));
  EXPECT_EQ(bdevs(), (Names{"disc0n1", "disc1n1"}));
  EXPECT_EQ(paths("disc0"), 1U);
  must("bdev_nvme_stop_discovery", R"({"name": "disc"})");
  EXPECT_EQ(bdevs(), Names{"disc0n1"});
}

TEST_F(DiscoveryServiceTest, ReferralsAreFollowedAndLeft) {
  Target first, second;
  ASSERT_NO_FATAL_FAILURE(first.start());
  ASSERT_NO_FATAL_FAILURE(second.start());
  first.add("a");
  second.add("b");
  must("bdev_nvme_start_discovery", service(first.port(), R"({"wait_for_attach": true})"));
  EXPECT_EQ(bdevs(), Names{"disc0n1"});
  first.refer(true, second.port());
  second.refer(true, first.port());  // round in a circle
  expect_soon({"disc0n1", "disc1n1"});
  EXPECT_EQ(must("bdev_nvme_get_discovery_info", "{}")[0]["referrals"].size(), 1U);
  second.add("c");
  expect_soon({"disc0n1", "disc1n1", "disc2n1"});
  first.refer(false, second.port());
  expect_soon({"disc0n1"});
}

TEST_F(DiscoveryServiceTest, ADiscoveryControllerThatComesBackIsFollowedAgain) {
  Target target;
  ASSERT_NO_FATAL_FAILURE(target.start());
  target.add("a");
  must("bdev_nvme_start_discovery", service(target.port(), R"({"wait_for_attach": true, "ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1})"));
  const std::uint16_t port = target.port();
  target.kill();
  EXPECT_TRUE(eventually([&] { return !must("bdev_nvme_get_discovery_info", "{}")[0]["controllers"][0]["connected"].asBool(); }));
  EXPECT_EQ(bdevs(), Names{"disc0n1"}) << "losing the discovery controller detaches nothing";
  ASSERT_NO_FATAL_FAILURE(target.start(port));
  target.add("b");
  expect_soon({"disc1n1"});  // what the log does not show any more is gone, what it shows is there
}

TEST_F(DiscoveryServiceTest, AControllerThatWasGivenUpIsAttachedAgainWhileTheLogShowsIt) {
  Target shows, serves;
  ASSERT_NO_FATAL_FAILURE(shows.start());
  ASSERT_NO_FATAL_FAILURE(serves.start());
  serves.add("a");
  shows.add("z");
  shows.refer(true, serves.port());
  must("bdev_nvme_start_discovery", service(shows.port(), R"({"ctrlr_loss_timeout_sec": 1, "reconnect_delay_sec": 1})"));
  EXPECT_TRUE(eventually([&] { return bdevs().size() == 2; }));
  const std::uint16_t port = serves.port();
  serves.kill();
  EXPECT_TRUE(eventually([&] { return bdevs().size() == 1; })) << "given up";
  ASSERT_NO_FATAL_FAILURE(serves.start(port));
  serves.add("a");
  EXPECT_TRUE(eventually([&] { return bdevs().size() == 2; }, 2 * patience)) << must("bdev_nvme_get_discovery_info", "{}").toStyledString();
}

TEST_F(DiscoveryServiceTest, AStartThatFailsLeavesNothing) {
  const std::uint16_t nobody = free_port();
  auto refused = call("bdev_nvme_start_discovery", service(nobody, R"({"wait_for_attach": true})"));
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find(std::to_string(nobody)), std::string::npos) << refused.error().message;
  auto late = call("bdev_nvme_start_discovery", service(nobody, R"({"attach_timeout_ms": 300})"));
  ASSERT_FALSE(late.has_value());
  EXPECT_EQ(late.error().err, -ETIMEDOUT) << late.error().message;
  EXPECT_TRUE(must("bdev_nvme_get_discovery_info", "{}").empty());
  // Without waiting it stands, and finds the target when there is one.
  must("bdev_nvme_start_discovery", service(nobody));
  Target target;
  ASSERT_NO_FATAL_FAILURE(target.start(nobody));
  target.add("a");
  expect_soon({"disc0n1"});
}

TEST_F(DiscoveryServiceTest, StoppingWaitsForNoConnect) {
  const FullListener nowhere;
  must("bdev_nvme_set_options", R"({"tcp_connect_timeout_ms": 30000})");
  must("bdev_nvme_start_discovery", service(nowhere.port()));
  const auto begun = Clock::now();
  must("bdev_nvme_stop_discovery", R"({"name": "disc"})");
  const auto took = std::chrono::duration_cast<Milliseconds>(Clock::now() - begun);
  printf("stopped after %lld ms\n", static_cast<long long>(took.count()));
  EXPECT_LT(took, Milliseconds(20'000)) << "it did not wait for the connect";
}

TEST_F(DiscoveryServiceTest, ASavedConfigurationHasTheServiceAndNotWhatItAttached) {
  Target target;
  ASSERT_NO_FATAL_FAILURE(target.start());
  target.add("a");
  must("bdev_nvme_start_discovery", service(target.port(), R"({"wait_for_attach": true, "ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 2})"));
  Json::Value found;
  for (const auto& call : must("framework_get_config", R"({"name": "bdev"})")) {
    EXPECT_NE(call["method"], "bdev_nvme_attach_controller");
    if (call["method"] == "bdev_nvme_start_discovery") found = call["params"];
  }
  EXPECT_EQ(found["name"], "disc");
  EXPECT_EQ(found["reconnect_delay_sec"], 2);
  must("bdev_nvme_stop_discovery", R"({"name": "disc"})");
  must("bdev_nvme_start_discovery", found);
  expect_soon({"disc0n1"});
}

}  // namespace
}  // namespace catnap::protocol
