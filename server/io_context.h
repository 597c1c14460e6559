// What an I/O command in execution keeps in its request's own bytes. Included by the files of I/O commands alone (io_*.cpp).
// Owner: the queue's poll group thread. Left out: the queue (io_queue.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#include "server/io_queue.h"

namespace catnap::server {

// What an I/O needs besides its request, in the request's own bytes. `io.context` is the slot.
struct IoQueue::Context {
  bdev::BdevIo io;
  union {
    iovec data;  // Read, Write, Compare
    // Commands of several steps, run one after another without recursion: a step that ends within submit() is taken up by the loop that submitted it.
    struct {
      std::uint32_t next;  // NSID (Flush of all), or index of a range
      bdev::Status failure;
      bool submitting;
      bool done_inline;
      bool abort;                   // no further step
      std::uint64_t copied_blocks;  // Copy: of the destination
    } steps;
    transport::Request* first;  // the second half of a fused pair: the other one
  };

  static Context& make(transport::Request& request) { return *new (request.sink_context) Context; }
  static Context& of(transport::Request& request) { return *std::launder(reinterpret_cast<Context*>(request.sink_context)); }
  static Context& of(bdev::BdevIo& io) { return *reinterpret_cast<Context*>(&io); }
  transport::Request& request() {
    return *reinterpret_cast<transport::Request*>(reinterpret_cast<std::byte*>(this) - offsetof(transport::Request, sink_context));
  }
  NamespaceSlot& slot() { return *static_cast<NamespaceSlot*>(io.context); }

  Context() : io(), data() {}
};

}  // namespace catnap::server
