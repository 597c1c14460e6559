// A run from the first connection to the last answer.
// Owner: main(), on one OS thread that turns a reactor by hand. Left out: how the result is told (report.h).
#pragma once

#include <cstdint>
#include <optional>

#include "reactor/base/error.h"
#include "tests/bench/perf/io_load.h"
#include "tests/bench/perf/options.h"

namespace catnap::perf {

struct Outcome {
  Counts counts;
  double seconds = 0;
  std::uint64_t behind = 0;                      // I/Os that were due and not even begun at the end
  std::optional<std::uint64_t> target_cpu_ns{};  // with --pid
};

// Errors: what the target refused or the namespace cannot do (names the option); an I/O that failed or read wrong data.
Result<Outcome> run(const Options& options);

}  // namespace catnap::perf
