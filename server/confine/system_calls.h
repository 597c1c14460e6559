// The system calls that catnapd makes, by purpose: the filter allows these and no others (seccomp_filter.h). Found by reading what the code and its
// libraries call, and by tracing the tests; docs/security.md says how a new one is added.
// Owner: none (constants). Left out: calls that are allowed with certain arguments only (seccomp_filter.cpp).
#pragma once

#include <span>

namespace catnap::confine {

struct CallGroup {
  const char* purpose;
  std::span<const char* const> names;  // those that an architecture does not have are passed over
};

// Allowed whatever their arguments.
std::span<const CallGroup> call_groups();
// Allowed unless --io-uring off.
CallGroup io_uring_calls();
// What the run-time libraries of sanitizers need besides, in builds that have them; else empty.
CallGroup sanitizer_calls();

}  // namespace catnap::confine
