// A random stream of reservation, abort, feature and I/O commands with any field values, from several hosts and controllers at once. The server
// lives, every command is answered once, no answer is an internal error, and what all controllers show of the shared state stays the same. Owner: the
// test, which starts a server of its own. CATNAP_SEED repeats a run (as far as timing allows), CATNAP_SOAK=1 sends a million commands with a seed of
// its own. Left out: wrong PDUs (live_fuzz_test.cpp), the rules of single commands (their own tests).
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <deque>
#include <random>
#include <vector>

#include "tests/protocol/client/host.h"
#include "tests/protocol/client/server_process.h"
#include "transport/nvme/copy.h"
#include "transport/nvme/reservation.h"

namespace catnap::protocol {
namespace {

constexpr const char* nqn = "nqn.2026-11.io.catnap:random";
constexpr std::uint64_t ci_commands = 20'000;
constexpr std::uint64_t soak_commands = 1'000'000;
constexpr std::uint64_t commands_between_checks = 2'000;
constexpr std::size_t queue_depth = 8;
constexpr std::size_t io_queues_per_controller = 2;
constexpr std::size_t controllers = 4;
constexpr std::size_t most_event_requests = 3;
constexpr std::uint32_t in_capsule_bytes = 4096;
constexpr std::uint32_t small_block_lbas = 64;  // where commands meet

// HOSTIDs: the first two controllers are the same host's.
constexpr std::array<std::uint8_t, controllers> host_ids = {0x11, 0x11, 0x22, 0x33};

struct Queue {
  Connection connection;
  struct Sent {
    std::uint16_t cid;
    nvme::SubmissionEntry sqe;
  };
  std::deque<Sent> outstanding;
  bool dangling_first = false;  // the command sent last is a first half whose second has not been sent
};

struct Controller {
  Queue admin;
  std::array<Queue, io_queues_per_controller> io;
  std::deque<std::uint16_t> event_requests;
};

class RandomCommandsTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* seed = std::getenv("CATNAP_SEED");
    const bool soak = std::getenv("CATNAP_SOAK") != nullptr;
    seed_ = seed != nullptr ? std::strtoull(seed, nullptr, 0) : soak ? std::random_device{}() : 1;
    commands_ = soak ? soak_commands : ci_commands;
    random_.seed(seed_);
    port_ = free_port();
    auto started = ServerProcess::start(CATNAP_SERVER, {"-m", two_cpus()});
    ASSERT_TRUE(started.has_value()) << started.error().message;
    server_ = std::move(*started);
    configure();
  }
  void TearDown() override {
    for (Controller& each : hosts_) each = {};
    if (server_ == nullptr) return;
    EXPECT_TRUE(server_->is_running()) << "the server died; CATNAP_SEED=" << seed_;
    EXPECT_EQ(server_->stop(), 0);
    if (HasFailure()) printf("---- CATNAP_SEED=%llu, server log ----\n%s\n", static_cast<unsigned long long>(seed_), server_->log().c_str());
  }

  void call(const std::string& method, const std::string& params) {
    const auto answer = server_->rpc().call(method, json(params));
    ASSERT_TRUE(answer.has_value()) << method << ": " << answer.error().message;
  }
  void configure() {
    const std::string subsystem = std::string(R"({"nqn": ")") + nqn + "\"";
    call("nvmf_create_transport", R"({"trtype": "TCP", "in_capsule_data_size": 4096})");
    call("bdev_malloc_create", R"({"name": "Malloc0", "num_blocks": 65536, "block_size": 512})");
    call("bdev_malloc_create", R"({"name": "Malloc1", "num_blocks": 8192, "block_size": 4096})");
    call("bdev_null_create", R"({"name": "Null0", "num_blocks": 1099511627776, "block_size": 512})");
    call("nvmf_create_subsystem", subsystem + R"(, "allow_any_host": true, "ana_reporting": true, "dmrsl": 4096})");
    for (const char* bdev : {"Malloc0", "Malloc1", "Null0"}) {
      call("nvmf_subsystem_add_ns", subsystem + R"(, "namespace": {"bdev_name": ")" + bdev + R"("}})");
    }
    call("nvmf_subsystem_add_listener", subsystem + R"(, "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" +
                                            std::to_string(port_) + R"("}})");
  }

  void open(Controller& host, std::uint8_t host_id) {
    ConnectParameters parameters{.subnqn = nqn};
    parameters.hostnqn = "nqn.2026-11.io.catnap:host-" + std::to_string(host_id);
    parameters.hostid_byte = host_id;
    auto admin = Connection::open(port_);
    ASSERT_TRUE(admin.has_value()) << admin.error().message;
    host.admin.connection = std::move(*admin);
    const CommandResult connected = connect_queue(host.admin.connection, parameters);
    ASSERT_TRUE(connected.ok()) << connected.note;
    ASSERT_TRUE(enable(host.admin.connection));
    parameters.cntlid = static_cast<std::uint16_t>(std::uint32_t{connected.cqe.dw0});
    for (Queue& queue : host.io) {
      ++parameters.qid;
      auto io = Connection::open(port_);
      ASSERT_TRUE(io.has_value()) << io.error().message;
      queue.connection = std::move(*io);
      ASSERT_TRUE(connect_queue(queue.connection, parameters).ok());
    }
  }

  // --- chance ---

  std::uint64_t any() { return random_(); }
  std::uint64_t below(std::uint64_t bound) { return random_() % bound; }
  bool once_in(std::uint64_t n) { return below(n) == 0; }
  template <typename T, std::size_t Size>
  T one_of(const std::array<T, Size>& choices) {
    return choices[below(Size)];
  }

  // What a field holds: mostly something that means something.
  std::uint32_t nsid() {
    if (once_in(10)) return static_cast<std::uint32_t>(any());
    constexpr std::array<std::uint32_t, 6> choices = {1, 1, 2, 3, 0, nvme::broadcast_nsid};
    return one_of(choices);
  }
  std::uint64_t lba() {
    switch (below(12)) {
      case 0:
        return any();
      case 1:
        return 65536 - below(4);
      case 2:
        return ~std::uint64_t{0} - below(4);
      default:
        return below(small_block_lbas);
    }
  }
  std::uint32_t block_count() { return once_in(15) ? static_cast<std::uint32_t>(below(65536)) + 1 : static_cast<std::uint32_t>(below(8)) + 1; }
  std::uint64_t key() { return once_in(10) ? any() : below(4); }

  Bytes random_bytes(std::size_t size) {
    Bytes bytes(size);
    for (std::size_t i = 0; i < size; i += 8) {
      const std::uint64_t value = any();
      std::memcpy(bytes.data() + i, &value, std::min<std::size_t>(8, size - i));
    }
    return bytes;
  }
  Payload to_controller(Bytes bytes) {
    if (once_in(50)) bytes.resize(bytes.size() / 2);
    if (bytes.empty()) return Payload::none();
    return bytes.size() <= in_capsule_bytes && !once_in(3) ? Payload::in_capsule(std::move(bytes)) : Payload::by_r2t(std::move(bytes));
  }
  Payload to_host(std::uint32_t bytes) { return Payload::to_host(once_in(50) ? bytes / 2 / 4 * 4 : bytes); }

  // Any bits in the dwords of the command; data goes the way the opcode says.
  void spoil(nvme::SubmissionEntry& sqe) {
    for (le32* dword : {&sqe.cdw10, &sqe.cdw11, &sqe.cdw12, &sqe.cdw13, &sqe.cdw14, &sqe.cdw15}) {
      if (once_in(2)) *dword = static_cast<std::uint32_t>(any());
    }
  }

  // --- admin commands ---

  void send_admin(Controller& host) {
    Queue& queue = host.admin;
    switch (below(8)) {
      case 0:
      case 1:
        return send_feature(host, once_in(2));
      case 2:
      case 3:
        return send_abort(host);
      case 4: {
        auto sqe = admin_command(nvme::AdminOpcode::get_log_page, once_in(2) ? nvme::broadcast_nsid : nsid());
        constexpr std::array<std::uint32_t, 10> pages = {0, 1, 2, 3, 4, 5, 0x0C, 0x12, 0x70, 0x80};
        const std::uint32_t bytes = static_cast<std::uint32_t>(below(1024)) * 4 + 4;
        sqe.cdw10 = one_of(pages) | static_cast<std::uint32_t>(below(256)) << 8 | (bytes / 4 - 1) << 16;
        if (once_in(3)) sqe.cdw12 = static_cast<std::uint32_t>(below(2048)) * 4;
        if (once_in(20)) spoil(sqe);
        return send(queue, sqe, to_host(bytes));
      }
      case 5: {
        auto sqe = admin_command(nvme::AdminOpcode::identify, nsid());
        sqe.cdw10 = static_cast<std::uint32_t>(below(0x20)) | (once_in(2) ? static_cast<std::uint32_t>(below(8)) << 16 : 0U);
        if (once_in(10)) spoil(sqe);
        return send(queue, sqe, to_host(4096));
      }
      case 6:
        return send_event_request(host);
      default: {
        auto sqe = admin_command(once_in(2) ? nvme::AdminOpcode::keep_alive : static_cast<nvme::AdminOpcode>(0x80 + below(0x80)), nsid());
        spoil(sqe);
        return send(queue, sqe, Payload::none());
      }
    }
  }

  void send_feature(Controller& host, bool set) {
    auto sqe = admin_command(set ? nvme::AdminOpcode::set_features : nvme::AdminOpcode::get_features, once_in(3) ? nsid() : 0);
    constexpr std::array<std::uint32_t, 14> features = {0x01, 0x02, 0x04, 0x05, 0x06, 0x07, 0x0A, 0x0B, 0x0F, 0x16, 0x81, 0x82, 0x83, 0x82};
    const std::uint32_t fid = once_in(20) ? static_cast<std::uint32_t>(below(256)) : one_of(features);
    if (fid == 0x82 || fid == 0x83) sqe.nsid = once_in(4) ? nsid() : 1U;
    sqe.cdw10 = fid | (set ? (once_in(20) ? nvme::set_features_save : 0U) : static_cast<std::uint32_t>(below(8)) << 8);
    sqe.cdw11 = once_in(3) ? static_cast<std::uint32_t>(any()) : static_cast<std::uint32_t>(below(16));
    if (fid == 0x81 && !once_in(4)) sqe.cdw11 = 1U;
    if (once_in(20)) spoil(sqe);
    Payload payload = Payload::none();
    if (fid == 0x16) {
      Bytes behavior(512);
      behavior[0] = static_cast<std::byte>(below(3));
      payload = set ? to_controller(std::move(behavior)) : to_host(512);
    } else if (fid == 0x81 && !set) {
      payload = to_host(16);
    }
    send(host.admin, sqe, std::move(payload));
  }

  void send_abort(Controller& host) {
    auto sqe = admin_command(nvme::AdminOpcode::abort);
    const auto sqid = static_cast<std::uint32_t>(once_in(20) ? any() & 0xFFFF : below(io_queues_per_controller + 1));
    const Queue* queue = sqid == 0 ? &host.admin : sqid <= host.io.size() ? &host.io[sqid - 1] : nullptr;
    auto cid = static_cast<std::uint32_t>(any() & 0xFFFF);
    if (queue != nullptr && !queue->outstanding.empty() && !once_in(5)) cid = queue->outstanding[below(queue->outstanding.size())].cid;
    sqe.cdw10 = sqid | cid << 16;
    send(host.admin, sqe, Payload::none());
  }

  // They wait for events, so they are kept apart; of too many one is aborted, and must end then.
  void send_event_request(Controller& host) {
    if (host.event_requests.size() < most_event_requests) {
      host.event_requests.push_back(host.admin.connection.submit(admin_command(nvme::AdminOpcode::async_event_request)));
      ++sent_;
      return;
    }
    end_event_request(host);
  }
  void end_event_request(Controller& host) {
    // Of Aborts there are only so many at a time, and this one must be taken.
    while (!host.admin.outstanding.empty() && !HasFatalFailure()) finish_oldest(host.admin);
    auto sqe = admin_command(nvme::AdminOpcode::abort);
    sqe.cdw10 = std::uint32_t{host.event_requests.front()} << 16;
    const CommandResult abort = host.admin.connection.run(sqe);
    check(abort, sqe);
    EXPECT_TRUE(abort.ok());
    const CommandResult event = host.admin.connection.wait(host.event_requests.front());
    host.event_requests.pop_front();
    check(event, admin_command(nvme::AdminOpcode::async_event_request));
    ++sent_;
  }

  // --- I/O commands ---

  void send_io(Queue& queue) {
    switch (below(14)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return send_reservation(queue);
      case 4:
        return send_copy(queue);
      case 5:
      case 6:
        return send_pair(queue);
      case 7: {
        auto sqe = io_command(nvme::IoOpcode::dataset_management, 0, 1, nsid());
        const std::size_t ranges = once_in(10) ? 256 : below(4) + 1;
        std::vector<nvme::DsmRange> list(ranges);
        for (auto& range : list) {
          range.slba = lba();
          range.blocks = block_count();
        }
        sqe.cdw10 = static_cast<std::uint32_t>(ranges - 1);
        sqe.cdw11 = static_cast<std::uint32_t>(below(8));
        sqe.cdw12 = 0U;
        const auto view = std::as_bytes(std::span(list));
        return send(queue, sqe, to_controller(Bytes(view.begin(), view.end())));
      }
      case 8: {
        auto sqe = io_command(static_cast<nvme::IoOpcode>(below(0x80)), lba(), block_count(), nsid());
        if (sqe.opcode == 0x7F) sqe.opcode = 0x7E;  // Disconnect would end the queue
        spoil(sqe);
        const auto way = nvme::data_of(sqe.opcode);
        if (way == nvme::OpcodeData::host_to_controller) return send(queue, sqe, to_controller(random_bytes(512 * (below(8) + 1))));
        return send(queue, sqe, way == nvme::OpcodeData::none ? Payload::none() : to_host(4096));
      }
      default:
        return send_transfer(queue);
    }
  }

  void send_transfer(Queue& queue) {
    constexpr std::array opcodes = {
        nvme::IoOpcode::read,         nvme::IoOpcode::write,  nvme::IoOpcode::compare, nvme::IoOpcode::write_uncorrectable,
        nvme::IoOpcode::write_zeroes, nvme::IoOpcode::verify, nvme::IoOpcode::flush};
    const auto opcode = one_of(opcodes);
    const std::uint32_t space = nsid();
    const std::uint32_t block = space == 2 ? 4096 : 512;
    const auto blocks = static_cast<std::uint32_t>(below(8) + 1);
    const bool moves = opcode == nvme::IoOpcode::read || opcode == nvme::IoOpcode::write || opcode == nvme::IoOpcode::compare;
    auto sqe = io_command(opcode, lba(), moves ? blocks : block_count(), space);
    if (once_in(8)) sqe.cdw12 = sqe.cdw12 | static_cast<std::uint32_t>(any() & 0xFF00'0000);
    if (opcode == nvme::IoOpcode::read) return send(queue, sqe, to_host(blocks * block));
    if (moves) return send(queue, sqe, to_controller(random_bytes(std::size_t{blocks} * block)));
    send(queue, sqe, Payload::none());
  }

  void send_reservation(Queue& queue) {
    constexpr std::array opcodes = {nvme::IoOpcode::reservation_register, nvme::IoOpcode::reservation_acquire, nvme::IoOpcode::reservation_release,
                                    nvme::IoOpcode::reservation_report};
    auto sqe = io_command(one_of(opcodes), 0, 1, nsid());
    sqe.cdw11 = sqe.cdw12 = 0U;
    if (sqe.opcode == static_cast<std::uint8_t>(nvme::IoOpcode::reservation_report)) {
      const std::uint32_t bytes = static_cast<std::uint32_t>(below(128) + 1) * 4;
      sqe.cdw10 = bytes / 4 - 1;
      sqe.cdw11 = static_cast<std::uint32_t>(below(3));
      return send(queue, sqe, to_host(bytes));
    }
    sqe.cdw10 = static_cast<std::uint32_t>(below(4) | below(2) << 3 | below(8) << 8 | below(4) << 30);
    if (once_in(10)) spoil(sqe);
    Bytes data(16);
    for (std::size_t at : {std::size_t{0}, std::size_t{8}}) {
      const std::uint64_t value = key();
      std::memcpy(data.data() + at, &value, 8);
    }
    if (sqe.opcode == static_cast<std::uint8_t>(nvme::IoOpcode::reservation_release)) data.resize(8);
    send(queue, sqe, to_controller(std::move(data)));
  }

  void send_copy(Queue& queue) {
    const std::size_t ranges = once_in(10) ? below(256) + 1 : below(4) + 1;
    std::vector<nvme::CopyRange> list(ranges);
    for (auto& range : list) {
      range.slba = lba();
      range.nlb = static_cast<std::uint16_t>(once_in(10) ? any() : below(8));
    }
    auto sqe = io_command(nvme::IoOpcode::copy, once_in(4) ? lba() : 256 + below(256), 1, nsid());
    sqe.cdw12 = static_cast<std::uint32_t>(ranges - 1) | (once_in(10) ? static_cast<std::uint32_t>(any() & 0xFFFF'FF00) : 0U);
    const auto view = std::as_bytes(std::span(list));
    send(queue, sqe, to_controller(Bytes(view.begin(), view.end())));
  }

  // Compare and Write, or one half of it, or two that do not fit.
  void send_pair(Queue& queue) {
    const std::uint32_t space = nsid();
    const std::uint32_t block = space == 2 ? 4096 : 512;
    const auto blocks = static_cast<std::uint32_t>(below(4) + 1);
    auto first = io_command(nvme::IoOpcode::compare, lba(), blocks, space);
    auto second = io_command(nvme::IoOpcode::write, first.slba(), blocks, space);
    first.flags = static_cast<std::uint8_t>(nvme::Fuse::first);
    second.flags = static_cast<std::uint8_t>(nvme::Fuse::second);
    if (once_in(10)) second.set_slba(lba());
    if (once_in(20)) first.opcode = static_cast<std::uint8_t>(below(0x20));
    const std::size_t bytes = std::size_t{blocks} * block;
    if (!once_in(10)) {
      const auto way = nvme::data_of(first.opcode);
      send(queue, first,
           way == nvme::OpcodeData::none                 ? Payload::none()
           : way == nvme::OpcodeData::host_to_controller ? to_controller(Bytes(bytes))
                                                         : to_host(4096));
      queue.dangling_first = true;
    }
    if (once_in(10)) return;
    queue.dangling_first = false;
    send(queue, second, to_controller(random_bytes(bytes)), true);
  }

  // --- sending and waiting ---

  void send(Queue& queue, const nvme::SubmissionEntry& sqe, Payload payload, bool follows = false) {
    if (!follows) {
      while (queue.outstanding.size() >= queue_depth && !HasFatalFailure()) finish_oldest(queue);
    }
    const std::uint16_t cid = queue.connection.submit(sqe, std::move(payload));
    queue.outstanding.push_back({cid, sqe});
    if (!follows) queue.dangling_first = false;
    ++sent_;
  }
  void finish_oldest(Queue& queue) {
    if (queue.dangling_first) {  // a first half is answered when something follows it
      queue.dangling_first = false;
      const auto flush = io_command(nvme::IoOpcode::flush, 0, 1);
      queue.outstanding.push_back({queue.connection.submit(flush), flush});
      ++sent_;
    }
    const Queue::Sent oldest = queue.outstanding.front();
    queue.outstanding.pop_front();
    check(queue.connection.wait(oldest.cid), oldest.sqe);
  }
  void check(const CommandResult& result, const nvme::SubmissionEntry& sqe) {
    ++answered_;
    if (result.outcome != Outcome::pdu) ++broken_;
    ASSERT_EQ(result.outcome, Outcome::pdu) << result.note << "; opcode " << int(sqe.opcode) << " flags " << int(sqe.flags) << " nsid " << std::hex
                                            << std::uint32_t{sqe.nsid} << " cdw10 " << std::uint32_t{sqe.cdw10} << " cdw11 "
                                            << std::uint32_t{sqe.cdw11} << " cdw12 " << std::uint32_t{sqe.cdw12} << std::dec
                                            << "; CATNAP_SEED=" << seed_ << " after " << sent_ << " commands";
    EXPECT_FALSE(result.is(nvme::GenericStatus::internal_error)) << "opcode " << int(sqe.opcode);
    EXPECT_NE(result.status.sct, nvme::StatusCodeType::vendor);
    if (!result.ok()) ++refused_;
  }
  void drain() {
    for (Controller& host : hosts_) {
      while (!host.admin.outstanding.empty() && !HasFatalFailure()) finish_oldest(host.admin);
      for (Queue& queue : host.io) {
        while (!queue.outstanding.empty() && !HasFatalFailure()) finish_oldest(queue);
      }
    }
  }

  // --- what must hold in between ---

  void check_consistency() {
    drain();
    if (HasFatalFailure()) return;
    for (std::uint32_t space = 1; space <= 3; ++space) {
      Bytes first;
      for (Controller& host : hosts_) {
        auto sqe = io_command(nvme::IoOpcode::reservation_report, 0, 1, space);
        sqe.cdw10 = 4096 / 4 - 1;
        sqe.cdw11 = nvme::report_eds;
        sqe.cdw12 = 0U;
        const CommandResult report = host.io[0].connection.run(sqe, Payload::to_host(4096));
        ASSERT_TRUE(report.ok()) << report.note;
        if (first.empty()) first = report.data;
        EXPECT_EQ(report.data, first) << "controllers disagree about namespace " << space;
        const auto status = data_as<nvme::ReservationStatus>(report);
        const unsigned registrants = status.regctl[0] | status.regctl[1] << 8;
        EXPECT_LE(registrants, 3U) << "there are three hosts";
        EXPECT_TRUE(status.rtype == 0 || registrants > 0) << "a reservation without registrants";
      }
    }
    for (Controller& host : hosts_) {
      const auto value = static_cast<std::uint32_t>(any());
      ASSERT_TRUE(set_feature(host.admin.connection, nvme::Feature::arbitration, value).ok());
      const CommandResult back = get_feature(host.admin.connection, nvme::Feature::arbitration);
      ASSERT_TRUE(back.ok());
      EXPECT_EQ(std::uint32_t{back.cqe.dw0}, value);
      EXPECT_TRUE(property_get(host.admin.connection, nvme::Property::csts, nvme::PropertySize::four_bytes).ok());
    }
  }

  std::uint64_t seed_ = 1;
  std::uint64_t commands_ = ci_commands;
  std::uint64_t sent_ = 0, answered_ = 0, refused_ = 0, broken_ = 0;
  std::mt19937_64 random_;
  std::uint16_t port_ = 0;
  std::unique_ptr<ServerProcess> server_;
  std::array<Controller, controllers> hosts_;
};

TEST_F(RandomCommandsTest, AnyFieldsFromSeveralControllers) {
  for (std::size_t i = 0; i < hosts_.size(); ++i) ASSERT_NO_FATAL_FAILURE(open(hosts_[i], host_ids[i]));
  std::uint64_t next_check = commands_between_checks;
  while (sent_ < commands_) {
    Controller& host = hosts_[below(hosts_.size())];
    if (once_in(3)) {
      ASSERT_NO_FATAL_FAILURE(send_admin(host));
    } else {
      ASSERT_NO_FATAL_FAILURE(send_io(host.io[below(host.io.size())]));
    }
    if (sent_ < next_check) continue;
    next_check = sent_ + commands_between_checks;
    ASSERT_NO_FATAL_FAILURE(check_consistency());
  }
  ASSERT_NO_FATAL_FAILURE(check_consistency());
  for (Controller& host : hosts_) {
    while (!host.event_requests.empty()) ASSERT_NO_FATAL_FAILURE(end_event_request(host));
  }
  EXPECT_EQ(broken_, 0U);
  // The server takes new hosts as before.
  Controller fresh;
  ASSERT_NO_FATAL_FAILURE(open(fresh, 0x44));
  EXPECT_TRUE(identify(fresh.admin.connection, nvme::Cns::controller).ok());
  printf("%llu commands, seed %llu: %llu answered, %llu of them with an error\n", static_cast<unsigned long long>(sent_),
         static_cast<unsigned long long>(seed_), static_cast<unsigned long long>(answered_), static_cast<unsigned long long>(refused_));
}

}  // namespace
}  // namespace catnap::protocol
