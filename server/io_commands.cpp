// The I/O commands (NVM Command Set 1.0 section 3.2): one table of small functions, checked in plan(), carried out in execute(). See io_queue.h; the
// functions stand by family in io_transfers.cpp, io_ranges.cpp, io_flush.cpp, io_dataset.cpp and io_fabrics.cpp.
// Owner: the queue's poll group thread. Left out: protection information.
#include <array>
#include <cstddef>

#include "reactor/base/check.h"
#include "server/command_tables.h"
#include "server/controller.h"
#include "server/io_context.h"
#include "server/io_queue.h"

namespace catnap::server {

using transport::PlanAction;
using transport::Request;

// A table of pointers to private members, hence a friend.
struct IoCommands {
  struct Entry {
    nvme::IoOpcode opcode;
    std::uint32_t effects;
    PlanAction (IoQueue::*plan)(Request& request);
    void (IoQueue::*execute)(Request& request);
  };
  static constexpr Entry table[] = {
      {nvme::IoOpcode::flush, 0, &IoQueue::plan_flush, &IoQueue::execute_flush},
      {nvme::IoOpcode::write, nvme::effect_content_change, &IoQueue::plan_write, &IoQueue::execute_transfer},
      {nvme::IoOpcode::read, 0, &IoQueue::plan_read, &IoQueue::execute_transfer},
      {nvme::IoOpcode::compare, 0, &IoQueue::plan_write, &IoQueue::execute_transfer},
      {nvme::IoOpcode::write_zeroes, nvme::effect_content_change, &IoQueue::plan_write_zeroes, &IoQueue::execute_write_zeroes},
      {nvme::IoOpcode::dataset_management, nvme::effect_content_change, &IoQueue::plan_dataset, &IoQueue::execute_dataset},
      {nvme::IoOpcode::fabrics, 0, &IoQueue::plan_fabrics, &IoQueue::execute_fabrics},
  };
  static constexpr std::size_t opcodes = 0x80;
  // Index in `table` plus one, by opcode.
  static constexpr std::array<std::uint8_t, opcodes> index = [] {
    std::array<std::uint8_t, opcodes> by_opcode{};
    for (std::size_t i = 0; i < std::size(table); ++i) by_opcode[static_cast<std::size_t>(table[i].opcode)] = static_cast<std::uint8_t>(i + 1);
    return by_opcode;
  }();
  static const Entry* find(std::uint8_t opcode) { return opcode < opcodes && index[opcode] != 0 ? &table[index[opcode] - 1] : nullptr; }

  static_assert(sizeof(IoQueue::Context) <= transport::sink_context_bytes);
  static_assert(alignof(IoQueue::Context) <= 16);
};

void fill_io_effects(nvme::EffectsLog& log) {
  for (const IoCommands::Entry& entry : IoCommands::table) {
    const bool is_fabrics = entry.opcode == nvme::IoOpcode::fabrics;
    log.io[static_cast<std::size_t>(entry.opcode)] =
        nvme::effect_supported | entry.effects | (is_fabrics ? effect_scope_controller : effect_scope_namespace);
  }
}

// The one place where a block device's answer becomes an NVMe status.
nvme::Status nvme_status_of(bdev::Status status) {
  switch (status) {
    case bdev::Status::ok:
      return {};
    case bdev::Status::out_of_range:
      return nvme::Status(nvme::GenericStatus::lba_out_of_range).with_dnr();
    case bdev::Status::not_supported:
      return nvme::Status(nvme::GenericStatus::invalid_opcode).with_dnr();
    case bdev::Status::compare_failed:
      return nvme::Status(nvme::MediaStatus::compare_failure).with_dnr();
    case bdev::Status::write_error:
      return nvme::MediaStatus::write_fault;
    case bdev::Status::read_error:
    case bdev::Status::media_error:
      return nvme::MediaStatus::unrecovered_read_error;
    case bdev::Status::no_space:
      return nvme::Status(nvme::GenericStatus::capacity_exceeded).with_dnr();
    // The namespace is about to go: a host with another path tries that one, others find out when they try again.
    case bdev::Status::removed:
      return nvme::PathStatus::internal_path_error;
    case bdev::Status::aborted:
      return nvme::GenericStatus::abort_requested;
    case bdev::Status::invalid:
      return nvme::Status(nvme::GenericStatus::invalid_field).with_dnr();
    case bdev::Status::no_memory:
      return nvme::GenericStatus::internal_error;
  }
  return nvme::GenericStatus::internal_error;
}

PlanAction IoQueue::plan(Request& request) {
  request.cqe = {};
  shared_.note_traffic();
  const IoCommands::Entry* command = IoCommands::find(request.sqe.opcode);
  if (command == nullptr) return refuse(request, refusal(nvme::GenericStatus::invalid_opcode, 0));
  const CommandError error = check_common(request.sqe);
  if (!error.ok()) return refuse(request, error);
  return (this->*command->plan)(request);
}

void IoQueue::execute(Request& request) {
  const IoCommands::Entry* command = IoCommands::find(request.sqe.opcode);
  CATNAP_DCHECK(command != nullptr);
  (this->*command->execute)(request);
}

}  // namespace catnap::server
