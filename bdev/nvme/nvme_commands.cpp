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

bool reads(Op op) { return op == Op::read || op == Op::compare || op == Op::verify; }

}  // namespace

bool build_commands(NvmeIo& io, std::uint32_t block_size, std::uint32_t acwu_blocks) {
  const BdevIo& user = *io.io;
  io.request.sqe = {};
  io.request.second = nullptr;
  set_data(io.request, DataDirection::none, nullptr, 0, 0);
  if (user.op != Op::unmap && user.op != Op::flush && user.num_blocks > max_blocks) return false;
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
      return build_fused(io, block_size, acwu_blocks);
    default:
      return false;  // reset has no command, copy is the core's
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
  return op == Op::write || op == Op::write_zeroes || op == Op::unmap || op == Op::compare_and_write || op == Op::write_uncorrectable;
}

bool is_repeatable(Op op) { return op != Op::compare_and_write && op != Op::copy; }

}  // namespace catnap::bdev
