// Many hosts at once: I/O on all queues of all of them, what an idle connection costs in memory, storms of hosts that come and go while namespaces
// do; afterwards memory and fds are where they began. CATNAP_SOAK=1: 1,000 hosts with 4 I/O queues each, 5,000 rounds. Owner: the test, which starts
// servers of its own. Left out: what a host says wrong (limits_test.cpp, live_fuzz_test.cpp).
#include <sys/resource.h>

#include "tests/protocol/own_server.h"

namespace catnap::protocol {
namespace {

constexpr unsigned queues_a_host = 4;
constexpr std::uint64_t max_idle_connection_bytes = 64 << 10;
// Malloc0 itself (32 MiB once written), the buffers that reactors keep (8 MiB each), and what the allocator keeps for later.
constexpr std::uint64_t kept_kib = 24 << 10;

class LoadTest : public OwnServerTest {
 protected:
  // Fds for the hosts here; the server inherits the limit.
  static bool allow_fds(rlim_t wanted) {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return false;
    if (limit.rlim_cur >= wanted) return true;
    limit.rlim_cur = std::min(wanted, limit.rlim_max);
    return setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= wanted;
  }
  // Every page of the disk is there, and every reactor has had its buffers.
  void warm_up() {
    Host host = connect(queues_a_host);
    ASSERT_EQ(host.io.size(), queues_a_host);
    for (std::uint64_t slba = 0; slba < 65536; slba += 256) ASSERT_TRUE(write(host.io[slba / 256 % queues_a_host], slba, pattern(131072, 1)).ok());
  }
  std::uint64_t settled_resident_kib() {
    // Buffers go back a while after the last use; look until it does not fall any more.
    std::uint64_t last = server_->resident_kib();
    for (int looks = 0; looks < 20; ++looks) {
      ::poll(nullptr, 0, 200);
      const std::uint64_t now = server_->resident_kib();
      if (now >= last && looks > 5) break;
      last = std::min(last, now);
    }
    return last;
  }
  // What it is in the end: given back once it is not used any more, which a busy machine comes to later.
  std::uint64_t resident_kib_down_to(std::uint64_t wanted_kib) {
    std::uint64_t now = settled_resident_kib();
    if (memory_is_ours() && now > wanted_kib) wait_for([&] { return (now = settled_resident_kib()) <= wanted_kib; });
    return now;
  }
  // A write and a read in flight on every queue of every host at the same time.
  void io_everywhere(std::vector<Host>& hosts, std::uint32_t round) {
    struct Wait {
      Connection* io;
      std::uint16_t write, read;
    };
    std::vector<Wait> waits;
    for (std::size_t at = 0; at < hosts.size(); ++at) {
      for (Connection& io : hosts[at].io) {
        const std::uint64_t slba = (at * 16 + waits.size() % 16 * 8 + round) % 65000;
        waits.push_back({&io, io.submit(io_command(nvme::IoOpcode::write, slba, 8), Payload::in_capsule(pattern(4096, round))),
                         io.submit(io_command(nvme::IoOpcode::read, slba, 32), Payload::to_host(16384))});
      }
    }
    for (const Wait& wait : waits) {
      ASSERT_TRUE(wait.io->wait(wait.write).ok());
      ASSERT_TRUE(wait.io->wait(wait.read).ok());
    }
  }
};

// Proves: transport | Limits on connections and handshakes | TCP 3.4
TEST_F(LoadTest, ManyHostsWithIoOnAllQueues) {
  const std::size_t count = soak() ? 1000 : 40;
  const int rounds = soak() ? 20 : 5;
  const std::size_t connections = count * (queues_a_host + 1);
  if (!allow_fds(connections + 512)) GTEST_SKIP() << "the hard limit of open files is below " << connections + 512;
  ASSERT_NO_FATAL_FAILURE(start(CATNAP_SERVER));
  ASSERT_NO_FATAL_FAILURE(warm_up());
  const std::size_t fds_before = open_fds();
  const std::uint64_t before_kib = settled_resident_kib();
  std::vector<Host> hosts;
  for (std::size_t i = 0; i < count; ++i) {
    hosts.push_back(connect(queues_a_host));
    ASSERT_EQ(hosts.back().io.size(), queues_a_host) << "host " << i;
  }
  const std::uint64_t idle_kib = settled_resident_kib();
  for (int round = 0; round < rounds; ++round) ASSERT_NO_FATAL_FAILURE(io_everywhere(hosts, static_cast<std::uint32_t>(round)));
  const std::uint64_t after_io_kib = settled_resident_kib();
  const std::uint64_t per_idle = (idle_kib - std::min(idle_kib, before_kib)) * 1024 / connections;
  const std::uint64_t per_used = (after_io_kib - std::min(after_io_kib, before_kib)) * 1024 / connections;
  printf("%zu hosts, %zu connections: %llu bytes each when new, %llu after I/O; resident %llu, %llu, %llu KiB\n", count, connections,
         static_cast<unsigned long long>(per_idle), static_cast<unsigned long long>(per_used), static_cast<unsigned long long>(before_kib),
         static_cast<unsigned long long>(idle_kib), static_cast<unsigned long long>(after_io_kib));
  if (memory_is_ours()) {
    EXPECT_LT(per_idle, max_idle_connection_bytes);
    if (soak()) {
      EXPECT_LT(per_used, max_idle_connection_bytes);  // with few connections the buffers kept weigh more than they do
    }
  }
  hosts.clear();
  EXPECT_LE(wait_for_fds(fds_before), fds_before);
  const std::uint64_t end_kib = resident_kib_down_to(before_kib + kept_kib);
  printf("resident at the end: %llu KiB\n", static_cast<unsigned long long>(end_kib));
  if (memory_is_ours()) {
    EXPECT_LE(end_kib, before_kib + kept_kib);
  }
  EXPECT_EQ(server_->stop(), 0);
}

// Proves: transport | Closing | TCP 3.1
TEST_F(LoadTest, AStormOfHostsWhileNamespacesComeAndGo) {
  const int rounds = soak() ? 5000 : 200;
  ASSERT_NO_FATAL_FAILURE(start(CATNAP_SERVER));
  ASSERT_NO_FATAL_FAILURE(warm_up());
  const std::size_t fds_before = open_fds();
  const std::uint64_t before_kib = settled_resident_kib();
  Host steady = connect(1);
  ASSERT_EQ(steady.io.size(), 1u);
  for (int round = 0; round < rounds; ++round) {
    if (round % 4 == 0) {
      ASSERT_NO_FATAL_FAILURE(hot_namespace(round % 8 == 0));
    }
    Host host = connect(round % 3 == 0 ? 3 : 1);
    ASSERT_FALSE(host.io.empty()) << "round " << round;
    Connection& io = host.io.back();
    switch (round % 5) {
      case 0:
        io.submit(io_command(nvme::IoOpcode::read, 0, 256), Payload::to_host(131072));
        break;
      case 1:
        io.submit(io_command(nvme::IoOpcode::write, 0, 256), Payload::by_r2t(pattern(131072, 1)));
        break;
      case 2:
        io.submit(io_command(nvme::IoOpcode::read, 0, 256, 2), Payload::to_host(131072));  // of the namespace that comes and goes
        break;
      case 3:
        expect_served(io, static_cast<std::uint32_t>(round));
        break;
      default:
        host.admin.socket().close();
        break;
    }
    if (round % 50 == 0) expect_served(steady.io[0], static_cast<std::uint32_t>(round));
    ASSERT_FALSE(HasFailure()) << "round " << round;
  }
  expect_served(steady.io[0], 9);
  steady = Host();
  EXPECT_LE(wait_for_fds(fds_before), fds_before);
  const std::uint64_t end_kib = resident_kib_down_to(before_kib + kept_kib);
  printf("%d rounds: resident %llu KiB before, %llu KiB after\n", rounds, static_cast<unsigned long long>(before_kib),
         static_cast<unsigned long long>(end_kib));
  if (memory_is_ours()) {
    EXPECT_LE(end_kib, before_kib + kept_kib);
  }
  EXPECT_EQ(server_->stop(), 0);
}

// Proves: controller | I/O queue sizes and counts | Base 6.3
TEST_F(LoadTest, AHundredQueuesOfEverySizeTakeMemoryOnlyForWhatTheyDo) {
  constexpr unsigned queues = 100;
  ASSERT_NO_FATAL_FAILURE(start(CATNAP_SERVER, R"(, "max_queue_depth": 4096, "max_aq_depth": 4096)"));
  ASSERT_NO_FATAL_FAILURE(warm_up());
  const std::size_t fds_before = open_fds();
  const std::uint64_t before_kib = settled_resident_kib();
  Host host;
  auto admin = Connection::open(port_);
  ASSERT_TRUE(admin.has_value());
  host.admin = std::move(*admin);
  const CommandResult connected = connect_queue(host.admin, {.subnqn = own_nqn, .entries = 4096});
  ASSERT_TRUE(connected.ok()) << "a large admin queue";
  ASSERT_TRUE(enable(host.admin));
  ASSERT_TRUE(set_feature(host.admin, nvme::Feature::number_of_queues, (queues - 1) | (queues - 1) << 16).ok());
  const auto cntlid = static_cast<std::uint16_t>(std::uint32_t{connected.cqe.dw0});
  for (std::uint16_t qid = 1; qid <= queues; ++qid) {
    auto io = Connection::open(port_);
    ASSERT_TRUE(io.has_value());
    const std::uint16_t entries = qid == 1 ? 2 : qid == 2 ? 3 : qid > 90 ? 4096 : static_cast<std::uint16_t>(1U << (qid % 11 + 1));
    ASSERT_TRUE(connect_queue(*io, {.subnqn = own_nqn, .cntlid = cntlid, .qid = qid, .entries = entries}).ok()) << "queue " << qid;
    host.io.push_back(std::move(*io));
  }
  for (Connection& io : host.io) expect_served(io, 7);
  const std::uint64_t idle_kib = settled_resident_kib();
  printf("101 queues of up to 4096 entries: %llu KiB\n", static_cast<unsigned long long>(idle_kib - std::min(idle_kib, before_kib)));
  if (memory_is_ours()) {
    EXPECT_LT(idle_kib, before_kib + (queues + 1) * (max_idle_connection_bytes >> 10));
  }
  // The largest ones, full.
  std::vector<std::pair<Connection*, std::uint16_t>> reads;
  for (std::size_t i = 90; i < 100; ++i) {
    for (int n = 0; n < 1000; ++n) {
      reads.emplace_back(&host.io[i], host.io[i].submit(io_command(nvme::IoOpcode::read, 0, 1), Payload::to_host(512)));
    }
    while (!reads.empty()) {
      ASSERT_TRUE(reads.back().first->wait(reads.back().second).ok());
      reads.pop_back();
    }
  }
  host = Host();
  EXPECT_LE(wait_for_fds(fds_before), fds_before);
  if (memory_is_ours()) {
    EXPECT_LE(settled_resident_kib(), before_kib + kept_kib);
  }
  EXPECT_EQ(server_->stop(), 0);
}

}  // namespace
}  // namespace catnap::protocol
