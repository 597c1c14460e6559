// Option calls of SPDK's configurations that have no meaning here: accepted, so that a configuration saved by SPDK loads whole, and without effect.
// Owner: app_thread. Left out: what else SPDK has (not_here.h: refused).
#pragma once

#include "rpc/method.h"

namespace catnap::server {

void register_foreign_options(rpc::MethodTable& table);

}  // namespace catnap::server
