// Many connections: storms of them that end at every stage, more than there are fds for, and hundreds that only exist.
// Owner: the test, which starts a server of its own for each case. Left out: what single connections may do (live_fuzz_test.cpp).
#include <sys/resource.h>

#include <fstream>

#include "tests/protocol/own_server.h"

namespace catnap::protocol {
namespace {

constexpr int storm_rounds = 500;
constexpr int few_fds = 64;

class CrowdTest : public OwnServerTest {
 protected:
  static void expect_served(Host& host, std::uint32_t seed) {
    ASSERT_FALSE(host.io.empty());
    OwnServerTest::expect_served(host.io[0], seed);
  }
  // Of the running server: from now on it has about `more` descriptors (gaps between open ones count too) beside those it has; 0: as many as before.
  void leave_fds(std::size_t more) {
    rlimit limit{};
    ASSERT_EQ(prlimit(server_->pid(), RLIMIT_NOFILE, nullptr, &limit), 0);
    limit.rlim_cur = more == 0 ? limit.rlim_max : open_fds() + more;
    ASSERT_EQ(prlimit(server_->pid(), RLIMIT_NOFILE, &limit, nullptr), 0);
  }
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
      ASSERT_EQ(host.io.size(), 1u) << "round " << round;
      if (round % 5 == 2) host.io[0].submit(io_command(nvme::IoOpcode::read, 0, 256), Payload::to_host(131072));
      if (round % 5 == 3) host.io[0].submit(io_command(nvme::IoOpcode::write, 0, 256), Payload::by_r2t(pattern(131072, 1)));
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
  const std::string said = "connections are open";
  EXPECT_TRUE(wait_for([&] { return server_->log().find(said) != std::string::npos; })) << "nobody was told";
  const std::string log = server_->log();
  const auto first = log.find(said);
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
TEST_F(CrowdTest, WithoutAnyFdLeftNewHostsAreRefusedAndTheOthersDoNotNotice) {
  if (is_sanitized) GTEST_SKIP() << "sanitizers take descriptors themselves to look at memory, and report errors when there are none";
  ASSERT_NO_FATAL_FAILURE(start(CATNAP_SERVER));
  const std::size_t fds_before = open_fds();
  Host early = connect();
  const std::string file = server_->directory() + "/disk";
  std::ofstream(file) << std::string(4096, 'x');
  ASSERT_NO_FATAL_FAILURE(leave_fds(2));
  std::vector<Connection> crowd;
  for (int i = 0; i < 40; ++i) {
    auto opened = Connection::open_bare(port_);
    if (opened) crowd.push_back(std::move(*opened));
  }
  const auto refused = [this] {
    const auto stats = server_->rpc().call("nvmf_get_stats");
    return stats ? (*stats)["connections"]["refused_no_fds"].asUInt() : 0u;
  };
  EXPECT_TRUE(wait_for([&refused] { return refused() >= 30; })) << refused();
  EXPECT_TRUE(crowd.back().receive_until_closed().has_value()) << "a refused host learns it at once";
  expect_served(early, 1);
  const auto made =
      server_->rpc().call("bdev_aio_create", json(R"({"name": "A0", "filename": "/proc/self/exe", "readonly": true, "block_size": 512})"));
  ASSERT_FALSE(made.has_value());
  EXPECT_EQ(made.error().err, -EMFILE) << made.error().message;
  auto late_client = RpcClient::open(server_->rpc_socket());
  EXPECT_FALSE(late_client.has_value() && late_client->call("nvmf_get_stats").has_value());
  const std::string log = server_->log();
  std::size_t said = 0;
  for (auto at = log.find("no file descriptors are left"); at != std::string::npos; at = log.find("no file descriptors are left", at + 1)) ++said;
  EXPECT_GE(said, 1u);
  EXPECT_LE(said, 3u) << "once in 10 s";
  ASSERT_NO_FATAL_FAILURE(leave_fds(0));
  crowd.clear();
  late_client = fail(ENOTCONN, "closed");
  Host late = connect();
  expect_served(late, 2);
  expect_served(early, 3);
  early = Host();
  late = Host();
  EXPECT_LE(wait_for_fds(fds_before), fds_before);
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
    ASSERT_EQ(all.back().io.size(), 1u);
  }
  for (Host& host : all) expect_served(host, 3);
  // The last answers are out; what the server does from here on is its own doing. The window is the measurement itself: once it is quiet, unless what
  // wakes up does so again and again.
  ::poll(nullptr, 0, 500);
  std::uint64_t wakeups = 0;
  EXPECT_TRUE(wait_for([&] {
    const std::uint64_t before = server_->voluntary_switches();
    ::poll(nullptr, 0, window_s * 1000);
    wakeups = server_->voluntary_switches() - before;
    return wakeups <= 5 * window_s;
  })) << wakeups
      << " wake-ups of a server with " << 2 * hosts << " quiet connections";
  EXPECT_EQ(server_->stop(), 0);
}

}  // namespace
}  // namespace catnap::protocol
