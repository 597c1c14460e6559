// The lane's common part, writes and flushes. See raid1_lane.h; the order of operations and its reasons: docs/raid.md.
#include "bdev/raid/raid1_lane.h"

#include <algorithm>

#include "bdev/raid/raid1_core.h"

namespace catnap::bdev::raid1 {

Lane::Lane(std::shared_ptr<Core> core, std::shared_ptr<Executor> executor, LaneHost& host)
    : core_(std::move(core)),
      executor_(std::move(executor)),
      host_(host),
      maps_(core_->maps()),
      steps_(core_->steps()),
      marks_in_memory_(core_->marks_in_memory()),
      ports_(core_->slot_count()),
      reading_(core_->slot_count()) {}

Lane::~Lane() = default;

void Lane::open() {
  turn_end_ = executor_->make_turn_end([this] { ask_for_marks(); });
  roles_ = core_->enlist(shared_from_this());
}

void Lane::close() {
  closed_ = true;
  CATNAP_DCHECK(free_ops_.size() == ops_.size());
  core_->strike_off(*this);
  if (registered_waiter_) maps_.overlaps.wait_no_more(*this);
  turn_end_.reset();
}

LaneOp& Lane::take(BdevIo& io) {
  if (free_ops_.empty()) {
    auto& made = ops_.emplace_back(std::make_unique<LaneOp>());
    made->lane = this;
    made->parts.resize(ports_.size());
    made->outcome.resize(ports_.size());
    made->associations.resize(ports_.size());
    free_ops_.reserve(ops_.size());
    free_ops_.push_back(made.get());
  }
  LaneOp& op = *free_ops_.back();
  free_ops_.pop_back();
  op.user = &io;
  op.pending = op.reports = 0;
  op.error = Status::ok;
  op.answered = op.asked_again = op.one_by_one = false;
  op.block = LaneOp::all_blocks;
  std::ranges::fill(op.outcome, Part::none);
  return op;
}

void Lane::give_back(LaneOp& op) { free_ops_.push_back(&op); }

void Lane::start(BdevIo& io) {
  ios_started_.store(ios_started_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  switch (io.op) {
    case Op::read:
      return start_read(io);
    case Op::write:
    case Op::unmap:
    case Op::write_zeroes:
      return start_write(io);
    case Op::flush:
      return start_flush(io);
    case Op::reset:
      return start_reset(io);
    default:
      return host_.complete_io(io, Status::not_supported);
  }
}

bool Lane::abort(BdevIo& io) {
  for (auto* list : {&wait_for_blocks_, &wait_for_marks_, &frozen_out_}) {
    const auto found = std::ranges::find(*list, &io, &LaneOp::user);
    if (found == list->end() || (*found)->answered) continue;
    LaneOp& op = **found;
    list->erase(found);
    complete(op, Status::aborted);
    return true;
  }
  return false;
}

// --- blocks ---

void Lane::lock_then(LaneOp& op, void (Lane::*step)(LaneOp&)) {
  op.hold = maps_.overlaps.hold(op.user->offset_blocks, op.user->num_blocks);
  if (!steps_.serialise_overlaps || maps_.overlaps.take(op.hold)) return (this->*step)(op);
  op.next_step = step;
  wait_for_blocks_.push_back(&op);
  if (!registered_waiter_) {
    registered_waiter_ = true;
    maps_.overlaps.wait(*this);
  }
  // They may have become free before we were a waiter.
  blocks_freed();
}

void Lane::unlock(LaneOp& op) {
  if (op.hold.words_held > 0) maps_.overlaps.give_back(op.hold);
}

void Lane::blocks_freed() {
  if (wake_posted_.exchange(true)) return;
  executor_->post([lane = shared_from_this()] { lane->retry_locks(); });
}

void Lane::retry_locks() {
  wake_posted_.store(false);
  if (closed_) return;
  std::vector<LaneOp*> waiting;
  waiting.swap(wait_for_blocks_);
  for (LaneOp* op : waiting) {
    if (maps_.overlaps.take(op->hold)) {
      (this->*op->next_step)(*op);
    } else {
      wait_for_blocks_.push_back(op);
    }
  }
  if (!wait_for_blocks_.empty() || !registered_waiter_) return;
  registered_waiter_ = false;
  maps_.overlaps.wait_no_more(*this);
}

// --- marks ---

bool Lane::marks_ready(const LaneOp& op) {
  const std::uint64_t last = maps_.region_of(op.user->offset_blocks + op.user->num_blocks - 1);
  bool ready = true;
  for (std::uint64_t region = maps_.region_of(op.user->offset_blocks); region <= last; ++region) {
    if (!maps_.touched.test_relaxed(region)) maps_.touched.set(region);
    if (maps_.marked.test(region)) continue;
    if (marks_in_memory_) {
      maps_.marked.set(region);
      new_marks_ = true;
      continue;
    }
    ready = false;
    wanted_.push_back(region);
  }
  if (!ready || new_marks_) turn_end_->request();
  return ready || !steps_.mark_before_data;
}

// One message for all writes of a turn; writes of other threads that come while the core is at it share its next commit.
void Lane::ask_for_marks() {
  if (closed_) return;
  if (std::exchange(new_marks_, false)) core_->marks_made();
  if (wanted_.empty()) return;
  core_->ask_marks(shared_from_this(), std::move(wanted_));
  wanted_ = {};
}

void Lane::marks_changed() {
  if (closed_) return;
  std::vector<LaneOp*> waiting;
  waiting.swap(wait_for_marks_);
  for (LaneOp* op : waiting) write_locked(*op);
}

// --- parts ---

void Lane::send(LaneOp& op, std::uint32_t slot, Op what, bool fua) {
  BdevIo& part = op.parts[slot];
  const BdevIo& user = *op.user;
  part = BdevIo{};
  part.op = what;
  part.fua = fua;
  part.offset_blocks = what == Op::flush || what == Op::reset ? 0 : user.offset_blocks + core_->data_offset_blocks();
  part.num_blocks = what == Op::flush || what == Op::reset ? 0 : user.num_blocks;
  if (what == Op::read || what == Op::write) {
    part.iov = user.iov;
    part.iov_count = user.iov_count;
  }
  if (op.block != LaneOp::all_blocks) [[unlikely]] {
    part.offset_blocks += op.block;
    part.num_blocks = 1;
    part.iov = op.block_iov.data();
    part.iov_count = static_cast<std::uint32_t>(op.block_iov.size());
  }
  part.done = part_done;
  part.context = &op;
  op.outcome[slot] = Part::sent;
  op.associations[slot] = roles_->slots[slot].association;
  ++op.pending;
  if (ports_[slot] == nullptr) [[unlikely]] {
    part.status = Status::removed;
    return part_done(part);
  }
  ports_[slot]->submit(part);
}

void Lane::send_to_writable(LaneOp& op, Op what) {
  op.pending = 1;
  for (std::uint32_t slot = 0; slot < ports_.size(); ++slot) {
    const Roles::Slot& role = roles_->slots[slot];
    if (!role.writable) continue;
    send(op, slot, what == Op::unmap && !role.unmaps ? Op::write_zeroes : what, op.user->fua);
  }
  if (--op.pending == 0) (this->*op.next_step)(op);
}

void Lane::part_done(BdevIo& part) {
  LaneOp& op = *static_cast<LaneOp*>(part.context);
  op.lane->part_ended(op, static_cast<std::uint32_t>(&part - op.parts.data()), part.status);
}

void Lane::part_ended(LaneOp& op, std::uint32_t slot, Status status) {
  if (op.parts[slot].op == Op::read) --reading_[slot];
  op.last_slot = slot;
  if (status == Status::ok) {
    const bool same = ports_[slot] == nullptr || ports_[slot]->association() == op.associations[slot] || !steps_.check_association;
    op.outcome[slot] = same ? Part::done : Part::stale;
  } else {
    op.outcome[slot] = Part::failed;
    if (op.error == Status::ok) op.error = status;
  }
  if (--op.pending == 0) (this->*op.next_step)(op);
}

void Lane::report(LaneOp& op, std::uint32_t slot) {
  ++op.reports;
  FailureReport failure;
  failure.slot = slot;
  failure.status = op.outcome[slot] == Part::stale ? Status::ok : op.parts[slot].status;
  failure.write = op.user->op != Op::flush && op.parts[slot].op != Op::read;
  failure.offset_blocks = op.user->offset_blocks;
  failure.num_blocks = op.user->num_blocks;
  core_->report_failure(failure, shared_from_this(), op);
}

void Lane::dealt_with(LaneOp& op) {
  if (--op.reports > 0) return;
  (this->*op.next_step)(op);
}

void Lane::adopt(std::shared_ptr<const Roles> roles) {
  if (closed_) return;
  const bool thaw_was_tried = roles->thaws_tried != roles_->thaws_tried;
  roles_ = std::move(roles);
  if (thaw_was_tried) thaw_tried();
  if (roles_->acks_held) return;
  std::vector<LaneOp*> held;
  held.swap(held_);
  for (LaneOp* op : held) op->answered ? read_settled(*op) : settle(*op);
}

void Lane::thaw_tried() {
  std::vector<LaneOp*> waiting;
  waiting.swap(frozen_out_);
  for (LaneOp* op : waiting) {
    if (roles_->frozen) {
      complete(*op, Status::write_error);
    } else {
      write_locked(*op);
    }
  }
}

void Lane::complete(LaneOp& op, Status status) {
  unlock(op);
  BdevIo& user = *op.user;
  give_back(op);
  host_.complete_io(user, status);
}

// --- writes ---

void Lane::start_write(BdevIo& io) { lock_then(take(io), &Lane::write_locked); }

void Lane::write_locked(LaneOp& op) {
  if (roles_->frozen) [[unlikely]] {
    frozen_out_.push_back(&op);
    return core_->ask_thaw();
  }
  if (marks_ready(op)) return write_marked(op);
  wait_for_marks_.push_back(&op);
}

void Lane::write_marked(LaneOp& op) {
  op.next_step = &Lane::write_ended;
  send_to_writable(op, op.user->op);
}

// Also of flushes.
void Lane::write_ended(LaneOp& op) {
  op.next_step = &Lane::settle;
  for (std::uint32_t slot = 0; slot < op.outcome.size(); ++slot) {
    if ((op.outcome[slot] == Part::failed || op.outcome[slot] == Part::stale) && roles_->slots[slot].writable) report(op, slot);
  }
  if (op.reports == 0) settle(op);
}

// Every member has the data or is left out for good: but not before that is durable.
void Lane::settle(LaneOp& op) {
  if (roles_->acks_held) [[unlikely]] {
    held_.push_back(&op);
    return;
  }
  complete(op, op.answered ? Status::ok : write_status(op));
}

Status Lane::write_status(const LaneOp& op) const {
  if (roles_->frozen) return Status::write_error;
  for (std::uint32_t slot = 0; slot < op.outcome.size(); ++slot) {
    if ((op.outcome[slot] == Part::done || op.outcome[slot] == Part::stale) && roles_->slots[slot].readable) return Status::ok;
  }
  return op.error != Status::ok ? op.error : Status::write_error;
}

void Lane::start_flush(BdevIo& io) {
  LaneOp& op = take(io);
  op.next_step = &Lane::write_ended;
  send_to_writable(op, Op::flush);
}

void Lane::start_reset(BdevIo& io) {
  LaneOp& op = take(io);
  op.next_step = &Lane::reset_ended;
  send_to_writable(op, Op::reset);
}

void Lane::reset_ended(LaneOp& op) { complete(op, Status::ok); }

}  // namespace catnap::bdev::raid1
