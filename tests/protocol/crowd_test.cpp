// Many connections: storms of them that end at every stage, more than there are fds for, and hundreds that only exist.
// Owner: the test, which starts a server of its own for each case. Left out: what single connections may do (live_fuzz_test.cpp).
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <vector>

#include "tests/protocol/client/host.h"
#include "tests/protocol/client/server_process.h"

namespace catnap::protocol {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* nqn = "nqn.2026-11.io.catnap:crowd";
constexpr int storm_rounds = 500;
constexpr int few_fds = 64;

struct Host {
  Connection admin, io;
};

class CrowdTest : public testing::Test {
 protected:
  void TearDown() override {
    if (HasFailure() && server_ != nullptr) printf("---- server log ----\n%s\n", server_->log().c_str());
  }

  void start(const std::string& program) {
    port_ = free_port();
    auto started = ServerProcess::start(program, {"-m", two_cpus()});
    ASSERT_TRUE(started.has_value()) << started.error().message;
    server_ = std::move(*started);
    const std::string subsystem = std::string(R"({"nqn": ")") + nqn + "\"";
    call("nvmf_create_transport", R"({"trtype": "TCP"})");
    call("bdev_malloc_create", R"({"name": "Malloc0", "num_blocks": 65536, "block_size": 512})");
    call("nvmf_create_subsystem", subsystem + R"(, "allow_any_host": true})");
    call("nvmf_subsystem_add_ns", subsystem + R"(, "namespace": {"bdev_name": "Malloc0"}})");
    call("nvmf_subsystem_add_listener", subsystem + R"(, "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" +
                                            std::to_string(port_) + R"("}})");
  }
  void call(const std::string& method, const std::string& params) {
    const auto answer = server_->rpc().call(method, json(params));
    ASSERT_TRUE(answer.has_value()) << method << ": " << answer.error().message;
  }

  Host connect() const {
    Host host;
    auto admin = Connection::open(port_);
    if (!admin) return host;
    host.admin = std::move(*admin);
    const CommandResult connected = connect_queue(host.admin, {.subnqn = nqn});
    if (!connected.ok() || !enable(host.admin)) return host;
    auto io = Connection::open(port_);
    if (!io) return host;
    if (connect_queue(*io, {.subnqn = nqn, .cntlid = static_cast<std::uint16_t>(std::uint32_t{connected.cqe.dw0}), .qid = 1}).ok())
      host.io = std::move(*io);
    return host;
  }
  static void expect_served(Host& host, std::uint32_t seed) {
    const Bytes expected = pattern(8192, seed);
    EXPECT_TRUE(write(host.io, 16, expected).ok());
    const CommandResult back = read(host.io, 16, 8192);
    EXPECT_TRUE(back.ok());
    EXPECT_EQ(back.data, expected);
  }

  std::size_t open_fds() const {
    std::error_code error;
    const std::filesystem::directory_iterator entries("/proc/" + std::to_string(server_->pid()) + "/fd", error);
    return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
  }
  // Connections end a moment after their hosts; there is nothing to wait on but the count itself.
  std::size_t wait_for_fds(std::size_t wanted) const {
    const auto deadline = Clock::now() + patience;
    while (open_fds() > wanted && Clock::now() < deadline) ::poll(nullptr, 0, 10);
    return open_fds();
  }

  std::uint16_t port_ = 0;
  std::unique_ptr<ServerProcess> server_;
};

// Proves: transport | Closing | TCP 3.1
TEST_F(CrowdTest, AStormOfConnectionsThatEndAtEveryStageLeavesNothing) {
  ASSERT_NO_FATAL_FAILURE(start(CATNAP_SERVER));
  const std::size_t fds_before = open_fds();
  for (int round = 0; round < storm_rounds; ++round) {
    if (round % 5 == 0) {
      auto bare = Connection::open_bare(port_);
      ASSERT_TRUE(bare.has_value());
    } else if (round % 5 == 1) {
      auto greeted = Connection::open(port_);
      ASSERT_TRUE(greeted.has_value());
    } else {
      Host host = connect();
      ASSERT_TRUE(host.io.socket().is_open()) << "round " << round;
      if (round % 5 == 2) host.io.submit(io_command(nvme::IoOpcode::read, 0, 256), Payload::to_host(131072));
      if (round % 5 == 3) host.io.submit(io_command(nvme::IoOpcode::write, 0, 256), Payload::by_r2t(pattern(131072, 1)));
      if (round % 5 == 4) expect_served(host, static_cast<std::uint32_t>(round));
    }
  }
  EXPECT_LE(wait_for_fds(fds_before), fds_before);
  Host host = connect();
  expect_served(host, 1);
  EXPECT_EQ(server_->stop(), 0);
}

// Proves: transport | Limits on connections and handshakes | TCP 3.4
TEST_F(CrowdTest, MoreConnectionsThanFdsAreRefusedAndLeaveRoomForRpcs) {
  const std::string wrapper = (std::filesystem::temp_directory_path() / ("catnap-few-fds-" + std::to_string(::getpid()))).string();
  std::ofstream(wrapper) << "#!/bin/sh\nulimit -n " << few_fds << "\nexec " << CATNAP_SERVER << " \"$@\"\n";
  std::filesystem::permissions(wrapper, std::filesystem::perms::owner_all);
  start(wrapper);
  std::filesystem::remove(wrapper);
  ASSERT_FALSE(HasFatalFailure());
  const std::size_t fds_before = open_fds();
  Host early = connect();
  std::vector<Connection> crowd;
  for (int i = 0; i < 2 * few_fds; ++i) {
    auto opened = Connection::open_bare(port_);
    if (opened) crowd.push_back(std::move(*opened));
  }
  expect_served(early, 1);
  auto operator_client = RpcClient::open(server_->rpc_socket());
  ASSERT_TRUE(operator_client.has_value());
  EXPECT_TRUE(operator_client->call("nvmf_get_stats").has_value()) << "hosts must not take the fds that the operator needs";
  const std::string log = server_->log();
  const std::string said = "connections are open";
  const auto first = log.find(said);
  EXPECT_NE(first, std::string::npos) << "nobody was told";
  EXPECT_EQ(log.find(said, first + 1), std::string::npos) << "once is enough";
  crowd.clear();
  early = Host();
  operator_client = fail(ENOTCONN, "closed");
  EXPECT_LE(wait_for_fds(fds_before), fds_before);
  Host late = connect();
  expect_served(late, 2);
  EXPECT_EQ(server_->stop(), 0);
}

// Proves: transport | Limits on connections and handshakes | TCP 3.4
TEST_F(CrowdTest, HundredsOfQuietConnectionsCostNothing) {
  constexpr int hosts = 100;
  constexpr std::uint64_t window_s = 3;
  ASSERT_NO_FATAL_FAILURE(start(CATNAP_SERVER));
  std::vector<Host> all;
  for (int i = 0; i < hosts; ++i) {
    all.push_back(connect());
    ASSERT_TRUE(all.back().io.socket().is_open());
  }
  for (Host& host : all) expect_served(host, 3);
  // The last answers are out; what the server does from here on is its own doing. The window is the measurement itself.
  ::poll(nullptr, 0, 500);
  const std::uint64_t before = server_->voluntary_switches();
  ::poll(nullptr, 0, window_s * 1000);
  EXPECT_LE(server_->voluntary_switches() - before, 5 * window_s) << "wake-ups of a server with " << 2 * hosts << " quiet connections";
  EXPECT_EQ(server_->stop(), 0);
}

}  // namespace
}  // namespace catnap::protocol
