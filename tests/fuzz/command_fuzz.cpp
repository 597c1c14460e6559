// See command_fuzz.h.
#include "tests/fuzz/command_fuzz.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "reactor/base/check.h"
#include "reactor/base/log.h"

namespace catnap::server {

namespace {

constexpr std::size_t entry_bytes = sizeof(nvme::SubmissionEntry);
constexpr std::size_t data_unit_bytes = 64;

// What a record's data is laid over: a Connect that would succeed.
nvme::ConnectData good_connect() {
  nvme::ConnectData data;
  data.hostid.fill(7);
  data.cntlid = 0xFFFF;
  std::strncpy(data.subnqn.data(), test_nqn, data.subnqn.size() - 1);
  std::strncpy(data.hostnqn.data(), test_host, data.hostnqn.size() - 1);
  return data;
}

}  // namespace

CommandFuzz::CommandFuzz(Kind kind) : kind_(kind) {
  GTEST_FLAG_SET(throw_on_failure, true);  // what the bench expects ends the process here
  log_set_print_level(LogLevel::disabled);
  make_bench();
}

CommandFuzz::~CommandFuzz() = default;

void CommandFuzz::make_bench() {
  bench_.reset();
  commands_.clear();
  bench_ = std::make_unique<ControllerBench>();
  queue_ = admin_ = nullptr;
  inputs_ = 0;
}

void CommandFuzz::make_queue() {
  if (kind_ == Kind::fabrics) {
    queue_ = &bench_->new_queue();
    return;
  }
  const bool alive = queue_ != nullptr && !queue_->disconnected && !queue_->closed && (admin_ == nullptr || !admin_->disconnected);
  if (alive) return;
  for (FakeQueue* old : {queue_, admin_}) {
    if (old != nullptr && !old->closed) bench_->close(*old);
  }
  if (kind_ == Kind::admin) {
    queue_ = &bench_->connect_admin();
    return;
  }
  const ControllerBench::Pair pair = bench_->connect_io();
  queue_ = pair.io;
  admin_ = pair.admin;
}

void CommandFuzz::start(std::uint8_t control, std::span<const std::uint8_t> entry, std::span<const std::uint8_t> data) {
  Command& command = commands_.emplace_back();
  std::memcpy(static_cast<void*>(&command.request.sqe), entry.data(), entry_bytes);
  command.request.sqe.cid = next_cid_++ % 64;
  if (kind_ == Kind::fabrics && queue_->qid == 0xFFFF) command.request.sqe.opcode = static_cast<std::uint8_t>(nvme::AdminOpcode::fabrics);
  bench_->on(*bench_->thread, [&] {
    queue_->plan_only(command);
    if (command.done || command.planned == transport::PlanAction::wait) return;
    // A transport checks this between plan() and execute().
    CATNAP_CHECK(command.request.data_length <= BufferPool::max_size_bytes);
    if (command.request.direction == transport::DataDirection::host_to_controller) {
      command.host_bytes.resize(std::max<std::size_t>(command.request.data_length, sizeof(nvme::ConnectData)));
      if (kind_ == Kind::fabrics) {
        const nvme::ConnectData good = good_connect();
        std::memcpy(command.host_bytes.data(), &good, sizeof good);
      }
      std::memcpy(command.host_bytes.data(), data.data(), std::min(data.size(), command.host_bytes.size()));
    }
    queue_->execute_planned(command);
  });
  if ((control & wait_flag) != 0) bench_->advance_ms(50);
}

// The connection is quiet again: what waits is taken back, so that inputs do not depend on each other more than they must.
void CommandFuzz::settle_all() {
  bench_->on(*bench_->thread, [this] {
    if (queue_->closed) return;
    for (const std::uint16_t cid : queue_->outstanding([](const nvme::SubmissionEntry&) { return true; })) queue_->abort(cid);
  });
  bench_->settle();
  commands_.remove_if([](const Command& command) { return command.done; });
}

void CommandFuzz::run(std::span<const std::uint8_t> input) {
  if (++inputs_ > inputs_a_bench) make_bench();
  make_queue();
  for (std::size_t count = 0; count < max_commands && input.size() > entry_bytes; ++count) {
    const std::uint8_t control = input[0];
    const auto entry = input.subspan(1, entry_bytes);
    input = input.subspan(1 + entry_bytes);
    const auto data = input.first(std::min<std::size_t>((control & 0x7FU) * data_unit_bytes, input.size()));
    input = input.subspan(data.size());
    start(control, entry, data);
    if (queue_->disconnected) break;
  }
  settle_all();
  if (kind_ == Kind::fabrics) {
    bench_->close(*queue_);
    commands_.clear();
  }
}

}  // namespace catnap::server
