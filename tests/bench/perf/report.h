// What a run showed, as text or JSON. Owner: main(). Left out: measuring.
#pragma once

#include <string>

#include "tests/bench/perf/options.h"
#include "tests/bench/perf/run.h"

namespace catnap::perf {

// Several lines for people.
std::string text_report(const Options& options, const Outcome& outcome);
// One line: the load's options; "iops", "mb_per_s" (10^6 bytes), latencies of all I/Os in microseconds ("mean_us", "p50_us", "p99_us", "p999_us",
// "max_us"), the same in "read" and "write" with "ios", "behind", with --pid "target_cpu_us_per_io" and "target_cpu_percent" (of one CPU), and
// "histogram": pairs of a latency in nanoseconds (exclusive end) and how many I/Os came in below it and above the one before.
std::string json_report(const Options& options, const Outcome& outcome);

}  // namespace catnap::perf
