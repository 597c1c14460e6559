// The end of a process whose invariants are broken. See check.h.
#include "reactor/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace catnap {

void check_failed(const char* text, std::source_location where) {
  std::fprintf(stderr, "%s:%u: %s: broken invariant: %s\n", where.file_name(), where.line(), where.function_name(), text);
  std::fflush(stderr);
  std::abort();
}

}  // namespace catnap
