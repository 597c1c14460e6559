// One io_uring of one lightweight thread, shared by the channels of all uring bdevs there: submissions are gathered and entered once at the end
// of the turn; a registered eventfd in the thread's FdGroup wakes it.
//
// The ring's own fd does not wake epoll when task work is deferred (IORING_SETUP_DEFER_TASKRUN), and a completion is not in the queue before
// somebody enters the kernel for it: so every wake-up calls io_uring_get_events() and then looks at the completion queue, and so does every
// submission.
//
// Owner: the thread it was made on (the kernel allows no other with SINGLE_ISSUER). Left out: registered files and buffers, SQPOLL, linked requests.
#pragma once

#include <liburing.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "bdev/bdev.h"
#include "reactor/base/error.h"
#include "reactor/deferred.h"
#include "reactor/thread.h"
#include "reactor/timer.h"

namespace catnap::bdev {

// One request in flight. Borrowed from the ring; its address is the kernel's user_data.
struct UringSlot {
  enum class Stage : std::uint8_t { transfer, zero_range, punch, sync };

  class UringClient* client = nullptr;
  BdevIo* io = nullptr;
  Stage stage = Stage::transfer;
  std::uint8_t attempts = 0;       // times the kernel said "again" in a row
  std::uint64_t offset_bytes = 0;  // of what is left
  std::uint64_t left_bytes = 0;
  std::vector<iovec> rest;  // what is left after a short transfer; else io->iov is used as it stands
  UringSlot* next_free = nullptr;
};

// A channel, as the ring sees it.
class UringClient {
 public:
  // `result`: bytes, or a negative errno.
  virtual void request_done(UringSlot& slot, int result) = 0;
  // A slot is free after take_slot() came back empty.
  virtual void slot_free() = 0;

 protected:
  ~UringClient() = default;
};

class UringRing {
 public:
  // Requests in flight per thread. Four full queue pairs' worth; more only queue up in front of the disk. 32 KiB of submission entries.
  static constexpr unsigned default_entries = 512;

  // Errors: ENOSYS, EPERM (io_uring is forbidden here: the sentence names what forbids it), ENOMEM, EMFILE.
  static Result<std::shared_ptr<UringRing>> create(Thread& thread, unsigned entries);
  // Whether this process may use io_uring at all; the error is create()'s. Any thread.
  static Result<void> probe();
  ~UringRing();
  UringRing(const UringRing&) = delete;
  UringRing& operator=(const UringRing&) = delete;

  // Null when all are in use: the client is told when one is free again.
  UringSlot* take_slot(UringClient& client);
  void give_back(UringSlot& slot);
  // A submission entry whose completion calls slot.client->request_done(). Never null: there are as many entries as slots. Sent at the end of the
  // turn.
  io_uring_sqe* prepare(UringSlot& slot);
  void forget(UringClient& client);

 private:
  UringRing(Thread& thread, unsigned entries);
  Result<void> set_up();
  void submit();
  void woken();
  void reap();

  Thread& thread_;
  unsigned entries_;
  io_uring ring_{};
  bool ring_made_ = false;
  int event_fd_ = -1;
  std::vector<UringSlot> slots_;
  UringSlot* free_ = nullptr;
  std::vector<UringClient*> starving_;
  Deferred submit_at_turn_end_;
  Timer submit_again_;
};

}  // namespace catnap::bdev
