// Fuzzes the commands of a queue that is not connected yet: Connect with any fields and data, and what may follow it.
// Owner: the libFuzzer process. Left out: see command_fuzz.h.
#include "tests/fuzz/command_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static catnap::server::CommandFuzz fuzz(catnap::server::CommandFuzz::Kind::fabrics);
  fuzz.run({data, size});
  return 0;
}
