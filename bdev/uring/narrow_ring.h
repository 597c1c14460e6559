// Rings that take the requests of bdev_uring and no others (IORING_REGISTER_RESTRICTIONS, Linux 5.10). An io_uring can open files, make sockets and
// connect them, past every filter of system calls; a ring that reads, writes, syncs and allocates needs none of it, and the kernel refuses it there
// for good. Owner: whoever makes the ring (the OS thread that will use it). Left out: what requests mean (uring.h), other rings that a process could
// make.
#pragma once

#include <liburing.h>

namespace catnap::bdev {

// Makes `ring` with `entries`, with the best flags that this kernel knows, restricted and ready. Kernels that know no restrictions (before 5.10) give
// one without, and `narrow` (if given) is false. Returns 0 or an errno; on an error there is no ring.
int make_narrow_ring(unsigned entries, io_uring& ring, bool* narrow = nullptr);

}  // namespace catnap::bdev
