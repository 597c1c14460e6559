// What hosts can see of a configuration in the discovery log: decides when the log's generation counter goes up.
// Owner: none (pure function). Left out: the log page's bytes (log pages of the discovery controller).
#pragma once

#include "server/snapshot.h"

namespace catnap::server {

// True when at least one host, connected through some listener, would read other entries from `next` than from `old`
// (NVMe-oF 1.1a, section 5.3: GENCTR changes with the log page's contents).
bool discovery_view_differs(const TargetSnapshot& old, const TargetSnapshot& next);

}  // namespace catnap::server
