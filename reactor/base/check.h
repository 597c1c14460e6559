// Broken invariants stop the process with a message; bad input never comes here (DESIGN: errors and limits).
// Owner: none. Left out: recovery, on purpose.
#pragma once

#include <source_location>

namespace catnap {

// Prints "file:line: function: text" to standard error, then aborts.
[[noreturn]] void check_failed(const char* text, std::source_location where = std::source_location::current());

}  // namespace catnap

// Always on, in every build: use for what must hold for data to be safe.
#define CATNAP_CHECK(condition) (static_cast<bool>(condition) ? void(0) : ::catnap::check_failed(#condition))

// Only in debug builds: use on the I/O path and for ownership checks.
#ifdef NDEBUG
#define CATNAP_DCHECK(condition) void(0)
#else
#define CATNAP_DCHECK(condition) CATNAP_CHECK(condition)
#endif
