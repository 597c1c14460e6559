// Several hosts on two reactors read, write and unmap the same blocks at random, connections are dropped in the middle and namespaces come and go:
// every block read must be wholly one writer's, and never older than a write that had ended before the read began.
// Owner: the test, which starts a server of its own; a thread per host. CATNAP_SEED repeats the hosts' choices, CATNAP_SOAK=1 runs a minute for each
// case. Left out: power cuts (tests/e2e).
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "tests/protocol/client/host.h"
#include "tests/protocol/client/server_process.h"

namespace catnap::protocol {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* nqn = "nqn.2026-11.io.catnap:safety";
constexpr std::uint64_t blocks = 512;       // few, so that the hosts meet
constexpr std::uint32_t most_blocks = 256;  // 128 KiB
constexpr std::size_t host_count = 3;
constexpr std::size_t kept_writes = 64;  // of one block, before those that no read can find any more are forgotten
constexpr std::chrono::milliseconds ci_time{1500};
constexpr std::chrono::milliseconds soak_time{60'000};

// What a block holds: the same 16 bytes all over. Zero: never written, or unmapped.
struct Stamp {
  std::uint64_t write = 0;  // number of the write, unique
  std::uint64_t lba = 0;
};

// Which writes each block may hold. A moment is a count of events; a write whose end is not known may take effect at any later time.
class Oracle {
 public:
  static constexpr std::uint64_t open = std::numeric_limits<std::uint64_t>::max();

  std::uint64_t moment() { return ++clock_; }
  std::uint64_t next_write() { return ++writes_; }

  // Host `host` begins a batch: no read of its before now is still to be judged.
  void batch_begins(std::size_t host) {
    const std::scoped_lock lock(mutex_);
    batches_[host] = moment();
  }

  void write_begins(std::uint64_t write, std::uint64_t lba, std::uint64_t count, bool zeroes) {
    const std::scoped_lock lock(mutex_);
    const std::uint64_t now = moment();
    const std::uint64_t horizon = *std::ranges::min_element(batches_);
    for (std::uint64_t i = lba; i < lba + count; ++i) {
      auto& list = blocks_[i];
      if (list.size() > kept_writes)
        std::erase_if(list, [limit = overwritten_before(list, horizon)](const Entry& entry) { return entry.end < limit; });
      list.push_back({write, now, open, zeroes});
    }
  }
  void write_ended(std::uint64_t write, std::uint64_t lba, std::uint64_t count) {
    const std::scoped_lock lock(mutex_);
    const std::uint64_t now = moment();
    for (std::uint64_t i = lba; i < lba + count; ++i) {
      for (Entry& entry : blocks_[i]) {
        if (entry.write == write) entry.end = now;
      }
    }
  }
  // Empty: the block may hold `found`, read at some time since `read_began`.
  std::string judge(std::uint64_t lba, std::uint64_t found, std::uint64_t read_began) {
    const std::scoped_lock lock(mutex_);
    const auto& list = blocks_[lba];
    const std::uint64_t limit = overwritten_before(list, read_began);
    if (found == 0 && limit == 0) return {};  // as it was made
    for (const Entry& entry : list) {
      const bool matches = found == 0 ? entry.zeroes : entry.write == found && !entry.zeroes;
      if (matches && entry.end >= limit) return {};
    }
    return "block " + std::to_string(lba) + " holds write " + std::to_string(found) + ", which was never made there or is overwritten";
  }

 private:
  struct Entry {
    std::uint64_t write, begin, end;
    bool zeroes;
  };
  // What ended before this moment was overwritten by a write that had ended when the read began.
  static std::uint64_t overwritten_before(const std::vector<Entry>& list, std::uint64_t read_began) {
    std::uint64_t limit = 0;
    for (const Entry& entry : list) {
      if (entry.end < read_began) limit = std::max(limit, entry.begin);
    }
    return limit;
  }

  std::mutex mutex_;
  std::atomic<std::uint64_t> clock_{0}, writes_{0};
  std::array<std::uint64_t, host_count> batches_{};  // behind the mutex, too
  std::array<std::vector<Entry>, blocks> blocks_;
};

class DataSafetyTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const char* seed = std::getenv("CATNAP_SEED");
    soak_ = std::getenv("CATNAP_SOAK") != nullptr;
    seed_ = seed != nullptr ? std::strtoull(seed, nullptr, 0) : soak_ ? std::random_device{}() : 1;
    printf("CATNAP_SEED=%llu\n", static_cast<unsigned long long>(seed_));
    port_ = free_port();
    auto started = ServerProcess::start(CATNAP_SERVER, {"-m", two_cpus()});
    ASSERT_TRUE(started.has_value()) << started.error().message;
    server_ = std::move(*started);
    const std::string kind = GetParam();
    must("nvmf_create_transport", R"({"trtype": "TCP"})");
    if (kind == "malloc") {
      must("bdev_malloc_create", R"({"name": "B", "num_blocks": )" + std::to_string(blocks) + R"(, "block_size": 512})");
    } else {
      const std::string path = server_->directory() + "/disk";
      FILE* file = fopen(path.c_str(), "w");
      ASSERT_NE(file, nullptr);
      fclose(file);
      std::filesystem::resize_file(path, blocks * test_block_bytes);
      must("bdev_" + kind + "_create", R"({"name": "B", "block_size": 512, "filename": ")" + path + "\"}");
    }
    must("nvmf_create_subsystem", with(R"("allow_any_host": true)"));
    must("nvmf_subsystem_add_ns", with(R"("namespace": {"bdev_name": "B", "nsid": 1})"));
    must("nvmf_subsystem_add_listener",
         with(R"("listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" + std::to_string(port_) + "\"}"));
  }
  void TearDown() override {
    if (HasFailure() && server_ != nullptr) printf("---- server log ----\n%s\n", server_->log().c_str());
  }

  static std::string with(const std::string& more) { return R"({"nqn": ")" + std::string(nqn) + "\", " + more + "}"; }
  void must(const std::string& method, const std::string& params) {
    const auto answer = server_->rpc().call(method, json(params));
    ASSERT_TRUE(answer.has_value()) << method << " " << params << ": " << answer.error().message;
  }

  struct Queues {
    Connection admin, io;
    std::uint16_t cntlid = 0;
  };
  bool open_admin(Queues& queues) const {
    auto admin = Connection::open(port_);
    if (!admin) return false;
    queues.admin = std::move(*admin);
    const CommandResult connected = connect_queue(queues.admin, {.subnqn = nqn});
    queues.cntlid = static_cast<std::uint16_t>(std::uint32_t{connected.cqe.dw0});
    return connected.ok() && enable(queues.admin);
  }
  bool open_io(Queues& queues, Digests digests) const {
    auto io = Connection::open(port_, {.digests = digests});
    if (!io) return false;
    queues.io = std::move(*io);
    return connect_queue(queues.io, {.subnqn = nqn, .cntlid = queues.cntlid, .qid = 1, .cattr = nvme::cattr_disable_sq_flow_control}).ok();
  }

  struct Pending {
    nvme::IoOpcode opcode;
    std::uint64_t write = 0, lba = 0, count = 0, began = 0;
    std::uint16_t cid = 0;
  };

  Pending submit(Connection& io, std::mt19937_64& dice) {
    Pending made;
    made.count = 1 + (dice() % 4 == 0 ? dice() % most_blocks : dice() % 8);
    made.lba = dice() % (blocks - made.count + 1);
    const auto choice = dice() % 20;
    made.opcode = choice < 9    ? nvme::IoOpcode::read
                  : choice < 17 ? nvme::IoOpcode::write
                  : choice < 19 ? nvme::IoOpcode::dataset_management
                                : nvme::IoOpcode::write_zeroes;
    const auto bytes = static_cast<std::uint32_t>(made.count * test_block_bytes);
    auto sqe = io_command(made.opcode, made.lba, static_cast<std::uint32_t>(made.count));
    if (made.opcode == nvme::IoOpcode::read) {
      made.began = oracle_.moment();
      made.cid = io.submit(sqe, Payload::to_host(bytes));
      return made;
    }
    made.write = oracle_.next_write();
    oracle_.write_begins(made.write, made.lba, made.count, made.opcode != nvme::IoOpcode::write);
    if (made.opcode == nvme::IoOpcode::write_zeroes) {
      made.cid = io.submit(sqe);
    } else if (made.opcode == nvme::IoOpcode::dataset_management) {
      nvme::DsmRange range;
      range.slba = made.lba;
      range.blocks = static_cast<std::uint32_t>(made.count);
      sqe = io_command(made.opcode, 0, 1);
      sqe.cdw10 = 0;
      sqe.cdw11 = nvme::dsm_deallocate;
      sqe.cdw12 = 0;
      made.cid = io.submit(sqe, Payload::in_capsule(bytes_of(range)));
    } else {
      Bytes data(bytes);
      for (std::size_t at = 0; at < bytes; at += sizeof(Stamp)) {
        const Stamp stamp{made.write, made.lba + at / test_block_bytes};
        std::memcpy(data.data() + at, &stamp, sizeof stamp);
      }
      made.cid = io.submit(sqe, bytes <= 4096 ? Payload::in_capsule(std::move(data)) : Payload::by_r2t(std::move(data)));
    }
    return made;
  }

  void check_read(const Pending& read, const Bytes& data) {
    for (std::uint64_t block = 0; block < read.count; ++block) {
      Stamp first;
      std::memcpy(&first, data.data() + block * test_block_bytes, sizeof first);
      for (std::size_t at = 0; at < test_block_bytes; at += sizeof(Stamp)) {
        Stamp stamp;
        std::memcpy(&stamp, data.data() + block * test_block_bytes + at, sizeof stamp);
        ASSERT_EQ(stamp.write, first.write) << "block " << read.lba + block << " is torn at byte " << at;
      }
      if (first.write != 0) {
        ASSERT_EQ(first.lba, read.lba + block) << "a block holds another block's data";
      }
      ASSERT_EQ(oracle_.judge(read.lba + block, first.write, read.began), "");
    }
    blocks_checked_ += read.count;
  }

  // Batches of commands until time is up; the connection is dropped with commands in flight now and then.
  void be_host(std::size_t number, Queues& queues, Clock::time_point end) {
    std::mt19937_64 dice(seed_ * 1000 + number);
    do {
      oracle_.batch_begins(number);
      std::vector<Pending> batch;
      for (auto depth = 1 + dice() % 8; depth > 0; --depth) batch.push_back(submit(queues.io, dice));
      if (dice() % 50 == 0) {
        queues.io = Connection();  // what the server still does with these writes is open
        if (!reconnect(queues, {dice() % 2 == 0, dice() % 2 == 0})) return;
        continue;
      }
      for (const Pending& each : batch) {
        const CommandResult result = queues.io.wait(each.cid);
        ASSERT_EQ(result.outcome, Outcome::pdu) << result.note;
        if (!result.ok()) {
          ++refused_;  // the namespace is away
          continue;
        }
        if (each.opcode == nvme::IoOpcode::read) {
          ASSERT_NO_FATAL_FAILURE(check_read(each, result.data));
        } else {
          oracle_.write_ended(each.write, each.lba, each.count);
        }
      }
    } while (goes_on(end));
  }
  // Until time is up; on a machine that is busy also until there was something to check.
  bool goes_on(Clock::time_point end) const {
    const auto now = Clock::now();
    return !HasFailure() && (now < end || (blocks_checked_.load() == 0 && now < end + patience));
  }
  // QID 1 is in use until the server has noticed.
  bool reconnect(Queues& queues, Digests digests) {
    const auto deadline = Clock::now() + patience;
    while (!open_io(queues, digests)) {
      if (Clock::now() < deadline) continue;
      ADD_FAILURE() << "cannot connect again";
      return false;
    }
    return true;
  }

  std::uint64_t seed_ = 0;
  bool soak_ = false;
  std::uint16_t port_ = 0;
  std::unique_ptr<ServerProcess> server_;
  Oracle oracle_;
  std::atomic<std::uint64_t> blocks_checked_{0}, refused_{0};
};

TEST_P(DataSafetyTest, EveryBlockReadIsOneWritersAndNotStale) {
  std::array<Queues, host_count> queues;
  // Admin queues first: a new connection goes where fewest are, so the I/O queues spread over both reactors.
  for (Queues& each : queues) ASSERT_TRUE(open_admin(each));
  for (std::size_t i = 0; i < host_count; ++i) ASSERT_TRUE(open_io(queues[i], {i == 1, i != 0}));
  const auto end = Clock::now() + (soak_ ? soak_time : ci_time);
  std::vector<std::thread> hosts;
  for (std::size_t i = 0; i < host_count; ++i) hosts.emplace_back([this, i, &queues, end] { be_host(i, queues[i], end); });
  unsigned changes = 0;
  do {
    // A read of the configuration between changes gives the hosts the namespace for longer than they miss it.
    for (int i = 0; i < 40; ++i) must("bdev_get_iostat", "{}");
    must("nvmf_subsystem_remove_ns", with(R"("nsid": 1)"));
    must("nvmf_subsystem_add_ns", with(R"("namespace": {"bdev_name": "B", "nsid": 1})"));
    ++changes;
  } while (Clock::now() < end && !HasFailure());
  for (std::thread& host : hosts) host.join();
  EXPECT_GT(blocks_checked_.load(), 0u);
  EXPECT_GT(changes, 0u);
  printf("%llu blocks checked, %llu commands refused, %u times the namespace went and came\n",
         static_cast<unsigned long long>(blocks_checked_.load()), static_cast<unsigned long long>(refused_.load()), changes);
  EXPECT_EQ(server_->stop(), 0);
}

INSTANTIATE_TEST_SUITE_P(Bdevs, DataSafetyTest, testing::Values("malloc", "uring", "aio"),
                         [](const auto& param) { return std::string(param.param); });

}  // namespace
}  // namespace catnap::protocol
