// The process's filter of system calls: what catnapd does not need (programs, other processes, mounts, modules, other kinds of sockets, memory that
// is both written and executed) the kernel refuses, also to code that somebody smuggles in. Owner: main(), before any thread starts; threads inherit
// it (and TSYNC covers any that a library has started), and nothing takes it back. Left out: operations within io_uring, which the kernel does not
// filter (docs/security.md).
#pragma once

#include <cstdint>
#include <string>

#include "reactor/base/error.h"

namespace catnap::confine {

// on: a refused call fails with EPERM, and its name is in the log once; it does not end the process, since one call on a rare path of a library is a
//     worse reason to drop everybody's I/O than to fail that call. Calls that nobody knew when libseccomp was made fail with ENOSYS, as with an older
//     kernel, so that the C library takes another way.
// log: everything is allowed; what would be refused goes to the kernel's audit log (SECCOMP_RET_LOG).
enum class SeccompMode : std::uint8_t { on, off, log };

struct SeccompOptions {
  SeccompMode mode = SeccompMode::on;
  bool io_uring = true;  // false: io_uring_setup and the like fail with ENOSYS, as in a kernel without it
};

// Errors: ENOSYS or EINVAL (a kernel without filters), what libseccomp says. Needs no_new_privs. Says in the log that it is on.
Result<void> filter_system_calls(const SeccompOptions& options);

}  // namespace catnap::confine
