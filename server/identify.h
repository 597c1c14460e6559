// The data structures of Identify, as one controller shows them.
// Owner: the admin queue's thread. Left out: lists of other controllers (CNS 12h, 13h), namespace management.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "server/command_error.h"
#include "server/snapshot.h"
#include "transport/nvme/command.h"
#include "transport/nvme/identify.h"

namespace catnap::server {

class Controller;

struct IdentifyPage {
  nvme::Cns cns;
  bool on_discovery;
  // `page` is 4096 zero bytes. Null: Controller::list_controllers() answers.
  CommandError (*build)(const Controller& controller, const SubsystemSnapshot& subsystem, const nvme::SubmissionEntry& sqe,
                        std::span<std::byte> page);
};

// Null: this kind of controller has no such structure.
const IdentifyPage* find_identify_page(std::uint8_t cns, bool discovery);

// MDTS: the largest power of two of 4 KiB pages that a transfer may have.
std::uint8_t mdts_for(std::uint32_t max_io_size_bytes);

}  // namespace catnap::server
