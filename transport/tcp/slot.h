// One command of a queue pair: the request the sink sees, its buffer, and what of it is to be sent.
// Owner: its queue pair. Left out: the rules of moving between states (queue_pair.cpp).
#pragma once

#include <cstdint>
#include <memory>

#include "reactor/buffer_pool.h"
#include "transport/command_sink.h"
#include "transport/tcp/send_queue.h"

namespace catnap::tcp {

enum class SlotState : std::uint8_t {
  free,
  receiving,       // planned; its in-capsule data is arriving
  held,            // the sink said `wait`
  waiting_buffer,  // in the pool's line
  waiting_data,    // R2T sent or queued, H2CData expected
  executing,       // the sink has it
  kept,            // the sink had it and holds it back, with its data
  taking_back,     // aborted while an R2T is half sent: answered when that is out
  sending,         // completed; the answer is on its way
  draining,        // aborted and answered; data for R2Ts that the host has seen may still come
};

// Made on first use and kept for the life of the connection; the index is the transfer tag (checked before use).
// 128 bytes of the sink's, 120 of NVMe entries and bookkeeping, the rest for sending: more than the 256 bytes once aimed at (docs/architecture.md).
struct Slot : transport::Request {
  explicit Slot(std::uint16_t slot_index) : index(slot_index) { tx.owner = this; }

  SlotState state = SlotState::free;
  bool in_capsule = false;  // the command's data came (or comes) with the capsule
  bool digest_bad = false;
  bool owns_cid = false;       // false: another outstanding command has the same CID
  bool data_complete = false;  // in-capsule data all received
  bool aborted = false;        // taken back: data for its R2Ts is thrown away
  std::uint16_t index;
  std::uint16_t r2ts_outstanding = 0;
  std::uint32_t received_bytes = 0;   // host data so far
  std::uint32_t asked_bytes = 0;      // R2Ts sent so far cover [0, asked_bytes)
  std::uint32_t r2t_bytes = 0;        // each R2T but the last asks for this much
  std::uint64_t data_since_ns = 0;    // when the oldest outstanding R2T was queued, or a good part of its data last came
  std::uint64_t buffer_since_ns = 0;  // when the host began to owe data for the buffer
  Buffer buffer;
  std::uint32_t heap_bytes = 0;
  std::unique_ptr<std::byte[]> heap;  // in-capsule data that found the buffer pool at its cap: bounded by queue depth times IOCCSZ
  std::unique_ptr<BufferWaiter> waiter;
  SendItem tx;
  Slot* next_free = nullptr;
};
static_assert(sizeof(Slot) <= 576, "a queue of 128 must stay small");

}  // namespace catnap::tcp
