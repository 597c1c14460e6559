// Reads of a lane: balancing, repair from another member, and the one source of regions that may differ. See raid1_lane.h.
#include <algorithm>
#include <utility>

#include "bdev/iov.h"
#include "bdev/raid/raid1_core.h"
#include "bdev/raid/raid1_lane.h"

namespace catnap::bdev::raid1 {
namespace {

constexpr std::uint32_t nobody = ~std::uint32_t{0};
// Reads that a member on this machine may have under way beyond a remote one's before the remote one is asked: a network round trip costs about as
// much as that many reads of a local disk.
constexpr std::uint32_t remote_handicap = 8;

bool of_the_medium(Status status) { return status == Status::read_error || status == Status::media_error; }

// The member that was asked last is gone, or may have lost data: nothing that can be repaired.
bool is_away(const LaneOp& op) {
  const Part part = op.outcome[op.last_slot];
  return part == Part::stale || (part == Part::failed && !of_the_medium(op.parts[op.last_slot].status));
}

}  // namespace

bool Lane::reads_suspect(const BdevIo& io) const {
  if (!maps_.any_suspect.load()) [[likely]]
    return false;
  const std::uint64_t last = maps_.region_of(io.offset_blocks + io.num_blocks - 1);
  for (std::uint64_t region = maps_.region_of(io.offset_blocks); region <= last; ++region) {
    if (maps_.suspect.test(region)) return true;
  }
  return false;
}

bool Lane::reads_marked(const BdevIo& io) const {
  const std::uint64_t last = maps_.region_of(io.offset_blocks + io.num_blocks - 1);
  for (std::uint64_t region = maps_.region_of(io.offset_blocks); region <= last; ++region) {
    if (maps_.marked.test(region)) return true;
  }
  return false;
}

// What those who are there say where members may differ, the lost one may contradict after a crash. Nobody is told it, and it is tried to record.
void Lane::refuse_read(LaneOp& op) {
  core_->ask_thaw();
  complete(op, Status::read_error);
}

void Lane::start_read(BdevIo& io) {
  LaneOp& op = take(io);
  if (roles_->loss_unrecorded && reads_marked(io)) [[unlikely]]
    return refuse_read(op);
  if (reads_suspect(io) && steps_.single_source) [[unlikely]]
    return lock_then(op, &Lane::read_through_locked);
  read_on(op, &Lane::read_ended);
}

std::uint32_t Lane::choose_reader(const LaneOp& op) {
  std::uint32_t best = nobody;
  std::uint32_t best_cost = 0;
  const auto count = static_cast<std::uint32_t>(ports_.size());
  next_reader_ = next_reader_ + 1 < count ? next_reader_ + 1 : 0;
  for (std::uint32_t i = 0, slot = next_reader_; i < count; ++i, slot = slot + 1 < count ? slot + 1 : 0) {
    const Roles::Slot& role = roles_->slots[slot];
    if (!role.readable || op.outcome[slot] != Part::none) continue;
    const std::uint32_t cost = reading_[slot] + (role.remote ? remote_handicap : 0);
    if (best != nobody && cost >= best_cost) continue;
    best = slot;
    best_cost = cost;
  }
  return best;
}

// From a member that has not been asked yet; `step` when it has answered, or when there is nobody left.
void Lane::read_on(LaneOp& op, void (Lane::*step)(LaneOp&)) {
  op.next_step = step;
  const std::uint32_t slot = choose_reader(op);
  if (slot == nobody) [[unlikely]] {
    // Each has bad blocks there, and perhaps not the same ones.
    const bool may_help = op.user->num_blocks > 1 && op.hold.complete && of_the_medium(op.error);
    if (!may_help || std::exchange(op.one_by_one, true)) return complete(op, op.error != Status::ok ? op.error : Status::read_error);
    op.block = 0;
    return read_block(op);
  }
  ++reading_[slot];
  send(op, slot, Op::read, false);
}

void Lane::read_ended(LaneOp& op) {
  const std::uint32_t slot = op.last_slot;
  if (op.outcome[slot] == Part::done) [[likely]]
    return complete(op, Status::ok);
  if (is_away(op)) return read_elsewhere(op);
  lock_then(op, &Lane::repair_locked);
}

// The member is gone, or may have lost data: the core leaves it out, or keeps it as the last one; then anew.
void Lane::read_elsewhere(LaneOp& op) {
  unlock(op);
  op.next_step = &Lane::read_again;
  report(op, op.last_slot);
}

void Lane::read_again(LaneOp& op) {
  for (std::uint32_t slot = 0; slot < op.outcome.size(); ++slot) {
    if (op.outcome[slot] == Part::stale) op.outcome[slot] = Part::none;
  }
  forget_bad_blocks(op);
  op.block = LaneOp::all_blocks;
  if (reads_suspect(*op.user) && steps_.single_source) return lock_then(op, &Lane::read_through_locked);
  read_on(op, &Lane::read_ended);
}

// With the blocks held, so that no write comes between the read and the rewrite.
void Lane::repair_locked(LaneOp& op) {
  op.asked_again = false;
  repair_on(op);
}

void Lane::repair_on(LaneOp& op) {
  if (choose_reader(op) == nobody && !std::exchange(op.asked_again, true)) forget_bad_blocks(op);
  read_on(op, &Lane::repair_read_ended);
}

// What could not be read while the blocks were not held may have been written since, and be the only copy now.
void Lane::forget_bad_blocks(LaneOp& op) {
  for (std::uint32_t slot = 0; slot < op.outcome.size(); ++slot) {
    if (op.outcome[slot] == Part::failed && of_the_medium(op.parts[slot].status)) op.outcome[slot] = Part::none;
  }
}

void Lane::repair_read_ended(LaneOp& op) {
  if (is_away(op)) return read_elsewhere(op);
  if (op.outcome[op.last_slot] != Part::done) return repair_on(op);
  core_->count_repaired_read();
  op.answered = true;
  op.next_step = &Lane::rewritten;
  op.pending = 1;
  for (std::uint32_t slot = 0; slot < op.outcome.size(); ++slot) {
    if (op.outcome[slot] != Part::failed) continue;
    op.outcome[slot] = Part::none;
    if (of_the_medium(op.parts[slot].status) && roles_->slots[slot].writable) send(op, slot, Op::write, false);
  }
  if (--op.pending == 0) rewritten(op);
}

// One block after the other, with all of them held, from who can read it: the source first, where members may differ.
void Lane::read_block(LaneOp& op) {
  std::ranges::fill(op.outcome, Part::none);
  const std::uint32_t block_bytes = core_->options().block_size;
  IovCursor cursor(op.user->iov, op.user->iov_count);
  cursor.skip(op.block * block_bytes);
  op.block_iov.clear();
  cursor.take(block_bytes, 0, block_bytes, op.block_iov);
  const std::uint32_t source = roles_->source;
  if (!reads_suspect(*op.user) || source >= ports_.size() || !roles_->slots[source].readable) return read_on(op, &Lane::block_read_ended);
  op.next_step = &Lane::block_read_ended;
  ++reading_[source];
  send(op, source, Op::read, false);
}

void Lane::block_read_ended(LaneOp& op) {
  if (is_away(op)) return read_elsewhere(op);
  if (op.outcome[op.last_slot] != Part::done) return read_on(op, &Lane::block_read_ended);
  const bool everywhere = reads_suspect(*op.user) && steps_.single_source;
  op.next_step = &Lane::block_rewritten;
  op.pending = 1;
  for (std::uint32_t slot = 0; slot < op.outcome.size(); ++slot) {
    const bool bad = op.outcome[slot] == Part::failed && of_the_medium(op.parts[slot].status) && roles_->slots[slot].writable;
    if (op.outcome[slot] == Part::failed) op.outcome[slot] = Part::none;
    if (bad || (everywhere && roles_->slots[slot].readable)) send(op, slot, Op::write, everywhere);
  }
  if (--op.pending == 0) block_rewritten(op);
}

void Lane::block_rewritten(LaneOp& op) {
  op.next_step = &Lane::next_block;
  for (std::uint32_t slot = 0; slot < op.outcome.size(); ++slot) {
    if ((op.outcome[slot] == Part::failed || op.outcome[slot] == Part::stale) && roles_->slots[slot].writable) report(op, slot);
  }
  if (op.reports == 0) next_block(op);
}

// By message: members that answer at once would have us recurse block by block.
void Lane::next_block(LaneOp& op) {
  if (++op.block < op.user->num_blocks) {
    executor_->post([lane = shared_from_this(), &op] { lane->read_block(op); });
    return;
  }
  core_->count_repaired_read();
  op.answered = true;
  read_settled(op);
}

// What is read here once is on every member before it is answered: it keeps its value, whoever of them is lost afterwards.
void Lane::read_through_locked(LaneOp& op) {
  op.next_step = &Lane::through_read_ended;
  std::uint32_t slot = roles_->source;
  if (slot >= ports_.size() || !roles_->slots[slot].readable || op.outcome[slot] != Part::none) return read_on(op, &Lane::through_read_ended);
  ++reading_[slot];
  send(op, slot, Op::read, false);
}

void Lane::through_read_ended(LaneOp& op) {
  if (is_away(op)) return read_elsewhere(op);
  if (op.outcome[op.last_slot] != Part::done) return read_on(op, &Lane::through_read_ended);
  op.answered = true;
  op.next_step = &Lane::rewritten;
  op.pending = 1;
  for (std::uint32_t slot = 0; slot < op.outcome.size(); ++slot) {
    if (!roles_->slots[slot].readable) continue;
    // A source that came after another may have what it says from that one, and not durably.
    if (op.outcome[slot] == Part::done && slot == roles_->source && roles_->source_settled) continue;
    send(op, slot, Op::write, true);
  }
  if (--op.pending == 0) rewritten(op);
}

void Lane::rewritten(LaneOp& op) {
  op.next_step = &Lane::read_settled;
  for (std::uint32_t slot = 0; slot < op.outcome.size(); ++slot) {
    if ((op.outcome[slot] == Part::failed || op.outcome[slot] == Part::stale) && roles_->slots[slot].writable) report(op, slot);
  }
  if (op.reports == 0) read_settled(op);
}

// Not before the loss of an earlier source is durable: after a crash that one would speak again.
void Lane::read_settled(LaneOp& op) {
  if (!roles_->acks_held && roles_->loss_unrecorded) [[unlikely]]
    return refuse_read(op);
  settle(op);
}

}  // namespace catnap::bdev::raid1
