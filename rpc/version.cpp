// The version number as built in (version.h).
// Owner: none. Left out: everything else.
#include "rpc/version.h"

#include <fmt/format.h>

namespace catnap::rpc {

Version version() { return {CATNAP_VERSION_MAJOR, CATNAP_VERSION_MINOR, CATNAP_VERSION_PATCH}; }

std::string version_text() {
  const Version number = version();
  return fmt::format("catnap {}.{}.{}", number.major, number.minor, number.patch);
}

}  // namespace catnap::rpc
