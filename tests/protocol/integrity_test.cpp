// What was written is what is read: sizes from one block to a mebibyte, every way data can travel, many commands at once.
// Owner: the test. Left out: power cuts (tests/e2e).
#include <random>

#include "tests/protocol/fixture.h"

namespace catnap::protocol {
namespace {

struct Travel {
  const char* name;
  Digests digests;
  std::uint8_t cattr;
  std::uint32_t max_r2t;
};

class IntegrityTest : public ProtocolTest, public testing::WithParamInterface<Travel> {
 protected:
  Queues open_as_asked() { return open_queues({.io = {.digests = GetParam().digests, .max_r2t = GetParam().max_r2t}, .cattr = GetParam().cattr}); }
};

// Proves: transport | Command capsules and in-capsule data | TCP 3.3.2
// Proves: transport | C2HData and the success flag | TCP 3.3.2
TEST_P(IntegrityTest, EverySizeComesBack) {
  auto queues = open_as_asked();
  std::uint32_t seed = 1;
  for (std::uint32_t length : {512U, 1024U, 3584U, 4096U, 4608U, 8192U, 12800U, 65536U, 130560U, 131072U, 131584U, 262144U, 1048064U, 1048576U}) {
    auto data = pattern(length, ++seed);
    ASSERT_TRUE(succeeded(write(queues.io, 3, data))) << length;
    auto back = read(queues.io, 3, length);
    ASSERT_TRUE(succeeded(back)) << length;
    ASSERT_TRUE(back.data == data) << length << " bytes came back changed";
  }
}

// Proves: transport | Command capsules and in-capsule data | TCP 3.3.2
// Proves: transport | C2HData and the success flag | TCP 3.3.2
TEST_P(IntegrityTest, NeighboursStayUntouched) {
  auto queues = open_as_asked();
  ASSERT_TRUE(succeeded(write(queues.io, 0, pattern(65536, 90))));
  ASSERT_TRUE(succeeded(write(queues.io, 40, pattern(8192, 91))));
  auto expected = pattern(65536, 90);
  std::ranges::copy(pattern(8192, 91), expected.begin() + std::ptrdiff_t{40} * 512);
  EXPECT_EQ(read(queues.io, 0, 65536).data, expected);
}

// Proves: transport | Command capsules and in-capsule data | TCP 3.3.2
// Proves: transport | C2HData and the success flag | TCP 3.3.2
TEST_P(IntegrityTest, ManyCommandsAtOnceDoNotMixUp) {
  auto queues = open_as_asked();
  std::mt19937 random(20261121);
  constexpr std::uint32_t slots = 64;
  constexpr std::uint32_t slot_blocks = 256;
  std::vector<Bytes> expected(slots);
  std::vector<std::uint16_t> cids(slots);
  for (std::uint32_t i = 0; i < slots; ++i) {
    std::uint32_t blocks = 1 + random() % slot_blocks;
    expected[i] = pattern(std::size_t{blocks} * 512, 1000 + i);
    auto sqe = io_command(nvme::IoOpcode::write, std::uint64_t{i} * slot_blocks, blocks);
    bool small = expected[i].size() <= in_capsule_bytes;
    cids[i] = queues.io.submit(sqe, small ? Payload::in_capsule(expected[i]) : Payload::by_r2t(expected[i]));
  }
  for (auto cid : cids) ASSERT_TRUE(succeeded(queues.io.wait(cid)));
  for (std::uint32_t i = 0; i < slots; ++i) {
    auto length = static_cast<std::uint32_t>(expected[i].size());
    cids[i] = queues.io.submit(io_command(nvme::IoOpcode::read, std::uint64_t{i} * slot_blocks, length / 512), Payload::to_host(length));
  }
  for (std::uint32_t i = 0; i < slots; ++i) {
    auto back = queues.io.wait(cids[i]);
    ASSERT_TRUE(succeeded(back));
    EXPECT_TRUE(back.data == expected[i]) << "slot " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, IntegrityTest,
                         testing::Values(Travel{"Plain", {}, 0, 1}, Travel{"HeaderDigest", {true, false}, 0, 1},
                                         Travel{"BothDigests", {true, true}, 0, 1}, Travel{"SeveralR2ts", {}, 0, 8},
                                         Travel{"NoFlowControl", {}, nvme::cattr_disable_sq_flow_control, 1},
                                         Travel{"NoFlowControlBothDigests", {true, true}, nvme::cattr_disable_sq_flow_control, 8}),
                         [](const auto& one) { return std::string(one.param.name); });

using SharedDataTest = ProtocolTest;

// Proves: transport | Command capsules and in-capsule data | TCP 3.3.2
// Proves: transport | C2HData and the success flag | TCP 3.3.2
TEST_F(SharedDataTest, AWriteIsSeenByOtherControllers) {
  auto one = open_queues();
  auto other = open_queues();
  ASSERT_TRUE(succeeded(write(one.io, 77, pattern(4096, 8))));
  EXPECT_EQ(read(other.io, 77, 4096).data, pattern(4096, 8));
}

}  // namespace
}  // namespace catnap::protocol
