// See striped_channel.h.
#include "bdev/raid/striped_channel.h"

#include "bdev/iov.h"

namespace catnap::bdev {
namespace {

bool has_memory(const BdevIo& io) { return io.op == Op::read || io.op == Op::write || io.op == Op::compare; }

}  // namespace

StripedChannel::StripedChannel(RaidBdev& bdev, Thread& thread, const StripedLayout& layout)
    : RaidChannel(bdev, thread), layout_(layout), by_slot_(layout.members) {}

StripedChannel::Fan& StripedChannel::take_fan(BdevIo& parent) {
  if (free_fans_ == nullptr) {
    fans_.push_back(std::make_unique<Fan>());
    free_fans_ = fans_.back().get();
  }
  Fan& fan = *free_fans_;
  free_fans_ = fan.next_free;
  fan.parent = &parent;
  fan.parts = nullptr;
  fan.under_way = 1;
  fan.status = Status::ok;
  fan.aborted = false;
  return fan;
}

StripedChannel::Part& StripedChannel::take_part(Fan& fan, std::uint32_t slot) {
  if (free_parts_ == nullptr) {
    parts_.push_back(std::make_unique<Part>());
    free_parts_ = parts_.back().get();
  }
  Part& part = *free_parts_;
  free_parts_ = part.next;
  part.next = fan.parts;
  fan.parts = &part;
  part.fan = &fan;
  part.slot = slot;
  part.under_way = false;
  part.iov.clear();
  BdevIo& io = part.io;
  const BdevIo& parent = *fan.parent;
  io.op = parent.op;
  io.fua = parent.fua;
  io.offset_blocks = io.num_blocks = 0;
  io.iov = nullptr;
  io.iov_count = 0;
  io.borrowed = parent.borrowed && (parent.notes & BdevIo::note_copy) == 0;
  io.done = &StripedChannel::part_done;
  io.context = &part;
  return part;
}

void StripedChannel::start(BdevIo& io) {
  Fan& fan = take_fan(io);
  if (io.num_blocks == 0) {  // flush or reset of the whole
    for (std::uint32_t slot = 0; slot < layout_.members; ++slot) take_part(fan, slot);
  } else {
    spread(fan);
  }
  submit_parts(fan);
}

void StripedChannel::spread(Fan& fan) {
  const BdevIo& io = *fan.parent;
  const StripedPiece first = layout_.piece_at(io.offset_blocks);
  if (first.blocks >= io.num_blocks) {
    Part& part = take_part(fan, first.slot);
    part.io.offset_blocks = first.member_block;
    part.io.num_blocks = io.num_blocks;
    part.io.iov = io.iov;
    part.io.iov_count = io.iov_count;
    return;
  }
  for (std::uint32_t slot = 0; slot < layout_.members; ++slot) {
    const StripedPiece piece = layout_.part_of(slot, io.offset_blocks, io.num_blocks);
    if (piece.blocks == 0) continue;
    Part& part = take_part(fan, slot);
    part.io.offset_blocks = piece.member_block;
    part.io.num_blocks = piece.blocks;
    by_slot_[slot] = &part;
  }
  if (has_memory(io)) deal_memory(io);
}

// Each part gets the pieces of memory that its strips are for, in order.
void StripedChannel::deal_memory(const BdevIo& io) {
  const std::uint32_t block = bdev().block_size();
  IovCursor cursor(io.iov, io.iov_count);
  for (std::uint64_t at = 0; at < io.num_blocks;) {
    const StripedPiece piece = layout_.piece_at(io.offset_blocks + at);
    const std::uint64_t blocks = std::min(piece.blocks, io.num_blocks - at);
    Part& part = *by_slot_[piece.slot];
    cursor.take(blocks * block, 0, 1, part.iov);
    part.io.iov = part.iov.data();
    part.io.iov_count = static_cast<std::uint32_t>(part.iov.size());
    at += blocks;
  }
}

void StripedChannel::submit_parts(Fan& fan) {
  BdevIo& parent = *fan.parent;
  parent.next = &fan.parts->io;  // for abort_in_module()
  for (Part* part = fan.parts; part != nullptr; part = part->next) {
    if (lanes()[part->slot].channel) continue;
    fan.status = Status::removed;  // nothing is begun that cannot be finished
  }
  for (Part* part = fan.parts; part != nullptr && fan.status != Status::removed; part = part->next) {
    RaidLane& lane = lanes()[part->slot];
    if (part->io.num_blocks > 0) part->io.offset_blocks += lane.data_offset_blocks;
    part->under_way = true;
    ++fan.under_way;
    lane.channel->submit(part->io);
  }
  step_over(fan);
}

void StripedChannel::part_done(BdevIo& io) {
  Part& part = *static_cast<Part*>(io.context);
  Fan& fan = *part.fan;
  part.under_way = false;
  if (io.status != Status::ok && fan.status == Status::ok) fan.status = io.status;
  static_cast<StripedChannel&>(*fan.parent->channel).step_over(fan);
}

void StripedChannel::step_over(Fan& fan) {
  if (--fan.under_way > 0) return;
  BdevIo& parent = *fan.parent;
  const Status status = fan.aborted ? Status::aborted : fan.status;
  while (fan.parts != nullptr) {
    Part* part = fan.parts;
    fan.parts = part->next;
    part->next = free_parts_;
    free_parts_ = part;
  }
  fan.next_free = free_fans_;
  free_fans_ = &fan;
  complete(parent, status);
}

bool StripedChannel::abort_in_module(BdevIo& io) {
  Fan& fan = *static_cast<Part*>(io.next->context)->fan;
  ++fan.under_way;  // taken back parts may end within the call
  bool taken = false;
  for (Part* part = fan.parts; part != nullptr; part = part->next) {
    if (part->under_way && part->io.channel->abort(part->io)) taken = true;
  }
  if (taken) fan.aborted = true;
  step_over(fan);
  return taken;
}

}  // namespace catnap::bdev
