// Encoding of superblocks: little-endian structs with a checksum over everything that is there.
// Owner: none. Left out: I/O.
#include "bdev/raid/superblock.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "reactor/base/crc32c.h"
#include "reactor/base/le.h"

namespace catnap::bdev {
namespace {

constexpr char magic[8] = {'c', 'a', 't', 'n', 'a', 'p', 'R', 'D'};

struct DiskFork {
  le64 id;
  le64 last_events;
};
static_assert(sizeof(DiskFork) == 16);

struct DiskSlot {
  std::uint8_t member_uuid[16];
  std::uint8_t state;
  std::uint8_t remote;  // 0 or 1
  std::uint8_t reserved[6];
  le64 left_events;
  le64 data_blocks;
};
static_assert(sizeof(DiskSlot) == 40);

struct DiskHeader {
  char magic[8];
  le32 crc;  // CRC32C of length_bytes from the beginning, this field taken as 0
  le32 version;
  le32 length_bytes;  // header and slots
  le32 level;
  std::uint8_t array_uuid[16];
  le64 events;
  le64 fork_id;
  le64 num_blocks;
  le64 data_offset_blocks;
  le64 bitmap_offset_blocks;
  le64 region_blocks;
  le32 bitmap_blocks;
  le32 block_size;
  le32 strip_size_kib;
  le16 slot_count;
  le16 this_slot;
  le16 fork_count;
  std::uint8_t reserved[6];
  std::uint8_t host[16];
  DiskFork forks[superblock_max_forks];
  char name[256];  // zero-terminated
};
static_assert(sizeof(DiskHeader) == 512);
static_assert(sizeof(DiskHeader) + superblock_max_slots * sizeof(DiskSlot) <= superblock_copy_bytes);

std::uint32_t checksum(std::span<const std::byte> whole) {
  Crc32c crc;
  constexpr std::size_t at = offsetof(DiskHeader, crc);
  const std::uint32_t none = 0;
  crc.update(whole.data(), at);
  crc.update(&none, sizeof none);
  crc.update(whole.data() + at + sizeof none, whole.size() - at - sizeof none);
  return crc.value();
}

Result<void> check(const DiskHeader& header) {
  const auto bad = [](const char* field, std::uint64_t value) { return fail(EINVAL, fmt::format("superblock: {} of {} cannot be", field, value)); };
  if (header.slot_count == 0 || header.slot_count > superblock_max_slots) return bad("slot_count", header.slot_count);
  if (header.this_slot >= header.slot_count) return bad("this_slot", header.this_slot);
  if (header.fork_count > superblock_max_forks) return bad("fork_count", header.fork_count);
  const std::uint32_t block_size = header.block_size;
  if (block_size < 512 || block_size > 65536 || !std::has_single_bit(block_size)) return bad("block_size", block_size);
  if (header.length_bytes != sizeof(DiskHeader) + header.slot_count * sizeof(DiskSlot)) return bad("length_bytes", header.length_bytes);
  if (header.num_blocks == 0) return bad("num_blocks", 0);
  if (header.bitmap_blocks != 0 && header.region_blocks == 0) return bad("region_blocks", 0);
  if (header.name[sizeof header.name - 1] != 0) return bad("name's last byte", static_cast<std::uint8_t>(header.name[sizeof header.name - 1]));
  return {};
}

}  // namespace

Uuid uuid_from_text(const std::string& text) {
  Uuid uuid{};
  std::size_t digits = 0;
  for (const char c : text) {
    if (c == '-') continue;
    const int value = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (value < 0 || digits == 32) return {};
    uuid[digits / 2] = static_cast<std::uint8_t>(uuid[digits / 2] << 4 | value);
    ++digits;
  }
  return digits == 32 ? uuid : Uuid{};
}

std::string uuid_text(const Uuid& uuid) {
  std::string text;
  for (std::size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", uuid[i]);
  }
  return text;
}

std::vector<std::byte> encode_superblock(const Superblock& superblock) {
  const std::size_t length = sizeof(DiskHeader) + superblock.slots.size() * sizeof(DiskSlot);
  const std::size_t padded = (length + superblock.block_size - 1) / superblock.block_size * superblock.block_size;
  std::vector<std::byte> bytes(padded);
  DiskHeader header{};
  std::memcpy(header.magic, magic, sizeof magic);
  header.version = superblock_version;
  header.length_bytes = static_cast<std::uint32_t>(length);
  header.level = superblock.level;
  std::ranges::copy(superblock.array_uuid, header.array_uuid);
  std::ranges::copy(superblock.host, header.host);
  header.events = superblock.events;
  header.fork_id = superblock.fork_id;
  header.num_blocks = superblock.num_blocks;
  header.data_offset_blocks = superblock.data_offset_blocks;
  header.bitmap_offset_blocks = superblock.bitmap_offset_blocks;
  header.region_blocks = superblock.region_blocks;
  header.bitmap_blocks = superblock.bitmap_blocks;
  header.block_size = superblock.block_size;
  header.strip_size_kib = superblock.strip_size_kib;
  header.slot_count = static_cast<std::uint16_t>(superblock.slots.size());
  header.this_slot = static_cast<std::uint16_t>(superblock.this_slot);
  const std::size_t forks = std::min(superblock.earlier_forks.size(), superblock_max_forks);
  header.fork_count = static_cast<std::uint16_t>(forks);
  for (std::size_t i = 0; i < forks; ++i) header.forks[i] = {superblock.earlier_forks[i].id, superblock.earlier_forks[i].last_events};
  superblock.name.copy(header.name, sizeof header.name - 1);
  std::memcpy(bytes.data(), &header, sizeof header);
  for (std::size_t i = 0; i < superblock.slots.size(); ++i) {
    const SuperblockSlot& slot = superblock.slots[i];
    DiskSlot disk{};
    std::ranges::copy(slot.member_uuid, disk.member_uuid);
    disk.state = static_cast<std::uint8_t>(slot.state);
    disk.remote = slot.remote ? 1 : 0;
    disk.left_events = slot.left_events;
    disk.data_blocks = slot.data_blocks;
    std::memcpy(bytes.data() + sizeof header + i * sizeof disk, &disk, sizeof disk);
  }
  const le32 crc = checksum(std::span(bytes).first(length));
  std::memcpy(bytes.data() + offsetof(DiskHeader, crc), &crc, sizeof crc);
  return bytes;
}

Result<Superblock> decode_superblock(std::span<const std::byte> copy) {
  DiskHeader header;
  if (copy.size() < sizeof header) return fail(ENOENT, "no superblock");
  std::memcpy(&header, copy.data(), sizeof header);
  if (std::memcmp(header.magic, magic, sizeof magic) != 0) return fail(ENOENT, "no superblock");
  if (header.version != superblock_version) {
    return fail(EPROTONOSUPPORT, fmt::format("superblock of version {}, this program knows {}", std::uint32_t(header.version), superblock_version));
  }
  const std::uint32_t length = header.length_bytes;
  if (length < sizeof header || length > copy.size() || checksum(copy.first(length)) != header.crc) return fail(EILSEQ, "superblock: wrong checksum");
  if (auto fit = check(header); !fit) return std::unexpected(fit.error());
  Superblock superblock;
  superblock.name = header.name;
  std::ranges::copy(header.array_uuid, superblock.array_uuid.begin());
  std::ranges::copy(header.host, superblock.host.begin());
  superblock.level = header.level;
  superblock.block_size = header.block_size;
  superblock.strip_size_kib = header.strip_size_kib;
  superblock.num_blocks = header.num_blocks;
  superblock.data_offset_blocks = header.data_offset_blocks;
  superblock.bitmap_offset_blocks = header.bitmap_offset_blocks;
  superblock.bitmap_blocks = header.bitmap_blocks;
  superblock.region_blocks = header.region_blocks;
  superblock.events = header.events;
  superblock.fork_id = header.fork_id;
  superblock.this_slot = header.this_slot;
  for (std::size_t i = 0; i < header.fork_count; ++i) {
    SuperblockFork fork;
    fork.id = header.forks[i].id;
    fork.last_events = header.forks[i].last_events;
    superblock.earlier_forks.push_back(fork);
  }
  for (std::size_t i = 0; i < header.slot_count; ++i) {
    DiskSlot disk;
    std::memcpy(&disk, copy.data() + sizeof header + i * sizeof disk, sizeof disk);
    if (disk.state > static_cast<std::uint8_t>(SlotState::blank))
      return fail(EINVAL, fmt::format("superblock: state {} of slot {} cannot be", disk.state, i));
    SuperblockSlot slot;
    std::ranges::copy(disk.member_uuid, slot.member_uuid.begin());
    slot.state = static_cast<SlotState>(disk.state);
    slot.remote = disk.remote != 0;
    slot.left_events = disk.left_events;
    slot.data_blocks = disk.data_blocks;
    superblock.slots.push_back(slot);
  }
  return superblock;
}

Result<FoundSuperblock> newest_superblock(std::span<const std::byte> area) {
  std::optional<FoundSuperblock> newest;
  std::optional<Error> error;
  bool blank = false;
  for (std::uint32_t copy = 0; copy < 2 && (copy + 1) * std::size_t{superblock_copy_bytes} <= area.size(); ++copy) {
    auto read = decode_superblock(area.subspan(copy * std::size_t{superblock_copy_bytes}, superblock_copy_bytes));
    if (!read) {
      blank |= read.error().err == ENOENT;
      if (!error || error->err == ENOENT) error = read.error();
      continue;
    }
    if (newest && newest->superblock.events >= read->events) continue;
    newest.emplace();
    newest->superblock = std::move(*read);
    newest->copy = copy;
  }
  if (newest) newest->other_is_blank = blank;
  if (newest) return std::move(*newest);
  if (!error) error.emplace(ENOENT, "no superblock");
  return std::unexpected(*error);
}

}  // namespace catnap::bdev
