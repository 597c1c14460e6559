// See nvme_bdev.h.
#include "bdev/nvme/nvme_bdev.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "bdev/json_text.h"
#include "bdev/nvme/module.h"
#include "bdev/nvme/nvme_channel.h"
#include "reactor/base/check.h"

namespace catnap::bdev {
namespace {

// Blocks of one command: NLB has 16 bits.
constexpr std::uint64_t max_command_blocks = 65536;

std::string trimmed(const char* text, std::size_t size) {
  std::string result(text, strnlen(text, size));
  while (!result.empty() && result.back() == ' ') result.pop_back();
  return result;
}

std::string uuid_of_nguid(const std::string& nguid) {
  return fmt::format("{}-{}-{}-{}-{}", nguid.substr(0, 8), nguid.substr(8, 4), nguid.substr(12, 4), nguid.substr(16, 4), nguid.substr(20, 12));
}

JsonObject address_json(const TransportId& id) {
  JsonObject json;
  json.add("trtype", "TCP").add("adrfam", id.adrfam).add("traddr", id.traddr).add("trsvcid", id.trsvcid).add("subnqn", id.subnqn);
  return json;
}

// Copy with plain source ranges (format 0) of this namespace.
void set_copy_limits(NamespaceShape& shape, const nvme::IdentifyController& identify, const nvme::IdentifyNamespace& data) {
  const bool copies = (shape.oncs & nvme::oncs_copy) != 0 && (identify.cdfs & nvme::cdfs_format0) != 0 && data.mssrl != 0 && data.mcl != 0;
  shape.info.native_copy = copies;
  if (!copies) return;
  const std::uint64_t sources = std::min<std::uint64_t>(data.msrc + 1U, max_copy_sources);
  shape.limits.copy_range_blocks = data.mssrl;
  shape.limits.copy_blocks = static_cast<std::uint32_t>(std::min<std::uint64_t>(data.mcl, sources * data.mssrl));
}

}  // namespace

NamespaceShape shape_of(const NamespaceData& data, const NvmeController& controller, std::string name) {
  const nvme::IdentifyController& identify = controller.data();
  NamespaceShape shape;
  shape.oncs = identify.oncs;
  BdevInfo& info = shape.info;
  info.name = std::move(name);
  info.product_name = "NVMe disk";
  if (!data.uuid.empty()) {
    info.uuid = data.uuid;
  } else if (!data.nguid.empty()) {
    info.uuid = uuid_of_nguid(data.nguid);
  }
  info.block_size = data.block_size();
  const bool preferred = (data.data.nsfeat & nvme::nsfeat_preferred_sizes) != 0;
  const std::uint64_t granularity = preferred ? std::uint64_t{info.block_size} * (data.data.npwg + 1U) : info.block_size;
  const bool fits = (granularity & (granularity - 1)) == 0 && granularity <= max_block_size;
  info.physical_block_size = fits ? static_cast<std::uint32_t>(granularity) : info.block_size;
  info.num_blocks = data.data.nsze;
  info.write_cache = (identify.vwc & nvme::vwc_present) != 0;
  info.unmap_reads_zeroes = (data.data.dlfeat & 0x7) == nvme::dlfeat_reads_zeroes;
  info.optimal_io_boundary_blocks = data.data.noiob;
  info.max_io_blocks = static_cast<std::uint32_t>(std::min<std::uint64_t>(controller.max_transfer_bytes() / info.block_size, max_command_blocks));
  info.max_segments = tcp::HostQueue::max_segments;
  info.max_unmap_blocks = 0xFFFFFFFF;
  info.max_write_zeroes_blocks = max_command_blocks;
  info.core_compares = (shape.oncs & nvme::oncs_compare) == 0;
  info.core_writes_zeroes = (shape.oncs & nvme::oncs_write_zeroes) == 0;
  info.native_verify = (shape.oncs & nvme::oncs_verify) != 0;
  const bool fuses = (identify.fuses & nvme::fuses_compare_and_write) != 0 && !info.core_compares;
  const bool own = (data.data.nsfeat & nvme::nsfeat_atomics) != 0 && data.data.nacwu != 0;
  if (fuses) shape.limits.compare_and_write_blocks = std::min((own ? data.data.nacwu : identify.acwu) + 1U, info.max_io_blocks);
  info.native_compare_and_write = fuses;
  set_copy_limits(shape, identify, data.data);
  return shape;
}

NvmeBdev::NvmeBdev(NamespaceShape shape, NamespaceData data, std::string subnqn)
    : Bdev(shape.info), shape_(std::move(shape)), data_(std::move(data)), subnqn_(std::move(subnqn)), paths_(std::make_shared<const PathSet>()) {}

NvmeBdev::~NvmeBdev() = default;

bool NvmeBdev::supports(Op op) const {
  if (op == Op::unmap) return (shape_.oncs & nvme::oncs_dataset_management) != 0;
  if (op == Op::write_uncorrectable) return (shape_.oncs & nvme::oncs_write_uncorrectable) != 0;
  return true;
}

Result<std::unique_ptr<Channel>> NvmeBdev::create_channel(Thread& thread) { return std::make_unique<NvmeChannel>(*this, thread); }

// Nothing of its own: the paths belong to the controllers. A lost write is at work no shorter because nobody looks at it.
void NvmeBdev::destroy(std::move_only_function<void()> done) {
  std::shared_ptr<const WriteFences> fences;
  {
    const std::lock_guard lock(mutex_);
    paths_ = std::make_shared<const PathSet>();
    fences = std::exchange(fences_, nullptr);
  }
  NvmeModule* const module = NvmeModule::instance();
  if (fences != nullptr && module != nullptr) module->keep_fences(fence_key(), std::move(fences));
  done();
}

std::string NvmeBdev::fence_key() const {
  if (!data_.uuid.empty()) return "uuid " + data_.uuid;
  if (!data_.nguid.empty()) return "nguid " + data_.nguid;
  if (!data_.eui64.empty()) return "eui64 " + data_.eui64;
  return fmt::format("{} {}", subnqn_, data_.nsid);
}

std::shared_ptr<const PathSet> NvmeBdev::paths() const {
  const std::lock_guard lock(mutex_);
  return paths_;
}

void NvmeBdev::publish(PathSet paths, std::move_only_function<void()> done) {
  auto set = std::make_shared<const PathSet>(std::move(paths));
  {
    const std::lock_guard lock(mutex_);
    paths_ = set;
  }
  for_each_channel([set](Channel& channel) { static_cast<NvmeChannel&>(channel).adopt(set); }, std::move(done));
}

void NvmeBdev::fence(const FencedRange& range, std::uint64_t now_ns, std::move_only_function<void()> done) {
  std::shared_ptr<const WriteFences> fences;
  {
    const std::lock_guard lock(mutex_);
    fences = fences_ = WriteFences::with(fences_.get(), range, now_ns);
  }
  for_each_channel([](Channel& channel) { static_cast<NvmeChannel&>(channel).take_up_fences(); }, std::move(done));
}

std::shared_ptr<const WriteFences> NvmeBdev::fences() const {
  const std::lock_guard lock(mutex_);
  return fences_;
}

void NvmeBdev::resized(const NamespaceData& data) {
  data_ = data;
  set_num_blocks(data.data.nsze);
}

// As SPDK shows it: one entry per path under "nvme".
std::string NvmeBdev::driver_specific_json() const {
  const auto set = paths();
  std::string entries;
  for (const PathEntry& path : set->paths) {
    const auto controller = path.hub->controller();
    if (controller == nullptr) continue;
    const nvme::IdentifyController& data = controller->data();
    const std::uint32_t version = controller->version();
    const bool ana = (data.cmic & nvme::cmic_ana) != 0;
    JsonObject oacs;
    const std::uint16_t bits = data.oacs;
    oacs.add("security", std::uint32_t{(bits & nvme::oacs_security) != 0}).add("format", std::uint32_t{(bits & nvme::oacs_format) != 0});
    oacs.add("firmware", std::uint32_t{(bits & nvme::oacs_firmware) != 0});
    oacs.add("ns_manage", std::uint32_t{(bits & nvme::oacs_namespace_management) != 0});
    JsonObject ctrlr_data;
    ctrlr_data.add("cntlid", std::uint32_t{controller->cntlid()}).add("vendor_id", fmt::format("0x{:04x}", std::uint16_t{data.vid}));
    ctrlr_data.add("model_number", trimmed(data.mn.data(), data.mn.size())).add("serial_number", trimmed(data.sn.data(), data.sn.size()));
    ctrlr_data.add("firmware_revision", trimmed(data.fr.data(), data.fr.size()));
    ctrlr_data.add("subnqn", trimmed(data.subnqn.data(), data.subnqn.size())).add_raw("oacs", oacs.text());
    ctrlr_data.add("multi_ctrlr", (data.cmic & nvme::cmic_multi_controller) != 0).add("ana_reporting", ana);
    JsonObject vs;
    vs.add("nvme_version", (version & 0xFF) != 0 ? fmt::format("{}.{}.{}", version >> 16, version >> 8 & 0xFF, version & 0xFF)
                                                 : fmt::format("{}.{}", version >> 16, version >> 8 & 0xFF));
    JsonObject ns_data;
    ns_data.add("id", path.nsid);
    if (ana) ns_data.add("ana_state", ana_state_name(path.ana_state));
    ns_data.add("can_share", (data_.data.nmic & nvme::nmic_shared) != 0);
    JsonObject entry;
    entry.add_raw("trid", address_json(controller->id()).text()).add_raw("ctrlr_data", ctrlr_data.text()).add_raw("vs", vs.text());
    entry.add_raw("ns_data", ns_data.text());
    entries += (entries.empty() ? "" : ",") + entry.text();
  }
  JsonObject all;
  all.add_raw("nvme", "[" + entries + "]").add("mp_policy", multipath_policy_name(set->multipath.policy));
  if (set->multipath.policy == MultipathPolicy::active_active) {
    all.add("selector", multipath_selector_name(set->multipath.selector));
    if (set->multipath.selector == MultipathSelector::round_robin) all.add("rr_min_io", set->multipath.rr_min_io);
  }
  return all.text();
}

}  // namespace catnap::bdev
