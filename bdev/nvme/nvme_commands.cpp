// See nvme_commands.h.
#include "bdev/nvme/nvme_commands.h"

#include <algorithm>

#include "bdev/iov.h"
#include "transport/nvme/command.h"

namespace catnap::bdev {
namespace {

using nvme::IoOpcode;
using transport::DataDirection;

constexpr std::uint64_t max_blocks = 65536;  // NLB has 16 bits

void set_blocks(nvme::SubmissionEntry& sqe, IoOpcode opcode, const BdevIo& io) {
  sqe.opcode = static_cast<std::uint8_t>(opcode);
  sqe.set_slba(io.offset_blocks);
  sqe.cdw12 = static_cast<std::uint32_t>(io.num_blocks - 1) | (io.fua ? nvme::cdw12_fua : 0U);
}

void set_data(tcp::HostRequest& request, DataDirection direction, const iovec* iov, std::uint32_t count, std::uint64_t bytes) {
  request.direction = direction;
  request.iov = iov;
  request.iov_count = count;
  request.data_bytes = static_cast<std::uint32_t>(bytes);
}

bool build_transfer(NvmeIo& io, IoOpcode opcode, DataDirection direction, std::uint32_t block_size) {
  const BdevIo& user = *io.io;
  set_blocks(io.request.sqe, opcode, user);
  set_data(io.request, direction, user.iov, user.iov_count, user.num_blocks * block_size);
  return true;
}

bool build_unmap(NvmeIo& io) {
  const BdevIo& user = *io.io;
  io.request.sqe.opcode = static_cast<std::uint8_t>(IoOpcode::dataset_management);
  io.request.sqe.cdw11 = nvme::dsm_deallocate;
  io.range = {};
  io.range.slba = user.offset_blocks;
  io.range.blocks = static_cast<std::uint32_t>(user.num_blocks);
  io.range_iov = {&io.range, sizeof io.range};
  set_data(io.request, DataDirection::host_to_controller, &io.range_iov, 1, sizeof io.range);
  return true;
}

// Both halves of a fused pair: the user's list has what must be there, then what to write.
bool build_fused(NvmeIo& io, std::uint32_t block_size, std::uint32_t acwu_blocks) {
  const BdevIo& user = *io.io;
  if (user.num_blocks > acwu_blocks) return false;
  const std::uint64_t half = user.num_blocks * block_size;
  IovCursor cursor(user.iov, user.iov_count);
  io.pieces.clear();
  io.pieces.reserve(2 * std::size_t{user.iov_count} + 2);
  cursor.take(half, 0, 1, io.pieces);
  const std::size_t first = io.pieces.size();
  cursor.take(half, 0, 1, io.pieces);
  const std::size_t second = io.pieces.size() - first;
  if (first > tcp::HostQueue::max_segments || second > tcp::HostQueue::max_segments) return false;
  set_blocks(io.request.sqe, IoOpcode::compare, user);
  io.request.sqe.cdw12 = static_cast<std::uint32_t>(user.num_blocks - 1);
  io.request.sqe.flags |= static_cast<std::uint8_t>(nvme::Fuse::first);
  set_data(io.request, DataDirection::host_to_controller, io.pieces.data(), static_cast<std::uint32_t>(first), half);
  io.second.sqe = {};
  set_blocks(io.second.sqe, IoOpcode::write, user);
  io.second.sqe.flags |= static_cast<std::uint8_t>(nvme::Fuse::second);
  set_data(io.second, DataDirection::host_to_controller, io.pieces.data() + first, static_cast<std::uint32_t>(second), half);
  io.request.second = &io.second;
  return true;
}

std::uint64_t distance(const BdevIo& io) {
  return io.offset_blocks > io.source_offset_blocks ? io.offset_blocks - io.source_offset_blocks : io.source_offset_blocks - io.offset_blocks;
}

// The next part of a copy: never one that overlaps itself, of which controllers promise nothing (NVM Command Set 1.0c section 3.2.2), and from the
// end on where the destination lies behind, as memmove does it.
bool build_copy(NvmeIo& io, const CommandLimits& limits) {
  const BdevIo& user = *io.io;
  if (limits.copy_blocks == 0) return false;
  const std::uint64_t left = user.num_blocks - io.copied_blocks;
  io.part_blocks = std::min({left, std::uint64_t{limits.copy_blocks}, std::max<std::uint64_t>(distance(user), 1)});
  const std::uint64_t at = user.offset_blocks > user.source_offset_blocks ? left - io.part_blocks : io.copied_blocks;
  io.sources.clear();
  io.sources.reserve(max_copy_sources);
  for (std::uint64_t done = 0; done < io.part_blocks;) {
    const std::uint64_t blocks = std::min<std::uint64_t>(io.part_blocks - done, limits.copy_range_blocks);
    nvme::CopyRange range;
    range.slba = user.source_offset_blocks + at + done;
    range.nlb = static_cast<std::uint16_t>(blocks - 1);
    io.sources.push_back(range);
    done += blocks;
  }
  nvme::SubmissionEntry& sqe = io.request.sqe;
  sqe.opcode = static_cast<std::uint8_t>(IoOpcode::copy);
  sqe.set_slba(user.offset_blocks + at);
  sqe.cdw12 = static_cast<std::uint32_t>(io.sources.size() - 1) | (user.fua ? nvme::cdw12_fua : 0U);
  io.range_iov = {io.sources.data(), io.sources.size() * sizeof(nvme::CopyRange)};
  set_data(io.request, DataDirection::host_to_controller, &io.range_iov, 1, io.range_iov.iov_len);
  return true;
}

bool reads(Op op) { return op == Op::read || op == Op::compare || op == Op::verify; }

}  // namespace

bool build_next(NvmeIo& io, const CommandLimits& limits) {
  if (io.io->op != Op::copy) return false;
  io.copied_blocks += io.part_blocks;
  return io.copied_blocks < io.io->num_blocks && build_copy(io, limits);
}

bool build_commands(NvmeIo& io, std::uint32_t block_size, const CommandLimits& limits) {
  const BdevIo& user = *io.io;
  io.copied_blocks = 0;
  io.request.sqe = {};
  io.request.second = nullptr;
  set_data(io.request, DataDirection::none, nullptr, 0, 0);
  const bool any_length = user.op == Op::unmap || user.op == Op::flush || user.op == Op::copy;
  if (!any_length && user.num_blocks > max_blocks) return false;
  switch (user.op) {
    case Op::read:
      return build_transfer(io, IoOpcode::read, DataDirection::controller_to_host, block_size);
    case Op::write:
      return build_transfer(io, IoOpcode::write, DataDirection::host_to_controller, block_size);
    case Op::compare:
      return build_transfer(io, IoOpcode::compare, DataDirection::host_to_controller, block_size);
    case Op::flush:
      io.request.sqe.opcode = static_cast<std::uint8_t>(IoOpcode::flush);
      return true;
    case Op::unmap:
      return build_unmap(io);
    case Op::write_zeroes:
      set_blocks(io.request.sqe, IoOpcode::write_zeroes, user);
      return true;
    case Op::verify:
      set_blocks(io.request.sqe, IoOpcode::verify, user);
      return true;
    case Op::write_uncorrectable:
      set_blocks(io.request.sqe, IoOpcode::write_uncorrectable, user);
      return true;
    case Op::compare_and_write:
      return build_fused(io, block_size, limits.compare_and_write_blocks);
    case Op::copy:
      return build_copy(io, limits);
    default:
      return false;  // reset has no command
  }
}

Status status_of_nvme(nvme::Status status, Op op) {
  using nvme::CommandStatus;
  using nvme::GenericStatus;
  using nvme::MediaStatus;
  static constexpr struct {
    nvme::Status from;
    Status to;
  } table[] = {
      {GenericStatus::success, Status::ok},
      {GenericStatus::invalid_opcode, Status::not_supported},
      {GenericStatus::invalid_field, Status::invalid},
      {GenericStatus::abort_requested, Status::aborted},
      {GenericStatus::invalid_namespace_or_format, Status::removed},
      {GenericStatus::lba_out_of_range, Status::out_of_range},
      {GenericStatus::capacity_exceeded, Status::no_space},
      {MediaStatus::compare_failure, Status::compare_failed},
      {MediaStatus::unrecovered_read_error, Status::media_error},
      {MediaStatus::write_fault, Status::write_error},
  };
  const auto* found = std::ranges::find_if(table, [status](const auto& row) { return row.from.same_code(status); });
  if (found != std::end(table)) return found->to;
  return reads(op) ? Status::read_error : Status::write_error;
}

bool changes_blocks(Op op) {
  return op == Op::write || op == Op::write_zeroes || op == Op::unmap || op == Op::compare_and_write || op == Op::write_uncorrectable ||
         op == Op::copy;
}

// A copy whose parts change each other's source is one only as long as it is known what each has done.
bool is_repeatable(const BdevIo& io) {
  if (io.op == Op::copy) return distance(io) >= io.num_blocks;
  return io.op != Op::compare_and_write;
}

}  // namespace catnap::bdev
