// The log flag of the target: info and debug lines of subsystems, controllers and placement (log_set_flag nvmf).
// Owner: none; see reactor/base/log.h. Left out: the transport's own flag, nvmf_tcp.
#pragma once

#include "reactor/base/log.h"

namespace catnap::server {

inline LogFlag log_nvmf{"nvmf"};

}  // namespace catnap::server
