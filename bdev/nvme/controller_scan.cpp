// What a controller reads when an association begins, and again when it is told of changes: queues granted, namespaces, ANA states. See controller.h.
#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "bdev/nvme/controller.h"
#include "bdev/nvme/module.h"
#include "reactor/base/log.h"
#include "transport/nvme/features.h"

namespace catnap::bdev {
namespace {

// Namespaces of one controller that are looked at: each costs two commands and some kilobytes.
constexpr std::size_t max_namespaces = 4096;
// Of an ANA log that is read; a namespace takes 4 bytes, a group 32.
constexpr std::uint32_t max_ana_log_bytes = 1U << 20;

std::string hex(const std::uint8_t* bytes, std::size_t size) {
  std::string text;
  for (std::size_t i = 0; i < size; ++i) text += fmt::format("{:02x}", bytes[i]);
  return text;
}

bool is_zero(const std::uint8_t* bytes, std::size_t size) {
  return std::all_of(bytes, bytes + size, [](std::uint8_t byte) { return byte == 0; });
}

// Identifiers out of the descriptor list. What is malformed ends it.
void read_descriptors(const std::vector<std::byte>& list, NamespaceData& data) {
  for (std::size_t at = 0; at + sizeof(nvme::NamespaceDescriptor) <= list.size();) {
    nvme::NamespaceDescriptor head;
    std::memcpy(&head, list.data() + at, sizeof head);
    at += sizeof head;
    if (head.nidl == 0 || at + head.nidl > list.size()) return;
    const auto* id = reinterpret_cast<const std::uint8_t*>(list.data() + at);
    const auto type = static_cast<nvme::NamespaceIdType>(head.nidt);
    if (type == nvme::NamespaceIdType::uuid && head.nidl == 16) {
      const std::string digits = hex(id, 16);
      data.uuid =
          fmt::format("{}-{}-{}-{}-{}", digits.substr(0, 8), digits.substr(8, 4), digits.substr(12, 4), digits.substr(16, 4), digits.substr(20));
    } else if (type == nvme::NamespaceIdType::nguid && head.nidl == 16) {
      data.nguid = hex(id, 16);
    } else if (type == nvme::NamespaceIdType::eui64 && head.nidl == 8) {
      data.eui64 = hex(id, 8);
    } else if (type == nvme::NamespaceIdType::csi && head.nidl == 1) {
      data.csi = id[0];
    }
    at += head.nidl;
  }
}

// Why a namespace cannot be a bdev; empty: it can.
std::string unfit(const NamespaceData& data) {
  const nvme::LbaFormat& format = data.data.lbaf[data.data.flbas & 0xF];
  if (data.csi != static_cast<std::uint8_t>(nvme::Csi::nvm)) return fmt::format("command set {:#x} is not the NVM command set", data.csi);
  if (format.ms != 0) return fmt::format("blocks have {} bytes of metadata", std::uint16_t{format.ms});
  if (format.lbads < 9 || format.lbads > 16) return fmt::format("LBADS {} is no block size from 512 to 65536", format.lbads);
  // Sizes in bytes must be numbers that the block layer can reckon with.
  if (std::uint64_t{data.data.nsze} > (std::uint64_t{1} << 62) >> format.lbads) {
    return fmt::format("NSZE of {} blocks of {} bytes is no size", std::uint64_t{data.data.nsze}, 1U << format.lbads);
  }
  return {};
}

}  // namespace

bool NamespaceData::same_as(const NamespaceData& other) const {
  const auto agree = [](const std::string& one, const std::string& two) { return one.empty() || two.empty() || one == two; };
  return agree(uuid, other.uuid) && agree(nguid, other.nguid) && agree(eui64, other.eui64) && block_size() == other.block_size();
}

Task<Result<void>> NvmeController::bring_up(std::shared_ptr<Association> association) {
  const auto keep = shared_from_this();
  *data_ = association->data();
  cntlid_ = association->cntlid();
  cap_ = association->cap();
  version_ = association->version();
  max_transfer_bytes_ = association->max_transfer_bytes();
  hub_->set_quiesce(association->quiesce());
  without_size_.clear();
  for (auto& [nsid, known] : namespaces_) known.ana_waits_since_ns = 0;
  auto queues = co_await negotiate_queues(association);
  if (!queues) co_return queues;
  // Before the scan, so that no change falls between them unseen.
  const std::uint32_t wanted = nvme::aec_namespace_attribute | nvme::aec_ana_change;
  if ((wanted & data_->oaes) != 0) {
    auto events = co_await association->watch_events(wanted);
    if (!events) log_warning("controller {} at {}: {}", name_, id().text(), events.error().message);
  }
  auto scanned = co_await scan(association);
  if (!scanned) co_return scanned;
  if (unread_) news_.namespaces = true;
  plan_queues();
  co_return Result<void>();
}

Task<Result<void>> NvmeController::negotiate_queues(std::shared_ptr<Association> association) {
  const auto keep = shared_from_this();
  // What threads can use: one each for the reactors and their control thread, and as many again for threads that come besides.
  const std::uint32_t useful = 2 * static_cast<std::uint32_t>(module_.topology().reactor_cpus().size()) + 2;
  const std::uint32_t wanted = std::clamp<std::uint32_t>(std::min(options_.num_io_queues, useful), 1, 65535);
  AdminCommand command;
  command.sqe.opcode = static_cast<std::uint8_t>(nvme::AdminOpcode::set_features);
  command.sqe.cdw10 = static_cast<std::uint32_t>(nvme::Feature::number_of_queues);
  command.sqe.cdw11 = (wanted - 1) | (wanted - 1) << 16;
  auto answer = co_await association->admin(std::move(command));
  if (!answer) co_return std::unexpected(answer.error());
  if (!answer->status().is_success()) {
    co_return fail(EIO, fmt::format("Set Features, {} I/O queues: {}", wanted, status_text(answer->status())));
  }
  const std::uint32_t dw0 = answer->cqe.dw0;
  granted_ = std::min({(dw0 & 0xFFFF) + 1, (dw0 >> 16) + 1, wanted});
  co_return Result<void>();
}

Task<Result<std::vector<std::uint32_t>>> NvmeController::active_namespaces(std::shared_ptr<Association> association) {
  const auto keep = shared_from_this();
  std::vector<std::uint32_t> all;
  std::uint32_t after = 0;
  while (all.size() < max_namespaces) {
    auto page = co_await association->identify(nvme::Cns::active_namespaces, after);
    if (!page) co_return std::unexpected(page.error());
    nvme::NamespaceList list;
    std::memcpy(&list, page->data(), sizeof list);
    std::size_t count = 0;
    for (const std::uint32_t nsid : list.nsid) {
      if (nsid == 0) break;
      if (nsid <= after) co_return fail(EPROTO, fmt::format("the list of active namespaces is not ascending: NSID {} after {}", nsid, after));
      all.push_back(after = nsid);
      ++count;
    }
    if (count < list.nsid.size()) break;
  }
  co_return all;
}

Task<Result<NamespaceData>> NvmeController::read_namespace(std::shared_ptr<Association> association, std::uint32_t nsid) {
  const auto keep = shared_from_this();
  NamespaceData data;
  data.nsid = nsid;
  // Controllers before NVMe 1.3 have no descriptors.
  auto descriptors = co_await association->identify(nvme::Cns::namespace_descriptors, nsid);
  if (descriptors) read_descriptors(*descriptors, data);
  auto page = co_await association->identify(nvme::Cns::namespace_data, nsid);
  if (!page) co_return std::unexpected(page.error());
  std::memcpy(&data.data, page->data(), sizeof data.data);
  if (data.nguid.empty() && !is_zero(data.data.nguid.data(), 16)) data.nguid = hex(data.data.nguid.data(), 16);
  if (data.eui64.empty() && !is_zero(data.data.eui64.data(), 8)) data.eui64 = hex(data.data.eui64.data(), 8);
  co_return data;
}

Task<Result<void>> NvmeController::scan(std::shared_ptr<Association> association) {
  const auto keep = shared_from_this();
  auto active = co_await active_namespaces(association);
  if (!active) co_return std::unexpected(active.error());
  std::map<std::uint32_t, NamespaceData> found;
  unread_.reset();
  std::erase_if(without_size_, [&active](const auto& entry) { return !std::ranges::binary_search(*active, entry.first); });
  for (const std::uint32_t nsid : *active) {
    auto data = co_await read_namespace(association, nsid);
    const auto before = namespaces_.find(nsid);
    if (!data) {
      if (!association->is_open()) co_return std::unexpected(data.error());
      if (data.error().err == ENODEV) continue;  // it went meanwhile
      log_warning("controller {} at {}: {}; it {}", name_, id().text(), data.error().message,
                  before != namespaces_.end() ? "is taken to be what it was" : "is left out");
      if (before != namespaces_.end()) found.insert(*before);
      unread_ = data.error();
      continue;
    }
    if (data->data.nsze == 0 && data->data.lbaf[data->data.flbas & 0xF].lbads == 0) continue;  // zeroes: it went meanwhile
    const std::string why = unfit(*data);
    if (!why.empty()) {
      log_warning("controller {} at {}: namespace {} cannot be a bdev: {}", name_, id().text(), nsid, why);
    } else if (has_size(*data)) {
      if (before != namespaces_.end()) {
        data->ana_state = before->second.ana_state;
        data->ana_waits_since_ns = before->second.ana_waits_since_ns;
      }
      found.emplace(nsid, std::move(*data));
    }
  }
  namespaces_ = std::move(found);
  auto ana = co_await read_ana_log(association);
  co_return ana;
}

// Capacities may be hidden where a namespace cannot be reached (Base 2.0 sections 8.1.3.3 to 8.1.3.5). What was known of its size holds meanwhile,
// and a namespace of which nothing is known becomes a bdev when it can be reached.
bool NvmeController::has_size(NamespaceData& data) {
  if (data.data.nsze != 0) {
    without_size_.erase(data.nsid);
    return true;
  }
  if ((data_->cmic & nvme::cmic_ana) == 0) return false;
  const bool really = !without_size_.emplace(data.nsid, false).second && without_size_.at(data.nsid);
  const auto before = namespaces_.find(data.nsid);
  if (really || before == namespaces_.end() || !before->second.same_as(data)) return false;
  data.data.nsze = before->second.data.nsze;
  return true;
}

void NvmeController::note_ana(std::uint32_t nsid, AnaState state) {
  const auto found = namespaces_.find(nsid);
  if (found != namespaces_.end()) found->second.ana_state = state;
  const auto hidden = without_size_.find(nsid);
  if (hidden == without_size_.end()) return;
  const bool reachable = state == AnaState::optimized || state == AnaState::non_optimized;
  if (reachable && !hidden->second) news_.namespaces = true;  // its size can be read now
  hidden->second = reachable;
}

Task<Result<void>> NvmeController::read_ana_log(std::shared_ptr<Association> association) {
  const auto keep = shared_from_this();
  if ((data_->cmic & nvme::cmic_ana) == 0) co_return Result<void>();
  const std::uint64_t most = data_->mnan != 0 ? std::uint32_t{data_->mnan} : std::uint32_t{data_->nn};
  const std::uint64_t size = sizeof(nvme::AnaHeader) + std::uint64_t{data_->nanagrpid} * sizeof(nvme::AnaGroup) + most * sizeof(le32);
  auto page = co_await association->log_page(nvme::LogPage::ana, nvme::broadcast_nsid, 0,
                                             static_cast<std::uint32_t>(std::min<std::uint64_t>(size, max_ana_log_bytes)), false);
  if (!page) co_return std::unexpected(page.error());
  const std::vector<std::byte>& bytes = *page;
  nvme::AnaHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  std::size_t at = sizeof header;
  for (std::uint32_t group = 0; group < header.ngrps; ++group) {
    nvme::AnaGroup descriptor;
    if (at + sizeof descriptor > bytes.size()) co_return fail(EPROTO, fmt::format("the ANA log ends within descriptor {}", group));
    std::memcpy(&descriptor, bytes.data() + at, sizeof descriptor);
    at += sizeof descriptor;
    const std::uint32_t count = descriptor.nnsids;
    if (count > (bytes.size() - at) / sizeof(le32))
      co_return fail(EPROTO, fmt::format("ANA group {} lists {} namespaces, more than its log", group, count));
    for (std::uint32_t i = 0; i < count; ++i, at += sizeof(le32)) {
      le32 nsid;
      std::memcpy(&nsid, bytes.data() + at, sizeof nsid);
      note_ana(nsid, ana_state_of_byte(descriptor.state));
    }
  }
  watch_ana();
  co_return Result<void>();
}

// Counted from when this association first told it: what was before the outage may have begun anew.
void NvmeController::watch_ana() {
  const std::uint64_t now_ns = module_.app_thread().now_ns();
  bool waits = false;
  for (auto& [nsid, data] : namespaces_) {
    const bool passing = data.ana_state == AnaState::inaccessible || data.ana_state == AnaState::change;
    if (!passing) {
      data.ana_waits_since_ns = 0;
    } else if (data.ana_waits_since_ns == 0) {
      data.ana_waits_since_ns = now_ns;
    }
    waits = waits || (passing && ana_may_pass(data));
  }
  // One look when all that is there now should have passed; what began later is looked at then again.
  if (waits && !ana_timer_.armed()) module_.app_thread().arm_at(ana_timer_, now_ns + ana_limit_ns());
  if (!waits) ana_timer_.disarm();
}

std::uint64_t NvmeController::ana_limit_ns() const {
  // Where the controller says 0, which it must not: what the specification asks controllers to keep to.
  constexpr std::uint64_t assumed_anatt_s = 10;
  return (data_->anatt != 0 ? data_->anatt : assumed_anatt_s) * ns_per_s;
}

bool NvmeController::ana_may_pass(const NamespaceData& data) const {
  if (data.ana_state == AnaState::persistent_loss) return false;
  return data.ana_waits_since_ns == 0 || module_.app_thread().now_ns() < data.ana_waits_since_ns + ana_limit_ns();
}

}  // namespace catnap::bdev
