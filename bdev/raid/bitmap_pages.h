// The bitmap as it stands on a member, behind its superblocks (or on the bitmap_bdev): pages of one block each, with a checksum.
// A page is written whole and a device does not tear a block, so a page is the old or the new one; one whose checksum is wrong counts as all marked.
// Owner: the core's thread. Left out: when pages are written (raid1_marks.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "bdev/raid/raid1_meta.h"

namespace catnap::bdev::raid1 {

class BitmapPages {
 public:
  // Bytes before the bits: checksum, index, the array's tag.
  static constexpr std::uint32_t header_bytes = 16;
  static std::uint64_t regions_per_page(std::uint32_t block_size) { return (block_size - header_bytes) * std::uint64_t{8}; }
  static std::uint64_t pages_for(std::uint64_t regions, std::uint32_t block_size) {
    return (regions + regions_per_page(block_size) - 1) / regions_per_page(block_size);
  }

  // `tag`: of the array, so that another array's page is not taken for ours.
  BitmapPages(std::uint64_t regions, std::uint32_t block_size, std::uint64_t tag);

  std::uint64_t pages() const { return pages_; }
  std::uint64_t page_of(std::uint64_t region) const { return region / regions_per_page(block_size_); }
  bool test(std::uint64_t region) const;
  void set(std::uint64_t region, bool on);
  // The bytes of pages first..first+count-1, with checksums as of now.
  std::span<std::byte> sealed(std::uint64_t first, std::uint64_t count);
  // Sets what `bytes` (pages first.., as read from a member) have set; a page that is not good counts as all set. Returns how many were not good.
  std::uint64_t merge(std::uint64_t first, std::span<const std::byte> bytes);

 private:
  std::byte* page(std::uint64_t index) const { return memory_.data() + index * block_size_; }
  std::uint32_t checksum(const std::byte* page) const;

  std::uint64_t regions_;
  std::uint32_t block_size_;
  std::uint64_t tag_;
  std::uint64_t pages_;
  MetaBuffer memory_;
};

}  // namespace catnap::bdev::raid1
