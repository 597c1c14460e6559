// How often the kernel switched away from an OS thread of this process.
// Owner: nobody, a function. Left out: other processes.
#pragma once

#include <cstdint>

namespace catnap {

struct ContextSwitches {
  std::uint64_t voluntary = 0;    // the thread waited: once per sleep
  std::uint64_t involuntary = 0;  // somebody else got the CPU
};

// From /proc/self/task/TID/status (proc(5)). Zeroes when there is no such thread.
ContextSwitches context_switches(int os_thread_id);

}  // namespace catnap
