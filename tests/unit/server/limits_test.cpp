// Verify, Write Uncorrectable, limits of the subsystem, and namespaces of every size (NVM Command Set 1.0c section 3.2).
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "server/io_limits.h"
#include "tests/unit/server/controller_bench.h"
#include "transport/nvme/copy.h"
#include "transport/nvme/dsm.h"

namespace catnap::server {
namespace {

using nvme::IoOpcode;

// As large as asked for: answers and forgets.
class EndlessBdev final : public bdev::Bdev {
 public:
  EndlessBdev(std::uint64_t blocks, std::uint32_t block_size) : Bdev(info_of(blocks, block_size)) {}
  bool supports(bdev::Op op) const override { return op != bdev::Op::write_uncorrectable; }
  std::string config_json() const override { return "{}"; }

 protected:
  class EndlessChannel final : public bdev::Channel {
   public:
    EndlessChannel(bdev::Bdev& bdev, Thread& thread) : Channel(bdev, thread) {}

   protected:
    void execute(bdev::BdevIo& io) override { complete(io, bdev::Status::ok); }
  };
  static bdev::BdevInfo info_of(std::uint64_t blocks, std::uint32_t block_size) {
    bdev::BdevInfo info;
    info.name = "Endless";
    info.uuid = "00000000-0000-4000-8000-000000000001";
    info.block_size = info.physical_block_size = block_size;
    info.num_blocks = blocks;
    info.native_compare_and_write = info.native_copy = info.native_verify = true;
    return info;
  }
  Result<std::unique_ptr<bdev::Channel>> create_channel(Thread& thread) override { return std::make_unique<EndlessChannel>(*this, thread); }
};

// Proves: command | Verify | NVM Command Set 1.0c 3.2.5
TEST(VerifyTest, ReadsWithoutGivingBack) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  Command& verify = bench.run(*pair.io, io_sqe(IoOpcode::verify, 16, 64));
  EXPECT_TRUE(verify.status().is_success());
  EXPECT_EQ(verify.planned, transport::PlanAction::execute) << "no data moves";
  ASSERT_EQ(bench.disk->seen.size(), 1U);
  EXPECT_EQ(bench.disk->seen[0].op, bdev::Op::verify);
  EXPECT_EQ(bench.disk->seen[0].num_blocks, 64U);
  bench.disk->answer = bdev::Status::media_error;
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(IoOpcode::verify, 0, 1)).status().same_code(nvme::MediaStatus::unrecovered_read_error));
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(IoOpcode::verify, 4096, 1)).status().same_code(nvme::GenericStatus::lba_out_of_range));
}

// Proves: command | Write Uncorrectable | NVM Command Set 1.0c 3.2.7
TEST(WriteUncorrectableTest, WhereTheDeviceCan) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(IoOpcode::write_uncorrectable, 16, 4)).status().is_success());
  ASSERT_EQ(bench.disk->seen.size(), 1U);
  EXPECT_EQ(bench.disk->seen[0].op, bdev::Op::write_uncorrectable);
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(IoOpcode::write_uncorrectable, 4095, 2)).status().same_code(nvme::GenericStatus::lba_out_of_range));
  bench.disk->unsupported.insert(bdev::Op::write_uncorrectable);
  Command& refused = bench.run(*pair.io, io_sqe(IoOpcode::write_uncorrectable, 16, 4));
  EXPECT_TRUE(refused.status().same_code(nvme::GenericStatus::invalid_opcode));
  EXPECT_TRUE(refused.status().dnr);
}

// Proves: identify | I/O Command Set specific Identify Controller | NVM 1.0c 4.1.5.4
TEST(LimitsTest, IdentifyTellsThemAndCommandsKeepThem) {
  ControllerBench bench;
  auto large = std::make_shared<EndlessBdev>(std::uint64_t{1} << 40, 4096);
  const auto publish = [&](std::uint32_t dmrsl, std::uint8_t wzsl) {
    bench.publish([&](TargetSnapshot&, SubsystemSnapshot& subsystem) {
      auto config = std::make_shared<NamespaceConfig>(*subsystem.namespaces.at(1));
      config->nsid = 2;
      config->bdev = large;
      subsystem.namespaces[2] = config;
      subsystem.dmrsl_blocks = dmrsl;
      subsystem.wzsl = wzsl;
    });
  };
  publish(0, 0);
  const auto pair = bench.connect_io();
  const auto zeroes = [&](std::uint32_t blocks) { return bench.run(*pair.io, io_sqe(IoOpcode::write_zeroes, 0, blocks, 2, 4096)).status(); };
  auto limits = bench.identify(*pair.admin, 0x06).page<nvme::NvmController>();
  EXPECT_EQ(limits.wzsl, 0);
  EXPECT_EQ(limits.dmrl, 0);
  EXPECT_EQ(limits.dmrsl, 0U);
  EXPECT_EQ(limits.dmsl, 0U);
  EXPECT_EQ(limits.vsl, verify_size_limit);
  EXPECT_EQ(limits.wusl, write_uncorrectable_size_limit);
  EXPECT_TRUE(zeroes(65536).is_success());
  const std::uint32_t verify_blocks = 1U << verify_size_limit;  // of 4 KiB
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(IoOpcode::verify, 0, verify_blocks, 2, 4096)).status().is_success());
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(IoOpcode::verify, 0, verify_blocks + 1, 2, 4096)).status().same_code(nvme::GenericStatus::invalid_field));

  publish(100, 5);
  limits = bench.identify(*pair.admin, 0x06).page<nvme::NvmController>();
  EXPECT_EQ(limits.wzsl, 5);
  EXPECT_EQ(limits.dmrl, limited_dataset_ranges);
  EXPECT_EQ(limits.dmrsl, 100U);
  EXPECT_EQ(limits.dmsl, 100U * limited_dataset_ranges);
  EXPECT_TRUE(zeroes(32).is_success());
  const nvme::Status refused = zeroes(33);
  EXPECT_TRUE(refused.same_code(nvme::GenericStatus::invalid_field));
  EXPECT_TRUE(refused.dnr);
}

// Proves: command | Dataset Management | NVM 1.0c 3.2.3
TEST(LimitsTest, DatasetManagementProcessesNoMoreThanItsLimits) {
  ControllerBench bench;
  bench.publish([](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.dmrsl_blocks = 3; });
  const auto pair = bench.connect_io();
  std::vector<nvme::DsmRange> ranges(256);
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    ranges[i].slba = i * 8;
    ranges[i].blocks = i % 2 == 0 ? 8U : 2U;
  }
  std::vector<std::byte> bytes(ranges.size() * sizeof(nvme::DsmRange));
  std::memcpy(bytes.data(), ranges.data(), bytes.size());
  nvme::SubmissionEntry sqe = make_sqe(0x09, 1, 4096);
  sqe.cdw10 = 255U;
  sqe.cdw11 = nvme::dsm_deallocate;
  EXPECT_TRUE(bench.run(*pair.io, sqe, bytes).status().is_success());
  ASSERT_EQ(bench.disk->seen.size(), limited_dataset_ranges);
  EXPECT_EQ(bench.disk->seen[0].num_blocks, 3U);
  EXPECT_EQ(bench.disk->seen[1].num_blocks, 2U);
}

// Proves: command | Limits of LBA range and transfer size | NVM 1.0c 4.1.5.1
TEST(SizeTest, UpToTheLastNumberThereIs) {
  for (const std::uint32_t block_size : {512U, 4096U}) {
    for (const std::uint64_t blocks : {~std::uint64_t{0}, std::uint64_t{1} << 63, std::uint64_t{1}}) {
      ControllerBench bench;
      auto endless = std::make_shared<EndlessBdev>(blocks, block_size);
      bench.publish([&](TargetSnapshot&, SubsystemSnapshot& subsystem) {
        auto config = std::make_shared<NamespaceConfig>(*subsystem.namespaces.at(1));
        config->bdev = endless;
        subsystem.namespaces[1] = config;
      });
      const auto pair = bench.connect_io();
      const auto space = bench.identify(*pair.admin, 0x00, 1).page<nvme::IdentifyNamespace>();
      EXPECT_EQ(space.nsze, blocks);
      std::uint64_t low = 0, high = 0;
      std::memcpy(&low, space.nvmcap.data(), 8);
      std::memcpy(&high, space.nvmcap.data() + 8, 8);
      const auto bytes = static_cast<unsigned __int128>(blocks) * block_size;
      EXPECT_EQ(low, static_cast<std::uint64_t>(bytes));
      EXPECT_EQ(high, static_cast<std::uint64_t>(bytes >> 64));
      const std::vector<std::byte> data(std::size_t{block_size} * 2);
      for (const IoOpcode opcode : {IoOpcode::read, IoOpcode::write, IoOpcode::compare, IoOpcode::write_zeroes, IoOpcode::verify}) {
        const auto run = [&](std::uint64_t slba, std::uint32_t count) {
          return bench.run(*pair.io, io_sqe(opcode, slba, count, 1, block_size), data).status();
        };
        EXPECT_TRUE(run(blocks - 1, 1).is_success()) << int(opcode);
        EXPECT_TRUE(run(blocks - 1, 2).same_code(nvme::GenericStatus::lba_out_of_range)) << int(opcode);
        EXPECT_TRUE(run(blocks, 1).same_code(nvme::GenericStatus::lba_out_of_range)) << int(opcode);
        EXPECT_TRUE(run(~std::uint64_t{0}, 2).same_code(nvme::GenericStatus::lba_out_of_range)) << int(opcode);
        if (blocks > 2) {
          EXPECT_TRUE(run(blocks - 2, 2).is_success()) << int(opcode);
        }
      }
      const auto copy = [&](std::uint64_t source, std::uint64_t destination, std::uint32_t count) {
        nvme::CopyRange range;
        range.slba = source;
        range.nlb = static_cast<std::uint16_t>(count - 1);
        std::vector<std::byte> list(sizeof(range));
        std::memcpy(list.data(), &range, sizeof(range));
        nvme::SubmissionEntry sqe = make_sqe(0x19, 1, 32);
        sqe.set_slba(destination);
        return bench.run(*pair.io, sqe, list).status();
      };
      EXPECT_TRUE(copy(blocks - 1, blocks - 1, 2).same_code(nvme::GenericStatus::lba_out_of_range));
      EXPECT_TRUE(copy(blocks - 1, blocks - 1, 1).same_code(nvme::CommandStatus::overlapping_io_range));
      if (blocks > 2) {
        EXPECT_TRUE(copy(blocks - 1, 0, 1).is_success());
        EXPECT_TRUE(copy(0, blocks - 1, 1).is_success());
        EXPECT_TRUE(copy(0, blocks - 1, 2).same_code(nvme::GenericStatus::lba_out_of_range));
      }
    }
  }
}

}  // namespace
}  // namespace catnap::server
