// See controller_bench.h.
#include "tests/unit/server/controller_bench.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

namespace catnap::server {

namespace {

bdev::BdevInfo fake_info(std::uint64_t blocks, std::uint32_t block_size, bool lends) {
  bdev::BdevInfo info;
  info.name = "Fake0";
  info.uuid = "00000000-0000-4000-8000-000000000000";
  info.product_name = "Fake disk";
  info.block_size = block_size;
  info.physical_block_size = block_size;
  info.num_blocks = blocks;
  info.write_cache = true;
  info.lends_reads = lends;
  info.native_compare_and_write = info.native_copy = info.native_verify = true;
  return info;
}

class FakeChannel final : public bdev::Channel {
 public:
  FakeChannel(FakeBdev& bdev, Thread& thread) : Channel(bdev, thread), fake_(bdev) { ++fake_.channels; }
  ~FakeChannel() override { --fake_.channels; }

 protected:
  void execute(bdev::BdevIo& io) override {
    fake_.seen.push_back({io.op, io.offset_blocks, io.num_blocks, io.fua, io.op == bdev::Op::copy ? io.source_offset_blocks : 0});
    if (fake_.hold) {
      fake_.held.emplace_back(&io, [this, &io] { answer(io); });
    } else {
      answer(io);
    }
  }

  void expect(bdev::Op op, std::uint64_t offset_blocks, std::uint64_t num_blocks) override {
    fake_.expected.push_back({op, offset_blocks, num_blocks, false});
  }

  bool abort_in_module(bdev::BdevIo& io) override {
    const auto found = std::find_if(fake_.held.begin(), fake_.held.end(), [&io](const auto& each) { return each.first == &io; });
    if (!fake_.gives_back || found == fake_.held.end()) return false;
    fake_.held.erase(found);
    complete(io, bdev::Status::aborted);
    return true;
  }

 private:
  void answer(bdev::BdevIo& io) {
    bdev::Status status = fake_.answer;
    if (status == bdev::Status::ok) status = move_bytes(io);
    complete(io, status);
  }
  bdev::Status move_bytes(bdev::BdevIo& io) {
    const std::size_t at = io.offset_blocks * fake_.block_size();
    const std::size_t size = io.num_blocks * fake_.block_size();
    const auto* first = io.iov_count > 0 ? io.iov : nullptr;
    if (io.op == bdev::Op::compare_and_write) {
      if (std::memcmp(fake_.memory.data() + at, first[0].iov_base, size) != 0) return bdev::Status::compare_failed;
      std::memcpy(fake_.memory.data() + at, first[1].iov_base, size);
    }
    if (io.op == bdev::Op::copy) std::memmove(fake_.memory.data() + at, fake_.memory.data() + io.source_offset_blocks * fake_.block_size(), size);
    if (io.op == bdev::Op::read && io.accepts_lease && io.iov == nullptr) {
      io.lease.base = fake_.memory.data() + at;
      return bdev::Status::ok;
    }
    if (io.op == bdev::Op::read) std::memcpy(io.iov->iov_base, fake_.memory.data() + at, size);
    if (io.op == bdev::Op::write) std::memcpy(fake_.memory.data() + at, io.iov->iov_base, size);
    if (io.op == bdev::Op::write_zeroes || io.op == bdev::Op::unmap) std::memset(fake_.memory.data() + at, 0, size);
    if (io.op == bdev::Op::compare && std::memcmp(fake_.memory.data() + at, io.iov->iov_base, size) != 0) return bdev::Status::compare_failed;
    return bdev::Status::ok;
  }
  FakeBdev& fake_;
};

ReactorOptions reactor_options() {
  ReactorOptions options;
  options.name = "bench";
  options.mode = ReactorMode::interrupt;
  return options;
}

template <std::size_t Size>
void put_text(std::array<char, Size>& field, const std::string& text) {
  std::copy_n(text.begin(), std::min(text.size(), Size), field.begin());
}

}  // namespace

FakeBdev::FakeBdev(std::uint64_t blocks, std::uint32_t block_size, bool lends)
    : Bdev(fake_info(blocks, block_size, lends)), memory(blocks * block_size) {}

Result<std::unique_ptr<bdev::Channel>> FakeBdev::create_channel(Thread& thread) { return std::make_unique<FakeChannel>(*this, thread); }

void FakeBdev::release() {
  while (!held.empty()) release_one();
}

void FakeBdev::release_one() {
  auto next = std::move(held.front().second);
  held.pop_front();
  next();
}

// --- the fake transport ---

FakeQueue::FakeQueue(Thread& thread, transport::CommandSink& sink) : thread_(thread), sink_(&sink) {}

void FakeQueue::set_connected(std::uint16_t new_qid, std::uint16_t new_entries, bool flow_control_disabled) {
  qid = new_qid;
  entries = new_entries;
  sq_flow_control_disabled = flow_control_disabled;
}

namespace {
// The request is the command's first member.
Command& command_of(transport::Request& request) { return reinterpret_cast<Command&>(request); }
}  // namespace

void FakeQueue::answered(Command& command) {
  EXPECT_FALSE(command.done) << "answered twice";
  command.done = true;
}

void FakeQueue::complete(transport::Request& request) {
  std::erase(executing_, &command_of(request));
  answered(command_of(request));
  close_if_idle();
}

void FakeQueue::replan(transport::Request& request) {
  Command& command = command_of(request);
  std::erase(waiting_, &command);
  plan_only(command);
}

void FakeQueue::hold(transport::Request& request) {
  std::erase(executing_, &command_of(request));
  waiting_.push_back(&command_of(request));
}

void FakeQueue::resume(transport::Request& request) {
  std::erase(waiting_, &command_of(request));
  executing_.push_back(&command_of(request));
}

transport::CommandQueue::Aborted FakeQueue::abort_as(std::uint16_t cid, nvme::Status status) {
  for (Command* command : executing_) {
    if (command->request.sqe.cid == cid) return {AbortOutcome::executing, &command->request};
  }
  for (Command* command : waiting_) {
    if (command->request.sqe.cid != cid) continue;
    std::erase(waiting_, command);
    sink_->abandon(command->request);
    nvme::set_status(command->request.cqe, status);
    answered(*command);
    return {AbortOutcome::taken_back, nullptr};
  }
  return {};
}

std::vector<std::uint16_t> FakeQueue::outstanding(const std::function<bool(const nvme::SubmissionEntry&)>& chosen) const {
  std::vector<std::uint16_t> cids;
  for (const auto& list : {waiting_, executing_}) {
    for (const Command* command : list) {
      if (chosen(command->request.sqe)) cids.push_back(command->request.sqe.cid);
    }
  }
  return cids;
}

void FakeQueue::plan_only(Command& command) {
  command.request.queue = this;
  command.request.may_lend = may_lend;
  command.planned = sink_->plan(command.request);
  if (*command.planned == transport::PlanAction::complete) {
    answered(command);
  } else {
    waiting_.push_back(&command);
  }
}

void FakeQueue::execute_planned(Command& command) {
  if (command.planned == transport::PlanAction::transfer) {
    command.buffer.assign(command.request.data_length, std::byte{0xEE});
    if (command.request.direction == transport::DataDirection::host_to_controller) {
      ASSERT_LE(command.request.data_length, command.host_bytes.size());
      std::copy_n(command.host_bytes.begin(), command.request.data_length, command.buffer.begin());
    }
    command.request.data = command.buffer.data();
  }
  std::erase(waiting_, &command);
  executing_.push_back(&command);
  sink_->execute(command.request);
}

void FakeQueue::start(Command& command) {
  plan_only(command);
  if (!command.done && command.planned != transport::PlanAction::wait) execute_planned(command);
}

void FakeQueue::close() {
  closing_ = true;
  const std::vector<Command*> waiting = std::exchange(waiting_, {});
  for (Command* command : waiting) {
    if (!command->done) sink_->abandon(command->request);  // the end of one half of a pair is the end of the other
  }
  close_if_idle();
}

void FakeQueue::close_if_idle() {
  if (!closing_ || closed || !executing_.empty()) return;
  closed = true;
  thread_.send([this] { sink_->queue_closed(*this); });
}

// --- the bench ---

ControllerBench::ControllerBench(const tcp::TcpOptions& options) : reactor(reactor_options(), clock) {
  auto app_thread = std::make_unique<Thread>("app_thread", CpuMask::of_cpu(0));
  auto group_thread = std::make_unique<Thread>("nvmf_tgt_poll_group_000", CpuMask::of_cpu(0));
  app = app_thread.get();
  thread = group_thread.get();
  reactor.adopt(std::move(app_thread));
  reactor.adopt(std::move(group_thread));
  settle();
  table = std::make_unique<ControllerTable>(*app);
  group = std::make_unique<ServerGroup>(*thread, *table);
  group->set_options(options);
  disk = std::make_shared<FakeBdev>(4096);

  auto first = std::make_shared<TargetSnapshot>();
  auto discovery = std::make_shared<SubsystemSnapshot>();
  discovery->nqn = discovery_nqn;
  discovery->discovery = true;
  discovery->allow_any_host = true;
  auto subsystem = std::make_shared<SubsystemSnapshot>();
  subsystem->nqn = test_nqn;
  subsystem->serial_number = "SERIAL";
  subsystem->model_number = "model";
  subsystem->hosts = {test_host};
  subsystem->listeners.push_back({});
  subsystem->listeners.back().address = {"TCP", "IPv4", "127.0.0.1", "4420"};
  subsystem->listeners.back().port_id = 3;
  subsystem->namespaces.emplace(1, make_namespace(1, disk));
  first->generation = 1;
  first->discovery_generation = 1;
  first->subsystems.emplace(discovery_nqn, discovery);
  first->subsystems.emplace(test_nqn, subsystem);
  snapshot = first;
  on(*thread, [this] { group->install(snapshot, {}); });
}

ControllerBench::~ControllerBench() {
  on(*thread, [this] {
    for (const auto& queue : queues_) {
      if (!queue->closed) queue->close();
    }
  });
  bool shut_down = false;
  on(*thread, [this, &shut_down] { group->shut_down([&shut_down] { shut_down = true; }); });
  EXPECT_TRUE(shut_down);
  EXPECT_TRUE(table->empty());
  group.reset();
  table.reset();
  snapshot.reset();
  settle();
}

void ControllerBench::settle() {
  while (reactor.turn(0) > 0) {
  }
}

void ControllerBench::on(Thread& where, std::function<void()> call) {
  where.send(std::move(call));
  settle();
}

void ControllerBench::advance_ms(std::uint64_t ms) {
  clock.advance_us(ms * 1000);
  settle();
}

std::shared_ptr<NamespaceConfig> ControllerBench::make_namespace(std::uint32_t nsid, std::shared_ptr<FakeBdev> bdev) {
  auto config = std::make_shared<NamespaceConfig>();
  config->nsid = nsid;
  config->bdev_name = bdev->name();
  config->bdev = std::move(bdev);
  config->uuid = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, static_cast<std::uint8_t>(nsid)};
  return config;
}

void ControllerBench::publish(const std::function<void(TargetSnapshot&, SubsystemSnapshot&)>& change) {
  const auto old = snapshot;
  auto next = std::make_shared<TargetSnapshot>(*old);
  auto subsystem = std::make_shared<SubsystemSnapshot>(*old->find(test_nqn));
  ++next->generation;
  next->subsystems[test_nqn] = subsystem;
  change(*next, *subsystem);
  snapshot = next;
  on(*thread, [this] { group->install(snapshot, {}); });
  on(*app, [this, old] { table->configuration_changed(old, snapshot); });
}

FakeQueue& ControllerBench::new_queue() {
  queues_.push_back(std::make_unique<FakeQueue>(*thread, *group));
  return *queues_.back();
}

Command& ControllerBench::run(FakeQueue& queue, const nvme::SubmissionEntry& sqe, std::vector<std::byte> host_bytes) {
  Command& command = commands_.emplace_back();
  command.request.sqe = sqe;
  command.request.sqe.cid = static_cast<std::uint16_t>(commands_.size());
  command.host_bytes = std::move(host_bytes);
  on(*thread, [&queue, &command] { queue.start(command); });
  return command;
}

Command& ControllerBench::connect(FakeQueue& queue, const ConnectWith& with) {
  nvme::ConnectCommand sqe;
  sqe.opcode = 0x7F;
  sqe.flags = 0x40;
  sqe.fctype = 1;
  sqe.sgl.length = 1024;
  sqe.sgl.set_type(nvme::SglType::data_block, nvme::SglSubtype::offset);
  sqe.recfmt = with.recfmt;
  sqe.qid = with.qid;
  sqe.sqsize = with.sqsize;
  sqe.cattr = with.cattr;
  sqe.kato = with.kato_ms;
  nvme::ConnectData data;
  data.hostid.fill(with.hostid);
  data.cntlid = with.cntlid;
  put_text(data.subnqn, with.subnqn);
  put_text(data.hostnqn, with.hostnqn);
  if (with.spoil) with.spoil(data);
  std::vector<std::byte> bytes(sizeof(data));
  std::memcpy(bytes.data(), &data, sizeof(data));
  return run(queue, nvme::view_as<nvme::SubmissionEntry>(sqe), std::move(bytes));
}

FakeQueue& ControllerBench::connect_admin(const ConnectWith& with, std::uint16_t* cntlid) {
  FakeQueue& queue = new_queue();
  Command& connected = connect(queue, with);
  EXPECT_TRUE(connected.done && connected.status().is_success());
  if (cntlid != nullptr) *cntlid = static_cast<std::uint16_t>(connected.dw0());
  EXPECT_TRUE(property_set(queue, nvme::Property::cc, cc_enable).status().is_success());
  return queue;
}

ControllerBench::Pair ControllerBench::connect_io() {
  Pair pair{};
  pair.admin = &connect_admin(ConnectWith(), &pair.cntlid);
  ConnectWith with;
  with.qid = 1;
  with.cntlid = pair.cntlid;
  with.sqsize = 127;
  pair.io = &new_queue();
  EXPECT_TRUE(connect(*pair.io, with).status().is_success());
  return pair;
}

FakeQueue& ControllerBench::connect_another(const Pair& pair, std::uint16_t qid) {
  ConnectWith with;
  with.qid = qid;
  with.cntlid = pair.cntlid;
  FakeQueue& queue = new_queue();
  EXPECT_TRUE(connect(queue, with).status().is_success());
  return queue;
}

Command& ControllerBench::property_get(FakeQueue& queue, nvme::Property property, bool eight_bytes) {
  nvme::PropertyCommand sqe;
  sqe.opcode = 0x7F;
  sqe.flags = 0x40;
  sqe.fctype = 4;
  sqe.attrib = eight_bytes ? 1 : 0;
  sqe.offset = static_cast<std::uint32_t>(property);
  return run(queue, nvme::view_as<nvme::SubmissionEntry>(sqe));
}

Command& ControllerBench::property_set(FakeQueue& queue, nvme::Property property, std::uint64_t value) {
  nvme::PropertyCommand sqe;
  sqe.opcode = 0x7F;
  sqe.flags = 0x40;
  sqe.fctype = 0;
  sqe.offset = static_cast<std::uint32_t>(property);
  sqe.value = value;
  return run(queue, nvme::view_as<nvme::SubmissionEntry>(sqe));
}

Command& ControllerBench::identify(FakeQueue& queue, std::uint8_t cns, std::uint32_t nsid, std::uint8_t csi) {
  nvme::SubmissionEntry sqe = make_sqe(0x06, nsid, 4096);
  sqe.cdw10 = std::uint32_t{cns};
  sqe.cdw11 = std::uint32_t{csi} << 24;
  return run(queue, sqe);
}

Command& ControllerBench::log_page(FakeQueue& queue, std::uint8_t lid, std::uint32_t bytes, bool retain, std::uint64_t offset, std::uint32_t nsid) {
  nvme::SubmissionEntry sqe = make_sqe(0x02, nsid, bytes);
  const std::uint32_t numd = bytes / 4 - 1;
  sqe.cdw10 = lid | (retain ? 1U << 15 : 0U) | numd << 16;
  sqe.cdw11 = numd >> 16;
  sqe.cdw12 = static_cast<std::uint32_t>(offset);
  sqe.cdw13 = static_cast<std::uint32_t>(offset >> 32);
  return run(queue, sqe);
}

Command& ControllerBench::set_feature(FakeQueue& queue, nvme::Feature fid, std::uint32_t value) {
  nvme::SubmissionEntry sqe = make_sqe(0x09);
  sqe.cdw10 = static_cast<std::uint32_t>(fid);
  sqe.cdw11 = value;
  return run(queue, sqe);
}

Command& ControllerBench::get_feature(FakeQueue& queue, nvme::Feature fid, std::uint32_t select) {
  nvme::SubmissionEntry sqe = make_sqe(0x0A);
  sqe.cdw10 = static_cast<std::uint32_t>(fid) | select << 8;
  return run(queue, sqe);
}

Command& ControllerBench::async_event(FakeQueue& queue) { return run(queue, make_sqe(0x0C)); }

void ControllerBench::close(FakeQueue& queue) {
  on(*thread, [&queue] { queue.close(); });
}

nvme::SubmissionEntry make_sqe(std::uint8_t opcode, std::uint32_t nsid, std::uint32_t sgl_bytes) {
  nvme::SubmissionEntry sqe;
  sqe.opcode = opcode;
  sqe.set_psdt(nvme::Psdt::sgl);
  sqe.nsid = nsid;
  sqe.sgl.length = sgl_bytes;
  sqe.sgl.set_type(nvme::SglType::transport_data_block, nvme::SglSubtype::transport);
  return sqe;
}

nvme::SubmissionEntry io_sqe(nvme::IoOpcode opcode, std::uint64_t slba, std::uint32_t blocks, std::uint32_t nsid, std::uint32_t block_size) {
  const bool moves = nvme::data_of(static_cast<std::uint8_t>(opcode)) != nvme::OpcodeData::none;
  const bool data = moves && opcode != nvme::IoOpcode::write_zeroes;
  nvme::SubmissionEntry sqe = make_sqe(static_cast<std::uint8_t>(opcode), nsid, data ? blocks * block_size : 0);
  sqe.set_slba(slba);
  sqe.cdw12 = blocks - 1;
  return sqe;
}

}  // namespace catnap::server
