// Which poll group a connection goes to, seen from outside: hosts come and go, and nvmf_get_stats tells how many queue pairs each group has.
// Owner: the test, which starts servers of its own, with two reactors. Left out: the choice itself (tests/unit/placement).
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <random>
#include <vector>

#include "reactor/cpumask.h"
#include "tests/protocol/client/host.h"
#include "tests/protocol/client/server_process.h"

namespace catnap::protocol {
namespace {

constexpr const char* nqn = "nqn.2026-11.io.catnap:placement";
constexpr unsigned rounds = 100;
constexpr std::size_t most_hosts = 8;
constexpr std::uint32_t most_io_queues = 6;     // that a host begins with
constexpr std::uint32_t most_queue_pairs = 40;  // from there on, only as many come as left

std::uint32_t seed() {
  const char* given = std::getenv("CATNAP_SEED");
  return given == nullptr ? 20261121U : static_cast<std::uint32_t>(std::strtoul(given, nullptr, 0));
}

struct Host {
  Connection admin;
  std::uint16_t cntlid = 0;
  std::vector<Connection> io;  // queue identifier = index + 1
  std::uint32_t queue_pairs() const { return static_cast<std::uint32_t>(io.size()) + 1; }
};

class PlacementTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto cpus = CpuMask::of_process().cpus();
    if (cpus.size() < 2) GTEST_SKIP() << "two reactors need two CPUs, and this process may use one";
    port_ = free_port();
    auto started = ServerProcess::start(CATNAP_SERVER, {"-m", "[" + std::to_string(cpus[0]) + "," + std::to_string(cpus[1]) + "]", "--wait-for-rpc"});
    ASSERT_TRUE(started.has_value()) << started.error().message;
    server_ = std::move(*started);
    const std::string subsystem = std::string(R"({"nqn": ")") + nqn + "\"";
    call("nvmf_set_config", R"({"prefer_incoming_cpu": true})");  // must not cost balance: all tests here run with it
    call("framework_start_init", "{}");
    call("nvmf_create_transport", R"({"trtype": "TCP"})");
    call("nvmf_create_subsystem", subsystem + R"(, "allow_any_host": true})");
    call("nvmf_subsystem_add_listener", subsystem + R"(, "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" +
                                            std::to_string(port_) + R"("}})");
  }
  void TearDown() override {
    if (server_ == nullptr) return;
    hosts_.clear();
    EXPECT_EQ(server_->stop(), 0) << server_->log();
  }

  Json::Value call(const std::string& method, const std::string& params) {
    const auto answer = server_->rpc().call(method, json(params));
    EXPECT_TRUE(answer.has_value()) << method << ": " << answer.error().message;
    return answer.has_value() ? *answer : Json::Value();
  }

  // Queue pairs of each poll group.
  std::vector<std::uint32_t> counts() {
    std::vector<std::uint32_t> all;
    const Json::Value stats = call("nvmf_get_stats", "{}");
    for (const Json::Value& group : stats["poll_groups"]) {
      std::uint32_t count = 0;
      for (const char* kind : {"current_admin_qpairs", "current_io_qpairs", "current_unassociated_qpairs"}) count += group[kind].asUInt();
      all.push_back(count);
    }
    return all;
  }
  std::uint32_t difference() {
    const auto now = counts();
    const auto [fewest, most] = std::minmax_element(now.begin(), now.end());
    return *most - *fewest;
  }
  std::uint32_t total() const {
    std::uint32_t sum = 0;
    for (const Host& host : hosts_) sum += host.queue_pairs();
    return sum;
  }
  // The server has noticed who is gone.
  void wait_for_total() {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    std::uint32_t seen = 0;
    do {
      seen = 0;
      for (const std::uint32_t count : counts()) seen += count;
    } while (seen != total() && std::chrono::steady_clock::now() < deadline);
    ASSERT_EQ(seen, total()) << "queue pairs that the server counts, and that there are";
  }

  Connection connect(std::uint16_t cntlid, std::uint16_t qid, std::uint16_t* given = nullptr) {
    auto opened = Connection::open(port_);
    EXPECT_TRUE(opened.has_value());
    if (!opened) return {};
    const CommandResult connected = connect_queue(*opened, {.subnqn = nqn, .cntlid = cntlid, .qid = qid});
    EXPECT_TRUE(connected.ok()) << "Connect of queue " << qid;
    if (given != nullptr) *given = static_cast<std::uint16_t>(std::uint32_t{connected.cqe.dw0});
    return std::move(*opened);
  }
  void add_io_queue(Host& host) { host.io.push_back(connect(host.cntlid, static_cast<std::uint16_t>(host.io.size() + 1))); }
  void add_host(std::uint32_t io_queues) {
    Host host;
    host.admin = connect(nvme::cntlid_dynamic, 0, &host.cntlid);
    ASSERT_TRUE(enable(host.admin));
    for (std::uint32_t i = 0; i < io_queues; ++i) add_io_queue(host);
    hosts_.push_back(std::move(host));
  }
  std::uint32_t draw(std::size_t below) { return static_cast<std::uint32_t>(random_() % below); }

  // Some hosts hang up, others lose a few queues.
  void some_leave() {
    for (std::size_t i = hosts_.size(); i-- > 0;) {
      if (draw(3) == 0) {
        hosts_.erase(hosts_.begin() + static_cast<std::ptrdiff_t>(i));
      } else if (draw(3) == 0) {
        hosts_[i].io.resize(draw(hosts_[i].io.size() + 1));
      }
    }
  }
  // Old and new hosts connect until there are `wanted` queue pairs.
  void some_come(std::uint32_t wanted) {
    while (total() < wanted) {
      const bool fresh = hosts_.empty() || (hosts_.size() < most_hosts && draw(2) == 0);
      if (fresh) {
        const std::uint32_t room = std::min<std::uint32_t>(wanted - total(), most_io_queues + 1);
        ASSERT_NO_FATAL_FAILURE(add_host(draw(room)));
      } else {
        add_io_queue(hosts_[draw(hosts_.size())]);
      }
    }
  }

  std::unique_ptr<ServerProcess> server_;
  std::uint16_t port_ = 0;
  std::mt19937 random_{seed()};
  std::vector<Host> hosts_;
};

TEST_F(PlacementTest, AHundredRandomRoundsLeaveTheGroupsEven) {
  for (std::size_t i = 0; i < most_hosts / 2; ++i) ASSERT_NO_FATAL_FAILURE(add_host(draw(most_io_queues + 1)));
  unsigned uneven_between = 0;
  std::uint64_t connected = total();
  for (unsigned round = 0; round < rounds; ++round) {
    SCOPED_TRACE(testing::Message() << "CATNAP_SEED=" << seed() << " round " << round);
    const std::uint32_t before = total();
    some_leave();
    ASSERT_NO_FATAL_FAILURE(wait_for_total());
    uneven_between += difference() > 1 ? 1 : 0;
    const std::uint32_t left = total();
    ASSERT_NO_FATAL_FAILURE(some_come(before + (before < most_queue_pairs ? draw(3) : 0)));
    connected += total() - left;
    ASSERT_NO_FATAL_FAILURE(wait_for_total());
    ASSERT_LE(difference(), 1U) << "as many came as had left";
  }
  std::printf("%u rounds, %llu connects; %u times uneven after disconnects, never after the connects that followed\n", rounds,
              static_cast<unsigned long long>(connected), uneven_between);
  EXPECT_GT(uneven_between, 0U) << "the rounds did not try anything";
}

// What is not promised: hosts may end just the connections of one group. Nothing moves the others; each connect that follows repairs by one.
TEST_F(PlacementTest, OneSidedDisconnectsAreRepairedByTheConnectsThatFollow) {
  ASSERT_NO_FATAL_FAILURE(add_host(0));
  Host& host = hosts_.front();
  for (int i = 0; i < 9; ++i) add_io_queue(host);
  ASSERT_NO_FATAL_FAILURE(wait_for_total());
  ASSERT_EQ(counts(), (std::vector<std::uint32_t>{5, 5}));

  const Json::Value queues = call("nvmf_subsystem_get_qpairs", std::string(R"({"nqn": ")") + nqn + R"("})");
  std::string admin_group;
  std::vector<std::uint16_t> elsewhere;
  for (const Json::Value& queue : queues) {
    if (queue["qid"].asUInt() == 0) admin_group = queue["thread"].asString();
  }
  for (const Json::Value& queue : queues) {
    if (queue["thread"].asString() != admin_group) elsewhere.push_back(static_cast<std::uint16_t>(queue["qid"].asUInt()));
  }
  ASSERT_EQ(elsewhere.size(), 5U);
  for (const std::uint16_t qid : elsewhere) host.io[qid - 1U] = Connection();
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (difference() != 5 && std::chrono::steady_clock::now() < deadline) {
  }
  ASSERT_EQ(difference(), 5U) << "five against none";
  for (std::uint32_t i = 0; i < 5; ++i) {
    host.io[elsewhere[i] - 1U] = connect(host.cntlid, elsewhere[i]);
    EXPECT_EQ(difference(), 4 - i);
  }
}

TEST_F(PlacementTest, ThePreferenceIsSavedWithTheConfiguration) {
  const Json::Value saved = call("framework_get_config", R"({"name": "nvmf"})");
  bool found = false;
  for (const Json::Value& one : saved) found |= one["method"] == "nvmf_set_config" && one["params"]["prefer_incoming_cpu"] == true;
  EXPECT_TRUE(found) << saved;
}

}  // namespace
}  // namespace catnap::protocol
