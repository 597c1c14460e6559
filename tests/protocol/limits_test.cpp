// Hostile hosts against a real server with short time-outs: each limit of docs/limits.md is met, the host is refused or ended, a host that does
// nothing wrong is served all the while, and everything is given back. Owner: the test, which starts servers of its own. Left out: the same on a
// virtual clock, to the microsecond (tests/unit/tcp/hostile_test.cpp).
#include <sys/socket.h>

#include <fstream>

#include "tests/protocol/own_server.h"

namespace catnap::protocol {
namespace {

// Short, and long enough for honest hosts on a busy machine under a sanitizer.
constexpr const char* short_times =
    R"(, "icreq_timeout_ms": 1500, "connect_timeout_ms": 3000, "pdu_timeout_ms": 2000, "r2t_timeout_ms": 2500, "stall_timeout_ms": 1500, "term_linger_ms": 700)";

class LimitsTest : public OwnServerTest {
 protected:
  void begin(const std::string& more = "") {
    ASSERT_NO_FATAL_FAILURE(start(CATNAP_SERVER, short_times + more));
    fds_before_ = open_fds();
    bystander_ = connect_patiently();
    ASSERT_EQ(bystander_.io.size(), 1u);
    expect_served(bystander_.io[0], 1);
  }
  // Nothing of what the hosts did is left, and the bystander did not notice.
  void end() {
    expect_served(bystander_.io[0], 2);
    EXPECT_LE(wait_for_fds(fds_before_ + 2), fds_before_ + 2) << "fds of hostile hosts are still open";
    const auto stats = server_->rpc().call("nvmf_get_stats");
    ASSERT_TRUE(stats.has_value());
    EXPECT_EQ((*stats)["connections"]["half_open"].asUInt(), 0u);
    EXPECT_LT(server_->log().size(), 32u << 10) << "the log grows with what hosts do";
    bystander_ = Host();
    EXPECT_EQ(server_->stop(), 0);
  }
  // An honest host: on a machine that stands still for a moment it is late as well, and comes again.
  Host connect_patiently(unsigned queues = 1, std::uint16_t entries = 32) const {
    Host host;
    EXPECT_TRUE(wait_for([&] {
      host = connect(queues, entries);
      return host.io.size() == queues;
    }));
    return host;
  }
  Connection open_patiently() const {
    Connection connection;
    EXPECT_TRUE(wait_for([&] {
      auto opened = Connection::open(port_);
      if (opened) connection = std::move(*opened);
      return opened.has_value();
    }));
    return connection;
  }
  std::vector<Connection> knock(int count) {
    std::vector<Connection> crowd;
    for (int i = 0; i < count; ++i) {
      auto opened = Connection::open_bare(port_);
      if (opened) crowd.push_back(std::move(*opened));
    }
    return crowd;
  }
  static bool is_closed(Connection& connection) { return connection.receive_until_closed().has_value(); }

  std::size_t fds_before_ = 0;
  Host bystander_;
};

// Proves: transport | Limits on connections and handshakes | TCP 3.4
TEST_F(LimitsTest, ACrowdThatNeverSpeaksIsRefusedAndThenForgotten) {
  ASSERT_NO_FATAL_FAILURE(begin(R"(, "max_half_open_per_host": 20)"));
  auto crowd = knock(300);
  EXPECT_TRUE(wait_for([&] { return counter("refused", "half_open_per_host") > 0; }));
  expect_served(bystander_.io[0], 3);
  for (Connection& each : crowd) ASSERT_TRUE(is_closed(each));
  EXPECT_GE(counter("refused", "half_open_per_host") + counter("timed_out", "icreq"), 300u);
  // Room again, for those who do it right.
  Host late = connect_patiently();
  ASSERT_EQ(late.io.size(), 1u);
  expect_served(late.io[0], 4);
  late = Host();
  end();
}

TEST_F(LimitsTest, AHandshakeThatStopsAnywhereEnds) {
  ASSERT_NO_FATAL_FAILURE(begin());
  const Bytes hello = build_pdu(header_of_type<tcp::IcReq>(tcp::PduType::ic_req));
  auto crowd = knock(9);
  for (std::size_t i = 0; i < crowd.size(); ++i) crowd[i].send(std::span(hello).first(i * 16));
  for (Connection& each : crowd) EXPECT_TRUE(is_closed(each));
  EXPECT_GE(counter("timed_out", "icreq"), 8u);
  expect_served(bystander_.io[0], 3);
  Connection greeted = open_patiently();
  EXPECT_TRUE(is_closed(greeted));
  EXPECT_GE(counter("timed_out", "connect"), 1u);
  end();
}

// Proves: transport | Hosts that stall or vanish | TCP 3.4
TEST_F(LimitsTest, PdusThatAreBegunAndNotEndedEndTheConnection) {
  ASSERT_NO_FATAL_FAILURE(begin());
  Host slow = connect_patiently(4);
  ASSERT_EQ(slow.io.size(), 4u);
  auto sqe = io_command(nvme::IoOpcode::write, 0, 8);
  sqe.set_psdt(nvme::Psdt::sgl);
  sqe.sgl.length = 4096;
  sqe.sgl.set_type(nvme::SglType::data_block, nvme::SglSubtype::offset);
  const Bytes capsule = slow.io[0].capsule(sqe, pattern(4096, 1));
  const std::size_t cuts[] = {1, 71, 72, 4000};
  for (std::size_t i = 0; i < 4; ++i) slow.io[i].send(std::span(capsule).first(cuts[i]));
  for (Connection& each : slow.io) EXPECT_TRUE(is_closed(each));
  EXPECT_GE(counter("timed_out", "pdu"), 4u);
  slow = Host();
  end();
}

// Proves: transport | Hosts that stall or vanish | TCP 3.4
TEST_F(LimitsTest, R2tsThatAreNeverAnsweredGiveTheirBuffersBack) {
  ASSERT_NO_FATAL_FAILURE(begin());
  std::vector<Host> greedy;
  for (int i = 0; i < 4; ++i) {
    greedy.push_back(connect_patiently(4));
    ASSERT_EQ(greedy.back().io.size(), 4u);
    for (Connection& io : greedy.back().io) {
      auto sqe = io_command(nvme::IoOpcode::write, 0, 256);
      sqe.set_psdt(nvme::Psdt::sgl);
      sqe.sgl.length = 131072;
      sqe.sgl.type_and_subtype = 0x5A;
      for (std::uint16_t cid = 1; cid <= 30; ++cid) {
        sqe.cid = cid;
        io.send(io.capsule(sqe));
      }
    }
  }
  // 60 MiB are asked for; the bystander needs a buffer, too, and gets it.
  for (std::uint32_t i = 0; i < 4; ++i) expect_served(bystander_.io[0], i, 131072);
  for (Host& host : greedy) {
    for (Connection& io : host.io) EXPECT_TRUE(is_closed(io));
  }
  EXPECT_GE(counter("timed_out", "r2t") + counter("timed_out", "stalled"), 16u);
  greedy.clear();
  end();
}

// Proves: transport | Termination with its reason | TCP 3.5
TEST_F(LimitsTest, HostsThatIgnoreC2hTermReqAreLeft) {
  ASSERT_NO_FATAL_FAILURE(begin());
  std::vector<Connection> rude;
  for (int i = 0; i < 20; ++i) {
    rude.push_back(open_patiently());
    rude.back().send(Bytes(200, std::byte{0xFF}));
  }
  EXPECT_LE(wait_for_fds(fds_before_ + 2), fds_before_ + 2) << "while the hosts keep their ends open";
  EXPECT_GE(counter("timed_out", "term"), 20u);
  rude.clear();
  end();
}

// Proves: transport | Limits on connections and handshakes | TCP 3.4
TEST_F(LimitsTest, AFloodOfCommandsLeavesTheOthersTheirTurn) {
  ASSERT_NO_FATAL_FAILURE(begin());
  Host flood = connect_patiently(1, 32);
  ASSERT_EQ(flood.io.size(), 1u);
  // Commands that fail, whose answers the host never reads, as fast as the socket takes them.
  auto sqe = io_command(nvme::IoOpcode::read, 0, 1, 77);
  sqe.set_psdt(nvme::Psdt::sgl);
  Bytes burst;
  for (std::uint16_t cid = 1; cid <= 30; ++cid) {
    sqe.cid = cid;
    const Bytes one = flood.io[0].capsule(sqe);
    burst.insert(burst.end(), one.begin(), one.end());
  }
  std::uint64_t sent = 0;
  for (int round = 0; round < 300; ++round) {
    for (int i = 0; i < 20; ++i) {
      const ssize_t now = ::send(flood.io[0].socket().fd(), burst.data(), burst.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (now > 0 && static_cast<std::size_t>(now) == burst.size()) sent += 30;
      if (now != static_cast<ssize_t>(burst.size())) break;
    }
    expect_served(bystander_.io[0], static_cast<std::uint32_t>(round), 512);
    ASSERT_FALSE(HasFailure()) << "in round " << round;
    if (!flood.io[0].receive_until_closed(Milliseconds(0)).has_value()) continue;
    // More than the queue has entries: the connection was ended. Another.
    flood = connect_patiently(1, 32);
    ASSERT_EQ(flood.io.size(), 1u);
  }
  printf("%llu commands of the flood were taken by the socket\n", static_cast<unsigned long long>(sent));
  flood = Host();
  end();
}

// Proves: transport | Limits on connections and handshakes | TCP 3.4
TEST_F(LimitsTest, AStormOfEveryMistakeWritesALogOfBoundedLength) {
  ASSERT_NO_FATAL_FAILURE(begin());
  const int rounds = soak() ? 5000 : 400;
  for (int round = 0; round < rounds; ++round) {
    Connection wrong = open_patiently();
    if (round % 4 == 0) wrong.send(Bytes(72, std::byte{0xFF}));
    if (round % 4 == 1) connect_queue(wrong, {.subnqn = "nqn.2026-11.io.catnap:nobody\n[forged line] \x1b[31m" + std::to_string(round)});
    if (round % 4 == 2) wrong.send(build_pdu(header_of_type<tcp::TermReq>(tcp::PduType::h2c_term_req)));
    if (round % 4 == 3) connect_queue(wrong, {.subnqn = own_nqn, .cntlid = 0x1234, .qid = 5});
  }
  const std::string log = server_->log();
  EXPECT_EQ(log.find("\n[forged"), std::string::npos) << "a host wrote a line of its own";
  EXPECT_EQ(log.find('\x1b'), std::string::npos) << "a host speaks to the terminal";
  EXPECT_NE(log.find("Connect from 127.0.0.1 refused"), std::string::npos) << "the first ones are said";
  end();
}

TEST_F(LimitsTest, NamesThatAreNoTextAreRefusedAndNeverShown) {
  ASSERT_NO_FATAL_FAILURE(begin());
  for (const char* hostile : {"nqn.2014-08.org.nvmexpress:\xff\xfe", "nqn.2014-08.org.nvmexpress:\x01", "nqn.2014-08.org.nvmexpress:\xc3", "\n"}) {
    Connection wrong = open_patiently();
    const CommandResult connected = connect_queue(wrong, {.subnqn = own_nqn, .hostnqn = hostile});
    EXPECT_TRUE(connected.is(nvme::FabricsStatus::connect_invalid_parameters)) << hostile;
    const auto controllers = server_->rpc().call("nvmf_subsystem_get_controllers", json(std::string(R"({"nqn": ")") + own_nqn + "\"}"));
    ASSERT_TRUE(controllers.has_value()) << "the answer is no JSON any more";
    EXPECT_EQ(controllers->size(), 1u);
  }
  end();
}

// Proves: transport | Limits on connections and handshakes | TCP 3.4
TEST_F(LimitsTest, TheTotalOfConnectionsIsKept) {
  ASSERT_NO_FATAL_FAILURE(start(CATNAP_SERVER, "", {"--max-connections", "10"}));
  fds_before_ = open_fds();
  bystander_ = connect_patiently();
  ASSERT_EQ(bystander_.io.size(), 1u);
  auto crowd = knock(40);
  EXPECT_TRUE(wait_for([&] {
    const auto stats = server_->rpc().call("nvmf_get_stats");
    return stats && (*stats)["connections"]["refused_max_connections"].asUInt() >= 32;
  }));
  expect_served(bystander_.io[0], 5);
  crowd.clear();
  end();
}

TEST_F(LimitsTest, ConnectionsOfOneHostAreKept) {
  ASSERT_NO_FATAL_FAILURE(begin(R"(, "max_connections_per_host": 6)"));
  Host fits = connect_patiently(3);
  EXPECT_EQ(fits.io.size(), 3u);
  EXPECT_EQ(connect(1).io.size(), 0u) << "a seventh connection";
  EXPECT_GE(counter("refused", "connections_per_host"), 1u);
  fits = Host();
  EXPECT_TRUE(wait_for([&] { return connect(3).io.size() == 3; }));
  end();
}

TEST_F(LimitsTest, LimitsAreShownSavedAndChecked) {
  ASSERT_NO_FATAL_FAILURE(begin(R"(, "max_half_open": 77, "max_buffered_bytes": 262144)"));
  const auto transports = server_->rpc().call("nvmf_get_transports");
  ASSERT_TRUE(transports.has_value());
  const auto saved = server_->rpc().call("framework_get_config", json(R"({"name": "nvmf"})"));
  ASSERT_TRUE(saved.has_value());
  Json::Value created;
  for (const Json::Value& each : *saved) {
    if (each["method"] == "nvmf_create_transport") created = each["params"];
  }
  for (const Json::Value& shown : {(*transports)[0], created}) {
    EXPECT_EQ(shown["max_half_open"].asUInt(), 77u);
    EXPECT_EQ(shown["max_buffered_bytes"].asUInt(), 262144u);
    EXPECT_EQ(shown["pdu_timeout_ms"].asUInt(), 2000u);
    EXPECT_EQ(shown["term_linger_ms"].asUInt(), 700u);
  }
  for (const char* wrong : {R"({"trtype": "TCP", "pdu_timeout_ms": 0})", R"({"trtype": "TCP", "max_half_open": 0})",
                            R"({"trtype": "TCP", "max_half_opens": 1})", R"({"trtype": "TCP", "max_buffered_bytes": 1})"}) {
    const auto refused = server_->rpc().call("nvmf_create_transport", json(wrong));
    ASSERT_FALSE(refused.has_value()) << wrong;
    EXPECT_EQ(refused.error().err, -32602) << wrong;
  }
  end();
}

}  // namespace
}  // namespace catnap::protocol
