// LD_PRELOAD library of the power-cut mutation test: the program under it believes that it flushes, and nothing is flushed. Never part of a product.
// Owner: any thread of the host program. Covers every way to make file data durable that catnap uses: fsync and fdatasync, RWF_DSYNC on pwritev2,
// libaio and io_uring writes, and the fsync requests of both. Left out: O_DSYNC at open, sync_file_range.
#include <dlfcn.h>
#include <libaio.h>
#include <liburing.h>
#include <sys/uio.h>

namespace {

// The function that would have been called without this library.
template <typename Function>
Function* next_of(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

// Request entries that are filled in and not yet handed to the kernel.
void remove_flushes(io_uring* ring) {
  for (unsigned entry = ring->sq.sqe_head; entry != ring->sq.sqe_tail; ++entry) {
    io_uring_sqe& sqe = ring->sq.sqes[entry & *ring->sq.kring_mask];
    if (sqe.opcode == IORING_OP_FSYNC) {
      sqe.opcode = IORING_OP_NOP;
      sqe.fsync_flags = 0;
    } else if (sqe.opcode == IORING_OP_WRITEV || sqe.opcode == IORING_OP_WRITE || sqe.opcode == IORING_OP_WRITE_FIXED) {
      sqe.rw_flags &= ~(RWF_DSYNC | RWF_SYNC);
    }
  }
}

}  // namespace

extern "C" {

int fsync(int) { return 0; }

int fdatasync(int) { return 0; }

ssize_t pwritev2(int fd, const iovec* iov, int count, off_t offset, int flags) {
  return next_of<decltype(pwritev2)>("pwritev2")(fd, iov, count, offset, flags & ~(RWF_DSYNC | RWF_SYNC));
}

int io_submit(io_context_t context, long count, iocb** requests) {
  for (long number = 0; number < count; ++number) {
    iocb& request = *requests[number];
    if (request.aio_lio_opcode == IO_CMD_FSYNC || request.aio_lio_opcode == IO_CMD_FDSYNC) {
      request.aio_lio_opcode = IO_CMD_PREAD;  // of no bytes: ends at once with 0
      request.u.c.buf = nullptr;
      request.u.c.nbytes = 0;
      request.u.c.offset = 0;
    }
    request.aio_rw_flags &= ~(RWF_DSYNC | RWF_SYNC);
  }
  return next_of<decltype(io_submit)>("io_submit")(context, count, requests);
}

int io_uring_submit(io_uring* ring) {
  remove_flushes(ring);
  return next_of<decltype(io_uring_submit)>("io_uring_submit")(ring);
}

int io_uring_submit_and_wait(io_uring* ring, unsigned wait_count) {
  remove_flushes(ring);
  return next_of<decltype(io_uring_submit_and_wait)>("io_uring_submit_and_wait")(ring, wait_count);
}

int io_uring_submit_and_get_events(io_uring* ring) {
  remove_flushes(ring);
  return next_of<decltype(io_uring_submit_and_get_events)>("io_uring_submit_and_get_events")(ring);
}

}  // extern "C"
