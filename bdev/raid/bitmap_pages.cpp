// See bitmap_pages.h.
#include "bdev/raid/bitmap_pages.h"

#include <algorithm>
#include <cstring>

#include "reactor/base/crc32c.h"
#include "reactor/base/le.h"

namespace catnap::bdev::raid1 {
namespace {

struct DiskPageHeader {
  le32 crc;    // CRC32C of the page from `index` on
  le32 index;  // of the page
  le64 tag;    // the array's
};
static_assert(sizeof(DiskPageHeader) == BitmapPages::header_bytes);

}  // namespace

BitmapPages::BitmapPages(std::uint64_t regions, std::uint32_t block_size, std::uint64_t tag)
    : regions_(regions), block_size_(block_size), tag_(tag), pages_(pages_for(regions, block_size)), memory_(pages_ * block_size) {}

bool BitmapPages::test(std::uint64_t region) const {
  const std::uint64_t bit = region % regions_per_page(block_size_);
  return (std::to_integer<unsigned>(page(page_of(region))[header_bytes + bit / 8]) >> (bit % 8) & 1) != 0;
}

void BitmapPages::set(std::uint64_t region, bool on) {
  const std::uint64_t bit = region % regions_per_page(block_size_);
  std::byte& byte = page(page_of(region))[header_bytes + bit / 8];
  const auto mask = static_cast<std::byte>(1u << (bit % 8));
  byte = on ? byte | mask : byte & ~mask;
}

std::uint32_t BitmapPages::checksum(const std::byte* bytes) const { return crc32c(bytes + sizeof(le32), block_size_ - sizeof(le32)); }

std::span<std::byte> BitmapPages::sealed(std::uint64_t first, std::uint64_t count) {
  for (std::uint64_t i = first; i < first + count; ++i) {
    DiskPageHeader header;
    header.index = static_cast<std::uint32_t>(i);
    header.tag = tag_;
    std::memcpy(page(i), &header, sizeof header);
    header.crc = checksum(page(i));
    std::memcpy(page(i), &header, sizeof header);
  }
  return {page(first), count * block_size_};
}

std::uint64_t BitmapPages::merge(std::uint64_t first, std::span<const std::byte> bytes) {
  std::uint64_t bad = 0;
  for (std::uint64_t i = 0; i < bytes.size() / block_size_; ++i) {
    const std::byte* from = bytes.data() + i * block_size_;
    DiskPageHeader header;
    std::memcpy(&header, from, sizeof header);
    const bool good = header.index == first + i && header.tag == tag_ && header.crc == checksum(from);
    bad += good ? 0 : 1;
    std::byte* to = page(first + i);
    for (std::uint32_t at = header_bytes; at < block_size_; ++at) to[at] |= good ? from[at] : std::byte{0xff};
  }
  // Bits behind the last region stay clear.
  for (std::uint64_t region = regions_; region < pages_ * regions_per_page(block_size_); ++region) set(region, false);
  return bad;
}

}  // namespace catnap::bdev::raid1
