// I/O queues of a controller: who gets one, and where (reactor/placement.h). See controller.h.
//
// A queue pair belongs to a lightweight thread and goes where that goes. The plan says at which CPUs a controller's queues should begin, so that
// several controllers spread over the reactors; a thread on a planned CPU takes that queue, other threads take what the controller granted beyond the
// plan.
#include <algorithm>
#include <cstring>

#include "bdev/nvme/controller.h"
#include "bdev/nvme/module.h"
#include "bdev/nvme/retry_policy.h"

namespace catnap::bdev {

void NvmeController::plan_queues() {
  forget_plan();
  QueueRequest request;
  request.queues = std::min<std::uint32_t>(granted_, static_cast<std::uint32_t>(module_.topology().reactor_cpus().size()));
  request.controller_index = index_;
  plan_ = plan_controller(module_.topology(), module_.load(), request);
  module_.load().add(plan_);
  grants_ = std::vector<Grant>(granted_);
}

void NvmeController::forget_plan() {
  module_.load().remove(plan_);
  plan_ = {};
  grants_.clear();
}

// The place in the plan that a thread's queue takes; none: its CPU has one already, or none can be named.
std::optional<std::size_t> NvmeController::free_home(const IoPort& port) {
  const auto cpu = module_.cpu_of(port.thread());
  if (!cpu) return std::nullopt;
  const auto choice = queue_for_cpu(module_.topology(), plan_, *cpu);
  if (!choice || choice->kind == QueueChoice::Kind::shared || plan_.queues[choice->queue].created) return std::nullopt;
  apply_choice(plan_, module_.load(), *choice, *cpu);
  return choice->queue;
}

// The identifier that has been free for longest: the controller may not have noticed yet that a queue given up just now is gone. 0: none is free.
std::uint16_t NvmeController::take_qid(const std::shared_ptr<IoPort>& port, std::optional<std::size_t> home) {
  Grant* best = nullptr;
  for (Grant& grant : grants_) {
    if (!grant.port.expired()) continue;
    if (best == nullptr || grant.released < best->released) best = &grant;
  }
  if (best == nullptr) return 0;
  if (best->home) plan_.queues[*best->home].created = false;  // its port died without a word
  best->port = port;
  best->home = home;
  return static_cast<std::uint16_t>(best - grants_.data() + 1);
}

void NvmeController::port_added(const std::shared_ptr<IoPort>& port) {
  if (state_ == State::ready && published_) give_queue(port);
}

void NvmeController::give_queue(const std::shared_ptr<IoPort>& port) {
  const auto has_one = std::ranges::any_of(grants_, [&port](const Grant& grant) { return grant.port.lock() == port; });
  if (has_one) return;
  const auto home = free_home(*port);
  const std::uint16_t qid = take_qid(port, home);
  if (qid == 0) {
    const auto lender = lender_for(*port);
    if (lender != nullptr) port->thread().send([port, lender] { port->borrow(lender); });
    return;
  }
  port->thread().send([port, options = io_queue_options(qid), epoch = epoch_]() mutable { port->open(std::move(options), epoch); });
}

// All queues are taken: the nearest by the plan; for a thread off the plan, the one with the fewest borrowers so far.
std::shared_ptr<IoPort> NvmeController::lender_for(const IoPort& port) {
  const auto cpu = module_.cpu_of(port.thread());
  const auto choice = cpu ? queue_for_cpu(module_.topology(), plan_, *cpu) : std::nullopt;
  Grant* best = nullptr;
  for (Grant& grant : grants_) {
    if (grant.port.expired()) continue;
    if (choice && grant.home == choice->queue) {
      best = &grant;
      break;
    }
    if (best == nullptr || grant.borrowers < best->borrowers) best = &grant;
  }
  if (best == nullptr) return nullptr;
  ++best->borrowers;
  return best->port.lock();
}

tcp::HostQueueOptions NvmeController::io_queue_options(std::uint16_t qid) const {
  const AssociationOptions& association = association_->options();
  auto made = queue_options(association, cntlid_);
  tcp::HostQueueOptions queue = made ? std::move(*made) : tcp::HostQueueOptions();  // the admin queue came about with the same
  const NvmeOptions& options = module_.options();
  const std::uint32_t wanted = options.io_queue_requests != 0 ? options.io_queue_requests : default_io_queue_entries;
  const std::uint32_t of_commands = data_->maxcmd != 0 ? data_->maxcmd + 1U : tcp::HostQueue::max_entries;
  const std::uint32_t most = std::min({nvme::Cap::from_value(cap_).mqes + 1U, of_commands, std::uint32_t{tcp::HostQueue::max_entries}});
  queue.qid = qid;
  queue.entries = static_cast<std::uint16_t>(std::clamp<std::uint32_t>(wanted, 2, std::max<std::uint32_t>(most, 2)));
  const std::uint32_t capsule_bytes = std::uint32_t{data_->ioccsz} * 16;
  if (data_->icdoff == 0 && capsule_bytes > sizeof(nvme::SubmissionEntry)) queue.in_capsule_bytes = capsule_bytes - sizeof(nvme::SubmissionEntry);
  queue.command_timeout_us = options.timeout_us;
  queue.poll_period_us = options.io_poll_period_us();
  return queue;
}

void NvmeController::port_gone(std::uint16_t qid, std::uint64_t epoch) {
  if (epoch != epoch_ || qid == 0 || qid > grants_.size()) return;
  Grant& grant = grants_[qid - 1U];
  if (grant.home) plan_.queues[*grant.home].created = false;
  grant = {};
  grant.released = ++releases_;
}

}  // namespace catnap::bdev
