// See striped.h.
#include "bdev/raid/striped.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>

#include "bdev/raid/striped_channel.h"

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
    member->data_offset_blocks = 0;
    member->data_blocks = usable_blocks(*member);
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
    if (!member->present()) missing += fmt::format("{}'{}'", missing.empty() ? "" : ", ", member->name);
  }
  if (missing.empty()) co_return true;
  array().set_waits_for(fmt::format("base bdev {}", missing));
  if (forced) {
    co_return fail(EINVAL, fmt::format("Invalid argument: {} '{}' cannot start without {}: its data is spread over all members",
                                       raid_kind_name(array().options().kind), array().name(), missing));
  }
  co_return false;
}

Task<Result<void>> StripedLevel::start(bool) {
  for (const auto& member : array().members()) array().set_member_state(member->slot, MemberState::in_sync);
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

Task<Result<std::uint64_t>> StripedLevel::grow() { co_return std::max(array().bdev()->num_blocks(), grown_size()); }

}  // namespace catnap::bdev
