// Text and JSON of a run. Owner: main(). Left out: measuring.
#include "tests/bench/perf/report.h"

#include <fmt/format.h>

#include <algorithm>

namespace catnap::perf {
namespace {

double us(std::uint64_t ns) { return static_cast<double>(ns) / 1e3; }

Latencies all_of(const Counts& counts) {
  Latencies all = counts.reads;
  all.add(counts.writes);
  return all;
}

struct Figures {
  double iops, mb_per_s, cpu_us_per_io, cpu_percent;
};
Figures figures(const Options& options, const Outcome& outcome) {
  const auto ios = static_cast<double>(outcome.counts.ios());
  const double cpu_ns = outcome.target_cpu_ns ? static_cast<double>(*outcome.target_cpu_ns) : 0;
  return {ios / outcome.seconds, ios * options.size / outcome.seconds / 1e6, cpu_ns / 1e3 / std::max(ios, 1.0), cpu_ns / 1e7 / outcome.seconds};
}

std::string json_of(const Latencies& latencies) {
  return fmt::format(R"("ios": {}, "mean_us": {:.2f}, "p50_us": {:.2f}, "p99_us": {:.2f}, "p999_us": {:.2f}, "max_us": {:.2f})", latencies.count(),
                     latencies.mean_ns() / 1e3, us(latencies.percentile_ns(0.5)), us(latencies.percentile_ns(0.99)),
                     us(latencies.percentile_ns(0.999)), us(latencies.max_ns()));
}

std::string line_of(const char* what, const Latencies& latencies) {
  return fmt::format("  {:<6}{:>12} I/Os, latency in us: mean {:.1f}, half within {:.1f}, 99 % {:.1f}, 99.9 % {:.1f}, longest {:.1f}\n", what,
                     latencies.count(), latencies.mean_ns() / 1e3, us(latencies.percentile_ns(0.5)), us(latencies.percentile_ns(0.99)),
                     us(latencies.percentile_ns(0.999)), us(latencies.max_ns()));
}

}  // namespace

std::string text_report(const Options& options, const Outcome& outcome) {
  const Figures of = figures(options, outcome);
  std::string text =
      fmt::format("{} of {} bytes, depth {}, {} I/O queue{}{}{}: {:.0f} IOPS, {:.1f} MB/s in {:.1f} s\n", options.pattern, options.size,
                  options.depth, options.io_queues(), options.io_queues() == 1 ? "" : "s", options.hdgst ? ", header digests" : "",
                  options.ddgst ? ", data digests" : "", of.iops, of.mb_per_s, outcome.seconds);
  if (outcome.counts.reads.count() > 0) text += line_of("reads", outcome.counts.reads);
  if (outcome.counts.writes.count() > 0) text += line_of("writes", outcome.counts.writes);
  if (outcome.target_cpu_ns) text += fmt::format("  target: {:.3f} us of CPU per I/O, {:.1f} % of a CPU\n", of.cpu_us_per_io, of.cpu_percent);
  if (outcome.behind > 0) text += fmt::format("  {} I/Os that were due had not begun at the end: the rate is too high\n", outcome.behind);
  return text;
}

std::string json_report(const Options& options, const Outcome& outcome) {
  const Figures of = figures(options, outcome);
  const Latencies all = all_of(outcome.counts);
  std::string text = fmt::format(
      R"({{"pattern": "{}", "size": {}, "depth": {}, "connections": {}, "queues": {}, "hdgst": {}, "ddgst": {}, "rate": {}, "burst": {}, )",
      options.pattern, options.size, options.depth, options.connections, options.queues, options.hdgst, options.ddgst, options.rate, options.burst);
  text += fmt::format(R"("seconds": {:.3f}, "iops": {:.0f}, "mb_per_s": {:.1f}, {}, "read": {{{}}}, "write": {{{}}}, "behind": {})", outcome.seconds,
                      of.iops, of.mb_per_s, json_of(all), json_of(outcome.counts.reads), json_of(outcome.counts.writes), outcome.behind);
  if (outcome.target_cpu_ns)
    text += fmt::format(R"(, "target_cpu_us_per_io": {:.3f}, "target_cpu_percent": {:.2f})", of.cpu_us_per_io, of.cpu_percent);
  std::string steps;
  all.for_each_bucket(
      [&](std::uint64_t end_ns, std::uint64_t count) { steps += fmt::format("{}[{}, {}]", steps.empty() ? "" : ", ", end_ns, count); });
  return text + R"(, "histogram": [)" + steps + "]}\n";
}

}  // namespace catnap::perf
