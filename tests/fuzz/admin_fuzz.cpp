// Fuzzes admin commands of an enabled controller: decoding, log pages, features, identify, properties.
// Owner: the libFuzzer process. Left out: see command_fuzz.h.
#include "tests/fuzz/command_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static catnap::server::CommandFuzz fuzz(catnap::server::CommandFuzz::Kind::admin);
  fuzz.run({data, size});
  return 0;
}
