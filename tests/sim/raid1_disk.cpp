// See raid1_disk.h.
#include "tests/sim/raid1_disk.h"

#include <algorithm>

namespace catnap::sim {

using bdev::BdevIo;
using bdev::Op;
using bdev::Status;

SimDisk::Block SimDisk::source_block(const BdevIo& io, std::uint64_t index) {
  Block data{};
  if (io.op != Op::write) return data;
  std::uint64_t skip = index * block_size;
  for (std::uint32_t i = 0; i < io.iov_count; ++i) {
    if (skip >= io.iov[i].iov_len) {
      skip -= io.iov[i].iov_len;
      continue;
    }
    std::memcpy(data.data(), static_cast<const std::byte*>(io.iov[i].iov_base) + skip, block_size);  // pieces are whole blocks here
    break;
  }
  return data;
}

void SimDisk::write_block(std::uint64_t block, const Block& data, bool durable) {
  bad_.erase(block);
  if (!durable) {
    unflushed_.push_back({block, clock_++, data});
    return;
  }
  std::erase_if(unflushed_, [block](const Version& version) { return version.block == block; });
  durable_[block] = data;
}

Status SimDisk::end(const BdevIo& io, std::uint64_t ticket, Random& random) {
  if (dead_) {
    if (io.op == Op::write || io.op == Op::write_zeroes || io.op == Op::unmap) tear(io, random);
    return Status::removed;
  }
  switch (io.op) {
    case Op::read: {
      for (std::uint64_t i = 0; i < io.num_blocks; ++i) {
        if (bad_.contains(io.offset_blocks + i)) return Status::media_error;
      }
      std::uint64_t at = 0;
      for (std::uint32_t piece = 0; piece < io.iov_count; ++piece) {
        for (std::size_t offset = 0; offset < io.iov[piece].iov_len; offset += block_size) {
          const Block data = view(io.offset_blocks + at++);
          std::memcpy(static_cast<std::byte*>(io.iov[piece].iov_base) + offset, data.data(), block_size);
        }
      }
      return Status::ok;
    }
    case Op::write:
    case Op::write_zeroes:
    case Op::unmap:
      if (fail_next_write_) {
        fail_next_write_ = false;
        tear(io, random);
        return Status::write_error;
      }
      for (std::uint64_t i = 0; i < io.num_blocks; ++i) write_block(io.offset_blocks + i, source_block(io, i), io.fua);
      return Status::ok;
    case Op::flush: {
      // Everything that had ended before the flush was asked for.
      for (const Version& version : unflushed_) {
        if (version.at < ticket) durable_[version.block] = version.data;
      }
      std::erase_if(unflushed_, [ticket](const Version& version) { return version.at < ticket; });
      return Status::ok;
    }
    default:
      return Status::ok;
  }
}

void SimDisk::tear(const BdevIo& io, Random& random) {
  if (io.op != Op::write && io.op != Op::write_zeroes && io.op != Op::unmap) return;
  for (std::uint64_t i = 0; i < io.num_blocks; ++i) {
    if (random() % 2 == 0) write_block(io.offset_blocks + i, source_block(io, i), random() % 2 == 0);
  }
}

// A cache writes back in any order: each block may have any of its versions.
void SimDisk::lose_unflushed(Random& random) {
  while (!unflushed_.empty()) {
    const std::uint64_t block = unflushed_.front().block;
    std::vector<Block> versions;
    for (const Version& version : unflushed_) {
      if (version.block == block) versions.push_back(version.data);
    }
    const std::uint64_t kept = random() % (versions.size() + 1);
    if (kept > 0) durable_[block] = versions[kept - 1];
    std::erase_if(unflushed_, [block](const Version& version) { return version.block == block; });
  }
}

}  // namespace catnap::sim
