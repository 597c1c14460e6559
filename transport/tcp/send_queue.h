// What one connection has to send, in order, gathered into as few sendmsg calls as possible; lent memory is locked for exactly one call.
// Owner: the queue pair's thread. Left out: when to flush (turn end, EPOLLOUT: queue_pair.cpp), what PDUs say.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "reactor/base/error.h"
#include "transport/command_sink.h"
#include "transport/tls/stream.h"

namespace catnap::tcp {

// One PDU, or a C2HData with the CapsuleResp that follows it: head, padding, data, tail. Lives in a request slot; intrusive.
struct SendItem {
  static constexpr std::size_t head_room_bytes = 28;  // C2HData or R2T with header digest
  static constexpr std::size_t tail_room_bytes = 32;  // data digest, CapsuleResp with header digest

  std::array<std::byte, head_room_bytes> head;
  std::array<std::byte, tail_room_bytes> tail;
  std::uint8_t head_bytes = 0;
  std::uint8_t pad_bytes = 0;  // zeroes between head and data (HPDA)
  std::uint8_t tail_bytes = 0;
  bool queued = false;
  bool owes_digest = false;  // the tail begins with room for the data digest of lent memory, whose bytes may change until they are locked
  std::uint32_t data_bytes = 0;
  std::uint32_t sent_bytes = 0;  // of the whole item
  const std::byte* data = nullptr;
  // When set, the data are `data_bytes` bytes of this list instead, from its byte `pieces_at` on; at most SendQueue::max_item_pieces of it.
  const iovec* pieces = nullptr;
  std::uint32_t piece_count = 0;
  std::uint32_t pieces_at = 0;
  transport::Lease lease;  // base != null: data is lent memory
  std::unique_ptr<std::byte[]> copied_out;
  SendItem* next = nullptr;
  void* owner = nullptr;  // whatever the queue pair wants back in on_sent

  std::uint32_t total_bytes() const { return std::uint32_t{head_bytes} + pad_bytes + data_bytes + tail_bytes; }
  void clear();
};

class SendQueue {
 public:
  // Pieces of data that one item may have: with head, padding and tail it still fits one sendmsg.
  static constexpr std::uint32_t max_item_pieces = 192;
  // Called when an item's last byte was taken by the socket; the item is off the queue then and may be reused within the call.
  using OnSent = std::function<void(SendItem&)>;

  explicit SendQueue(OnSent on_sent) : on_sent_(std::move(on_sent)) {}
  ~SendQueue() { drop_all(); }
  SendQueue(const SendQueue&) = delete;
  SendQueue& operator=(const SendQueue&) = delete;

  void push(SendItem& item);
  bool empty() const { return first_ == nullptr; }
  // Bytes of lent memory queued: the queue pair stops lending at a bound, as what a send does not take must be copied.
  std::uint64_t lent_bytes() const { return lent_bytes_; }
  // Bytes of data in queued items, those that are partly out counted whole.
  std::uint64_t data_bytes() const { return data_bytes_; }

  enum class Outcome : std::uint8_t { drained, blocked, failed };
  struct Flushed {
    Outcome outcome;
    int err;  // errno when failed
    std::uint64_t bytes;
    std::uint32_t calls;
  };
  // Sends until the queue is empty, the socket takes no more, or send_budget_bytes went out (then `drained` is false and the caller comes back:
  // blocked).
  // `tls` (null: cleartext) moves the bytes instead of the socket, and what it holds back counts as queued.
  Flushed flush(int fd, tls::Stream* tls = nullptr);
  // Takes an item off that was not begun; false: it was (or is not queued). A walk along the queue.
  bool remove_unstarted(SendItem& item);
  // Forgets everything but a partly sent first item (a PDU must not be cut in the middle before a C2HTermReq).
  void drop_unstarted();
  void drop_all();

 private:
  struct Batch;
  Flushed send_all(int fd, tls::Stream* tls);
  void gather(Batch& batch) const;
  void settle(Batch& batch, std::size_t sent_bytes);
  void stop_borrowing(SendItem& item);
  void copy_out_lent();
  static void lock_lent(SendItem& item);
  void forget(SendItem& item);

  SendItem* first_ = nullptr;
  SendItem* last_ = nullptr;
  std::uint64_t lent_bytes_ = 0;
  std::uint64_t data_bytes_ = 0;
  OnSent on_sent_;
};

}  // namespace catnap::tcp
