// A work bench for controller tests: one group, the controller table and a fake bdev on a reactor that is turned by hand with a virtual clock; queues
// are fakes that speak to the sink as a transport would.
// Owner: the test's OS thread. Left out: sockets, the Target (snapshots are made by the test).
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "bdev/bdev.h"
#include "reactor/clock.h"
#include "reactor/reactor.h"
#include "server/controller_table.h"
#include "server/server_group.h"
#include "transport/nvme/fabrics.h"
#include "transport/nvme/features.h"
#include "transport/nvme/identify.h"
#include "transport/nvme/log_page.h"

namespace catnap::server {

inline constexpr const char* test_nqn = "nqn.2026-11.io.catnap:test";
inline constexpr const char* test_host = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555";

// Memory with switches: answers at once, or holds I/O until release(); gives any status.
class FakeBdev final : public bdev::Bdev {
 public:
  explicit FakeBdev(std::uint64_t blocks, std::uint32_t block_size = 512, bool lends = false);
  bool supports(bdev::Op op) const override { return !unsupported.contains(op); }
  std::string config_json() const override { return "{}"; }
  void resize(std::uint64_t blocks) { set_num_blocks(blocks); }
  void release();      // completes what is held, in order, and what follows from it
  void release_one();  // completes the oldest that is held

  struct Seen {
    bdev::Op op;
    std::uint64_t offset_blocks;
    std::uint64_t num_blocks;
    bool fua;
    std::uint64_t source_blocks = 0;  // copy
  };
  std::vector<std::byte> memory;
  std::vector<Seen> seen;
  std::vector<Seen> expected;  // announced by Channel::expect()
  std::set<bdev::Op> unsupported;
  bool hold = false;
  bdev::Status answer = bdev::Status::ok;
  int channels = 0;
  bool gives_back = true;  // what is held can be aborted
  std::deque<std::pair<bdev::BdevIo*, std::function<void()>>> held;

 protected:
  Result<std::unique_ptr<bdev::Channel>> create_channel(Thread& thread) override;
};

// A request as a transport keeps it, with the bytes the host sent or received.
struct Command {
  transport::Request request;
  std::vector<std::byte> host_bytes;
  std::vector<std::byte> buffer;
  std::optional<transport::PlanAction> planned;
  bool done = false;

  nvme::Status status() const { return nvme::status_of(request.cqe); }
  std::uint32_t dw0() const { return request.cqe.dw0; }
  template <typename Page>
  Page page() const {
    Page out;
    std::memcpy(&out, buffer.data(), std::min(sizeof(out), buffer.size()));
    return out;
  }
};

class FakeQueue final : public transport::CommandQueue {
 public:
  FakeQueue(Thread& thread, transport::CommandSink& sink);
  void complete(transport::Request& request) override;
  void replan(transport::Request& request) override;
  void hold(transport::Request& request) override;
  void resume(transport::Request& request) override;
  Aborted abort_as(std::uint16_t cid, nvme::Status status) override;
  std::vector<std::uint16_t> outstanding(const std::function<bool(const nvme::SubmissionEntry&)>& chosen) const override;
  void disconnect(const std::string& reason) override { disconnected = reason; }
  void set_connected(std::uint16_t new_qid, std::uint16_t new_entries, bool flow_control_disabled) override;
  void set_sink(transport::CommandSink& sink) override { sink_ = &sink; }
  Thread& thread() override { return thread_; }
  bool data_digest() const override { return false; }
  bool header_digest() const override { return false; }
  const Address& local_address() const override { return local; }
  const Address& peer_address() const override { return peer; }

  // What a transport does with a capsule: plan, fetch, execute. The answer may come later (Command::done).
  void start(Command& command);
  // Up to the buffer: the data has not come yet.
  void plan_only(Command& command);
  void execute_planned(Command& command);
  // The connection dies: what waits is abandoned; queue_closed() follows when nothing is in execution.
  void close();
  transport::CommandSink& sink() { return *sink_; }

  Address local{"127.0.0.1", "4420", "IPv4"};
  Address peer{"127.0.0.1", "50000", "IPv4"};
  std::optional<std::string> disconnected;
  std::uint16_t qid = 0xFFFF;
  std::uint16_t entries = 0;
  bool sq_flow_control_disabled = false;
  bool may_lend = false;
  bool closed = false;

 private:
  void answered(Command& command);
  void close_if_idle();
  Thread& thread_;
  transport::CommandSink* sink_;
  std::vector<Command*> waiting_, executing_;
  bool closing_ = false;
};

class ControllerBench {
 public:
  explicit ControllerBench(const tcp::TcpOptions& options = {});
  ~ControllerBench();

  // Turns until nothing is left to do.
  void settle();
  void on(Thread& thread, std::function<void()> call);
  void advance_ms(std::uint64_t ms);

  // Publishes `next` (a copy of what is there, changed by `change`) to the group, then tells the table.
  void publish(const std::function<void(TargetSnapshot&, SubsystemSnapshot&)>& change);
  std::shared_ptr<NamespaceConfig> make_namespace(std::uint32_t nsid, std::shared_ptr<FakeBdev> bdev);

  FakeQueue& new_queue();
  Command& run(FakeQueue& queue, const nvme::SubmissionEntry& sqe, std::vector<std::byte> host_bytes = {});
  struct ConnectWith {
    std::string subnqn = test_nqn;
    std::string hostnqn = test_host;
    std::uint8_t hostid = 7;
    std::uint16_t qid = 0;
    std::uint16_t cntlid = 0xFFFF;
    std::uint16_t sqsize = 31;
    std::uint16_t recfmt = 0;
    std::uint8_t cattr = 0;
    std::uint32_t kato_ms = 0;
    std::function<void(nvme::ConnectData&)> spoil;
  };
  Command& connect(FakeQueue& queue, const ConnectWith& with);
  // A connected, enabled I/O or discovery controller; gives its admin queue.
  FakeQueue& connect_admin(const ConnectWith& with, std::uint16_t* cntlid = nullptr);
  FakeQueue& connect_admin() { return connect_admin(ConnectWith()); }
  // An admin queue with one I/O queue.
  struct Pair {
    FakeQueue* admin;
    FakeQueue* io;
    std::uint16_t cntlid;
  };
  Pair connect_io();
  // A further I/O queue of the pair's controller.
  FakeQueue& connect_another(const Pair& pair, std::uint16_t qid);
  Command& property_get(FakeQueue& queue, nvme::Property property, bool eight_bytes = false);
  Command& property_set(FakeQueue& queue, nvme::Property property, std::uint64_t value);
  Command& identify(FakeQueue& queue, std::uint8_t cns, std::uint32_t nsid = 0, std::uint8_t csi = 0);
  Command& log_page(FakeQueue& queue, std::uint8_t lid, std::uint32_t bytes, bool retain = false, std::uint64_t offset = 0, std::uint32_t nsid = 0);
  Command& set_feature(FakeQueue& queue, nvme::Feature fid, std::uint32_t value);
  Command& get_feature(FakeQueue& queue, nvme::Feature fid, std::uint32_t select = 0);
  Command& async_event(FakeQueue& queue);
  void close(FakeQueue& queue);

  VirtualClock clock;
  Reactor reactor;
  Thread* app = nullptr;
  Thread* thread = nullptr;
  std::unique_ptr<ControllerTable> table;
  std::unique_ptr<ServerGroup> group;
  std::shared_ptr<FakeBdev> disk;
  std::shared_ptr<const TargetSnapshot> snapshot;

 private:
  std::vector<std::unique_ptr<FakeQueue>> queues_;
  std::deque<Command> commands_;
};

nvme::SubmissionEntry make_sqe(std::uint8_t opcode, std::uint32_t nsid = 0, std::uint32_t sgl_bytes = 0);
nvme::SubmissionEntry io_sqe(nvme::IoOpcode opcode, std::uint64_t slba, std::uint32_t blocks, std::uint32_t nsid = 1, std::uint32_t block_size = 512);

inline constexpr std::uint32_t cc_enable = 0x0046'0001;
inline constexpr std::uint32_t cc_disable = 0x0046'0000;
inline constexpr std::uint32_t cc_shutdown = 0x0046'4001;

}  // namespace catnap::server
