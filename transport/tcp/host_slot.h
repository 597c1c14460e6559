// A command of the host that has a place in its submission queue: what of it is to be sent, and how far its data has come.
// Owner: its HostQueue. Left out: the rules (host_commands.cpp, host_receive.cpp).
#pragma once

#include <array>
#include <cstdint>

#include "transport/tcp/host_queue.h"

namespace catnap::tcp {

// Made with the queue; the index is the low part of the CID, the high part counts uses, so that an answer to an earlier use is noticed.
struct HostQueue::Slot {
  static constexpr unsigned generation_shift = 12;

  HostRequest* request = nullptr;  // null: free
  std::uint16_t index = 0;
  std::uint8_t generation = 0;  // 0..15
  bool in_capsule = false;
  bool answered = false;    // the answer is there, but bytes of its data are half sent: they are the user's memory
  bool digest_bad = false;  // of data that came
  std::uint16_t ttag = 0;
  std::uint32_t moved_bytes = 0;    // of the data: received, or handed to the send queue
  std::uint32_t r2t_end_bytes = 0;  // the R2T under way asks for data up to here; moved_bytes: none is
  SendItem command;
  SendItem data;
  std::array<std::byte, sizeof(CapsuleCmd) + digest_bytes> capsule;
  Slot* older = nullptr;
  Slot* newer = nullptr;
  Slot* next_free = nullptr;

  std::uint16_t cid() const { return static_cast<std::uint16_t>(generation << generation_shift | index); }
};

// The digest of `length_bytes` of a command's data, from its byte `offset` on.
std::uint32_t data_digest(const HostRequest& request, std::uint32_t offset, std::uint32_t length_bytes);

}  // namespace catnap::tcp
