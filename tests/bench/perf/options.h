// What a run of catnap-perf is told on the command line.
// Owner: none (values). Left out: what a run does with it (run.h).
#pragma once

#include <cstdint>
#include <string>

#include "reactor/base/error.h"

namespace catnap::perf {

struct Options {
  // Where to, and as whom.
  std::string traddr = "127.0.0.1";
  std::string trsvcid = "4420";
  std::string nqn = "nqn.2026-11.io.catnap:demo";
  std::string hostnqn = "nqn.2014-08.org.nvmexpress:uuid:7065726f-0000-4000-8000-000000000001";
  std::uint32_t nsid = 1;
  bool hdgst = false;
  bool ddgst = false;
  std::string psk_file;  // TLS with the key in this file (its absolute path); empty: cleartext
  // The load.
  std::string pattern = "randread";    // read, write, rw, and the same behind "rand"
  std::uint32_t read_percent = 50;     // of rw and randrw
  std::uint32_t size = 4096;           // bytes of one I/O
  std::uint32_t depth = 32;            // outstanding per I/O queue
  std::uint32_t connections = 1;       // controllers, each with an admin queue
  std::uint32_t queues = 1;            // I/O queues of each
  std::uint64_t blocks = 0;            // of the namespace to use, from its first; 0: all
  std::uint32_t in_capsule = 1 << 20;  // writes up to this size go in the capsule if the controller takes that much there
  std::uint64_t rate = 0;              // I/Os per second in all; 0: as fast as answers come
  std::uint32_t burst = 1;             // with a rate: so many at once
  bool verify = false;                 // read what was written before, and compare
  std::uint64_t seed = 1;
  // The run.
  double seconds = 3;
  double warm_up_seconds = 0.2;
  int cpu = -1;
  int pid = 0;
  bool wait = false;  // sleep until something comes, instead of looking for it
  bool json = false;
  bool progress = false;

  bool is_random() const { return pattern.starts_with("rand"); }
  std::uint32_t reads_of_100() const { return pattern.ends_with("read") ? 100 : pattern.ends_with("write") ? 0 : read_percent; }
  std::uint32_t io_queues() const { return connections * queues; }
};

// Fills `options` in. False: `exit_code` is what the program ends with (help was printed, or what is wrong).
bool parse(int argc, char** argv, Options& options, int& exit_code);

}  // namespace catnap::perf
