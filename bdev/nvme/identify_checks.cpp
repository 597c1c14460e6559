// See identify_checks.h.
// Owner: none (functions of values). Left out: what identify_checks.h names.
#include "bdev/nvme/identify_checks.h"

#include <fmt/core.h>

#include "transport/nvme/command.h"
#include "transport/nvme/fabrics.h"

namespace catnap::bdev {
namespace {

// Host memory pages are 4 KiB (CC.MPS 0), which hosts of fabrics have no other use for.
constexpr unsigned host_page_shift = 12;

Result<void> check_cap(std::uint64_t value) {
  const nvme::Cap cap = nvme::Cap::from_value(value);
  if (cap.mqes == 0) return fail(EPROTO, "CAP.MQES is 0: queues of one entry take no command");
  if (!cap.css_nvm && !cap.css_iocss) return fail(EPROTO, fmt::format("CAP.CSS of {:#x} has no NVM command set", value));
  if (cap.mpsmin != 0)
    return fail(EPROTO, fmt::format("CAP.MPSMIN is {}: pages of {} bytes, this host has 4096", cap.mpsmin, 1ULL << (host_page_shift + cap.mpsmin)));
  return {};
}

}  // namespace

Result<void> check_io_controller(const nvme::IdentifyController& data, std::uint64_t cap, std::uint16_t cntlid) {
  if (auto fits = check_cap(cap); !fits) return fits;
  if (data.cntlid != cntlid) {
    return fail(EPROTO, fmt::format("Identify says controller id {}, Connect said {}", std::uint16_t{data.cntlid}, cntlid));
  }
  const bool no_io = data.cntrltype == static_cast<std::uint8_t>(nvme::ControllerType::discovery) ||
                     data.cntrltype == static_cast<std::uint8_t>(nvme::ControllerType::administrative);
  if (no_io) {
    return fail(EPROTO, fmt::format("controller type {} (CNTRLTYPE) has no I/O queues; follow discovery controllers with bdev_nvme_start_discovery",
                                    data.cntrltype));
  }
  if ((data.sgls & 3U) == 0)
    return fail(EPROTO, fmt::format("SGLS {:#x}: SGLs are not supported, over fabrics there is nothing else", std::uint32_t{data.sgls}));
  if (std::uint64_t{data.ioccsz} * 16 < sizeof(nvme::SubmissionEntry)) {
    return fail(EPROTO, fmt::format("IOCCSZ {}: no command fits into {} bytes", std::uint32_t{data.ioccsz}, std::uint64_t{data.ioccsz} * 16));
  }
  return {};
}

}  // namespace catnap::bdev
