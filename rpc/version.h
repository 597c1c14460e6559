// Which catnap this is. The number comes from CMakeLists.txt (project VERSION) alone.
// Owner: none. Left out: build hosts and dates (builds are reproducible).
#pragma once

#include <string>

namespace catnap::rpc {

struct Version {
  int major, minor, patch;
};

Version version();
// "catnap 0.1.0", as `catnapd --version` and spdk_get_version begin.
std::string version_text();

}  // namespace catnap::rpc
