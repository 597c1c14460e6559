// Reservations of two and three hosts over real connections (NVMe Base 2.0, section 8.19), and through the death and the restart of the server.
// Owner: the test, which starts servers of its own. Left out: the rules in all their cases (tests/unit/server), power cuts of the disk
// (ptpl_file_test).
#include "transport/nvme/reservation.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/protocol/client/host.h"
#include "tests/protocol/client/server_process.h"

namespace catnap::protocol {
namespace {

constexpr const char* nqn = "nqn.2026-11.io.catnap:reservation";
constexpr const char* uuid = "6f0c0c0e-0000-4000-8000-000000000001";
using nvme::ReservationType;

class ReservationProtocolTest : public testing::Test {
 protected:
  struct Host {
    Connection admin, io;
  };

  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "reservationXXXXXX").string();
    directory_ = ::mkdtemp(name.data());
    start();
  }
  void TearDown() override {
    if (server_ != nullptr) {
      EXPECT_EQ(server_->stop(), 0) << server_->log();
    }
    std::filesystem::remove_all(directory_);
  }

  std::string file() const { return directory_ + "/ns1"; }
  Result<Json::Value> call(const std::string& method, const std::string& params) { return server_->rpc().call(method, json(params)); }
  void must_call(const std::string& method, const std::string& params) {
    const auto answer = call(method, params);
    ASSERT_TRUE(answer.has_value()) << method << ": " << answer.error().message;
  }
  static std::string subsystem() { return std::string(R"("nqn": ")") + nqn + "\""; }
  std::string add_ns_params() const {
    return "{" + subsystem() + R"(, "namespace": {"bdev_name": "Malloc0", "uuid": ")" + uuid + R"(", "ptpl_file": ")" + file() + R"("}})";
  }

  // A server without the namespace.
  void start_bare() {
    port_ = free_port();
    auto started = ServerProcess::start(CATNAP_SERVER, {"-m", two_cpus()});
    ASSERT_TRUE(started.has_value()) << started.error().message;
    server_ = std::move(*started);
    must_call("nvmf_create_transport", R"({"trtype": "TCP"})");
    must_call("bdev_malloc_create", R"({"name": "Malloc0", "num_blocks": 65536, "block_size": 512})");
    must_call("nvmf_create_subsystem", "{" + subsystem() + R"(, "allow_any_host": true})");
    must_call("nvmf_subsystem_add_listener", "{" + subsystem() +
                                                 R"(, "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" +
                                                 std::to_string(port_) + R"("}})");
  }
  void start() {
    start_bare();
    if (server_ != nullptr) must_call("nvmf_subsystem_add_ns", add_ns_params());
  }
  // As a crash: nothing of the process's memory is left.
  void crash_and_start_bare() {
    ::kill(server_->pid(), SIGKILL);
    server_->stop();
    start_bare();
  }

  Connection open_queue(std::uint8_t hostid, std::uint16_t qid, std::uint16_t cntlid, std::uint16_t* granted = nullptr) {
    auto opened = Connection::open(port_);
    EXPECT_TRUE(opened.has_value());
    if (!opened) return {};
    ConnectParameters parameters{.subnqn = nqn};
    parameters.hostnqn = "nqn.2026-11.io.catnap:host" + std::to_string(hostid);
    parameters.hostid_byte = hostid;
    parameters.qid = qid;
    parameters.cntlid = cntlid;
    const CommandResult connected = connect_queue(*opened, parameters);
    EXPECT_TRUE(connected.ok());
    if (granted != nullptr) *granted = static_cast<std::uint16_t>(std::uint32_t{connected.cqe.dw0} & 0xFFFF);
    return std::move(*opened);
  }
  Host connect_host(std::uint8_t hostid) {
    Host host;
    std::uint16_t cntlid = 0;
    host.admin = open_queue(hostid, 0, nvme::cntlid_dynamic, &cntlid);
    EXPECT_TRUE(enable(host.admin));
    host.io = open_queue(hostid, 1, cntlid);
    return host;
  }

  static nvme::SubmissionEntry reservation(nvme::IoOpcode opcode, std::uint32_t cdw10) {
    nvme::SubmissionEntry sqe;
    sqe.opcode = static_cast<std::uint8_t>(opcode);
    sqe.nsid = 1U;
    sqe.cdw10 = cdw10;
    return sqe;
  }
  static Bytes keys(std::uint64_t first, std::uint64_t second) {
    nvme::RegisterData data;
    data.crkey = first;
    data.nrkey = second;
    return bytes_of(data);
  }
  static CommandResult add(Host& host, std::uint64_t key, nvme::ChangePersist persist = nvme::ChangePersist::keep) {
    return host.io.run(reservation(nvme::IoOpcode::reservation_register, static_cast<std::uint32_t>(persist) << nvme::reservation_cptpl_shift),
                       Payload::in_capsule(keys(0, key)));
  }
  static CommandResult acquire(Host& host, nvme::AcquireAction action, ReservationType type, std::uint64_t key, std::uint64_t victim = 0) {
    const std::uint32_t cdw10 = static_cast<std::uint32_t>(action) | static_cast<std::uint32_t>(type) << nvme::reservation_type_shift;
    return host.io.run(reservation(nvme::IoOpcode::reservation_acquire, cdw10), Payload::in_capsule(keys(key, victim)));
  }
  static CommandResult release(Host& host, ReservationType type, std::uint64_t key) {
    nvme::ReleaseData data;
    data.crkey = key;
    return host.io.run(reservation(nvme::IoOpcode::reservation_release, static_cast<std::uint32_t>(type) << nvme::reservation_type_shift),
                       Payload::in_capsule(bytes_of(data)));
  }
  static nvme::ReservationStatus report(Host& host) {
    auto sqe = reservation(nvme::IoOpcode::reservation_report, 1023);
    sqe.cdw11 = nvme::report_eds;
    const CommandResult result = host.io.run(sqe, Payload::to_host(4096));
    EXPECT_TRUE(result.ok());
    return data_as<nvme::ReservationStatus>(result);
  }

  std::unique_ptr<ServerProcess> server_;
  std::uint16_t port_ = 0;
  std::string directory_;
};

const nvme::Status conflict(nvme::GenericStatus::reservation_conflict);

// Proves: reservation | Acquire | Base 7.2
// Proves: reservation | Release | Base 7.4
TEST_F(ReservationProtocolTest, ThreeHostsShareADisk) {
  Host one = connect_host(1), two = connect_host(2), three = connect_host(3);
  ASSERT_TRUE(add(one, 0x11).ok());
  ASSERT_TRUE(add(two, 0x22).ok());
  ASSERT_TRUE(acquire(one, nvme::AcquireAction::acquire, ReservationType::write_exclusive_registrants, 0x11).ok());
  EXPECT_TRUE(write(one.io, 0, pattern(4096, 1)).ok());
  EXPECT_TRUE(write(two.io, 8, pattern(4096, 2)).ok()) << "a registrant writes";
  EXPECT_TRUE(write(three.io, 16, pattern(4096, 3)).is(conflict));
  EXPECT_TRUE(read(three.io, 0, 4096).ok());
  EXPECT_TRUE(acquire(two, nvme::AcquireAction::acquire, ReservationType::write_exclusive, 0x22).is(conflict));
  EXPECT_EQ(report(three).rtype, 3);
  ASSERT_TRUE(release(one, ReservationType::write_exclusive_registrants, 0x11).ok());
  EXPECT_TRUE(write(three.io, 16, pattern(4096, 3)).ok());
}

// The notification reaches the preempted host, and its writes end in conflict from the moment the preempting host has its answer.
// Proves: reservation | Preempt and Abort | Base 7.2
TEST_F(ReservationProtocolTest, PreemptAndAbortWhileTheOtherWrites) {
  Host victim = connect_host(1), other = connect_host(2);
  ASSERT_TRUE(add(victim, 0x11).ok());
  ASSERT_TRUE(add(other, 0x22).ok());
  ASSERT_TRUE(acquire(victim, nvme::AcquireAction::acquire, ReservationType::write_exclusive, 0x11).ok());
  const std::uint16_t event = victim.admin.submit(admin_command(nvme::AdminOpcode::async_event_request));
  std::atomic<bool> stop{false};
  std::atomic<unsigned> written{0}, refused{0}, strange{0};
  std::thread writer([&] {
    while (!stop.load()) {
      const CommandResult result = write(victim.io, 0, Bytes(8192, std::byte{0xAA}));
      if (result.ok()) {
        ++written;
      } else if (result.is(conflict) || result.is(nvme::GenericStatus::aborted_preempt)) {
        ++refused;
      } else {
        ++strange;
        break;
      }
    }
  });
  while (written.load() < 20 && strange.load() == 0) std::this_thread::yield();
  const CommandResult preempted = acquire(other, nvme::AcquireAction::preempt_and_abort, ReservationType::write_exclusive, 0x22, 0x11);
  // From here on nothing of the victim's can land.
  const bool mine = write(other.io, 0, Bytes(8192, std::byte{0xBB})).ok();
  const unsigned refused_before = refused.load();
  while (refused.load() < refused_before + 5 && strange.load() == 0) std::this_thread::yield();
  const Bytes found = read(other.io, 0, 8192).data;
  stop.store(true);
  writer.join();
  EXPECT_TRUE(preempted.ok());
  EXPECT_TRUE(mine);
  EXPECT_EQ(strange.load(), 0U);
  EXPECT_EQ(found, Bytes(8192, std::byte{0xBB}));
  const CommandResult told = victim.admin.wait(event);
  ASSERT_TRUE(told.ok());
  EXPECT_EQ(std::uint32_t{told.cqe.dw0}, 0x0080'0006U);
  const auto log = data_as<nvme::ReservationLog>(get_log(victim.admin, {.page = nvme::LogPage::reservation, .length_bytes = 64}));
  EXPECT_EQ(log.type, static_cast<std::uint8_t>(nvme::ReservationNotice::registration_preempted));
  EXPECT_EQ(log.nsid, 1U);
}

// Proves: reservation | Persist through power loss | Base 8.19
TEST_F(ReservationProtocolTest, OutlivesTheProcess) {
  {
    Host one = connect_host(1), two = connect_host(2);
    ASSERT_TRUE(add(one, 0x11, nvme::ChangePersist::on).ok());
    ASSERT_TRUE(add(two, 0x22).ok());
    ASSERT_TRUE(acquire(one, nvme::AcquireAction::acquire, ReservationType::exclusive_access, 0x11).ok());
    EXPECT_EQ(report(one).ptpls, 1);
  }
  crash_and_start_bare();
  must_call("nvmf_subsystem_add_ns", add_ns_params());
  Host one = connect_host(1), two = connect_host(2);
  EXPECT_TRUE(read(two.io, 0, 512).is(conflict));
  EXPECT_TRUE(read(one.io, 0, 512).ok());
  const auto state = report(two);
  EXPECT_EQ(state.gen, 2U);
  EXPECT_EQ(state.rtype, 2);
  EXPECT_EQ(state.regctl[0], 2);
  EXPECT_TRUE(acquire(two, nvme::AcquireAction::preempt, ReservationType::write_exclusive, 0x22, 0x11).ok()) << "its registration is there, too";
}

TEST_F(ReservationProtocolTest, DoesNotOutliveItWithoutPersistence) {
  {
    Host one = connect_host(1);
    ASSERT_TRUE(add(one, 0x11, nvme::ChangePersist::on).ok());
    ASSERT_TRUE(acquire(one, nvme::AcquireAction::acquire, ReservationType::exclusive_access, 0x11).ok());
    ASSERT_TRUE(add(one, 0x11, nvme::ChangePersist::off).ok());
  }
  crash_and_start_bare();
  must_call("nvmf_subsystem_add_ns", add_ns_params());
  Host two = connect_host(2);
  EXPECT_TRUE(write(two.io, 0, pattern(512, 1)).ok());
  EXPECT_EQ(report(two).regctl[0], 0);
}

// A namespace whose reservations cannot be known is not served: nothing is dropped without a word.
TEST_F(ReservationProtocolTest, DamagedForeignAndUnwritableFilesAreRefusedByName) {
  {
    Host one = connect_host(1);
    ASSERT_TRUE(add(one, 0x11, nvme::ChangePersist::on).ok());
  }
  must_call("bdev_malloc_create", R"({"name": "Malloc1", "num_blocks": 65536, "block_size": 512})");
  const auto add_with = [&](const std::string& path) {
    return call("nvmf_subsystem_add_ns",
                "{" + subsystem() + R"(, "namespace": {"bdev_name": "Malloc1", "nsid": 2, "ptpl_file": ")" + path + R"("}})");
  };
  const auto refused = [&](const std::string& path, const std::string& why) {
    const auto answer = add_with(path);
    ASSERT_FALSE(answer.has_value()) << path;
    EXPECT_NE(answer.error().message.find(why), std::string::npos) << answer.error().message;
  };
  refused(file(), "namespace 1");  // another namespace's, in use
  std::filesystem::copy_file(file(), directory_ + "/foreign");
  refused(directory_ + "/foreign", uuid);
  std::ofstream(directory_ + "/damaged") << "catnap-reservations 1\nnamespace";
  refused(directory_ + "/damaged", "cut off");
  refused(directory_ + "/missing/ns2", "missing");
  EXPECT_TRUE(std::filesystem::exists(directory_ + "/damaged"));
  const auto added = add_with(directory_ + "/ns2");
  EXPECT_TRUE(added.has_value()) << "the same namespace with a good file";
}

}  // namespace
}  // namespace catnap::protocol
