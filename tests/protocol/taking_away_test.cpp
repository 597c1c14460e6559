// Listeners and hosts taken away under traffic: who loses its connections and who keeps them, when, and what the bound of a wait says. Storms of
// changes while hosts connect.
// Owner: the test; the storm has a second thread with connections of its own. Left out: namespaces taken away (change_test.cpp).
#include <gmock/gmock.h>

#include <atomic>
#include <cstdlib>
#include <thread>

#include "tests/protocol/access_fixture.h"

namespace catnap::protocol {
namespace {

using testing::HasSubstr;

constexpr const char* first_nqn = "nqn.2026-11.io.catnap:first";
constexpr const char* second_nqn = "nqn.2026-11.io.catnap:second";

// --- listeners ---

class ListenerTest : public AccessTest {
 protected:
  void SetUp() override {
    AccessTest::SetUp();
    create(first_nqn);
    create(second_nqn);
    add_namespace(first_nqn, "Malloc1", 1);
    add_namespace(second_nqn, "Null0", 1);
    other_.port = free_port();
  }
  static void expect_serving(Host& host) {
    EXPECT_TRUE(is_there(host.admin));
    EXPECT_TRUE(succeeded(read(host.io, 0, 4096)));
  }
  static void expect_gone(Host& host) {
    EXPECT_TRUE(is_gone(host.io));
    EXPECT_TRUE(is_gone(host.admin));
  }

  Place other_;  // a second port
};

// Proves: access | Removing a listener | Base 6.3
// Proves: access | Several listeners | Base 6.3
TEST_F(ListenerTest, OnlyConnectionsOfThatSubsystemThroughThatAddressEnd) {
  listen(first_nqn);
  listen(first_nqn, other_);
  listen(second_nqn);
  listen(second_nqn, other_);
  auto through_it = come_in(first_nqn, host_a);
  auto elsewhere = come_in(first_nqn, host_a, other_);
  auto neighbour = come_in(second_nqn, host_b);
  auto discovery = discover(host_a);
  unlisten(first_nqn);
  expect_gone(through_it);
  expect_serving(elsewhere);
  expect_serving(neighbour);
  EXPECT_TRUE(is_there(discovery)) << "others still listen there";
  EXPECT_TRUE(has_status(try_connect(first_nqn, host_a), nvme::FabricsStatus::connect_invalid_parameters));
  EXPECT_TRUE(succeeded(try_connect(second_nqn, host_b)));
}

TEST_F(ListenerTest, ReadsInFlightEndBeforeTheConnection) {
  listen(first_nqn, other_);
  auto host = come_in(first_nqn, host_a, other_);
  std::vector<std::uint16_t> sent;
  for (int i = 0; i < 100; ++i) sent.push_back(host.io.submit(io_command(nvme::IoOpcode::read, 0, 8), Payload::to_host(4096)));
  unlisten(first_nqn, other_);
  for (auto cid : sent) {
    auto result = host.io.wait(cid);
    ASSERT_NE(result.outcome, Outcome::timed_out) << "a command hangs";
    EXPECT_FALSE(host.io.termination().has_value()) << "an orderly end needs no C2HTermReq";
    if (result.outcome == Outcome::pdu) {
      EXPECT_TRUE(succeeded(result));
    }
  }
  EXPECT_TRUE(is_gone(host.admin));
}

// Proves: access | Several listeners | Base 6.3
TEST_F(ListenerTest, AWildcardAndASingleAddressShareAPort) {
  const Place everywhere{other_.port, "0.0.0.0"};
  listen(first_nqn, everywhere);
  listen(second_nqn, other_);
  auto by_wildcard = come_in(first_nqn, host_a, other_);
  auto by_address = come_in(second_nqn, host_b, other_);
  auto far = come_in(first_nqn, host_a, {other_.port, "127.0.0.9"});
  EXPECT_TRUE(has_status(try_connect(second_nqn, host_b, {other_.port, "127.0.0.9"}), nvme::FabricsStatus::connect_invalid_parameters));
  unlisten(first_nqn, everywhere);
  expect_gone(by_wildcard);
  expect_gone(far);
  expect_serving(by_address);
  EXPECT_TRUE(succeeded(try_connect(second_nqn, host_b, other_))) << "its listener is still there";
  EXPECT_TRUE(has_status(try_connect(first_nqn, host_a, other_), nvme::FabricsStatus::connect_invalid_parameters));
  listen(first_nqn, everywhere);
  EXPECT_TRUE(succeeded(try_connect(first_nqn, host_a, other_)));
}

TEST_F(ListenerTest, AWildcardMayComeSecond) {
  listen(second_nqn, other_);
  auto by_address = come_in(second_nqn, host_b, other_);
  listen(first_nqn, {other_.port, "0.0.0.0"});
  expect_serving(by_address);
  EXPECT_TRUE(succeeded(try_connect(first_nqn, host_a, {other_.port, "127.0.0.9"})));
  EXPECT_TRUE(succeeded(try_connect(second_nqn, host_b, other_)));
}

// Proves: access | IPv6 | TCP 3.2
TEST_F(ListenerTest, Ipv6HasItsOwnListeners) {
  const Place loopback{other_.port, "::1"};
  const Place wildcard{other_.port, "::"};
  listen(first_nqn, loopback);
  auto six = come_in(first_nqn, host_a, loopback);
  listen(first_nqn, other_);
  auto four = come_in(first_nqn, host_a, other_);
  auto log = get_log(four.admin, {.page = nvme::LogPage::error, .length_bytes = 64});
  EXPECT_TRUE(succeeded(log));
  unlisten(first_nqn, loopback);
  expect_gone(six);
  expect_serving(four);
  listen(second_nqn, wildcard);
  auto any = come_in(second_nqn, host_b, loopback);
  EXPECT_TRUE(has_status(try_connect(second_nqn, host_b, other_), nvme::FabricsStatus::connect_invalid_parameters)) << ":: takes IPv6 alone";
  expect_serving(any);
  unlisten(second_nqn, wildcard);
  expect_gone(any);
}

TEST_F(ListenerTest, DiscoveryGoesWithTheLastListenerOfAnAddress) {
  listen(first_nqn, other_);
  listen(second_nqn, other_);
  auto discovery = discover(host_a, other_);
  unlisten(first_nqn, other_);
  EXPECT_TRUE(is_there(discovery));
  unlisten(second_nqn, other_);
  EXPECT_TRUE(is_gone(discovery));
  EXPECT_FALSE(Connection::open_bare(other_.port).has_value()) << "nobody listens any more";
}

TEST_F(ListenerTest, AHostThatHasNotConnectedYetIsRefused) {
  listen(first_nqn, other_);
  auto early = open_at(other_);
  unlisten(first_nqn, other_);
  auto result = connect_queue(early, {.subnqn = first_nqn, .hostnqn = host_a});
  EXPECT_TRUE(has_status(result, nvme::FabricsStatus::connect_invalid_parameters));
}

// --- hosts ---

// The namespace answers writes late.
class RemovalTest : public AccessTest {
 protected:
  void SetUp() override {
    AccessTest::SetUp();
    create(first_nqn, R"("allow_any_host": false)");
    rpc("nvmf_subsystem_add_host", params(first_nqn, host_member(host_a)));
    rpc("nvmf_subsystem_add_host", params(first_nqn, host_member(host_b)));
    listen(first_nqn);
  }
  void TearDown() override {
    set_delay_us(0);
    AccessTest::TearDown();
    rpc("bdev_delay_delete", R"({"name": "Slow"})");
  }
  void make_slow(std::uint64_t delay_us) {
    const std::string delay = std::to_string(delay_us);
    rpc("bdev_delay_create", R"({"name": "Slow", "base_bdev_name": "Malloc1", "avg_read_latency": 0, "p99_read_latency": 0, "avg_write_latency": )" +
                                 delay + R"(, "p99_write_latency": )" + delay + "}");
    add_namespace(first_nqn, "Slow", 1);
  }
  static void set_delay_us(std::uint64_t delay_us) {
    for (const char* kind : {"avg_write", "p99_write"}) {
      rpc("bdev_delay_update_latency",
          R"({"delay_bdev_name": "Slow", "latency_type": ")" + std::string(kind) + R"(", "latency_us": )" + std::to_string(delay_us) + "}");
    }
  }
  static std::uint16_t write_slowly(Host& host) {
    auto cid = host.io.submit(io_command(nvme::IoOpcode::write, 0, 8), Payload::in_capsule(pattern(4096, 3)));
    EXPECT_TRUE(succeeded(read(host.io, 64, 512))) << "by now the write has begun";
    return cid;
  }
};

// Proves: access | Removing a host | Base 6.3
TEST_F(RemovalTest, WhatIsInFlightIsAnsweredFirst) {
  make_slow(400'000);
  auto removed = come_in(first_nqn, host_a);
  auto stays = come_in(first_nqn, host_b);
  auto cid = write_slowly(removed);
  rpc("nvmf_subsystem_remove_host", params(first_nqn, host_member(host_a) + R"(, "timeout_ms": 60000)"));
  EXPECT_TRUE(succeeded(removed.io.wait(cid))) << "the answer came before the end";
  EXPECT_TRUE(is_gone(removed.io));
  EXPECT_TRUE(is_gone(removed.admin));
  EXPECT_TRUE(is_there(stays.admin));
  EXPECT_TRUE(succeeded(read(stays.io, 0, 512)));
  EXPECT_TRUE(has_status(try_connect(first_nqn, host_a), nvme::FabricsStatus::connect_invalid_host));
  EXPECT_EQ(rpc("nvmf_subsystem_get_controllers", params(first_nqn, "")).size(), 1U);
}

// Proves: access | Removing a host | Base 6.3
TEST_F(RemovalTest, TheWaitIsBoundedAndNobodyElseWaits) {
  make_slow(30'000'000);  // not answered before the bound, however slow the machine
  create(second_nqn);
  auto removed = come_in(first_nqn, host_a);
  auto cid = write_slowly(removed);
  std::atomic<bool> answered{false};
  Error error(0, "");
  std::thread caller([&] {
    auto client = RpcClient::open(server().rpc_socket());
    auto reply = client->call("nvmf_subsystem_remove_host", json(params(first_nqn, host_member(host_a) + R"(, "timeout_ms": 3000)")));
    if (!reply) error = reply.error();
    answered.store(true);
  });
  // Another change, made while that call waits.
  while (!answered.load() && rpc("nvmf_get_subsystems", params(first_nqn, ""))[0]["hosts"].size() == 2) std::this_thread::yield();
  rpc("nvmf_subsystem_add_host", params(second_nqn, host_member(host_b)));
  EXPECT_FALSE(answered.load()) << "the change had to wait for the removal";
  caller.join();
  // A server that is late itself finds them gone when it looks, and has nothing to say.
  if (error.err != 0) {
    EXPECT_EQ(error.err, -ETIMEDOUT);
    EXPECT_THAT(error.message, testing::AllOf(HasSubstr("Timeout reached during host removal"), HasSubstr(host_a), HasSubstr("3000 ms")));
  }
  auto result = removed.io.wait(cid);
  EXPECT_EQ(result.outcome, Outcome::closed) << "at the bound the connection is closed all the same";
}

// --- storms ---

// Hosts connect, use and leave a subsystem as fast as they can, whatever comes of it.
void keep_connecting(const std::atomic<bool>& stop, std::uint16_t port, std::atomic<unsigned>& connected, std::atomic<unsigned>& hung) {
  for (unsigned round = 0; !stop.load(); ++round) {
    auto admin = Connection::open(port);
    if (!admin) continue;  // nobody listens at the moment
    const char* host = round % 2 == 0 ? host_a : host_b;
    auto made = connect_queue(*admin, {.subnqn = first_nqn, .hostnqn = host});
    if (made.outcome == Outcome::timed_out) ++hung;
    if (!made.ok() || !enable(*admin)) continue;
    ++connected;
    auto io = Connection::open(port);
    if (!io) continue;
    auto cntlid = static_cast<std::uint16_t>(std::uint32_t{made.cqe.dw0});
    auto attached = connect_queue(*io, {.subnqn = first_nqn, .hostnqn = host, .cntlid = cntlid, .qid = 1});
    auto answer = attached.ok() ? read(*io, 0, 4096) : attached;
    if (answer.outcome == Outcome::timed_out) ++hung;
  }
}

TEST_F(AccessTest, AStormOfChangesWhileHostsConnectHangsNobody) {
  create(first_nqn, R"("allow_any_host": false)");
  add_namespace(first_nqn, "Malloc1", 1, true);
  const Place other{free_port(), "127.0.0.1"};
  listen(first_nqn, other);
  std::atomic<bool> stop{false};
  std::atomic<unsigned> connected{0};
  std::atomic<unsigned> hung{0};
  std::thread hosts([&] { keep_connecting(stop, other.port, connected, hung); });
  const int rounds = std::getenv("CATNAP_SOAK") != nullptr ? 2000 : 60;
  for (int round = 0; round < rounds; ++round) {
    const char* host = round % 2 == 0 ? host_a : host_b;
    rpc("nvmf_subsystem_add_host", params(first_nqn, host_member(host)));
    rpc("nvmf_ns_add_host", params(first_nqn, R"("nsid": 1, )" + host_member(host)));
    rpc("nvmf_discovery_add_referral", R"({"address": )" + address_members(other) + "}");
    const unsigned before = connected.load();
    for (int look = 0; look < 200 && connected.load() == before; ++look) rpc("nvmf_subsystem_get_qpairs", params(first_nqn, ""));
    if (round % 5 == 4) unlisten(first_nqn, other);
    rpc("nvmf_ns_remove_host", params(first_nqn, R"("nsid": 1, )" + host_member(host)));
    rpc("nvmf_discovery_remove_referral", R"({"address": )" + address_members(other) + "}");
    rpc("nvmf_subsystem_remove_host", params(first_nqn, host_member(host)));
    if (round % 5 == 4) listen(first_nqn, other);
  }
  stop.store(true);
  hosts.join();
  EXPECT_EQ(hung.load(), 0U);
  EXPECT_GT(connected.load(), 0U) << "nobody ever came in: the storm tested nothing";
  rpc("nvmf_subsystem_add_host", params(first_nqn, host_member(host_a)));
  rpc("nvmf_ns_add_host", params(first_nqn, R"("nsid": 1, )" + host_member(host_a)));
  auto host = come_in(first_nqn, host_a, other);
  EXPECT_TRUE(succeeded(read(host.io, 0, 4096))) << "the server is as good as before";
}

}  // namespace
}  // namespace catnap::protocol
