// Methods that callers know from SPDK and its forks and that catnapd has not: other front ends, other back ends, DPDK. They answer -95 (EOPNOTSUPP)
// with the reason, so that a control plane can tell "never here" from a name misspelt (-32601). Owner: none (a pure function). Left out: what catnapd
// has; a name in both is catnapd's.
#pragma once

#include <string>
#include <string_view>

namespace catnap::server {

// A sentence that names the method; "" when no one is known to have it.
std::string why_not_here(std::string_view method);

}  // namespace catnap::server
