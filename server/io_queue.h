// One connected I/O queue: validates I/O commands wholly in plan(), carries them out on the group's bdev channels. No lock, no allocation and no
// look-up but an array index on the way of an I/O. Owner: the queue's poll group thread. Left out: the channels (server_group.h), admin commands
// (controller.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "server/command_error.h"
#include "server/controller_shared.h"
#include "server/reservations/rules.h"
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
  void expect(const nvme::SubmissionEntry& sqe) override;
  void execute(transport::Request& request) override;
  void abandon(transport::Request& request) override;
  void unwanted(transport::Request& request) override { abort_executing(request); }
  void queue_closed(transport::CommandQueue& queue) override;
  std::uint16_t qid() const override { return qid_; }
  void configuration_installed() override;
  // The Abort command (Base 2.0 section 5.1): `done` gets whether the command ended with Command Abort Requested, after its completion was queued;
  // within this call, or when the block device has given it back.
  void abort_command(std::uint16_t cid, std::move_only_function<void(bool aborted)> done);

  // --- reservations (reservations/reservation_commands.cpp) ---
  // The published state of this namespace differs.
  void reservation_changed(std::uint32_t nsid);
  // Preempt and abort: ends the I/O outstanding on this namespace with Command Aborted due to Preempt and Abort. `holds` is kept until the last of it
  // is done, so that its end tells.
  void abort_preempted(std::uint32_t nsid, const std::shared_ptr<void>& holds);

 private:
  friend struct IoCommands;  // the table of I/O commands (io_commands.cpp)

  // A namespace as this host sees it through this connection.
  struct View {
    NamespaceSlot* slot = nullptr;  // null: not active, or hidden from this host
    AnaState ana_state = AnaState::optimized;
    std::uint8_t denied = 0;  // by a reservation: deny_read, deny_write (server/reservations/rules.h)
  };
  struct Context;
  struct FusedHalf;
  using Step = void (IoQueue::*)(transport::Request& request, Context& context);

  // Answers to plan().
  transport::PlanAction refuse(transport::Request& request, CommandError error);
  transport::PlanAction transfer(transport::Request& request, transport::DataDirection direction, std::uint64_t length_bytes);
  void finish(transport::Request& request, CommandError error);
  void finish_watched(transport::Request& request, CommandError error);
  void record_error(const transport::Request& request, CommandError error);
  IoCounts* counts_of(std::uint32_t nsid) const;
  void count_finished(const transport::Request& request);
  IoStatistics::ConnectionKey statistics_key() const;

  // Checks, each with the refusal it leads to; ok() when all is well.
  // `access`: deny_read or deny_write, what a reservation must not forbid; 0: it has no say.
  CommandError find_slot(std::uint32_t nsid, NamespaceSlot*& slot, std::uint8_t access = deny_write);
  bool any_denied(std::uint8_t access) const;  // in any namespace that this queue sees
  CommandError check_common(const nvme::SubmissionEntry& sqe) const;
  CommandError check_range(const nvme::SubmissionEntry& sqe, const NamespaceSlot& slot) const;
  CommandError resolve(const nvme::SubmissionEntry& sqe, NamespaceSlot*& slot);

  bool keep_alive_is_over();
  bool keep_alive_is_over_now();
  transport::PlanAction plan_command(transport::Request& request);
  transport::PlanAction plan_read(transport::Request& request);
  transport::PlanAction plan_write(transport::Request& request);  // Compare as well
  transport::PlanAction plan_write_zeroes(transport::Request& request);
  transport::PlanAction plan_verify(transport::Request& request);
  transport::PlanAction plan_write_uncorrectable(transport::Request& request);
  transport::PlanAction plan_flush(transport::Request& request);
  transport::PlanAction plan_dataset(transport::Request& request);
  transport::PlanAction plan_copy(transport::Request& request);
  transport::PlanAction plan_fabrics(transport::Request& request);
  transport::PlanAction plan_reservation(transport::Request& request);
  transport::PlanAction plan_reservation_report(transport::Request& request);

  void execute_transfer(transport::Request& request);  // Read, Write, Compare
  void execute_write_zeroes(transport::Request& request);
  void execute_verify(transport::Request& request);
  void execute_write_uncorrectable(transport::Request& request);
  void execute_range(transport::Request& request, bdev::Op op);
  void execute_flush(transport::Request& request);
  void execute_dataset(transport::Request& request);
  void execute_copy(transport::Request& request);
  void execute_fabrics(transport::Request& request);
  void execute_reservation(transport::Request& request);
  void execute_reservation_report(transport::Request& request);

  // Fused Compare and Write (io_fused.cpp).
  transport::PlanAction plan_in_pair(transport::Request& request);
  transport::PlanAction plan_first(transport::Request& request);
  transport::PlanAction plan_second(transport::Request& request, transport::Request& first);
  CommandError check_pair(const nvme::SubmissionEntry& first, const nvme::SubmissionEntry& second) const;
  CommandError check_fused_length(const nvme::SubmissionEntry& sqe);
  void execute_half(transport::Request& request);
  void submit_pair(transport::Request& first, transport::Request& second);
  void finish_pair(transport::Request& first, transport::Request& second, CommandError of_first, CommandError of_second);
  void end_half(transport::Request& half, nvme::Status status);
  void abandon_half(transport::Request& half);
  static transport::Request& second_of(transport::Request& first);  // of a submitted pair
  static void pair_done(bdev::BdevIo& io);

  void submit(Context& context, NamespaceSlot& slot, bdev::BdevIo::Done done);
  void device_io_ended();  // first thing in each Done of submit()
  static void io_done(bdev::BdevIo& io);
  static void read_after_flush(bdev::BdevIo& io);
  static void step_done(bdev::BdevIo& io);
  void next_flush(transport::Request& request);
  void next_range(transport::Request& request);
  void next_copy(transport::Request& request);
  bool abort_executing(transport::Request& request);
  void count(const transport::Request& request);

  std::shared_ptr<Controller> controller_;
  ControllerShared& shared_;
  std::shared_ptr<IoCounters> counters_;
  std::uint16_t qid_;
  std::shared_ptr<IoCounts> counts_;
  std::vector<View> views_;         // by NSID; index 0 unused
  std::uint32_t dmrsl_blocks_ = 0;  // the subsystem's limits, 0: none
  std::uint8_t wzsl_ = 0;

  // Busy time (SMART): from the first I/O with a block device to the last one back.
  std::uint32_t device_ios_ = 0;
  std::uint64_t busy_since_ns_ = 0;

  // What the command before the next one was to it: a first half must be followed by its second.
  enum class Before : std::uint8_t { nothing, first_half, failed_first_half };
  Before before_ = Before::nothing;
  transport::Request* unpaired_first_ = nullptr;  // with Before::first_half

  // Aborts that wait for their command to end.
  struct AbortWatch {
    transport::Request* request;
    std::move_only_function<void(bool aborted)> done;
    nvme::Status as = nvme::GenericStatus::abort_requested;  // what the host of a command that was given back gets
  };
  std::vector<AbortWatch> abort_watches_;
};

}  // namespace catnap::server
