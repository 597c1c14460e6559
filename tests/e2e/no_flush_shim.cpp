// LD_PRELOAD library of the power-cut mutation test: the program under it believes that it flushes, and nothing is flushed. Never part of a product.
// The environment variable NO_FLUSH_SHIM says what is cut out: `flush` (fsync requests), `fua` (the durability of single writes), or `marks` (that of
// single writes within a disk's first MiB, where members of a raid1 have superblock and bitmap). Owner: any thread of the host program. Covers every
// way to make file data durable that catnap uses: fsync and fdatasync, RWF_DSYNC on pwritev2, libaio and io_uring writes, and the fsync requests of
// both. Left out: O_DSYNC at open, sync_file_range.
#include <dlfcn.h>
#include <libaio.h>
#include <liburing.h>
#include <sys/uio.h>

#include <cstdlib>
#include <string_view>

namespace {

// The function that would have been called without this library.
template <typename Function>
Function* next_of(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

bool cuts_out(std::string_view what) {
  static const char* const chosen = std::getenv("NO_FLUSH_SHIM");
  return chosen != nullptr && what == chosen;
}

constexpr unsigned long long marks_end_bytes = 1 << 20;

// Flags of a write, without those that make it durable if these are cut out.
int write_flags(int flags, unsigned long long offset) {
  const bool cut = cuts_out("fua") || (offset < marks_end_bytes && cuts_out("marks"));
  return cut ? flags & ~(RWF_DSYNC | RWF_SYNC) : flags;
}

// Request entries that are filled in and not yet handed to the kernel.
void remove_flushes(io_uring* ring) {
  for (unsigned entry = ring->sq.sqe_head; entry != ring->sq.sqe_tail; ++entry) {
    io_uring_sqe& sqe = ring->sq.sqes[entry & *ring->sq.kring_mask];
    if (sqe.opcode == IORING_OP_FSYNC && cuts_out("flush")) {
      // Of no bytes: ends at once with 0. The ring would not take IORING_OP_NOP (bdev/uring/narrow_ring.h).
      io_uring_prep_readv(&sqe, sqe.fd, nullptr, 0, 0);
    } else if (sqe.opcode == IORING_OP_WRITEV || sqe.opcode == IORING_OP_WRITE || sqe.opcode == IORING_OP_WRITE_FIXED) {
      sqe.rw_flags = write_flags(sqe.rw_flags, sqe.off);
    }
  }
}

}  // namespace

extern "C" {

int fsync(int fd) { return cuts_out("flush") ? 0 : next_of<decltype(fsync)>("fsync")(fd); }

int fdatasync(int fd) { return cuts_out("flush") ? 0 : next_of<decltype(fdatasync)>("fdatasync")(fd); }

ssize_t pwritev2(int fd, const iovec* iov, int count, off_t offset, int flags) {
  return next_of<decltype(pwritev2)>("pwritev2")(fd, iov, count, offset, write_flags(flags, static_cast<unsigned long long>(offset)));
}

int io_submit(io_context_t context, long count, iocb** requests) {
  for (long number = 0; number < count; ++number) {
    iocb& request = *requests[number];
    if (cuts_out("flush") && (request.aio_lio_opcode == IO_CMD_FSYNC || request.aio_lio_opcode == IO_CMD_FDSYNC)) {
      request.aio_lio_opcode = IO_CMD_PREAD;  // of no bytes: ends at once with 0
      request.u.c.buf = nullptr;
      request.u.c.nbytes = 0;
      request.u.c.offset = 0;
    }
    request.aio_rw_flags = write_flags(request.aio_rw_flags, static_cast<unsigned long long>(request.u.c.offset));
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
