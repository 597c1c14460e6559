// A host that stops reading in the middle of its reads: the server must neither spin nor lose anything, and serve others meanwhile.
// Owner: the test. Left out: hosts that hang up (hang_up_test.cpp).
#include "tests/protocol/fixture.h"

namespace catnap::protocol {
namespace {

constexpr std::uint32_t read_bytes = 131072;
constexpr std::uint32_t reads = 64;  // 8 MiB: far more than the socket buffers of both ends hold
constexpr std::uint32_t slots = 16;

class StalledHostTest : public ProtocolTest {
 protected:
  void SetUp() override {
    ProtocolTest::SetUp();
    writer_ = open_queues();
    for (std::uint32_t i = 0; i < slots; ++i) ASSERT_TRUE(succeeded(write(writer_.io, slba_of(i), pattern(read_bytes, i))));
  }

  static std::uint64_t slba_of(std::uint32_t i) { return std::uint64_t{i % slots} * (read_bytes / test_block_bytes); }

  std::vector<std::uint16_t> submit_reads(Connection& io) {
    std::vector<std::uint16_t> cids;
    for (std::uint32_t i = 0; i < reads; ++i) {
      cids.push_back(io.submit(io_command(nvme::IoOpcode::read, slba_of(i), read_bytes / test_block_bytes), Payload::to_host(read_bytes)));
    }
    return cids;
  }

  // Waits (by asking, which also gives the server time) until the server sends no more to the stalled host: its CPU time stands still
  // over a stretch in which only we keep it from sleeping. Judged as a state: ticks of CPU between two looks.
  bool server_comes_to_rest() {
    auto deadline = std::chrono::steady_clock::now() + patience;
    while (std::chrono::steady_clock::now() < deadline) {
      auto ticks = server().cpu_ticks();
      auto switches = server().voluntary_switches();
      quiet_.receive_pdu(Milliseconds(1000));  // nothing comes: one quiet second
      if (server().cpu_ticks() - ticks <= 1 && server().voluntary_switches() - switches <= 10) return true;
    }
    return false;
  }

  void expect_everything(Connection& io, const std::vector<std::uint16_t>& cids) {
    for (std::uint32_t i = 0; i < cids.size(); ++i) {
      auto result = io.wait(cids[i]);
      ASSERT_TRUE(succeeded(result)) << "read " << i;
      ASSERT_TRUE(result.data == pattern(read_bytes, i % slots)) << "read " << i << " came with other bytes";
    }
  }

  Queues writer_;
  Connection quiet_ = open_bare_quietly();

 private:
  // A connection on which nothing ever comes, to wait on.
  static Connection open_bare_quietly() {
    auto made = Connection::open(server_port());
    return made ? std::move(*made) : Connection();
  }
};

struct Stall {
  const char* name;
  Digests digests;
  std::uint8_t cattr;
};

class StallTest : public StalledHostTest, public testing::WithParamInterface<Stall> {};

// Proves: transport | Hosts that stall or vanish | TCP 3.4
TEST_P(StallTest, NoSpinNoLossOthersServed) {
  auto stalled = open_queues({.io = {.digests = GetParam().digests, .receive_buffer_bytes = 4096}, .cattr = GetParam().cattr});
  auto cids = submit_reads(stalled.io);
  EXPECT_TRUE(server_comes_to_rest()) << "the server keeps working for a host that reads nothing";
  for (std::uint32_t i = 0; i < slots; ++i) {
    auto others = read(writer_.io, slba_of(i), read_bytes);
    EXPECT_TRUE(succeeded(others));
    EXPECT_EQ(others.data, pattern(read_bytes, i));
  }
  EXPECT_TRUE(succeeded(property_get(stalled.admin, nvme::Property::csts, nvme::PropertySize::four_bytes))) << "its admin queue";
  expect_everything(stalled.io, cids);
  EXPECT_TRUE(succeeded(flush(stalled.io)));
}

INSTANTIATE_TEST_SUITE_P(Ways, StallTest,
                         testing::Values(Stall{"Plain", {}, 0}, Stall{"Digests", {true, true}, 0},
                                         Stall{"NoFlowControl", {}, nvme::cattr_disable_sq_flow_control}),
                         [](const auto& one) { return std::string(one.param.name); });

// Overwritten while the answers wait: each block read must be wholly old or wholly new, and its digest right.
class TornBlockTest : public StalledHostTest, public testing::WithParamInterface<bool> {};

// Proves: transport | Hosts that stall or vanish | TCP 3.4
TEST_P(TornBlockTest, AnOverwriteDuringTheStallTearsNoBlock) {
  auto stalled = open_queues({.io = {.digests = {false, GetParam()}, .receive_buffer_bytes = 4096}});
  auto cids = submit_reads(stalled.io);
  EXPECT_TRUE(server_comes_to_rest());
  for (std::uint32_t i = 0; i < slots; ++i) ASSERT_TRUE(succeeded(write(writer_.io, slba_of(i), pattern(read_bytes, 100 + i))));
  for (std::uint32_t i = 0; i < reads; ++i) {
    auto result = stalled.io.wait(cids[i]);
    ASSERT_TRUE(succeeded(result));
    auto before = pattern(read_bytes, i % slots);
    auto after = pattern(read_bytes, 100 + i % slots);
    for (std::size_t at = 0; at < read_bytes; at += test_block_bytes) {
      auto block_of = [at](const Bytes& bytes) { return std::span(bytes).subspan(at, test_block_bytes); };
      bool whole = std::ranges::equal(block_of(result.data), block_of(before)) || std::ranges::equal(block_of(result.data), block_of(after));
      ASSERT_TRUE(whole) << "read " << i << ": a torn block at byte " << at;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DataDigest, TornBlockTest, testing::Bool());

// Proves: transport | Hosts that stall or vanish | TCP 3.4
TEST_F(StalledHostTest, AHostThatNeverResumesCanHangUp) {
  {
    auto stalled = open_queues({.io = {.receive_buffer_bytes = 4096}});
    submit_reads(stalled.io);
    EXPECT_TRUE(server_comes_to_rest());
  }
  EXPECT_TRUE(succeeded(flush(writer_.io)));
}

}  // namespace
}  // namespace catnap::protocol
