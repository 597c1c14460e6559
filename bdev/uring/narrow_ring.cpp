// See narrow_ring.h.
// Owner: the calling OS thread.
#include "bdev/uring/narrow_ring.h"

#include <array>
#include <cerrno>
#include <cstdint>

namespace catnap::bdev {
namespace {

// What UringChannel prepares (uring.cpp). A request without a flag (IOSQE_*) is the only form that is taken: no links, no fixed files, no buffers
// chosen by the kernel.
constexpr std::array<std::uint8_t, 4> operations = {IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE};
// What UringRing registers (uring_ring.cpp).
constexpr std::array<std::uint8_t, 2> registrations = {IORING_REGISTER_EVENTFD, IORING_UNREGISTER_EVENTFD};

int restrict_and_enable(io_uring& ring) {
  std::array<io_uring_restriction, operations.size() + registrations.size()> rules{};
  std::size_t count = 0;
  for (const std::uint8_t operation : operations) {
    rules[count].opcode = IORING_RESTRICTION_SQE_OP;
    rules[count++].sqe_op = operation;
  }
  for (const std::uint8_t registration : registrations) {
    rules[count].opcode = IORING_RESTRICTION_REGISTER_OP;
    rules[count++].register_op = registration;
  }
  // The functions that liburing has for these two are missing from its shared library (2.3).
  const auto fd = static_cast<unsigned>(ring.ring_fd);
  int error = -io_uring_register(fd, IORING_REGISTER_RESTRICTIONS, rules.data(), static_cast<unsigned>(count));
  if (error == 0) error = -io_uring_register(fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
  return error;
}

}  // namespace

int make_narrow_ring(unsigned entries, io_uring& ring, bool* narrow) {
  // The flags of a ring with one user that looks often; older kernels know fewer of them, and all work the same way for us.
  constexpr unsigned wishes[] = {
      IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
          IORING_SETUP_SUBMIT_ALL,                                                    // Linux 6.1
      IORING_SETUP_R_DISABLED | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,  // 5.19
      IORING_SETUP_R_DISABLED,                                                        // 5.10
      0,
  };
  int error = 0;
  for (const unsigned flags : wishes) {
    io_uring_params params{};
    params.flags = flags;
    error = -io_uring_queue_init_params(entries, &ring, &params);
    if (error == EINVAL) continue;
    const bool restricted = error == 0 && (flags & IORING_SETUP_R_DISABLED) != 0;
    if (narrow != nullptr) *narrow = restricted;
    if (!restricted) break;
    error = restrict_and_enable(ring);
    if (error != 0) io_uring_queue_exit(&ring);
    if (error != EINVAL) break;
  }
  return error;
}

}  // namespace catnap::bdev
