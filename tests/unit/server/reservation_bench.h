// The controller bench with reservations: several hosts with queues of their own, and files that are written when the test lets them.
// Owner: the test's OS thread. Left out: real files (ptpl_file_test.cpp).
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "reactor/worker_pool.h"
#include "server/reservations/target_hub.h"
#include "tests/unit/server/controller_bench.h"

namespace catnap::server {

// The target's hub, but for files: these wait in `writes`, or are answered at once.
class BenchHub final : public TargetReservationHub {
 public:
  using TargetReservationHub::TargetReservationHub;
  void write_file(std::string path, std::string bytes, std::move_only_function<void(Result<void>)> done) override;
  // Answers what was held, oldest first.
  void finish_writes();

  struct Write {
    std::string path, bytes;
  };
  std::vector<Write> written;  // those that succeeded
  bool hold = false;
  int fail_with = 0;  // errno
  std::vector<std::pair<Write, std::move_only_function<void(Result<void>)>>> held;

 private:
  void answer(Write write, std::move_only_function<void(Result<void>)> done);
};

class ReservationBench : public ControllerBench {
 public:
  // Namespace 1 has reservations; with `file` they can persist. Any host may connect.
  explicit ReservationBench(const std::string& file = "", ReservationState restored = {});

  struct Host {
    FakeQueue* admin = nullptr;
    FakeQueue* io = nullptr;
    std::uint16_t cntlid = 0;
    HostId id{};
  };
  // HOSTID is 16 times `number`.
  Host connect_host(std::uint8_t number);

  Command& send_register(const Host& host, nvme::RegisterAction action, std::uint64_t current, std::uint64_t next, bool ignore_key = false,
                         nvme::ChangePersist persist = nvme::ChangePersist::keep);
  Command& add(const Host& host, std::uint64_t key) { return send_register(host, nvme::RegisterAction::add, 0, key); }
  Command& acquire(const Host& host, nvme::AcquireAction action, nvme::ReservationType type, std::uint64_t current, std::uint64_t preempted = 0);
  Command& acquire(const Host& host, nvme::ReservationType type, std::uint64_t key) { return acquire(host, nvme::AcquireAction::acquire, type, key); }
  Command& release(const Host& host, nvme::ReleaseAction action, nvme::ReservationType type, std::uint64_t key);
  // Started on the I/O queue; data of a write are zeros.
  Command& io(const Host& host, nvme::IoOpcode opcode, std::uint64_t slba = 0, std::uint32_t blocks = 1);

  struct Report {
    nvme::ReservationStatus head;
    std::vector<nvme::RegisteredController> entries;
  };
  Report report(const Host& host);
  // The next notification, taken out of the log.
  nvme::ReservationLog notice(const Host& host) { return log_page(*host.admin, 0x80, 64).page<nvme::ReservationLog>(); }

  std::vector<ServerGroup*> groups;
  WorkerPool workers{1};
  std::unique_ptr<BenchHub> hub;
  std::shared_ptr<NamespaceReservations> reservations;
};

inline bool is(const Command& command, nvme::Status status) { return command.done && command.status().same_code(status); }
inline bool succeeded(const Command& command) { return is(command, nvme::Status()); }

}  // namespace catnap::server
