// See send_queue.h.
#include "transport/tcp/send_queue.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "reactor/base/check.h"
#include "reactor/base/crc32c.h"

namespace catnap::tcp {
namespace {

// Pieces of one sendmsg: 4 a response, so 64 responses; the kernel's own bound is 1024 (UIO_MAXIOV).
constexpr std::size_t max_pieces = 256;
// Bytes of one sendmsg: about what a socket's send buffer takes; more would only lengthen the time that lent memory is locked.
constexpr std::size_t max_batch_bytes = std::size_t{1} << 20;
// Calls of one flush: one connection must not keep its poll group from the others.
constexpr std::uint32_t send_budget_calls = 4;
// Lent data of at least this much is read once before it is sent (docs/performance.md: 1.04 to 1.12 in IOPS from here up to 1 MiB, none or a loss
// below).
constexpr std::uint32_t read_through_from_bytes = 32U << 10;
constexpr std::uint32_t cache_line_bytes = 64;
// PDU data alignment pads at most this much (HPDA 31: 128 bytes).
constexpr std::array<std::byte, 128> zeroes{};

// A disk's memory is in no cache. One load for each line brings it there faster than the kernel's copy instruction does, which then finds it.
void read_through(const std::byte* data, std::uint32_t bytes) {
  if (bytes < read_through_from_bytes) return;
  unsigned sum = 0;
  for (std::uint32_t at = 0; at < bytes; at += cache_line_bytes) sum += std::to_integer<unsigned>(data[at]);
  asm volatile("" : : "r"(sum));  // the loads are wanted, the sum is not
}

}  // namespace

void SendItem::clear() {
  head_bytes = pad_bytes = tail_bytes = 0;
  owes_digest = false;
  data_bytes = sent_bytes = 0;
  data = nullptr;
  pieces = nullptr;
  lease = {};
  copied_out.reset();
}

struct SendQueue::Batch {
  std::array<iovec, max_pieces> pieces;
  std::size_t piece_count = 0;
  std::size_t bytes = 0;
  std::size_t max_bytes = max_batch_bytes;
  SendItem* end = nullptr;  // first item that is not in the batch

  bool has_room() const { return piece_count + 4 <= max_pieces && bytes < max_bytes; }
  bool has_room_for(const SendItem& item) const { return item.pieces == nullptr || piece_count + item.piece_count + 3 <= max_pieces; }
  // Adds [base, base + length) of which `skip` bytes are sent already; lowers skip by what it swallowed.
  void add(const std::byte* base, std::uint32_t length, std::uint32_t& skip) {
    const std::uint32_t skipped = std::min(skip, length);
    skip -= skipped;
    if (length == skipped) return;
    pieces[piece_count++] = {const_cast<std::byte*>(base) + skipped, length - skipped};
    bytes += length - skipped;
  }
  // Of a scatter list: what of it belongs to the item.
  void add_pieces(const SendItem& item, std::uint32_t& skip) {
    std::uint32_t before = item.pieces_at;
    std::uint32_t left = item.data_bytes;
    for (std::uint32_t i = 0; left > 0; ++i) {
      const iovec& piece = item.pieces[i];
      const auto left_out = static_cast<std::uint32_t>(std::min<std::size_t>(before, piece.iov_len));
      before -= left_out;
      const auto length = static_cast<std::uint32_t>(std::min<std::size_t>(left, piece.iov_len - left_out));
      left -= length;
      if (length > 0) add(static_cast<const std::byte*>(piece.iov_base) + left_out, length, skip);
    }
  }
};
static_assert(SendQueue::max_item_pieces + 3 <= max_pieces);

void SendQueue::push(SendItem& item) {
  CATNAP_DCHECK(!item.queued);
  item.queued = true;
  item.next = nullptr;
  (last_ != nullptr ? last_->next : first_) = &item;
  last_ = &item;
  data_bytes_ += item.data_bytes;
  if (item.lease.base != nullptr) lent_bytes_ += item.data_bytes;
}

void SendQueue::gather(Batch& batch) const {
  SendItem* item = first_;
  for (; item != nullptr && batch.has_room() && batch.has_room_for(*item); item = item->next) {
    if (item->lease.base != nullptr) lock_lent(*item);
    std::uint32_t skip = item->sent_bytes;
    batch.add(item->head.data(), item->head_bytes, skip);
    batch.add(zeroes.data(), item->pad_bytes, skip);
    if (item->pieces == nullptr) [[likely]] {
      batch.add(item->data, item->data_bytes, skip);
    } else {
      batch.add_pieces(*item, skip);
    }
    batch.add(item->tail.data(), item->tail_bytes, skip);
  }
  batch.end = item;
}

// From here until stop_borrowing() the bytes stay as they are: what is digested is what is sent, or copied.
void SendQueue::lock_lent(SendItem& item) {
  item.lease.lender->lock_for_send(item.lease.offset_bytes, item.data_bytes);
  if (!item.owes_digest) return read_through(item.data, item.data_bytes);
  const le32 digest = crc32c(item.data, item.data_bytes);
  std::memcpy(item.tail.data(), &digest, sizeof digest);
  item.owes_digest = false;
}

// Notes what was sent. Lent data that did not go out whole is copied while the lock is still held: the bytes after a cut must belong to those before
// it, and a host that stops reading must not pin a device's memory.
void SendQueue::settle(Batch& batch, std::size_t sent_bytes) {
  for (SendItem* item = first_; item != batch.end; item = item->next) {
    const auto part = static_cast<std::uint32_t>(std::min<std::size_t>(sent_bytes, item->total_bytes() - item->sent_bytes));
    item->sent_bytes += part;
    sent_bytes -= part;
    if (item->lease.base != nullptr) stop_borrowing(*item);
  }
  while (first_ != nullptr && first_->sent_bytes == first_->total_bytes()) {
    SendItem& done = *first_;
    first_ = done.next;
    if (first_ == nullptr) last_ = nullptr;
    forget(done);
    on_sent_(done);
  }
}

// Under the lock taken for the send: what did not go out whole is copied, then the lock goes.
void SendQueue::stop_borrowing(SendItem& item) {
  if (item.sent_bytes < item.total_bytes()) {
    item.copied_out = std::make_unique_for_overwrite<std::byte[]>(item.data_bytes);
    std::memcpy(item.copied_out.get(), item.data, item.data_bytes);
    item.data = item.copied_out.get();
  }
  item.lease.lender->unlock_after_send(item.lease.offset_bytes, item.data_bytes);
  item.lease = {};
  lent_bytes_ -= item.data_bytes;
}

// The items that no sendmsg of this flush came to.
void SendQueue::copy_out_lent() {
  if (lent_bytes_ == 0) return;
  for (SendItem* item = first_; item != nullptr; item = item->next) {
    if (item->lease.base == nullptr) continue;
    lock_lent(*item);
    stop_borrowing(*item);
  }
}

SendQueue::Flushed SendQueue::flush(int fd, tls::Stream* tls) {
  const Flushed result = send_all(fd, tls);
  copy_out_lent();
  return result;
}

SendQueue::Flushed SendQueue::send_all(int fd, tls::Stream* tls) {
  Flushed result{Outcome::drained, 0, 0, 0};
  if (tls != nullptr && tls->has_unsent()) {
    const ssize_t sent = tls->flush(fd);
    ++result.calls;
    if (sent < 0) {
      result.err = errno;
      result.outcome = result.err == EAGAIN ? Outcome::blocked : Outcome::failed;
      return result;
    }
    result.bytes += static_cast<std::uint64_t>(sent);
  }
  while (first_ != nullptr) {
    if (result.calls == send_budget_calls) {
      result.outcome = Outcome::blocked;  // level-triggered EPOLLOUT brings us back in the next turn
      return result;
    }
    Batch batch;
    if (tls != nullptr) batch.max_bytes = tls::Stream::max_send_bytes;
    gather(batch);
    msghdr message{};
    message.msg_iov = batch.pieces.data();
    message.msg_iovlen = batch.piece_count;
    const ssize_t sent = tls == nullptr ? sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) : tls->send(fd, batch.pieces.data(), batch.piece_count);
    const int err = errno;
    ++result.calls;
    settle(batch, sent > 0 ? static_cast<std::size_t>(sent) : 0);
    if (sent < 0) {
      if (err == EINTR) continue;
      result.outcome = err == EAGAIN || err == EWOULDBLOCK ? Outcome::blocked : Outcome::failed;
      result.err = err;
      return result;
    }
    result.bytes += static_cast<std::uint64_t>(sent);
    if (static_cast<std::size_t>(sent) < batch.bytes || (tls != nullptr && tls->has_unsent())) {
      result.outcome = Outcome::blocked;
      return result;
    }
  }
  return result;
}

bool SendQueue::remove_unstarted(SendItem& item) {
  if (!item.queued || item.sent_bytes > 0) return false;
  SendItem* before = nullptr;
  for (SendItem* at = first_; at != &item; at = at->next) before = at;
  (before == nullptr ? first_ : before->next) = item.next;
  if (last_ == &item) last_ = before;
  forget(item);
  return true;
}

// It is off the list.
void SendQueue::forget(SendItem& item) {
  data_bytes_ -= item.data_bytes;
  if (item.lease.base != nullptr) lent_bytes_ -= item.data_bytes;
  item.queued = false;
}

void SendQueue::drop_unstarted() {
  SendItem* keep = first_ != nullptr && first_->sent_bytes > 0 ? first_ : nullptr;
  SendItem* item = keep != nullptr ? keep->next : first_;
  first_ = last_ = keep;
  if (keep != nullptr) keep->next = nullptr;
  while (item != nullptr) {
    SendItem* next = item->next;
    forget(*item);
    item = next;
  }
}

void SendQueue::drop_all() {
  if (first_ != nullptr) first_->sent_bytes = 0;
  drop_unstarted();
}

}  // namespace catnap::tcp
