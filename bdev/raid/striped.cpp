// See striped.h.
#include "bdev/raid/striped.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>

#include "bdev/raid/raid_host.h"
#include "bdev/raid/striped_channel.h"
#include "bdev/raid/superblock_io.h"

namespace catnap::bdev {

StripedPiece StripedLayout::piece_at(std::uint64_t block) const {
  StripedPiece piece;
  if (starts.empty()) {
    const std::uint64_t strip = block >> strip_shift;
    const std::uint64_t within = block & ((std::uint64_t{1} << strip_shift) - 1);
    piece.slot = static_cast<std::uint32_t>(strip % members);
    piece.member_block = (strip / members << strip_shift) + within;
    piece.blocks = (std::uint64_t{1} << strip_shift) - within;
    return piece;
  }
  const auto behind = std::ranges::upper_bound(starts, block);
  piece.slot = static_cast<std::uint32_t>(behind - starts.begin() - 1);
  piece.member_block = block - starts[piece.slot];
  piece.blocks = (behind != starts.end() ? *behind : ~std::uint64_t{0}) - block;
  return piece;
}

StripedPiece StripedLayout::part_of(std::uint32_t slot, std::uint64_t block, std::uint64_t blocks) const {
  StripedPiece part;
  part.slot = slot;
  const std::uint64_t last_block = block + blocks - 1;
  if (!starts.empty()) {
    const std::uint64_t last_of_member = slot + 1 < starts.size() ? starts[slot + 1] - 1 : ~std::uint64_t{0};
    if (last_block < starts[slot] || block > last_of_member) return part;
    const std::uint64_t first = std::max(block, starts[slot]);
    part.member_block = first - starts[slot];
    part.blocks = std::min(last_block, last_of_member) - first + 1;
    return part;
  }
  // The first and the last strip of the range that are the member's.
  const std::uint64_t first_strip = block >> strip_shift;
  const std::uint64_t last_strip = last_block >> strip_shift;
  const std::uint64_t first = first_strip + (slot + members - first_strip % members) % members;
  if (first > last_strip) return part;
  const std::uint64_t last = last_strip - (last_strip % members + members - slot) % members;
  const std::uint64_t mask = (std::uint64_t{1} << strip_shift) - 1;
  part.member_block = (first / members << strip_shift) + (first == first_strip ? block & mask : 0);
  const std::uint64_t end = (last / members << strip_shift) + (last == last_strip ? (last_block & mask) + 1 : mask + 1);
  part.blocks = end - part.member_block;
  return part;
}

std::uint64_t StripedLevel::usable_blocks(const RaidMember& member) const {
  const std::uint64_t blocks = member.bdev().num_blocks();
  const std::uint64_t behind = blocks - std::min(blocks, member.data_offset_blocks);
  return behind >> layout_.strip_shift << layout_.strip_shift;
}

Result<void> StripedLevel::shape(BdevInfo& info) {
  const RaidMember* first = nullptr;
  info.write_cache = false;
  info.unmap_reads_zeroes = info.consumes_inline = info.native_verify = true;
  for (const auto& member : array().members()) {
    if (!member->present()) continue;
    const Bdev& bdev = member->bdev();
    if (first == nullptr) first = member.get();
    if (bdev.block_size() != first->bdev().block_size()) {
      return fail(EINVAL, fmt::format("Invalid argument: base_bdev '{}' has blocks of {} bytes, '{}' of {}: members must have the same block size",
                                      bdev.name(), bdev.block_size(), first->name, first->bdev().block_size()));
    }
    info.block_size = bdev.block_size();
    info.physical_block_size = std::max(info.physical_block_size, bdev.info().physical_block_size);
    info.write_cache |= bdev.info().write_cache;
    info.unmap_reads_zeroes &= bdev.info().unmap_reads_zeroes;
    info.consumes_inline &= bdev.info().consumes_inline;
  }
  const std::uint64_t strip_bytes = std::uint64_t{array().options().strip_size_kib} << 10;
  if (strip_bytes < info.block_size) {
    return fail(EINVAL, fmt::format("Invalid argument: strip_size_kb {} is less than a block of {} bytes of base_bdev '{}'",
                                    array().options().strip_size_kib, info.block_size, first->name));
  }
  layout_.strip_shift = static_cast<std::uint32_t>(std::countr_zero(strip_bytes / info.block_size));
  layout_.members = static_cast<std::uint32_t>(array().members().size());
  for (const auto& member : array().members()) {
    if (!member->present()) continue;
    member->data_offset_blocks = array().options().superblock ? superblock_data_offset_bytes / info.block_size : 0;
    member->data_blocks = usable_blocks(*member);
    if (!known_blocks_.empty()) {
      const std::uint64_t known = known_blocks_[member->slot];
      if (member->data_blocks < known) {
        return fail(EINVAL, fmt::format("Invalid argument: base_bdev '{}' has {} blocks for data, raid bdev '{}' has {} there", member->name,
                                        member->data_blocks, array().name(), known));
      }
      member->data_blocks = known;
    }
    if (member->data_blocks == 0) {
      return fail(EINVAL, fmt::format("Invalid argument: base_bdev '{}' of {} blocks of {} bytes is smaller than a strip of {} KiB", member->name,
                                      member->bdev().num_blocks(), info.block_size, array().options().strip_size_kib));
    }
  }
  if (array().members_present() == array().members().size()) info.num_blocks = lay_out(layout_);
  return {};
}

Task<Result<bool>> StripedLevel::ready(bool forced) {
  std::string missing;
  for (const auto& member : array().members()) {
    if (member->present()) continue;
    missing += missing.empty() ? "" : ", ";
    missing += member->name.empty() ? fmt::format("of slot {}", member->slot) : fmt::format("'{}'", member->name);
  }
  if (missing.empty()) {
    Result<void> read;
    if (array().options().superblock) read = co_await read_superblocks();
    if (!read) co_return std::unexpected(read.error());
    co_return true;
  }
  array().set_waits_for(fmt::format("base bdev {}", missing));
  if (forced) {
    co_return fail(EINVAL, fmt::format("Invalid argument: {} '{}' cannot start without base bdev {}: its data is spread over all members",
                                       raid_kind_name(array().options().kind), array().name(), missing));
  }
  co_return false;
}

Result<void> StripedLevel::keep_newest(const RaidMember& member, const std::optional<Superblock>& found) {
  const bool ours = found && found->array_uuid == uuid_from_text(array().uuid());
  if (!array().is_on_disk()) {  // it is being created
    if (!found || ours) return {};
    return fail(EEXIST, fmt::format("File exists: base_bdev '{}' has a superblock of raid bdev '{}' with UUID {}; clear it first", member.name,
                                    found->name, uuid_text(found->array_uuid)));
  }
  if (!ours || found->this_slot != member.slot || found->slots.size() != array().members().size()) {
    return fail(EINVAL, fmt::format("Invalid argument: base_bdev '{}' has no superblock of slot {} of raid bdev '{}'", member.name, member.slot,
                                    array().name()));
  }
  if (!superblock_ || superblock_->events < found->events) superblock_ = found;
  return {};
}

Task<Result<void>> StripedLevel::read_superblocks() {
  superblock_.reset();
  for (const auto& member : array().members()) {
    Result<std::optional<Superblock>> found = co_await read_raid_superblock(member->bdev().shared_from_this());
    if (!found) co_return std::unexpected(found.error());
    auto kept = keep_newest(*member, *found);
    if (!kept) co_return kept;
  }
  if (superblock_) {
    known_blocks_.clear();
    for (const SuperblockSlot& slot : superblock_->slots) known_blocks_.push_back(slot.data_blocks);
  }
  co_return Result<void>();
}

// One member after the other: the newest event count is the one that counts, and says nothing that the blocks of older ones contradict.
Task<Result<void>> StripedLevel::write_superblocks() {
  Superblock next = superblock_.value_or(Superblock());
  const RaidOptions& options = array().options();
  const Bdev& bdev = *array().bdev();
  next.name = array().name();
  next.array_uuid = uuid_from_text(array().uuid());
  next.level = options.kind == RaidKind::raid0 ? 0 : 0xffffffff;
  next.block_size = bdev.block_size();
  next.strip_size_kib = options.strip_size_kib;
  next.data_offset_blocks = superblock_data_offset_bytes / bdev.block_size();
  next.host = raid_host();
  next.events += 1;
  next.num_blocks = 0;
  next.slots.resize(array().members().size());
  for (const auto& member : array().members()) {
    SuperblockSlot& slot = next.slots[member->slot];
    if (slot.state == SlotState::empty) slot.member_uuid = uuid_from_text(random_uuid());
    slot.state = SlotState::in_sync;
    slot.remote = is_remote(member->bdev());
    slot.data_blocks = member->data_blocks;
    next.num_blocks += member->data_blocks;
  }
  superblock_ = next;
  for (const auto& member : array().members()) {
    next.this_slot = member->slot;
    Result<void> written = co_await write_raid_superblock(member->bdev().shared_from_this(), next);
    if (!written) co_return written;
  }
  co_return Result<void>();
}

Task<Result<void>> StripedLevel::start(bool) {
  if (array().options().superblock && (!superblock_ || superblock_->host != raid_host())) {
    Result<void> written = co_await write_superblocks();
    if (!written) co_return written;
  }
  known_blocks_.clear();
  for (const auto& member : array().members()) {
    known_blocks_.push_back(member->data_blocks);
    array().set_member_state(member->slot, MemberState::in_sync);
  }
  co_return Result<void>();
}

Task<void> StripedLevel::stop(bool) { co_return; }

std::unique_ptr<RaidChannel> StripedLevel::make_channel(RaidBdev& bdev, Thread& thread) {
  return std::make_unique<StripedChannel>(bdev, thread, layout_);
}

bool StripedLevel::supports(Op op) const {
  return std::ranges::all_of(array().members(), [op](const auto& member) { return member->present() && member->bdev().supports(op); });
}

Task<bool> StripedLevel::member_lost(std::uint32_t) { co_return false; }

// While it is online all are there.
Task<Result<void>> StripedLevel::member_arrived(std::uint32_t slot, bool) {
  co_return fail(EINVAL, fmt::format("Invalid argument: slot {} of raid bdev '{}' is in use", slot, array().name()));
}

Task<Result<void>> StripedLevel::remove_member(std::uint32_t slot) {
  co_return fail(EBUSY, fmt::format("Device or resource busy: {} '{}' cannot do without base_bdev '{}': its data is spread over all members",
                                    raid_kind_name(array().options().kind), array().name(), array().member(slot).name));
}

Task<Result<std::uint64_t>> StripedLevel::grow() {
  const std::uint64_t size = std::max(array().bdev()->num_blocks(), grown_size());
  if (size == array().bdev()->num_blocks()) co_return size;
  for (const auto& member : array().members()) known_blocks_[member->slot] = member->data_blocks;
  if (array().options().superblock) {
    Result<void> written = co_await write_superblocks();
    if (!written) co_return std::unexpected(written.error());
  }
  co_return size;
}

}  // namespace catnap::bdev
