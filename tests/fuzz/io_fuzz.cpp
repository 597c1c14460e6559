// Fuzzes I/O commands on a small memory disk: every command, fused pairs, ranges, with any fields.
// Owner: the libFuzzer process. Left out: see command_fuzz.h.
#include "tests/fuzz/command_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static catnap::server::CommandFuzz fuzz(catnap::server::CommandFuzz::Kind::io);
  fuzz.run({data, size});
  return 0;
}
