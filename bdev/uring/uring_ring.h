// One io_uring of one reactor, shared by the channels of all uring bdevs on all its threads: submissions are gathered and entered once at the end
// of the turn; a registered eventfd in the loop's FdGroup wakes it.
//
// The ring's own fd does not wake epoll when task work is deferred (IORING_SETUP_DEFER_TASKRUN), and a completion is not in the queue before
// somebody enters the kernel for it: so every wake-up calls io_uring_get_events() and then looks at the completion queue, and so does every
// submission.
//
// A thread that moves to another reactor leaves its requests in flight where they are. Their completions are found by the ring they were sent with,
// and go after the thread as messages; what is sent from then on goes through the ring of the reactor that the thread is on.
//
// Owner: the OS thread of its reactor (the kernel allows no other with SINGLE_ISSUER). Left out: registered files and buffers, SQPOLL, linked
// requests.
#pragma once

#include <liburing.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "bdev/bdev.h"
#include "reactor/base/error.h"
#include "reactor/deferred.h"
#include "reactor/reactor.h"
#include "reactor/thread.h"
#include "reactor/timer.h"

namespace catnap::bdev {

// One request in flight. Borrowed from the ring; its address is the kernel's user_data.
struct UringSlot {
  class UringRing* ring = nullptr;  // null: a copy of one whose completion went after its thread
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

// A channel, as the ring sees it. Its functions run on its thread, wherever that is.
class UringClient {
 public:
  explicit UringClient(Thread& owner) : owner_(owner) {}
  Thread& owner() const { return owner_; }
  // `result`: bytes, or a negative errno. A slot without a ring is gone when this returns.
  virtual void request_done(UringSlot& slot, int result) = 0;
  // A slot is free after take_slot() came back empty.
  virtual void slot_free() = 0;

 protected:
  ~UringClient() = default;

 private:
  Thread& owner_;
};

class UringRing {
 public:
  // Requests in flight per reactor. Four full queue pairs' worth; more only queue up in front of the disk. 32 KiB of submission entries.
  static constexpr unsigned default_entries = 512;

  // Errors: ENOSYS, EPERM (io_uring is forbidden here: the sentence names what forbids it), ENOMEM, EMFILE.
  // The ring of that size of the reactor that the calling OS thread runs: made with the first channel that needs it, gone with the last and with what
  // it has in flight.
  static Result<std::shared_ptr<UringRing>> of_current_reactor(unsigned entries);
  // Whether this process may use io_uring at all; the error is create()'s. Any thread.
  static Result<void> probe();
  ~UringRing();
  UringRing(const UringRing&) = delete;
  UringRing& operator=(const UringRing&) = delete;

  // Null when all are in use: the client is told when one is free again.
  UringSlot* take_slot(UringClient& client);
  void give_back(UringSlot& slot);
  // A submission entry whose completion calls slot.client->request_done(). Never null: there are as many entries as slots. submit() sends it.
  io_uring_sqe* prepare(UringSlot& slot);
  // Enters the kernel once for all that was prepared, and takes what has completed: at the end of the turn of whoever prepared something.
  void submit();
  // The same without taking completions: for a thread that is leaving.
  void submit_only();
  void forget(UringClient& client);

 private:
  UringRing(Reactor& reactor, unsigned entries);
  Result<void> set_up();
  static void unused(UringRing* ring);
  void end_or_drain();
  int enter(bool take_completions);
  void try_again(int submitted);
  void woken();
  void reap();
  void send_after(UringSlot& slot, int result);

  Reactor& reactor_;
  Thread& loop_;
  unsigned entries_;
  io_uring ring_{};
  bool ring_made_ = false;
  int event_fd_ = -1;
  std::vector<UringSlot> slots_;
  UringSlot* free_ = nullptr;
  unsigned taken_ = 0;
  bool orphaned_ = false;  // no channel uses it any more; it ends with its last request in flight
  std::vector<UringClient*> starving_;
  Deferred submit_soon_;
  Timer submit_again_;
};

}  // namespace catnap::bdev
