// Fused Compare and Write, Copy, Verify and Write Uncorrectable as they look on the wire and in the blocks (Base 2.0 section 3.4.2, NVM Command
// Set 1.0c section 3.2). Owner: the test. Left out: every refusal by its field (tests/unit/server), Abort (abort_test.cpp).
#include <algorithm>
#include <thread>
#include <vector>

#include "tests/protocol/fixture.h"
#include "transport/nvme/copy.h"

namespace catnap::protocol {
namespace {

class PairTest : public ProtocolTest {
 protected:
  void SetUp() override {
    ProtocolTest::SetUp();
    queues_ = open_queues();
  }

  static nvme::SubmissionEntry half(nvme::Fuse fuse, std::uint64_t slba, std::uint32_t blocks) {
    auto sqe = io_command(fuse == nvme::Fuse::first ? nvme::IoOpcode::compare : nvme::IoOpcode::write, slba, blocks);
    sqe.flags = static_cast<std::uint8_t>(fuse);
    return sqe;
  }
  static Payload data(Bytes bytes, bool by_r2t) { return by_r2t ? Payload::by_r2t(std::move(bytes)) : Payload::in_capsule(std::move(bytes)); }

  struct Results {
    CommandResult compare, write;
  };
  // What is there is compared with `expected`, and becomes `wanted`.
  static Results compare_and_write(Connection& io, std::uint64_t slba, const Bytes& expected, const Bytes& wanted, bool first_by_r2t = false,
                                   bool second_by_r2t = false) {
    const auto blocks = static_cast<std::uint32_t>(expected.size() / 512);
    const auto first = io.submit(half(nvme::Fuse::first, slba, blocks), data(expected, first_by_r2t));
    const auto second = io.submit(half(nvme::Fuse::second, slba, blocks), data(wanted, second_by_r2t));
    Results results;
    results.compare = io.wait(first);
    results.write = io.wait(second);
    return results;
  }

  Queues queues_;
};

// Proves: command | Fused Compare and Write | Base 2.0c 3.4.2
TEST_F(PairTest, InCapsuleByR2tAndMixed) {
  for (const bool first_by_r2t : {false, true}) {
    for (const bool second_by_r2t : {false, true}) {
      ASSERT_TRUE(succeeded(write(queues_.io, 2000, pattern(2048, 1))));
      auto results = compare_and_write(queues_.io, 2000, pattern(2048, 1), pattern(2048, 2), first_by_r2t, second_by_r2t);
      EXPECT_TRUE(succeeded(results.compare));
      EXPECT_TRUE(succeeded(results.write));
      EXPECT_EQ(read(queues_.io, 2000, 2048).data, pattern(2048, 2));
      results = compare_and_write(queues_.io, 2000, pattern(2048, 1), pattern(2048, 3), first_by_r2t, second_by_r2t);
      EXPECT_TRUE(has_status(results.compare, nvme::MediaStatus::compare_failure));
      EXPECT_TRUE(has_status(results.write, nvme::GenericStatus::failed_fused));
      EXPECT_EQ(read(queues_.io, 2000, 2048).data, pattern(2048, 2)) << "nothing was written";
    }
  }
}

TEST_F(PairTest, AsLargeAsNacwuAllowsAndNoLarger) {
  const auto space = data_as<nvme::IdentifyNamespace>(identify(queues_.admin, nvme::Cns::namespace_data, 1));
  const std::size_t most = (std::size_t{space.nacwu} + 1) * 512;
  ASSERT_TRUE(succeeded(write(queues_.io, 2100, pattern(most, 1))));
  auto results = compare_and_write(queues_.io, 2100, pattern(most, 1), pattern(most, 2), true, true);
  EXPECT_TRUE(succeeded(results.write));
  EXPECT_EQ(read(queues_.io, 2100, static_cast<std::uint32_t>(most)).data, pattern(most, 2));
  results = compare_and_write(queues_.io, 2100, Bytes(most + 512), Bytes(most + 512), true, true);
  EXPECT_TRUE(has_status(results.compare, nvme::GenericStatus::atomic_write_unit_exceeded));
  EXPECT_TRUE(has_status(results.write, nvme::GenericStatus::failed_fused));
}

// Proves: transport | Flow control and SQ head | Base 2.0c 3.3.1.2.1
TEST_F(PairTest, WithDigestsAndWithoutFlowControl) {
  QueueOptions options;
  options.io.digests = {.header = true, .data = true};
  options.cattr = nvme::cattr_disable_sq_flow_control;
  auto queues = open_queues(options);
  ASSERT_TRUE(succeeded(write(queues.io, 2200, pattern(512, 1))));
  for (std::uint32_t i = 1; i < 40; ++i) {
    const auto results = compare_and_write(queues.io, 2200, pattern(512, i), pattern(512, i + 1), i % 2 == 0, i % 3 == 0);
    ASSERT_TRUE(succeeded(results.compare)) << i;
    ASSERT_TRUE(succeeded(results.write)) << i;
  }
  EXPECT_EQ(read(queues.io, 2200, 512).data, pattern(512, 40));
}

TEST_F(PairTest, BothHalvesCountForTheSubmissionQueue) {
  QueueOptions options;
  options.entries = 8;
  auto small = open_queues(options);
  const CommandResult seen = read(small.io, 2300, 512);
  ASSERT_TRUE(succeeded(seen));
  const Results results = compare_and_write(small.io, 2300, seen.data, pattern(512, 9));
  EXPECT_TRUE(succeeded(results.write));
  EXPECT_EQ((seen.cqe.sqhd + 2) % 8, std::uint16_t{results.write.cqe.sqhd}) << "one entry each";
}

// Proves: command | Atomicity | NVM 1.0c 2.1.4
TEST_F(PairTest, HostsThatCountTogetherLoseNothing) {
  constexpr std::uint32_t rounds = 150;
  constexpr std::uint64_t lba = 2400;
  ASSERT_TRUE(succeeded(write(queues_.io, lba, Bytes(512))));
  std::vector<Queues> hosts;
  for (int i = 0; i < 3; ++i) hosts.push_back(open_queues());
  std::vector<std::thread> threads;
  threads.reserve(hosts.size());
  for (Queues& host : hosts) {
    threads.emplace_back([&host] {
      for (std::uint32_t done = 0; done < rounds;) {
        Bytes seen = read(host.io, lba, 512).data;
        Bytes next = seen;
        std::uint64_t count = 0;
        std::memcpy(&count, seen.data(), sizeof(count));
        ++count;
        std::memcpy(next.data(), &count, sizeof(count));
        const Results results = compare_and_write(host.io, lba, seen, next);
        ASSERT_EQ(results.compare.outcome, Outcome::pdu) << results.compare.note;
        if (results.write.ok()) ++done;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::uint64_t count = 0;
  const Bytes last = read(queues_.io, lba, 512).data;
  ASSERT_GE(last.size(), sizeof(count));
  std::memcpy(&count, last.data(), sizeof(count));
  EXPECT_EQ(count, rounds * hosts.size());
}

TEST_F(PairTest, AFirstHalfWaitsForWhatFollowsIt) {
  const auto first = queues_.io.submit(half(nvme::Fuse::first, 2500, 1), Payload::in_capsule(Bytes(512)));
  let_server_catch_up();
  EXPECT_TRUE(succeeded(flush(queues_.io)));  // on the same queue: so the pair is none
  EXPECT_TRUE(has_status(queues_.io.wait(first), nvme::GenericStatus::missing_fused));
  EXPECT_TRUE(has_status(queues_.io.run(half(nvme::Fuse::second, 2500, 1), Payload::in_capsule(Bytes(512))), nvme::GenericStatus::missing_fused));
}

TEST_F(PairTest, AConnectionThatEndsInTheMiddleOfAPair) {
  for (const bool with_second : {false, true}) {
    auto queues = open_queues();
    queues.io.submit(half(nvme::Fuse::first, 2600, 1), Payload::in_capsule(Bytes(512)));
    if (with_second) {
      auto sqe = half(nvme::Fuse::second, 2600, 1);
      sqe.set_psdt(nvme::Psdt::sgl);
      sqe.sgl.type_and_subtype = 0x5A;
      sqe.sgl.length = 512;
      sqe.cid = 99;
      queues.io.send(queues.io.capsule(sqe));  // its R2T is never answered
    }
    queues.io = {};
    let_server_catch_up();
  }
  const auto results = compare_and_write(queues_.io, 2600, read(queues_.io, 2600, 512).data, pattern(512, 3));
  EXPECT_TRUE(succeeded(results.write));
}

TEST_F(PairTest, ASecondHalfWithABadSglTakesTheFirstWithIt) {
  const auto first = queues_.io.submit(half(nvme::Fuse::first, 2700, 2), Payload::in_capsule(Bytes(1024)));
  auto sqe = half(nvme::Fuse::second, 2700, 2);
  const CommandResult second = queues_.io.run(sqe, Payload::in_capsule(Bytes(512)));
  EXPECT_TRUE(has_status(second, nvme::GenericStatus::data_sgl_length_invalid));
  EXPECT_TRUE(has_status(queues_.io.wait(first), nvme::GenericStatus::failed_fused));
}

// --- Copy ---

class CopyTest : public ProtocolTest {
 protected:
  void SetUp() override {
    ProtocolTest::SetUp();
    queues_ = open_queues();
  }
  static nvme::CopyRange range(std::uint64_t slba, std::uint32_t blocks) {
    nvme::CopyRange one;
    one.slba = slba;
    one.nlb = static_cast<std::uint16_t>(blocks - 1);
    return one;
  }
  CommandResult copy(std::uint64_t destination, const std::vector<nvme::CopyRange>& ranges) {
    auto sqe = io_command(nvme::IoOpcode::copy, destination, 1);
    sqe.cdw12 = static_cast<std::uint32_t>(ranges.size() - 1);
    const auto view = std::as_bytes(std::span(ranges));
    Bytes bytes(view.begin(), view.end());
    return queues_.io.run(sqe, bytes.size() <= in_capsule_bytes ? Payload::in_capsule(std::move(bytes)) : Payload::by_r2t(std::move(bytes)));
  }
  Queues queues_;
};

// Proves: command | Copy | NVM 1.0c 3.2.2
TEST_F(CopyTest, BlocksAndNothingElse) {
  ASSERT_TRUE(succeeded(write(queues_.io, 3000, pattern(65536, 1))));
  ASSERT_TRUE(succeeded(write(queues_.io, 4000, pattern(65536, 2))));
  EXPECT_TRUE(succeeded(copy(4001, {range(3000, 3), range(3100, 20), range(3050, 1)})));
  Bytes expected = pattern(65536, 2);
  const Bytes source = pattern(65536, 1);
  const auto bring = [&](std::size_t to, std::size_t from, std::size_t blocks) {
    std::copy_n(source.begin() + static_cast<std::ptrdiff_t>(from * 512), blocks * 512, expected.begin() + static_cast<std::ptrdiff_t>(to * 512));
  };
  bring(1, 0, 3);
  bring(4, 100, 20);
  bring(24, 50, 1);
  EXPECT_EQ(read(queues_.io, 4000, 65536).data, expected);
  EXPECT_EQ(read(queues_.io, 3000, 65536).data, source);
}

TEST_F(CopyTest, MegabytesAtOnce) {
  const Bytes source = pattern(max_io_bytes, 5);
  ASSERT_TRUE(succeeded(write(queues_.io, 8192, source)));
  EXPECT_TRUE(succeeded(copy(16384, {range(8192, 2048)})));
  EXPECT_EQ(read(queues_.io, 16384, max_io_bytes).data, source);
}

// Proves: status | Block device errors | Base 2.0c 3.3.3.2.1
TEST_F(CopyTest, OutOfRangeOverlappingAndTooMuch) {
  EXPECT_TRUE(has_status(copy(4000, {range(namespace_blocks, 1)}), nvme::GenericStatus::lba_out_of_range));
  EXPECT_TRUE(has_status(copy(namespace_blocks - 1, {range(0, 2)}), nvme::GenericStatus::lba_out_of_range));
  EXPECT_TRUE(has_status(copy(4000, {range(3999, 2)}), nvme::CommandStatus::overlapping_io_range));
  EXPECT_TRUE(has_status(copy(100, std::vector<nvme::CopyRange>(129, range(0, 1))), nvme::CommandStatus::command_size_limit_exceeded));
}

// --- Verify, Write Uncorrectable ---

// Proves: command | Write Uncorrectable | NVM 1.0c 3.2.7
// Proves: command | Verify | NVM 1.0c 3.2.5
TEST_F(CopyTest, MarkedBlocksCannotBeReadUntilTheyAreWritten) {
  ASSERT_TRUE(succeeded(write(queues_.io, 5000, pattern(8192, 1))));
  EXPECT_TRUE(succeeded(queues_.io.run(io_command(nvme::IoOpcode::verify, 5000, 16))));
  ASSERT_TRUE(succeeded(queues_.io.run(io_command(nvme::IoOpcode::write_uncorrectable, 5004, 2))));
  const nvme::Status lost = nvme::MediaStatus::unrecovered_read_error;
  EXPECT_TRUE(has_status(read(queues_.io, 5004, 512), lost));
  EXPECT_TRUE(has_status(read(queues_.io, 5000, 8192), lost));
  EXPECT_TRUE(has_status(queues_.io.run(io_command(nvme::IoOpcode::verify, 5000, 16)), lost));
  EXPECT_TRUE(has_status(queues_.io.run(io_command(nvme::IoOpcode::compare, 5005, 1), Payload::in_capsule(Bytes(512))), lost));
  EXPECT_TRUE(has_status(copy(6000, {range(5003, 2)}), lost));
  EXPECT_TRUE(succeeded(read(queues_.io, 5000, 2048))) << "its neighbours can";
  EXPECT_TRUE(succeeded(read(queues_.io, 5006, 512)));
  ASSERT_TRUE(succeeded(write(queues_.io, 5004, pattern(512, 2))));
  EXPECT_EQ(read(queues_.io, 5004, 512).data, pattern(512, 2));
  EXPECT_TRUE(has_status(read(queues_.io, 5005, 512), lost));
  EXPECT_TRUE(succeeded(queues_.io.run(io_command(nvme::IoOpcode::write_zeroes, 5005, 1))));
  EXPECT_TRUE(succeeded(read(queues_.io, 5000, 8192)));
}

}  // namespace
}  // namespace catnap::protocol
