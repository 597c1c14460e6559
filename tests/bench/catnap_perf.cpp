// catnap-perf: loads an NVMe/TCP namespace and tells what rate and which latencies came of it. Owner: one OS thread, which turns a reactor by hand.
// Left out: TLS, reconnecting (an I/O that fails ends the run).
#include <fmt/format.h>

#include <cstdio>

#include "tests/bench/perf/options.h"
#include "tests/bench/perf/report.h"
#include "tests/bench/perf/run.h"

int main(int argc, char** argv) {
  catnap::perf::Options options;
  int exit_code = 0;
  if (!catnap::perf::parse(argc, argv, options, exit_code)) return exit_code;
  const auto outcome = catnap::perf::run(options);
  if (!outcome) {
    fmt::print(stderr, "catnap-perf: {}\n", outcome.error().message);
    return 1;
  }
  fmt::print("{}", options.json ? json_report(options, *outcome) : text_report(options, *outcome));
  return 0;
}
