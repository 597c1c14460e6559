// The log pages of one controller.
// Owner: the admin queue's thread. Left out: telemetry, self-test, persistent events, reservations, sanitize.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "server/async_events.h"
#include "server/command_error.h"
#include "server/snapshot.h"
#include "transport/nvme/command.h"
#include "transport/nvme/log_page.h"

namespace catnap::server {

class Controller;

struct LogPageEntry {
  nvme::LogPage lid;
  bool on_io;
  bool on_discovery;
  // The whole page as it is now.
  std::vector<std::byte> (*build)(Controller& controller, const SubsystemSnapshot& subsystem, const nvme::SubmissionEntry& sqe);
  // Reading it with RAE 0 clears this event.
  std::optional<AsyncEvents::Kind> clears;
};

// Null: this kind of controller has no such page.
const LogPageEntry* find_log_page(std::uint8_t lid, bool discovery);

// Get Log Page, CDW10..CDW14, decoded.
struct LogPageRequest {
  std::uint8_t lid = 0;
  std::uint8_t lsp = 0;
  bool retain_event = false;
  std::uint64_t length_bytes = 0;
  std::uint64_t offset_bytes = 0;
};
LogPageRequest decode_log_page_request(const nvme::SubmissionEntry& sqe);
// What can be refused before the page is built.
CommandError check_log_page_request(const Controller& controller, const nvme::SubmissionEntry& sqe, const LogPageRequest& wanted);

// Discovery log (70h): what this host may see, as reached through `local` (discovery_log.cpp).
std::vector<std::byte> build_discovery_log(Controller& controller, const SubsystemSnapshot& subsystem, const nvme::SubmissionEntry& sqe);
// Host discovery log (71h): hosts with controllers that this host may know of (discovery_log.cpp).
std::vector<std::byte> build_host_discovery_log(Controller& controller, const SubsystemSnapshot& subsystem, const nvme::SubmissionEntry& sqe);

}  // namespace catnap::server
