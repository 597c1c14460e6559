// I/O commands: what is refused, what reaches the block device, and namespaces that come and go under I/O.
#include <gtest/gtest.h>

#include <cstring>

#include "server/io_queue.h"
#include "tests/unit/server/controller_bench.h"
#include "transport/nvme/dsm.h"

namespace catnap::server {
namespace {

constexpr nvme::Status invalid_field = nvme::GenericStatus::invalid_field;
constexpr nvme::Status invalid_namespace = nvme::GenericStatus::invalid_namespace_or_format;
constexpr nvme::Status out_of_range = nvme::GenericStatus::lba_out_of_range;
using nvme::IoOpcode;

std::vector<std::byte> bytes_of(std::size_t size, std::uint8_t value) { return std::vector<std::byte>(size, std::byte{value}); }

std::vector<std::byte> ranges_of(const std::vector<nvme::DsmRange>& ranges) {
  std::vector<std::byte> bytes(ranges.size() * sizeof(nvme::DsmRange));
  std::memcpy(bytes.data(), ranges.data(), bytes.size());
  return bytes;
}

nvme::DsmRange range(std::uint64_t slba, std::uint32_t blocks) {
  nvme::DsmRange made;
  made.slba = slba;
  made.blocks = blocks;
  return made;
}

nvme::SubmissionEntry dsm_sqe(std::uint32_t ranges, std::uint32_t attributes = nvme::dsm_deallocate) {
  nvme::SubmissionEntry sqe = make_sqe(0x09, 1, ranges * 16);
  sqe.cdw10 = ranges - 1;
  sqe.cdw11 = attributes;
  return sqe;
}

// Proves: command | Read | NVM 1.0c 3.2.4
// Proves: command | Write | NVM 1.0c 3.2.6
// Proves: command | Compare | NVM 1.0c 3.2.1
TEST(IoTest, WritesReadsAndCompares) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(IoOpcode::write, 16, 8), bytes_of(4096, 0xAB)).status().is_success());
  Command& read = bench.run(*pair.io, io_sqe(IoOpcode::read, 16, 8));
  EXPECT_TRUE(read.status().is_success());
  EXPECT_EQ(read.buffer, bytes_of(4096, 0xAB));
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(IoOpcode::compare, 16, 8), bytes_of(4096, 0xAB)).status().is_success());
  Command& differs = bench.run(*pair.io, io_sqe(IoOpcode::compare, 16, 8), bytes_of(4096, 0xAC));
  EXPECT_TRUE(differs.status().same_code(nvme::MediaStatus::compare_failure));
  EXPECT_EQ(bench.group->stats().pending_bdev_io, 0U);
  EXPECT_EQ(bench.group->stats().completed_nvme_io, 4U);
}

struct Refused {
  const char* name;
  std::function<void(nvme::SubmissionEntry&)> spoil;
  nvme::Status status;
};

// Proves: status | Do Not Retry and More | Base 2.0c 3.3.3.2
// Proves: status | Parameter Error Location | Base 2.0c 5.16.1.2
// Proves: log | Error Information | Base 2.0c 5.16.1.2
TEST(IoTest, RefusesWhatNoNamespaceCanDo) {
  const std::vector<Refused> cases = {
      {"nsid 0", [](auto& s) { s.nsid = 0U; }, invalid_namespace},
      {"unknown nsid", [](auto& s) { s.nsid = 2U; }, invalid_namespace},
      {"all nsids", [](auto& s) { s.nsid = 0xFFFFFFFFU; }, invalid_namespace},
      {"behind the end", [](auto& s) { s.set_slba(4096); }, out_of_range},
      {"across the end", [](auto& s) { s.set_slba(4089); }, out_of_range},
      {"wrapping", [](auto& s) { s.set_slba(~std::uint64_t{0}); }, out_of_range},
      {"reserved fuse", [](auto& s) { s.flags |= 3; }, invalid_field},
      {"PRP", [](auto& s) { s.flags = 0; }, invalid_field},
      {"protection information", [](auto& s) { s.cdw12 = s.cdw12 | 1U << 26; }, nvme::CommandStatus::invalid_protection_information},
      {"storage tag", [](auto& s) { s.cdw12 = s.cdw12 | 1U << 24; }, invalid_field},
      {"opcode", [](auto& s) { s.opcode = 0x7E; }, nvme::GenericStatus::invalid_opcode},
      {"high opcode", [](auto& s) { s.opcode = 0x99; }, nvme::GenericStatus::invalid_opcode},
  };
  ControllerBench bench;
  const auto pair = bench.connect_io();
  std::uint64_t logged = 0;
  for (const Refused& bad : cases) {
    for (const IoOpcode opcode : {IoOpcode::read, IoOpcode::write, IoOpcode::compare, IoOpcode::write_zeroes}) {
      nvme::SubmissionEntry sqe = io_sqe(opcode, 0, 8);
      bad.spoil(sqe);
      Command& refused = bench.run(*pair.io, sqe, bytes_of(4096, 1));
      EXPECT_TRUE(refused.status().same_code(bad.status)) << bad.name << " opcode " << static_cast<int>(opcode);
      EXPECT_TRUE(refused.status().dnr) << bad.name;
      ++logged;
    }
  }
  EXPECT_TRUE(bench.disk->seen.empty());
  const auto log = bench.log_page(*pair.admin, 0x01, 4096).page<std::array<nvme::ErrorEntry, 64>>();
  EXPECT_EQ(log[0].error_count, logged);
  EXPECT_EQ(log[0].sqid, 1U);
  EXPECT_EQ(log[47].error_count, 1U);
  EXPECT_EQ(log[47].parameter_location, 4U) << "NSID";
  EXPECT_EQ(log[48].error_count, 0U);
}

// Proves: command | Limits of LBA range and transfer size | Base 2.0c 5.17.2.1
TEST(IoTest, LengthsMustFitTheSglAndTheLimit) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  nvme::SubmissionEntry shorter = io_sqe(IoOpcode::read, 0, 8);
  shorter.sgl.length = 4095U;
  EXPECT_TRUE(bench.run(*pair.io, shorter).status().same_code(nvme::GenericStatus::data_sgl_length_invalid));
  nvme::SubmissionEntry longer = io_sqe(IoOpcode::write, 0, 8);
  longer.sgl.length = 8192U;
  EXPECT_TRUE(bench.run(*pair.io, longer, bytes_of(8192, 0)).status().is_success()) << "SGLS bit 18: the SGL may describe more";
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(IoOpcode::read, 0, 256)).status().is_success()) << "128 KiB, MDTS";
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(IoOpcode::read, 0, 257)).status().same_code(invalid_field));
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(IoOpcode::write_zeroes, 0, 4096)).status().is_success()) << "MDTS is about data";
}

// Proves: command | Force Unit Access | NVM 1.0c 3.2.6
TEST(IoTest, ForceUnitAccessReachesTheDevice) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  nvme::SubmissionEntry write = io_sqe(IoOpcode::write, 0, 1);
  write.cdw12 = write.cdw12 | nvme::cdw12_fua;
  bench.run(*pair.io, write, bytes_of(512, 1));
  ASSERT_EQ(bench.disk->seen.size(), 1U);
  EXPECT_TRUE(bench.disk->seen[0].fua);
  // A FUA read shows only what is durable: the cache is flushed first.
  nvme::SubmissionEntry read = io_sqe(IoOpcode::read, 0, 1);
  read.cdw12 = read.cdw12 | nvme::cdw12_fua;
  Command& done = bench.run(*pair.io, read);
  EXPECT_EQ(done.buffer, bytes_of(512, 1));
  ASSERT_EQ(bench.disk->seen.size(), 3U);
  EXPECT_EQ(bench.disk->seen[1].op, bdev::Op::flush);
  EXPECT_EQ(bench.disk->seen[2].op, bdev::Op::read);
}

// Proves: command | Write Zeroes with Deallocate | NVM 1.0c 3.2.8
TEST(IoTest, WriteZeroesDeallocatesWhenAsked) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  bench.run(*pair.io, io_sqe(IoOpcode::write_zeroes, 5, 3));
  nvme::SubmissionEntry deallocate = io_sqe(IoOpcode::write_zeroes, 5, 3);
  deallocate.cdw12 = deallocate.cdw12 | nvme::cdw12_deac;
  bench.run(*pair.io, deallocate);
  deallocate.cdw12 = deallocate.cdw12 | nvme::cdw12_fua;
  bench.run(*pair.io, deallocate);
  ASSERT_EQ(bench.disk->seen.size(), 3U);
  EXPECT_EQ(bench.disk->seen[0].op, bdev::Op::write_zeroes);
  EXPECT_EQ(bench.disk->seen[1].op, bdev::Op::unmap);
  EXPECT_EQ(bench.disk->seen[2].op, bdev::Op::write_zeroes);
  EXPECT_TRUE(bench.disk->seen[2].fua);
}

// Proves: command | Flush of all namespaces | Base 2.0c 7.1
TEST(IoTest, FlushOfAllNamespacesReachesEachAndTellsFailures) {
  ControllerBench bench;
  auto second = std::make_shared<FakeBdev>(64);
  bench.publish([&](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.namespaces.emplace(4, bench.make_namespace(4, second)); });
  const auto pair = bench.connect_io();
  bench.disk->hold = true;
  Command& flush = bench.run(*pair.io, make_sqe(0x00, 0xFFFFFFFF));
  EXPECT_FALSE(flush.done);
  EXPECT_TRUE(second->seen.empty());
  bench.on(*bench.thread, [&] { bench.disk->release(); });
  EXPECT_TRUE(flush.status().is_success());
  ASSERT_EQ(second->seen.size(), 1U);
  EXPECT_EQ(second->seen[0].op, bdev::Op::flush);
  bench.disk->hold = false;
  second->answer = bdev::Status::write_error;
  EXPECT_TRUE(bench.run(*pair.io, make_sqe(0x00, 0xFFFFFFFF)).status().same_code(nvme::MediaStatus::write_fault));
  EXPECT_TRUE(bench.run(*pair.io, make_sqe(0x00, 1)).status().is_success());
  EXPECT_TRUE(bench.run(*pair.io, make_sqe(0x00, 2)).status().same_code(invalid_namespace));
}

// Proves: command | Dataset Management | NVM 1.0c 3.2.3
TEST(DatasetTest, AllRangesAreUnmappedInOrder) {
  for (const bool hold : {false, true}) {
    ControllerBench bench;
    const auto pair = bench.connect_io();
    bench.disk->hold = hold;
    std::vector<nvme::DsmRange> ranges;
    for (std::uint32_t i = 0; i < 256; ++i) ranges.push_back(range(i * 8, i % 3 == 0 ? 0 : 4));
    Command& command = bench.run(*pair.io, dsm_sqe(256), ranges_of(ranges));
    for (int i = 0; i < 300; ++i) bench.on(*bench.thread, [&] { bench.disk->release(); });
    ASSERT_TRUE(command.done);
    EXPECT_TRUE(command.status().is_success());
    ASSERT_EQ(bench.disk->seen.size(), 170U);
    EXPECT_EQ(bench.disk->seen[0].offset_blocks, 8U);
    EXPECT_EQ(bench.disk->seen[169].offset_blocks, 254U * 8);
    EXPECT_EQ(bench.group->stats().pending_bdev_io, 0U);
  }
}

TEST(DatasetTest, OneRangeBehindTheEndSparesAllOthers) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  Command& command = bench.run(*pair.io, dsm_sqe(3), ranges_of({range(0, 8), range(4090, 7), range(16, 8)}));
  EXPECT_TRUE(command.status().same_code(out_of_range));
  EXPECT_TRUE(bench.disk->seen.empty());
  // Out of range is out of range without the deallocate bit, too.
  EXPECT_TRUE(bench.run(*pair.io, dsm_sqe(1, nvme::dsm_integral_read), ranges_of({range(4096, 1)})).status().same_code(out_of_range));
  EXPECT_TRUE(bench.run(*pair.io, dsm_sqe(1, nvme::dsm_integral_read), ranges_of({range(0, 1)})).status().is_success());
  EXPECT_TRUE(bench.disk->seen.empty());
}

TEST(DatasetTest, AFailedRangeEndsTheCommand) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  bench.disk->answer = bdev::Status::write_error;
  EXPECT_TRUE(bench.run(*pair.io, dsm_sqe(2), ranges_of({range(0, 8), range(8, 8)})).status().same_code(nvme::MediaStatus::write_fault));
  EXPECT_EQ(bench.disk->seen.size(), 1U);
}

TEST(IoTest, LentReadsBringTheirOwnMemory) {
  ControllerBench bench;
  auto lender = std::make_shared<FakeBdev>(64, 512, true);
  bench.publish([&](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.namespaces.emplace(2, bench.make_namespace(2, lender)); });
  const auto pair = bench.connect_io();
  pair.io->may_lend = true;
  Command& lent = bench.run(*pair.io, io_sqe(IoOpcode::read, 3, 2, 2));
  EXPECT_EQ(lent.planned, transport::PlanAction::execute);
  EXPECT_EQ(lent.request.direction, transport::DataDirection::controller_to_host);
  EXPECT_EQ(lent.request.data_length, 1024U);
  EXPECT_EQ(lent.request.lease.base, lender->memory.data() + 3 * 512);
  pair.io->may_lend = false;
  EXPECT_EQ(bench.run(*pair.io, io_sqe(IoOpcode::read, 3, 2, 2)).planned, transport::PlanAction::transfer);
}

TEST(IoTest, ReadsAndWritesAreAnnouncedToTheirBdevWhateverTheySay) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  constexpr std::uint64_t beyond = std::uint64_t{1} << 60;
  transport::CommandSink& sink = pair.io->sink();
  for (const IoOpcode opcode : {IoOpcode::read, IoOpcode::write, IoOpcode::flush}) sink.expect(io_sqe(opcode, 3, 2));
  sink.expect(io_sqe(IoOpcode::read, beyond, 2));
  sink.expect(io_sqe(IoOpcode::read, 3, 2, 77));
  sink.expect(io_sqe(IoOpcode::read, 3, 2, 0xFFFF'FFFF));
  ASSERT_EQ(bench.disk->expected.size(), 3U) << "no flush, no namespace that is not there";
  EXPECT_EQ(bench.disk->expected[0].op, bdev::Op::read);
  EXPECT_EQ(bench.disk->expected[0].offset_blocks, 3U);
  EXPECT_EQ(bench.disk->expected[0].num_blocks, 2U);
  EXPECT_EQ(bench.disk->expected[1].op, bdev::Op::write);
  EXPECT_EQ(bench.disk->expected[2].offset_blocks, beyond);
  EXPECT_TRUE(bench.disk->seen.empty());
}

// Proves: status | Block device errors | Base 2.0c 3.3.3.2.1
TEST(IoTest, EveryDeviceStatusHasItsNvmeStatus) {
  using S = bdev::Status;
  EXPECT_TRUE(nvme_status_of(S::ok).is_success());
  EXPECT_TRUE(nvme_status_of(S::out_of_range).same_code(out_of_range));
  EXPECT_TRUE(nvme_status_of(S::no_space).same_code(nvme::GenericStatus::capacity_exceeded));
  EXPECT_TRUE(nvme_status_of(S::read_error).same_code(nvme::MediaStatus::unrecovered_read_error));
  EXPECT_TRUE(nvme_status_of(S::removed).same_code(nvme::PathStatus::internal_path_error));
  for (const S retry_helps : {S::removed, S::aborted, S::no_memory, S::write_error, S::read_error}) EXPECT_FALSE(nvme_status_of(retry_helps).dnr);
  for (const S final_word : {S::out_of_range, S::not_supported, S::compare_failed, S::no_space, S::invalid})
    EXPECT_TRUE(nvme_status_of(final_word).dnr);
}

// Proves: access | Namespace removal under I/O | Base 2.0c 8.11
TEST(NamespaceTest, ARemovedOneIsHeldUntilItsIoIsDone) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  EXPECT_EQ(bench.disk->channels, 1);
  bench.disk->hold = true;
  Command& read = bench.run(*pair.io, io_sqe(IoOpcode::read, 0, 8));
  // Planned with its data still to come.
  Command write;
  write.request.sqe = io_sqe(IoOpcode::write, 0, 8);
  write.host_bytes = bytes_of(4096, 1);
  bench.on(*bench.thread, [&] { pair.io->plan_only(write); });
  std::weak_ptr<const NamespaceConfig> config = bench.snapshot->find(test_nqn)->namespaces.at(1);
  bench.publish([](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.namespaces.clear(); });
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(IoOpcode::read, 0, 8)).status().same_code(invalid_namespace));
  bench.on(*bench.thread, [&] { pair.io->execute_planned(write); });
  EXPECT_TRUE(write.done && write.status().same_code(invalid_namespace));
  EXPECT_EQ(bench.disk->channels, 1) << "a read is in flight";
  EXPECT_FALSE(config.expired());
  bench.on(*bench.thread, [&] { bench.disk->release(); });
  EXPECT_TRUE(read.done && read.status().is_success());
  bench.settle();
  EXPECT_EQ(bench.disk->channels, 0);
  EXPECT_TRUE(config.expired());
}

TEST(NamespaceTest, AddingOneDoesNotTouchAnothersIo) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  bench.disk->hold = true;
  Command& read = bench.run(*pair.io, io_sqe(IoOpcode::read, 0, 8));
  auto second = std::make_shared<FakeBdev>(64, 4096);
  bench.publish([&](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.namespaces.emplace(7, bench.make_namespace(7, second)); });
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(IoOpcode::write, 0, 2, 7, 4096), bytes_of(8192, 3)).status().is_success());
  EXPECT_FALSE(read.done);
  bench.on(*bench.thread, [&] { bench.disk->release(); });
  EXPECT_TRUE(read.status().is_success());
}

TEST(NamespaceTest, ChannelsGoWithTheLastIoQueue) {
  ControllerBench bench;
  FakeQueue& admin = bench.connect_admin();
  EXPECT_EQ(bench.disk->channels, 0) << "an admin queue needs none";
  bench.close(admin);
  const auto pair = bench.connect_io();
  EXPECT_EQ(bench.disk->channels, 1);
  bench.close(*pair.io);
  bench.settle();
  EXPECT_EQ(bench.disk->channels, 0);
}

TEST(NamespaceTest, AResizeHoldsAtOnce) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(IoOpcode::write_zeroes, 4095, 1)).status().is_success());
  bench.on(*bench.app, [&] { bench.disk->resize(100); });
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(IoOpcode::write_zeroes, 100, 1)).status().same_code(out_of_range));
}

TEST(NamespaceTest, HiddenOnesAnswerLikeNone) {
  ControllerBench bench;
  auto hidden = bench.make_namespace(2, bench.disk);
  hidden->no_auto_visible = true;
  bench.publish([&](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.namespaces[2] = hidden; });
  const auto pair = bench.connect_io();
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(IoOpcode::read, 0, 1, 2)).status().same_code(invalid_namespace));
}

TEST(AnaTest, IoFollowsTheStateOfTheListener) {
  ControllerBench bench;
  bench.publish([](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.ana_reporting = true; });
  const auto pair = bench.connect_io();
  const std::vector<std::pair<AnaState, nvme::Status>> states = {
      {AnaState::non_optimized, {}},
      {AnaState::inaccessible, nvme::PathStatus::ana_inaccessible},
      {AnaState::persistent_loss, nvme::PathStatus::ana_persistent_loss},
      {AnaState::change, nvme::PathStatus::ana_transition},
      {AnaState::optimized, {}},
  };
  for (const auto& [state, status] : states) {
    bench.publish([now = state](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.listeners[0].ana_states[1] = now; });
    Command& read = bench.run(*pair.io, io_sqe(IoOpcode::read, 0, 1));
    EXPECT_TRUE(read.status().same_code(status)) << static_cast<int>(state);
    EXPECT_FALSE(read.status().dnr);
  }
}

TEST(ConnectionLossTest, CommandsInFlightEndQuietly) {
  ControllerBench bench;
  const auto pair = bench.connect_io();
  bench.disk->hold = true;
  Command& read = bench.run(*pair.io, io_sqe(IoOpcode::read, 0, 8));
  Command& unmap = bench.run(*pair.io, dsm_sqe(2), ranges_of({range(0, 8), range(8, 8)}));
  bench.close(*pair.io);
  EXPECT_FALSE(pair.io->closed);
  bench.on(*bench.thread, [&] { bench.disk->release(); });
  bench.on(*bench.thread, [&] { bench.disk->release(); });
  EXPECT_TRUE(read.done && unmap.done);
  EXPECT_TRUE(pair.io->closed);
  bench.settle();
  EXPECT_EQ(bench.disk->channels, 0);
}

}  // namespace
}  // namespace catnap::server
