// Hosts that are slow, greedy or many, against one poll group on a virtual clock: each limit of docs/limits.md that the transport holds.
// Owner: the test's OS thread. Left out: the same against a real server (tests/protocol/limits_test.cpp).
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>

#include <string>
#include <vector>

#include "reactor/base/log_limit.h"
#include "tests/unit/tcp/queue_pair_bench.h"
#include "transport/tcp/admission.h"

namespace catnap::tcp {
namespace {

class HostileTest : public QueuePairTest {
 protected:
  // The same, with other options.
  void connect_anew() {
    hang_up();
    sink.closed = false;
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    hand.on_thread([this] {
      group.reset();
      group = std::make_unique<PollGroup>(*hand.thread, options, sink);
      group->add_connection(fds[0]);
    });
  }
  // One byte at a time, with `pause_us` before each, until the connection is closed or `bytes` are sent. How many were sent.
  std::size_t drip(const std::string& bytes, std::uint64_t pause_us) {
    std::size_t sent = 0;
    for (; sent < bytes.size() && !sink.closed; ++sent) {
      hand.advance_us(pause_us);
      if (sink.closed) break;
      send_bytes(&bytes[sent], 1);
    }
    return sent;
  }
  static std::string write_bytes(std::uint32_t length) {
    const CapsuleCmd pdu = capsule(7, length, true);
    return bytes_of(pdu) + std::string(length, 'w');
  }
};

// Proves: transport | Limits on connections and handshakes | TCP 3.4
TEST_F(HostileTest, AConnectionThatSaysNothingEndsSoon) {
  hand.advance_us(options.ic_timeout_us - 1);
  EXPECT_EQ(group->queue_count(), 1u);
  hand.advance_us(1);
  EXPECT_EQ(group->queue_count(), 0u);
  EXPECT_EQ(group->stats().timed_out_icreq, 1u);
}

TEST_F(HostileTest, ADrippedIcReqEndsAtTheSameTime) {
  IcReq request;
  request.ch.type = static_cast<std::uint8_t>(PduType::ic_req);
  request.ch.hlen = sizeof request;
  request.ch.plen = sizeof request;
  const std::size_t sent = drip(std::string(reinterpret_cast<const char*>(&request), sizeof request), 1'000'000);
  EXPECT_LE(sent, options.ic_timeout_us / 1'000'000);
  EXPECT_EQ(group->stats().timed_out_icreq, 1u);
}

TEST_F(HostileTest, IcReqBuysTimeForConnectAndNoMore) {
  hand.advance_us(options.ic_timeout_us - 1);
  shake_hands();
  hand.advance_us(options.handshake_timeout_us - options.ic_timeout_us);
  EXPECT_FALSE(sink.closed);
  hand.advance_us(1);
  EXPECT_TRUE(sink.closed);
  EXPECT_EQ(group->stats().timed_out_connect, 1u);
}

// Proves: transport | Hosts that stall or vanish | TCP 3.4
TEST_F(HostileTest, APduThatDripsEndsWhereverItIs) {
  for (const bool in_place : {false, true}) {
    for (const std::size_t already : {1, 7, 8, 71, 72, 73, 400}) {
      connect_anew();
      connected();
      plan_write(512, in_place);
      const std::string bytes = write_bytes(512);
      send_bytes(bytes.data(), already);
      const std::size_t sent = drip(bytes.substr(already), 2'000'000);
      // The header and the data each have their time, and a drip does not renew it.
      EXPECT_LE(sent, 2 * options.pdu_timeout_us / 2'000'000 + 1) << already;
      EXPECT_TRUE(sink.closed) << already;
      EXPECT_EQ(group->stats().timed_out_pdu, 1u) << already;
      EXPECT_TRUE(sink.executed.empty());
    }
  }
}

// Buffers are what a slow host can take from others: a byte now and then must not be enough to keep them.
// Proves: transport | Hosts that stall or vanish | TCP 3.4
TEST_F(HostileTest, ADripOfOwedDataDoesNotKeepBuffersFromOthers) {
  connected();
  plan_write(1 << 20);
  send_capsule(1, 1 << 20);
  R2T r2t = receive_pdu<R2T>();
  const auto drip_pdus = [&](unsigned count, std::uint64_t pause_us) {
    for (unsigned i = 0; i < count && !sink.closed; ++i) {
      send_data(r2t, "x", false);
      r2t.r2to = r2t.r2to + 1;
      hand.advance_us(pause_us);
    }
  };
  drip_pdus(10, options.send_stall_us / 2);
  EXPECT_FALSE(sink.closed) << "it harms nobody";
  auto others = take_buffers();
  Buffer served;
  BufferWaiter waiter([&](Buffer buffer) { served = std::move(buffer); });
  hand.on_thread([&] { hand.reactor.buffers().wait(waiter, 1 << 20); });
  drip_pdus(5, options.send_stall_us / 2);
  EXPECT_TRUE(sink.closed);
  EXPECT_TRUE(served);
}

TEST_F(HostileTest, DataOfAnR2tThatDripsEndsInTheEndThoughNobodyWaits) {
  connected();
  plan_write(1 << 20);
  send_capsule(1, 1 << 20);
  R2T r2t = receive_pdu<R2T>();
  for (int i = 0; i < 10 && !sink.closed; ++i) {
    send_data(r2t, "x", false);
    r2t.r2to = r2t.r2to + 1;
    hand.advance_us(options.r2t_timeout_us / 4);
  }
  EXPECT_TRUE(sink.closed);
  EXPECT_EQ(group->stats().timed_out_r2t, 1u);
}

TEST_F(HostileTest, InCapsuleDataThatDripsDoesNotKeepItsBufferFromOthers) {
  connected();
  auto others = take_buffers(1);
  plan_write(4096);
  const std::string bytes = write_bytes(4096);
  send_bytes(bytes.data(), 100);
  std::vector<Buffer> rest;
  for (Buffer buffer = hand.reactor.buffers().try_get(4096); buffer; buffer = hand.reactor.buffers().try_get(4096)) rest.push_back(std::move(buffer));
  Buffer served;
  BufferWaiter waiter([&](Buffer buffer) { served = std::move(buffer); });
  hand.on_thread([&] { hand.reactor.buffers().wait(waiter, 4096); });
  drip(bytes.substr(100, 12), options.send_stall_us / 4);
  EXPECT_TRUE(sink.closed);
  EXPECT_TRUE(served);
}

// A host that is only slow keeps its connection, also when others wait.
TEST_F(HostileTest, ASlowHostThatDoesSendIsServed) {
  connected();
  plan_write(1 << 20);
  send_capsule(1, 1 << 20);
  R2T r2t = receive_pdu<R2T>();
  auto others = take_buffers();
  Buffer served;
  BufferWaiter waiter([&](Buffer buffer) { served = std::move(buffer); });
  hand.on_thread([&] { hand.reactor.buffers().wait(waiter, 1 << 20); });
  for (std::uint32_t at = 0; at < (1U << 20); at += 32 << 10) {
    ASSERT_FALSE(sink.closed) << "at " << at;
    r2t.r2to = at;
    send_data(r2t, std::string(32 << 10, 's'), at + (32 << 10) == (1U << 20));
    hand.advance_us(options.send_stall_us / 3);
  }
  EXPECT_EQ(sink.executed.size(), 1u);
  EXPECT_FALSE(sink.closed);
}

TEST_F(HostileTest, APduJustInTimeIsServedAndLeavesNoTimer) {
  connected();
  plan_write(512);
  const std::string bytes = write_bytes(512);
  send_bytes(bytes.data(), 100);
  hand.advance_us(options.pdu_timeout_us - 1);
  send_bytes(bytes.data() + 100, bytes.size() - 100);
  EXPECT_EQ(sink.executed.size(), 1u);
  hand.advance_us(2 * options.pdu_timeout_us);
  EXPECT_FALSE(sink.closed);
  EXPECT_EQ(hand.thread->nearest_deadline_ns(), TimerHeap::never_ns);
}

// A long time-out that is running must not hide a shorter one that begins later.
TEST_F(HostileTest, TheNearestTimeOutCounts) {
  options.pdu_timeout_us = 50'000'000;
  options.r2t_timeout_us = 20'000'000;
  connect_anew();
  connected();
  plan_write(4096);
  const std::string capsules = bytes_of(capsule(1, 4096, false)) + bytes_of(capsule(2, 4096, false)).substr(0, 10);
  send_bytes(capsules.data(), capsules.size());
  hand.advance_us(options.r2t_timeout_us);
  EXPECT_TRUE(sink.closed);
  EXPECT_EQ(group->stats().timed_out_r2t, 1u);
}

// Proves: transport | Termination with its reason | TCP 3.5
TEST_F(HostileTest, AHostThatIgnoresC2hTermReqIsLeftSoon) {
  connected();
  const std::string wrong(8, '\xFF');
  send_bytes(wrong.data(), wrong.size());
  EXPECT_EQ(receive_pdu<TermReq>().ch.type, static_cast<std::uint8_t>(PduType::c2h_term_req));
  hand.advance_us(options.term_linger_us - 1);
  EXPECT_FALSE(sink.closed);
  hand.advance_us(1);
  EXPECT_TRUE(sink.closed);
  EXPECT_EQ(group->stats().timed_out_term, 1u);
}

TEST_F(HostileTest, AFloodAfterC2hTermReqIsNotReadForEver) {
  connected();
  const std::string wrong(8, '\xFF');
  send_bytes(wrong.data(), wrong.size());
  const std::string flood(64 << 10, 'f');
  std::size_t sent = 0;
  while (!sink.closed && sent < (std::size_t{64} << 20)) {
    const ssize_t now = ::send(fds[1], flood.data(), flood.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (now > 0) sent += static_cast<std::size_t>(now);
    hand.settle();
  }
  EXPECT_TRUE(sink.closed) << "without any time passing";
  EXPECT_LE(sent, std::size_t{8} << 20);
}

// Proves: transport | Limits on connections and handshakes | TCP 3.4
TEST_F(HostileTest, OnlySoManyHalfOpenConnections) {
  options.admission_limits.max_half_open = 3;
  options.admission = std::make_shared<Admission>(options.admission_limits);
  connect_anew();
  std::vector<int> hosts;
  const auto add = [&] {
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    hosts.push_back(pair[1]);
    hand.on_thread([&] { group->add_connection(pair[0]); });
  };
  for (int i = 0; i < 4; ++i) add();
  EXPECT_EQ(group->queue_count(), 3u);
  EXPECT_EQ(group->stats().refused_half_open, 2u);
  EXPECT_EQ(group->finished_count(), 2u);
  char byte = 0;
  EXPECT_EQ(recv(hosts.back(), &byte, 1, MSG_DONTWAIT), 0) << "a refused host learns at once";
  // One that finishes Connect makes room; so does one that goes.
  connected();
  EXPECT_EQ(options.admission->counts().half_open, 2u);
  add();
  EXPECT_EQ(group->queue_count(), 4u);
  close(hosts.front());
  hosts.erase(hosts.begin());
  hand.settle();
  add();
  EXPECT_EQ(group->queue_count(), 4u);
  for (const int fd : hosts) close(fd);
  hang_up();
  EXPECT_EQ(options.admission->counts().connections, 0u);
  EXPECT_EQ(options.admission->hosts(), 0u);
}

TEST(AdmissionTest, OneHostCannotTakeTheOthersPlaces) {
  const auto admission = std::make_shared<Admission>(AdmissionLimits{10, 2, 4});
  Admission::Ticket a1, a2, a3, b1, v6, v6_neighbour, v6_third;
  EXPECT_EQ(admission->enter("10.0.0.1", a1), Refusal::none);
  EXPECT_EQ(admission->enter("10.0.0.1", a2), Refusal::none);
  EXPECT_EQ(admission->enter("10.0.0.1", a3), Refusal::half_open_per_host);
  EXPECT_EQ(admission->enter("10.0.0.2", b1), Refusal::none);
  a1.finished();
  a1.finished();
  a2.finished();
  EXPECT_EQ(admission->counts_of("10.0.0.1").half_open, 0u);
  EXPECT_EQ(admission->enter("10.0.0.1", a3), Refusal::none);
  a3.finished();
  Admission::Ticket a4, a5;
  EXPECT_EQ(admission->enter("10.0.0.1", a4), Refusal::none);
  a4.finished();
  EXPECT_EQ(admission->enter("10.0.0.1", a5), Refusal::connections_per_host);
  a4.give_back();
  EXPECT_EQ(admission->enter("10.0.0.1", a5), Refusal::none);
  // An IPv6 host may choose the last 64 bits of its address as it likes.
  EXPECT_EQ(admission->enter("2001:db8::1", v6), Refusal::none);
  EXPECT_EQ(admission->enter("2001:db8::ffff:2", v6_neighbour), Refusal::none);
  EXPECT_EQ(admission->enter("2001:db8:0:0:9::3", v6_third), Refusal::half_open_per_host);
  EXPECT_EQ(admission->enter("2001:db8:0:1::3", v6_third), Refusal::none);
  for (Admission::Ticket* ticket : {&a1, &a2, &a3, &a5, &b1, &v6, &v6_neighbour, &v6_third}) ticket->give_back();
  EXPECT_EQ(admission->counts().connections, 0u);
  EXPECT_EQ(admission->counts().half_open, 0u);
  EXPECT_EQ(admission->hosts(), 0u) << "addresses must not pile up";
}

// Proves: transport | Limits on connections and handshakes | TCP 3.4
TEST_F(HostileTest, AConnectionIsNotReadFromWhileItHasTooMuch) {
  options.max_buffered_bytes = 64 << 10;
  connect_anew();
  connected();
  const auto others = take_buffers();
  std::vector<Request*> running;
  plan_write(4096);
  sink.on_execute = [&](Request& request) { running.push_back(&request); };
  const std::string one = write_bytes(4096);
  std::string bytes;
  for (std::uint16_t cid = 1; cid <= 100; ++cid) {
    CapsuleCmd pdu = capsule(cid, 4096, true);
    bytes += bytes_of(pdu) + std::string(4096, 'b');
  }
  // More than one read of the group brings: what was read at once is taken, the rest waits in the socket.
  std::size_t sent = 0;
  for (int tries = 0; tries < 1000 && sent < bytes.size(); ++tries) {
    const ssize_t now = ::send(fds[1], bytes.data() + sent, std::min<std::size_t>(bytes.size() - sent, 16 << 10), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (now > 0) sent += static_cast<std::size_t>(now);
    hand.settle();
  }
  EXPECT_LT(running.size(), 25u) << "64 KiB and one read";
  EXPECT_EQ(group->stats().receive_pauses, 1u);
  EXPECT_FALSE(sink.closed);
  // As commands end it goes on, to the last.
  std::size_t completed = 0;
  for (int tries = 0; tries < 1000 && completed < 100; ++tries) {
    const std::vector<Request*> batch = std::exchange(running, {});
    for (Request* request : batch) hand.on_thread([&] { request->queue->complete(*request); });
    completed += batch.size();
    receive(batch.size() * sizeof(CapsuleResp));
    while (sent < bytes.size()) {
      const ssize_t now = ::send(fds[1], bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (now <= 0) break;
      sent += static_cast<std::size_t>(now);
      hand.settle();
    }
  }
  EXPECT_EQ(completed, 100u);
  EXPECT_FALSE(sink.closed);
}

TEST_F(HostileTest, APausedConnectionSeesItsHostGo) {
  options.max_buffered_bytes = 4096;
  connect_anew();
  connected();
  const auto others = take_buffers();
  std::vector<Request*> running;
  plan_write(4096);
  sink.on_execute = [&](Request& request) { running.push_back(&request); };
  const std::string one = write_bytes(4096);
  send_bytes(one.data(), one.size());
  EXPECT_EQ(group->stats().receive_pauses, 1u);
  hang_up();
  for (Request* request : running) hand.on_thread([&] { request->queue->complete(*request); });
  EXPECT_TRUE(sink.closed);
}

TEST_F(HostileTest, AfterABurstAnIdleConnectionBecomesSmallAgain) {
  connected(128);
  sink.on_plan = [](Request&) { return PlanAction::wait; };
  for (std::uint16_t cid = 1; cid <= 128; ++cid) send_capsule(cid);
  const std::size_t at_work = sink.planned.size();
  std::vector<Request*> waiting(sink.planned.end() - 128, sink.planned.end());
  sink.on_plan = [](Request&) { return PlanAction::complete; };
  hand.on_thread([&] {
    for (Request* request : waiting) request->queue->replan(*request);
  });
  receive(128 * sizeof(CapsuleResp));
  EXPECT_NE(hand.thread->nearest_deadline_ns(), TimerHeap::never_ns) << "it looks once, later";
  hand.advance_us(10'000'000);
  EXPECT_EQ(hand.thread->nearest_deadline_ns(), TimerHeap::never_ns) << "and never again";
  EXPECT_GE(at_work, 128u);
  // What is left works, and it grows again.
  sink.on_plan = [](Request&) { return PlanAction::wait; };
  for (std::uint16_t cid = 1; cid <= 128; ++cid) send_capsule(cid);
  EXPECT_FALSE(sink.closed);
  EXPECT_TRUE(receive(1).empty());
}

// Proves: transport | Flow control and SQ head | Base 3.3.1.2.1
TEST_F(HostileTest, EveryQueueSizeHoldsWhatItSaysAndNoMore) {
  for (const std::uint16_t entries : {2, 3, 4, 31, 32, 33, 127, 128, 1023, 4096}) {
    connect_anew();
    connected(entries);
    sink.on_plan = [](Request&) { return PlanAction::wait; };
    sink.planned.clear();
    for (std::uint32_t cid = 1; cid <= std::uint32_t{entries} + 1; ++cid) send_capsule(static_cast<std::uint16_t>(cid));
    EXPECT_EQ(sink.planned.size(), std::size_t{entries} + 1) << entries;
    EXPECT_FALSE(sink.closed);
    send_capsule(0xEEEE);
    EXPECT_EQ(receive_pdu<TermReq>().ch.type, static_cast<std::uint8_t>(PduType::c2h_term_req)) << entries;
  }
}

// --- accepting without file descriptors ---

class NoFdsTest : public testing::Test {
 protected:
  static constexpr int first_port = 20000, end_port = 30000;
  Result<std::unique_ptr<Listener>> open_at(int port) {
    return Listener::open("127.0.0.1", std::to_string(port), "IPv4", [this](int fd) { accepted_.push_back(fd); });
  }
  void SetUp() override {
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0);
    hand_.on_thread([this] {
      // Port 0 is refused, and any other may be somebody's: the first that is free below those that the system gives to clients.
      auto opened = open_at(first_port);
      for (int port = first_port + 1; !opened && port < end_port; ++port) opened = open_at(port);
      ASSERT_TRUE(opened.has_value()) << opened.error().message;
      listener_ = std::move(*opened);
    });
  }
  void TearDown() override {
    setrlimit(RLIMIT_NOFILE, &before_);
    for (const int fd : accepted_) close(fd);
    for (const int fd : hosts_) close(fd);
    hand_.on_thread([this] { listener_.reset(); });
  }
  // No fd above those that are open now.
  void leave_no_fd() {
    const int lowest_free = dup(0);
    close(lowest_free);
    rlimit less = before_;
    less.rlim_cur = static_cast<rlim_t>(lowest_free);
    setrlimit(RLIMIT_NOFILE, &less);
  }
  int knock() {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(listener_->port());
    EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    hosts_.push_back(fd);
    return fd;
  }

  ByHand hand_;
  rlimit before_{};
  std::unique_ptr<Listener> listener_;
  std::vector<int> accepted_, hosts_;
};

// Proves: transport | Limits on connections and handshakes | TCP 3.4
TEST_F(NoFdsTest, ConnectionsAreRefusedOneByOneWithoutAPauseOrASpin) {
  knock();
  hand_.settle();
  ASSERT_EQ(accepted_.size(), 1u);
  for (int i = 0; i < 20; ++i) knock();
  const std::uint64_t refused_before = accept_stats().refused_no_fds;
  // From here to the next setrlimit() nothing that needs an fd but what is tested: sanitizers do for checks of types not seen yet, such as the log's.
  const LogLevel level = log_print_level();
  log_set_print_level(LogLevel::disabled);
  leave_no_fd();
  hand_.settle();
  setrlimit(RLIMIT_NOFILE, &before_);
  log_set_print_level(level);
  EXPECT_EQ(accepted_.size(), 1u);
  EXPECT_EQ(accept_stats().refused_no_fds - refused_before, 20u);
  EXPECT_EQ(hand_.thread->nearest_deadline_ns(), TimerHeap::never_ns) << "nothing to come back to";
  EXPECT_EQ(hand_.reactor.turn(0), 0u) << "the listening socket is not readable any more";
  char byte = 0;
  EXPECT_EQ(recv(hosts_[1], &byte, 1, 0), 0) << "the host learns at once";
  // With fds again, connections are taken again.
  knock();
  hand_.settle();
  EXPECT_EQ(accepted_.size(), 2u);
}

// --- log lines ---

TEST(LogLimitTest, ABurstThenSilenceThenTheCount) {
  LogLimit limit(3, 1'000'000);
  std::uint64_t now = 5'000'000'000;
  for (int i = 0; i < 3; ++i) EXPECT_EQ(limit.allow("host", now), 0u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(limit.allow("host", now += 1000), std::nullopt);
  EXPECT_EQ(limit.suppressed(), 1000u);
  now += 1'000'000'000;
  EXPECT_EQ(limit.allow("host", now), 1000u) << "what was left out is said";
  EXPECT_EQ(limit.allow("host", now), 0u) << "once";
}

TEST(LogLimitTest, OneNoisyHostDoesNotSilenceAnother) {
  LogLimit limit(2, 1'000'000);
  for (int i = 0; i < 100; ++i) limit.allow("noisy", 1);
  EXPECT_TRUE(limit.allow("quiet", 1).has_value());
}

TEST(LogLimitTest, TenThousandHostsSayNoMoreThanTheTableHolds) {
  LogLimit limit(2, 1'000'000'000);
  std::size_t said = 0;
  for (int host = 0; host < 10'000; ++host) {
    for (int i = 0; i < 5; ++i) said += limit.allow("host" + std::to_string(host), 1).has_value() ? 1 : 0;
  }
  EXPECT_EQ(said, (LogLimit::max_keys + 1) * 2);
}

}  // namespace
}  // namespace catnap::tcp
