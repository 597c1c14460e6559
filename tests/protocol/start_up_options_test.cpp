// Options that are set before the target is there, as hosts notice them: a discovery NQN of one's own, one controller per host and listener, Command
// Retry Delay Times. Starts a server of its own.
// Owner: the test's thread. Left out: discovery filters (unit tests of the records), poll groups (placement_test.cpp).
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "tests/protocol/client/host.h"
#include "tests/protocol/client/server_process.h"

namespace catnap::protocol {
namespace {

constexpr const char* well_known_nqn = "nqn.2014-08.org.nvmexpress.discovery";
constexpr const char* unique_nqn = "nqn.2026-11.io.catnap:discovery-of-rack-7";
constexpr const char* nqn = "nqn.2026-11.io.catnap:single";

template <std::size_t N>
std::string text_of(const std::array<char, N>& field) {
  std::string text(field.begin(), std::ranges::find(field, '\0'));
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

class StartUpOptionsTest : public testing::Test {
 protected:
  void start(const std::string& set_config) {
    auto started = ServerProcess::start(CATNAP_SERVER, {"--wait-for-rpc"});
    ASSERT_TRUE(started.has_value()) << started.error().message;
    server_ = std::move(*started);
    call("nvmf_set_config", set_config);
    call("nvmf_set_crdt", R"({"crdt1": 11, "crdt2": 22, "crdt3": 33})");
    call("framework_start_init", "{}");
    call("nvmf_create_transport", R"({"trtype": "TCP"})");
    call("nvmf_create_subsystem", R"({"nqn": ")" + std::string(nqn) + R"(", "allow_any_host": true})");
    for (std::uint16_t& port : ports_) {
      port = free_port();
      call("nvmf_subsystem_add_listener", R"({"nqn": ")" + std::string(nqn) +
                                              R"(", "listen_address": {"trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": ")" + std::to_string(port) +
                                              R"("}})");
    }
  }
  void TearDown() override {
    if (server_ == nullptr) return;
    const int status = server_->stop();
    EXPECT_EQ(status, 0) << server_->log();
  }
  void call(const std::string& method, const std::string& params) {
    auto answer = server_->rpc().call(method, json(params));
    ASSERT_TRUE(answer.has_value()) << method << ": " << answer.error().message;
  }
  CommandResult connect(Connection& admin, const ConnectParameters& parameters, std::size_t port = 0) {
    auto made = Connection::open(ports_[port]);
    EXPECT_TRUE(made.has_value());
    if (made) admin = std::move(*made);
    return connect_queue(admin, parameters);
  }

  std::unique_ptr<ServerProcess> server_;
  std::array<std::uint16_t, 2> ports_{};
};

// Proves: access | Unique discovery NQN | Base 3.1.2.3
TEST_F(StartUpOptionsTest, TheDiscoverySubsystemIsKnownByBothNames) {
  start(R"({"discovery_nqn": ")" + std::string(unique_nqn) + R"("})");
  for (const char* name : {well_known_nqn, unique_nqn}) {
    Connection admin;
    auto connected = connect(admin, {.subnqn = name});
    ASSERT_TRUE(connected.ok()) << name;
    ASSERT_TRUE(enable(admin));
    auto controller = data_as<nvme::IdentifyController>(identify(admin, nvme::Cns::controller));
    EXPECT_EQ(text_of(controller.subnqn), unique_nqn) << "what Identify says, whatever the host asked for";
    EXPECT_EQ(controller.cntrltype, static_cast<std::uint8_t>(nvme::ControllerType::discovery));
    auto log = get_log(admin, {.page = nvme::LogPage::discovery, .length_bytes = 4096, .nsid = 0});
    EXPECT_EQ(text_of(data_as<nvme::DiscoveryEntry>(log, 1024).subnqn), unique_nqn);
  }
  Connection stranger;
  EXPECT_TRUE(connect(stranger, {.subnqn = "nqn.2026-11.io.catnap:discovery-of-rack-8"}).is(nvme::FabricsStatus::connect_invalid_parameters));
  auto saved = server_->rpc().call("framework_get_config", json(R"({"name": "nvmf"})"));
  ASSERT_TRUE(saved.has_value());
  EXPECT_THAT(saved->toStyledString(), testing::AllOf(testing::HasSubstr(unique_nqn), testing::HasSubstr("nvmf_set_crdt"), testing::HasSubstr("33")));
}

// Proves: access | Duplicate hosts | Base 6.3
TEST_F(StartUpOptionsTest, AHostMayComeOncePerListener) {
  start(R"({"dup_host_policy": "restrict_per_listener"})");
  Connection first;
  ASSERT_TRUE(connect(first, {.subnqn = nqn}).ok());
  Connection second;
  auto busy = connect(second, {.subnqn = nqn});
  EXPECT_TRUE(busy.is(nvme::FabricsStatus::controller_busy));
  EXPECT_FALSE(busy.status.dnr) << "later it may";
  Connection same_host_other_name;
  EXPECT_TRUE(connect(same_host_other_name, {.subnqn = nqn, .hostnqn = "nqn.2026-11.io.catnap:other"}).is(nvme::FabricsStatus::controller_busy))
      << "HOSTID decides";
  Connection other_path;
  EXPECT_TRUE(connect(other_path, {.subnqn = nqn}, 1).ok()) << "another listener is another path";
  Connection other_host;
  EXPECT_TRUE(connect(other_host, {.subnqn = nqn, .hostid_byte = 0x33}).ok());
  for (int i = 0; i < 2; ++i) {
    Connection discovery;
    EXPECT_TRUE(connect(discovery, {.subnqn = well_known_nqn}).ok()) << "discovery is for everybody, always";
  }
  first.socket().close();
  CommandResult again = busy;
  for (int i = 0; i < 2000 && !again.ok(); ++i) {
    Connection next;
    again = connect(next, {.subnqn = nqn});
  }
  EXPECT_TRUE(again.ok()) << "when the first controller is gone, the host may come again";
}

// A network namespace of this process's own, with a link-local address on its loopback interface; the old one again at the end.
class OwnNetwork {
 public:
  OwnNetwork() : home_(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)) {
    entered_ = home_ >= 0 && ::unshare(CLONE_NEWNET) == 0;
    usable_ = entered_ && std::system("ip link set lo up && ip -6 addr add fe80::1/64 dev lo nodad") == 0;
  }
  ~OwnNetwork() {
    if (entered_) ::setns(home_, CLONE_NEWNET);
    if (home_ >= 0) ::close(home_);
  }
  OwnNetwork(const OwnNetwork&) = delete;
  OwnNetwork& operator=(const OwnNetwork&) = delete;
  bool usable() const { return usable_; }

 private:
  int home_;
  bool entered_ = false;
  bool usable_ = false;
};

// Proves: access | IPv6 | TCP 3.2
TEST_F(StartUpOptionsTest, ALinkLocalAddressServesOnItsInterface) {
  const OwnNetwork network;
  if (!network.usable()) GTEST_SKIP() << "no network namespace of one's own here (it takes privileges)";
  start("{}");
  const std::uint16_t port = free_port();
  call("nvmf_subsystem_add_listener", R"({"nqn": ")" + std::string(nqn) +
                                          R"(", "listen_address": {"trtype": "TCP", "adrfam": "IPv6", "traddr": "FE80::1%1", "trsvcid": ")" +
                                          std::to_string(port) + R"("}})");
  ConnectionOptions options;
  options.traddr = "fe80::1%lo";
  auto admin = Connection::open(port, options);
  ASSERT_TRUE(admin.has_value()) << admin.error().message;
  EXPECT_TRUE(connect_queue(*admin, {.subnqn = nqn}).ok());
  auto discovery = Connection::open(port, options);
  ASSERT_TRUE(discovery.has_value());
  ASSERT_TRUE(connect_queue(*discovery, {.subnqn = well_known_nqn}).ok());
  ASSERT_TRUE(enable(*discovery));
  auto log = get_log(*discovery, {.page = nvme::LogPage::discovery, .length_bytes = 4096, .nsid = 0});
  EXPECT_EQ(text_of(data_as<nvme::DiscoveryEntry>(log, 1024).traddr), "fe80::1") << "without our interface";
  call("nvmf_subsystem_remove_listener", R"({"nqn": ")" + std::string(nqn) +
                                             R"(", "listen_address": {"trtype": "TCP", "traddr": "fe80::1%lo", "trsvcid": ")" + std::to_string(port) +
                                             R"("}})");
  EXPECT_TRUE(admin->receive_until_closed().has_value());
}

}  // namespace
}  // namespace catnap::protocol
