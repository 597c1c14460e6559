// See reservation_bench.h.
#include "tests/unit/server/reservation_bench.h"

#include <cstring>

namespace catnap::server {

namespace {

template <typename Data>
std::vector<std::byte> bytes_of(const Data& data) {
  std::vector<std::byte> bytes(sizeof(data));
  std::memcpy(bytes.data(), &data, sizeof(data));
  return bytes;
}

nvme::SubmissionEntry reservation_sqe(nvme::IoOpcode opcode, std::uint32_t cdw10, std::uint32_t bytes) {
  nvme::SubmissionEntry sqe = make_sqe(static_cast<std::uint8_t>(opcode), 1, bytes);
  sqe.cdw10 = cdw10;
  return sqe;
}

}  // namespace

void BenchHub::answer(Write write, std::move_only_function<void(Result<void>)> done) {
  if (fail_with != 0) return done(fail(fail_with, "scripted"));
  written.push_back(std::move(write));
  done({});
}

void BenchHub::write_file(std::string path, std::string bytes, std::move_only_function<void(Result<void>)> done) {
  Write write{std::move(path), std::move(bytes)};
  if (hold) {
    held.emplace_back(std::move(write), std::move(done));
    return;
  }
  home().send([this, write = std::move(write), done = std::move(done)]() mutable { answer(std::move(write), std::move(done)); });
}

void BenchHub::finish_writes() {
  auto now = std::exchange(held, {});
  for (auto& [write, done] : now) answer(std::move(write), std::move(done));
}

ReservationBench::ReservationBench(const std::string& file, ReservationState restored) {
  groups.push_back(group.get());
  hub = std::make_unique<BenchHub>(*app, groups, *table, workers);
  publish([&](TargetSnapshot&, SubsystemSnapshot& subsystem) {
    subsystem.allow_any_host = true;
    auto config = std::make_shared<NamespaceConfig>(*subsystem.namespaces.at(1));
    config->ptpl_file = file;
    reservations = std::make_shared<NamespaceReservations>(*hub, NamespaceReservations::Place{test_nqn, 1, config->uuid, file}, std::move(restored));
    config->reservations = reservations;
    subsystem.namespaces[1] = std::move(config);
  });
}

ReservationBench::Host ReservationBench::connect_host(std::uint8_t number) {
  Host host;
  host.id.fill(number);
  ConnectWith with;
  with.hostid = number;
  with.hostnqn = "nqn.2026-11.io.catnap:host" + std::to_string(number);
  host.admin = &connect_admin(with, &host.cntlid);
  with.qid = 1;
  with.cntlid = host.cntlid;
  with.sqsize = 127;
  host.io = &new_queue();
  EXPECT_TRUE(connect(*host.io, with).status().is_success());
  return host;
}

Command& ReservationBench::send_register(const Host& host, nvme::RegisterAction action, std::uint64_t current, std::uint64_t next, bool ignore_key,
                                         nvme::ChangePersist persist) {
  nvme::RegisterData data;
  data.crkey = current;
  data.nrkey = next;
  const std::uint32_t cdw10 = static_cast<std::uint32_t>(action) | (ignore_key ? nvme::reservation_iekey : 0U) |
                              static_cast<std::uint32_t>(persist) << nvme::reservation_cptpl_shift;
  return run(*host.io, reservation_sqe(nvme::IoOpcode::reservation_register, cdw10, sizeof(data)), bytes_of(data));
}

Command& ReservationBench::acquire(const Host& host, nvme::AcquireAction action, nvme::ReservationType type, std::uint64_t current,
                                   std::uint64_t preempted) {
  nvme::AcquireData data;
  data.crkey = current;
  data.prkey = preempted;
  const std::uint32_t cdw10 = static_cast<std::uint32_t>(action) | static_cast<std::uint32_t>(type) << nvme::reservation_type_shift;
  return run(*host.io, reservation_sqe(nvme::IoOpcode::reservation_acquire, cdw10, sizeof(data)), bytes_of(data));
}

Command& ReservationBench::release(const Host& host, nvme::ReleaseAction action, nvme::ReservationType type, std::uint64_t key) {
  nvme::ReleaseData data;
  data.crkey = key;
  const std::uint32_t cdw10 = static_cast<std::uint32_t>(action) | static_cast<std::uint32_t>(type) << nvme::reservation_type_shift;
  return run(*host.io, reservation_sqe(nvme::IoOpcode::reservation_release, cdw10, sizeof(data)), bytes_of(data));
}

Command& ReservationBench::io(const Host& host, nvme::IoOpcode opcode, std::uint64_t slba, std::uint32_t blocks) {
  nvme::SubmissionEntry sqe = io_sqe(opcode, slba, blocks);
  std::vector<std::byte> data(std::size_t{blocks} * 512);
  if (opcode == nvme::IoOpcode::dataset_management) {
    sqe.cdw10 = 0U;
    sqe.cdw11 = 0U;
    sqe.cdw12 = 0U;
    sqe.sgl.length = 16;
  }
  if (opcode == nvme::IoOpcode::copy) {
    sqe.set_slba(slba);
    sqe.cdw12 = 0U;  // one range of one block, from block 8 on
    sqe.sgl.length = 32;
    data.assign(32, std::byte{0});
    data[8] = std::byte{8};
  }
  return run(*host.io, sqe, std::move(data));
}

ReservationBench::Report ReservationBench::report(const Host& host) {
  constexpr std::uint32_t bytes = 64 + 64 * 32;
  nvme::SubmissionEntry sqe = reservation_sqe(nvme::IoOpcode::reservation_report, bytes / 4 - 1, bytes);
  sqe.cdw11 = nvme::report_eds;
  const Command& command = run(*host.io, sqe);
  EXPECT_TRUE(succeeded(command));
  Report report;
  report.head = command.page<nvme::ReservationStatus>();
  const std::size_t count = report.head.regctl[0] | report.head.regctl[1] << 8;
  for (std::size_t i = 0; i < std::min<std::size_t>(count, 32); ++i) {
    nvme::RegisteredController entry;
    std::memcpy(&entry, command.buffer.data() + 64 + i * 64, sizeof(entry));
    report.entries.push_back(entry);
  }
  return report;
}

}  // namespace catnap::server
