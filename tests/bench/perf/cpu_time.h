// CPU time of a process, its threads that have ended not counted.
// Owner: nobody, a function. Left out: other machines.
#pragma once

#include <cstdint>
#include <optional>

namespace catnap::perf {

// Nanoseconds that the threads of `pid` have run (/proc/PID/task/*/schedstat, first field). Nothing: no such process.
std::optional<std::uint64_t> cpu_time_ns(int pid);

}  // namespace catnap::perf
