// What a controller may say about itself, and still be used: checked before anything is built on it.
// Owner: none (functions of values). Left out: namespaces (controller_scan.cpp).
#pragma once

#include <cstdint>

#include "reactor/base/error.h"
#include "transport/nvme/identify.h"

namespace catnap::bdev {

// EPROTO with field, value and reason. `cap`: property CAP; `cntlid`: of Connect's answer.
[[nodiscard]] Result<void> check_io_controller(const nvme::IdentifyController& data, std::uint64_t cap, std::uint16_t cntlid);

}  // namespace catnap::bdev
