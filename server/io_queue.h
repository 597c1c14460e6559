// One connected I/O queue: validates I/O commands wholly in plan(), carries them out on the group's bdev channels. No lock, no allocation and no
// look-up but an array index on the way of an I/O. Owner: the queue's poll group thread. Left out: the channels (server_group.h), admin commands
// (controller.h).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "server/command_error.h"
#include "server/controller_shared.h"
#include "server/server_group.h"
#include "transport/nvme/command.h"

namespace catnap::server {

class Controller;

// Which status a block device's answer becomes, for all commands.
nvme::Status nvme_status_of(bdev::Status status);

class IoQueue final : public ServedQueue {
 public:
  IoQueue(ServerGroup& group, std::uint64_t queue_id, HostIdentity host, std::shared_ptr<Controller> controller, std::uint16_t qid);
  ~IoQueue() override;

  transport::PlanAction plan(transport::Request& request) override;
  void execute(transport::Request& request) override;
  void abandon(transport::Request&) override {}  // plan() holds nothing
  void queue_closed(transport::CommandQueue& queue) override;
  std::uint16_t qid() const override { return qid_; }
  void configuration_installed() override;

 private:
  friend struct IoCommands;  // the table of I/O commands (io_commands.cpp)

  // A namespace as this host sees it through this connection.
  struct View {
    NamespaceSlot* slot = nullptr;  // null: not active, or hidden from this host
    AnaState ana_state = AnaState::optimized;
  };
  struct Context;
  using Step = void (IoQueue::*)(transport::Request& request, Context& context);

  // Answers to plan().
  transport::PlanAction refuse(transport::Request& request, CommandError error);
  transport::PlanAction transfer(transport::Request& request, transport::DataDirection direction, std::uint64_t length_bytes);
  void finish(transport::Request& request, CommandError error);
  void record_error(const transport::Request& request, CommandError error);

  // Checks, each with the refusal it leads to; ok() when all is well.
  CommandError find_slot(std::uint32_t nsid, NamespaceSlot*& slot);
  CommandError check_common(const nvme::SubmissionEntry& sqe) const;
  CommandError check_range(const nvme::SubmissionEntry& sqe, const NamespaceSlot& slot) const;
  CommandError resolve(const nvme::SubmissionEntry& sqe, NamespaceSlot*& slot);

  transport::PlanAction plan_read(transport::Request& request);
  transport::PlanAction plan_write(transport::Request& request);  // Compare as well
  transport::PlanAction plan_write_zeroes(transport::Request& request);
  transport::PlanAction plan_flush(transport::Request& request);
  transport::PlanAction plan_dataset(transport::Request& request);
  transport::PlanAction plan_fabrics(transport::Request& request);

  void execute_transfer(transport::Request& request);  // Read, Write, Compare
  void execute_write_zeroes(transport::Request& request);
  void execute_flush(transport::Request& request);
  void execute_dataset(transport::Request& request);
  void execute_fabrics(transport::Request& request);

  void submit(Context& context, NamespaceSlot& slot, bdev::BdevIo::Done done);
  static void io_done(bdev::BdevIo& io);
  static void read_after_flush(bdev::BdevIo& io);
  static void step_done(bdev::BdevIo& io);
  void next_flush(transport::Request& request);
  void next_range(transport::Request& request);
  void count(const transport::Request& request);

  std::shared_ptr<Controller> controller_;
  ControllerShared& shared_;
  std::shared_ptr<IoCounters> counters_;
  std::uint16_t qid_;
  std::vector<View> views_;  // by NSID; index 0 unused
};

}  // namespace catnap::server
