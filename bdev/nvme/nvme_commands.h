// One I/O of a namespace's bdev as NVMe commands.
// Owner: the channel. Left out: sending them (nvme_channel.h).
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <vector>

#include "bdev/bdev.h"
#include "transport/nvme/copy.h"
#include "transport/nvme/dsm.h"
#include "transport/tcp/host_queue.h"

namespace catnap::bdev {

// Made by a channel when it needs one more than ever before, and used again and again.
struct NvmeIo {
  tcp::HostRequest request;
  tcp::HostRequest second;  // the write of a fused pair
  BdevIo* io = nullptr;     // null: not in use
  void* channel = nullptr;  // NvmeChannel
  void* path = nullptr;     // NvmeChannel::Path it is on
  std::uint32_t halves_left = 0;
  std::uint32_t retries = 0;  // that were counted
  bool maybe_done = false;    // a try was lost behind the command: it may have been carried out, or still be
  bool abort_asked = false;
  bool waiting = false;  // for a path
  bool delayed = false;
  std::uint64_t started_ns = 0;  // of this try
  std::uint64_t due_ns = 0;      // delayed
  std::uint64_t quiet_ns = 0;    // maybe_done: from then on no lost try is carried out any more
  NvmeIo* next = nullptr;
  nvme::DsmRange range;
  iovec range_iov{};
  std::vector<iovec> pieces;  // of both halves of a fused pair
  // Copy goes in parts, one after the other.
  std::uint64_t copied_blocks = 0;
  std::uint64_t part_blocks = 0;
  std::vector<nvme::CopyRange> sources;
};

// What of a namespace bounds its commands, besides what the core cuts I/Os to. Blocks; 0: it has no such command.
struct CommandLimits {
  std::uint32_t compare_and_write_blocks = 0;  // of a fused pair
  std::uint32_t copy_range_blocks = 0;         // of one source range of a Copy
  std::uint32_t copy_blocks = 0;               // of all ranges of a Copy together
};

// Fills `request` (and `second`) in for `io.io` but for the NSID. False: no command can carry this out (Status::invalid).
bool build_commands(NvmeIo& io, std::uint32_t block_size, const CommandLimits& limits);
// The command of `io` has succeeded: builds the next one of a copy. False: that was all.
bool build_next(NvmeIo& io, const CommandLimits& limits);
// What a status means for the user of a bdev.
Status status_of_nvme(nvme::Status status, Op op);
// What a read finds afterwards is another.
bool changes_blocks(Op op);
// Carried out twice it leaves what it leaves carried out once.
bool is_repeatable(const BdevIo& io);
// Source ranges of one Copy at most: more would only make a host's commands larger.
inline constexpr std::uint32_t max_copy_sources = 16;

}  // namespace catnap::bdev
