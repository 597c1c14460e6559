// Rate limits as hosts see them: several queues on two reactors share a limit, another namespace is free, limits change while commands wait, and what
// waits can be aborted, or loses its disk.
// Owner: the test, which starts a server of its own. Left out: exact rates, which virtual clocks show (tests/unit/bdev/core_limits_test.cpp).
#include <gtest/gtest.h>

#include <chrono>
#include <vector>

#include "tests/protocol/client/host.h"
#include "tests/protocol/client/server_process.h"

namespace catnap::protocol {
namespace {

constexpr const char* nqn = "nqn.2026-11.io.catnap:limits";
constexpr std::size_t io_queues = 4;  // over both reactors
constexpr std::uint32_t block_bytes = 512;

class RateLimitTest : public testing::Test {
 protected:
  struct InFlight {
    InFlight(std::size_t on_queue, std::uint16_t command_id) : queue(on_queue), cid(command_id) {}
    std::size_t queue;
    std::uint16_t cid;
  };

  void SetUp() override {
    const std::uint16_t port = free_port();
    auto started = ServerProcess::start(CATNAP_SERVER, {"-m", two_cpus()});
    ASSERT_TRUE(started.has_value()) << started.error().message;
    server_ = std::move(*started);
    call("nvmf_create_transport", R"({"trtype": "TCP"})");
    for (const std::string name : {"Limited", "Free"}) {
      call("bdev_malloc_create", R"({"name": ")" + name + R"(", "num_blocks": 65536, "block_size": 512})");
    }
    call("bdev_wait_for_examine", "{}");  // which reads what stands on them
    call("bdev_reset_iostat", "{}");
    call("nvmf_create_subsystem", R"({"nqn": ")" + std::string(nqn) + R"(", "allow_any_host": true})");
    call("nvmf_subsystem_add_ns", R"({"nqn": ")" + std::string(nqn) + R"(", "namespace": {"bdev_name": "Limited", "nsid": 1}})");
    call("nvmf_subsystem_add_ns", R"({"nqn": ")" + std::string(nqn) + R"(", "namespace": {"bdev_name": "Free", "nsid": 2}})");
    call("nvmf_subsystem_add_listener", R"({"nqn": ")" + std::string(nqn) + R"(", "listen_address": {"trtype": "TCP", "adrfam": "IPv4", )" +
                                            R"("traddr": "127.0.0.1", "trsvcid": ")" + std::to_string(port) + R"("}})");
    call("bdev_wait_for_examine", "{}");
    call("bdev_reset_iostat", "{}");  // modules that look for their disks have read
    ASSERT_NO_FATAL_FAILURE(connect(port));
  }
  void TearDown() override {
    admin_ = {};
    io_.clear();
    if (server_ == nullptr) return;
    EXPECT_TRUE(server_->is_running());
    EXPECT_EQ(server_->stop(), 0);
    if (HasFailure()) printf("---- server log ----\n%s\n", server_->log().c_str());
  }

  Json::Value call(const std::string& method, const std::string& params) {
    const auto answer = server_->rpc().call(method, json(params));
    EXPECT_TRUE(answer.has_value()) << method << ": " << answer.error().message;
    return answer.has_value() ? *answer : Json::Value();
  }
  void limit(const std::string& what) { call("bdev_set_qos_limit", R"({"name": "Limited", )" + what + "}"); }
  void connect(std::uint16_t port) {
    HostQueues host = connect_host(port, nqn, io_queues);
    ASSERT_EQ(host.io.size(), io_queues);
    admin_ = std::move(host.admin);
    io_ = std::move(host.io);
  }

  // So many reads of the limited namespace on each queue.
  std::vector<InFlight> start_reads(std::size_t per_queue) {
    std::vector<InFlight> reads;
    for (std::size_t i = 0; i < per_queue; ++i) {
      for (std::size_t queue = 0; queue < io_.size(); ++queue) {
        reads.emplace_back(queue, io_[queue].submit(io_command(nvme::IoOpcode::read, i, 1, 1), Payload::to_host(block_bytes)));
      }
    }
    return reads;
  }
  std::uint64_t reads_done() { return call("bdev_get_iostat", R"({"name": "Limited"})")["bdevs"][0]["num_read_ops"].asUInt64(); }

  std::unique_ptr<ServerProcess> server_;
  Connection admin_;
  std::vector<Connection> io_;
};

// A lower bound on time holds on any machine: the rate is never above the limit.
TEST_F(RateLimitTest, QueuesOnTwoReactorsShareALimit) {
  limit(R"("rw_ios_per_sec": 50)");
  const auto begin = std::chrono::steady_clock::now();
  for (const InFlight& one : start_reads(10)) EXPECT_TRUE(io_[one.queue].wait(one.cid).ok());
  const auto took = std::chrono::steady_clock::now() - begin;
  // The first goes at once, 39 follow at 20 ms each; 50 ms of that may have been saved up.
  EXPECT_GE(took, std::chrono::milliseconds(39 * 20 - 50));
}

TEST_F(RateLimitTest, AnotherNamespaceIsFreeAndWhatWaitsGoesWhenTheLimitGoes) {
  limit(R"("rw_ios_per_sec": 1)");
  const auto reads = start_reads(25);
  for (std::size_t i = 0; i < 200; ++i) EXPECT_TRUE(read(io_[i % io_.size()], i, block_bytes, 2).ok());
  EXPECT_LT(reads_done(), reads.size());  // they would take 99 seconds
  EXPECT_EQ(call("bdev_get_bdevs", R"({"name": "Limited"})")[0]["assigned_rate_limits"]["rw_ios_per_sec"].asUInt64(), 1u);
  for (int i = 0; i < 20; ++i) limit(R"("rw_ios_per_sec": )" + std::to_string(1 + i % 2));
  limit(R"("rw_ios_per_sec": 0)");
  for (const InFlight& one : reads) EXPECT_TRUE(io_[one.queue].wait(one.cid).ok());
  EXPECT_EQ(reads_done(), reads.size());
}

TEST_F(RateLimitTest, WritesThatWaitKeepTheirData) {
  std::vector<InFlight> writes;
  limit(R"("w_mbytes_per_sec": 1)");
  const auto data = [](std::size_t i) { return Bytes(4096, static_cast<std::byte>(i + 1)); };
  for (std::size_t i = 0; i < 40; ++i) {
    const std::size_t queue = i % io_.size();
    writes.emplace_back(queue, io_[queue].submit(io_command(nvme::IoOpcode::write, 8 * i, 8, 1), Payload::in_capsule(data(i))));
  }
  for (const InFlight& one : writes) EXPECT_TRUE(io_[one.queue].wait(one.cid).ok());
  limit(R"("w_mbytes_per_sec": 0)");
  for (std::size_t i = 0; i < 40; ++i) EXPECT_EQ(read(io_[0], 8 * i, 4096).data, data(i)) << i;
}

TEST_F(RateLimitTest, WhatWaitsCanBeAborted) {
  limit(R"("rw_ios_per_sec": 1)");
  const auto reads = start_reads(5);
  const InFlight& last = reads.back();
  auto sqe = admin_command(nvme::AdminOpcode::abort);
  sqe.cdw10 = static_cast<std::uint32_t>(last.queue + 1) | std::uint32_t{last.cid} << 16;
  const CommandResult answer = admin_.run(sqe);
  EXPECT_TRUE(answer.ok());
  EXPECT_EQ(answer.cqe.dw0 & 1, 0u);
  EXPECT_TRUE(io_[last.queue].wait(last.cid).is(nvme::GenericStatus::abort_requested));
  limit(R"("rw_ios_per_sec": 0)");
  for (std::size_t i = 0; i + 1 < reads.size(); ++i) EXPECT_TRUE(io_[reads[i].queue].wait(reads[i].cid).ok());
}

// Proves: transport | Hosts that stall or vanish
TEST_F(RateLimitTest, AHostThatGoesTakesWhatWaitsAlong) {
  limit(R"("rw_ios_per_sec": 1)");
  const std::size_t started = start_reads(25).size();
  EXPECT_TRUE(read(io_[0], 0, block_bytes, 2).ok());  // so the server has read that much from this queue
  io_.clear();
  // Served one by one they would hold their queue pairs for 99 seconds.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  const auto queue_pairs = [this] { return call("nvmf_subsystem_get_qpairs", R"({"nqn": ")" + std::string(nqn) + R"("})").size(); };
  while (queue_pairs() > 1 && std::chrono::steady_clock::now() < deadline) {
  }
  EXPECT_EQ(queue_pairs(), 1u);
  EXPECT_LT(reads_done(), started);
}

TEST_F(RateLimitTest, ADiskThatGoesDoesNotWaitForWhatIsLimited) {
  limit(R"("rw_ios_per_sec": 1)");
  const auto reads = start_reads(25);
  call("bdev_malloc_delete", R"({"name": "Limited"})");
  std::size_t failed = 0;
  for (const InFlight& one : reads) {
    const CommandResult result = io_[one.queue].wait(one.cid);
    EXPECT_EQ(result.outcome, Outcome::pdu) << result.note;
    if (!result.ok()) ++failed;
  }
  EXPECT_GT(failed, 0u);
  EXPECT_TRUE(read(io_[0], 0, block_bytes, 2).ok());
}

}  // namespace
}  // namespace catnap::protocol
