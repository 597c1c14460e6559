// One libaio context of one lightweight thread, shared by the channels of all aio bdevs there: requests are gathered and submitted with one
// io_submit at the end of the turn; completions raise an eventfd in the thread's FdGroup.
// Owner: its thread. Left out: anything io_submit would block for (aio.h).
#pragma once

#include <libaio.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "bdev/bdev.h"
#include "reactor/base/error.h"
#include "reactor/deferred.h"
#include "reactor/thread.h"
#include "reactor/timer.h"

namespace catnap::bdev {

// One request in flight. Borrowed from the context; found again by its address, which travels in iocb::data.
struct AioSlot {
  iocb control{};
  class AioClient* client = nullptr;
  BdevIo* io = nullptr;
  std::uint64_t offset_bytes = 0;  // of what is left
  std::uint64_t left_bytes = 0;
  std::vector<iovec> rest;  // what is left after a short transfer; else io->iov is used as it stands
  AioSlot* next_free = nullptr;
};

// A channel, as the context sees it.
class AioClient {
 public:
  // `result`: bytes, or a negative errno.
  virtual void request_done(AioSlot& slot, long result) = 0;
  // A slot is free after take_slot() came back empty.
  virtual void slot_free() = 0;

 protected:
  ~AioClient() = default;
};

class AioContext {
 public:
  // Requests in flight per thread. fs.aio-max-nr (65536 unless changed) is shared by the whole machine, and the kernel takes some multiple of this.
  static constexpr unsigned default_entries = 256;

  // Errors: EAGAIN (fs.aio-max-nr is used up, named), ENOMEM, EMFILE, ENOSYS.
  static Result<std::shared_ptr<AioContext>> create(Thread& thread, unsigned entries);
  ~AioContext();
  AioContext(const AioContext&) = delete;
  AioContext& operator=(const AioContext&) = delete;

  // Null when all are in use: the client is told when one is free again.
  AioSlot* take_slot(AioClient& client);
  void give_back(AioSlot& slot);
  // Sends slot.control (prepared by the client) at the end of the turn; slot.client->request_done() follows.
  void send(AioSlot& slot);
  void forget(AioClient& client);

 private:
  AioContext(Thread& thread, unsigned entries);
  Result<void> set_up(unsigned entries);
  void submit();
  void reap();

  Thread& thread_;
  io_context_t context_ = nullptr;
  int event_fd_ = -1;
  std::vector<AioSlot> slots_;
  AioSlot* free_ = nullptr;
  std::vector<iocb*> pending_;
  std::vector<iocb*> sending_;
  std::vector<io_event> events_;
  std::uint64_t in_kernel_ = 0;
  std::vector<AioClient*> starving_;
  Deferred submit_at_turn_end_;
  Timer submit_again_;
};

}  // namespace catnap::bdev
