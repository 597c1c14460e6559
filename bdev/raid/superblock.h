// What stands on a member of an array with a superblock, or on the bitmap_bdev of one without: who belongs to the array, who holds all data, and
// where data and bitmap begin. The page with the format is docs/raid.md. Owner: none (values and pure functions). Left out: reading and writing
// (raid1_stores.h), what a set of superblocks means (start_plan.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "reactor/base/error.h"

namespace catnap::bdev {

// Two copies stand one behind the other from byte 0 on; each write goes to the copy that is not the newest, so a torn one leaves the other.
inline constexpr std::uint32_t superblock_copy_bytes = 16384;
inline constexpr std::uint32_t superblock_area_bytes = 2 * superblock_copy_bytes;
inline constexpr std::uint32_t superblock_version = 2;  // 1 had no host
// Slots that fit in a copy; the frame's max_raid_members.
inline constexpr std::size_t superblock_max_slots = 255;
// Forks remembered, newest first: an array that was forced to start more often than this since a member left takes that member for diverged.
inline constexpr std::size_t superblock_max_forks = 8;

using Uuid = std::array<std::uint8_t, 16>;
// "" and what is no UUID: all zeroes.
Uuid uuid_from_text(const std::string& text);
std::string uuid_text(const Uuid& uuid);

// Values are on disk.
enum class SlotState : std::uint8_t {
  empty = 0,       // nobody
  in_sync = 1,     // holds all data
  rebuilding = 2,  // gets every write; holds all data but that of marked regions
  failed = 3,      // left out; holds, as it was when it was left out, all data but that of marked regions
  blank = 4,       // left out, and nothing is known of what it holds: everything must be copied
};

struct SuperblockSlot {
  SuperblockSlot() = default;
  Uuid member_uuid{};                  // made up when it joined; all zeroes: empty
  SlotState state = SlotState::empty;  //
  bool remote = false;                 // the host of the array reaches it over a connection
  std::uint64_t left_events = 0;       // failed, blank: the event count of the update that left it out
  std::uint64_t data_blocks = 0;       // raid0, concat: its share; raid1: as Superblock::num_blocks
  bool operator==(const SuperblockSlot&) const = default;
};

struct SuperblockFork {
  SuperblockFork() = default;
  std::uint64_t id = 0;
  std::uint64_t last_events = 0;  // the last event count of the line that this fork ended
  bool operator==(const SuperblockFork&) const = default;
};

struct Superblock {
  Superblock() = default;
  std::string name;  // of the array; at most 255 bytes
  Uuid array_uuid{};
  Uuid host{};              // the process that has had it last (raid_host.h); all zeroes: nobody
  std::uint32_t level = 1;  // 0: raid0, 1: raid1, 0xffffffff: concat
  std::uint32_t block_size = 512;
  std::uint32_t strip_size_kib = 0;
  std::uint64_t num_blocks = 0;          // of the array
  std::uint64_t data_offset_blocks = 0;  // on every member
  std::uint64_t bitmap_offset_blocks = 0;
  std::uint32_t bitmap_blocks = 0;  // reserved; 0: no bitmap
  std::uint64_t region_blocks = 0;  // per bit
  // Goes up by one with every change of what follows; the newest wins.
  std::uint64_t events = 0;
  // The line of history: another id from each forced start on, the earlier ones behind it.
  std::uint64_t fork_id = 0;
  std::vector<SuperblockFork> earlier_forks;
  std::uint32_t this_slot = 0;  // whose superblock this is; 0 on a bitmap_bdev
  std::vector<SuperblockSlot> slots;
};

// One copy, padded with zeroes to a multiple of `block_size`.
std::vector<std::byte> encode_superblock(const Superblock& superblock);
// Errors: ENOENT (no superblock there), EILSEQ (checksum, torn), EPROTONOSUPPORT (version), EINVAL (a field that cannot be).
Result<Superblock> decode_superblock(std::span<const std::byte> copy);

struct FoundSuperblock {
  FoundSuperblock() = default;
  Superblock superblock;
  std::uint32_t copy = 0;  // 0 or 1: where it stands
  // Nothing ever stood in the place of the other copy. raid1 always writes both when a member joins, so on a raid1 this is a disk that was replaced
  // under our hands, and got one superblock before we knew.
  bool other_is_blank = false;
};
// The newer one of both copies; `area`: the first superblock_area_bytes. Errors: those of copy 0 when neither is good (ENOENT only if both say so).
Result<FoundSuperblock> newest_superblock(std::span<const std::byte> area);

}  // namespace catnap::bdev
