// What the tables of admin and I/O commands tell others: effects and scope of each command a controller takes (log page 05h).
// Owner: none (constant tables). Left out: the commands themselves (admin_commands.cpp, io_commands.cpp).
#pragma once

#include <cstdint>

#include "transport/nvme/log_page.h"

namespace catnap::server {

// CSP of an entry (Base 2.0 section 5.16.1.6): bit 0 namespace, bit 1 controller.
inline constexpr std::uint32_t effect_scope_namespace = 1U << nvme::effect_scope_shift;
inline constexpr std::uint32_t effect_scope_controller = 2U << nvme::effect_scope_shift;

void fill_admin_effects(nvme::EffectsLog& log, bool discovery);
// `masked_oncs`: commands that the transport's configuration takes away (bits of ONCS).
void fill_io_effects(nvme::EffectsLog& log, std::uint16_t masked_oncs);

}  // namespace catnap::server
