// The command line of catnap-perf. Owner: main(). Left out: what only the controller can say (sizes of blocks and namespaces: run.cpp).
#include "tests/bench/perf/options.h"

#include <CLI/CLI.hpp>

namespace catnap::perf {

bool parse(int argc, char** argv, Options& options, int& exit_code) {
  CLI::App app("Loads an NVMe/TCP namespace and tells how it took that. Latencies of a run with --rate count from when the I/O was due.");
  app.add_option("--traddr", options.traddr, "address of the target")->capture_default_str();
  app.add_option("--trsvcid", options.trsvcid, "its port")->capture_default_str();
  app.add_option("--nqn", options.nqn, "NQN of the subsystem")->capture_default_str();
  app.add_option("--hostnqn", options.hostnqn, "NQN of this host")->capture_default_str();
  app.add_option("--nsid", options.nsid, "namespace")->check(CLI::Range(1U, 0xFFFFFFFEU))->capture_default_str();
  app.add_flag("--hdgst", options.hdgst, "header digests");
  app.add_flag("--ddgst", options.ddgst, "data digests");
  app.add_option("--psk-file", options.psk_file, "TLS with the key in this file (NVMeTLSkey-1:…)");
  app.add_option("--pattern", options.pattern, "read, write, rw, randread, randwrite, randrw")
      ->check(CLI::IsMember({"read", "write", "rw", "randread", "randwrite", "randrw"}))
      ->capture_default_str();
  app.add_option("--read-percent", options.read_percent, "reads among 100 I/Os of rw and randrw")->check(CLI::Range(0, 100))->capture_default_str();
  app.add_option("--size", options.size, "bytes per I/O")->check(CLI::Range(512, 16 << 20))->capture_default_str();
  app.add_option("--depth", options.depth, "I/Os outstanding per I/O queue")->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_option("--connections", options.connections, "controllers to connect to")->check(CLI::Range(1, 4096))->capture_default_str();
  app.add_option("--queues", options.queues, "I/O queues of each")->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_option("--blocks", options.blocks, "blocks of the namespace to use, 0: all")->capture_default_str();
  app.add_option("--in-capsule", options.in_capsule, "writes up to this many bytes go in the capsule, where the target takes them there")
      ->capture_default_str();
  app.add_option("--rate", options.rate, "I/Os per second in all, 0: as fast as answers come")->capture_default_str();
  app.add_option("--burst", options.burst, "with --rate: so many at once")->check(CLI::Range(1, 65536))->capture_default_str();
  app.add_flag("--verify", options.verify, "write what can be recognised, and compare what is read where something was written");
  app.add_option("--seed", options.seed, "of random places")->capture_default_str();
  app.add_option("--seconds", options.seconds, "how long to measure")->check(CLI::Range(0.1, 86400.0))->capture_default_str();
  app.add_option("--warm-up", options.warm_up_seconds, "seconds of load before that")->check(CLI::Range(0.0, 600.0))->capture_default_str();
  app.add_option("--cpu", options.cpu, "run on this CPU");
  app.add_option("--pid", options.pid, "the target's process id, for its CPU time per I/O");
  app.add_flag("--wait", options.wait, "sleep until something comes, instead of looking for it all the time");
  app.add_flag("--json", options.json, "one line of JSON instead of text");
  app.add_flag("--progress", options.progress, "a line per second on standard error");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    exit_code = app.exit(error);
    return false;
  }
  return true;
}

}  // namespace catnap::perf
