// See virtual_bdev.h.
#include "bdev/stack/virtual_bdev.h"

#include <fmt/core.h>

#include "bdev/stack/virtual_bdevs.h"
#include "reactor/base/log.h"

namespace catnap::bdev {
namespace {

// FNV-1a, 64 bits: spreads names; nothing secret depends on it.
std::uint64_t hash(std::string_view text, std::uint64_t start) {
  for (const char c : text) start = (start ^ static_cast<unsigned char>(c)) * 0x100'0000'01B3;
  return start ^ (start >> 29);
}

}  // namespace

BdevInfo VirtualBdev::info_over(const Bdev& base, std::string name, std::string product_name, std::string uuid) {
  BdevInfo info = base.info();
  info.aliases.clear();
  info.name = std::move(name);
  info.product_name = std::move(product_name);
  info.uuid = std::move(uuid);
  info.num_blocks = base.num_blocks();
  // The base's core does for the base what its medium cannot do; nothing of that shows above.
  info.buffer_alignment = 1;
  info.core_compares = false;
  info.core_writes_zeroes = false;
  return info;
}

std::string VirtualBdev::derived_uuid(const Bdev& base, std::string_view module, std::uint64_t number) {
  const std::string text = fmt::format("{} {} {}", base.info().uuid, module, number);
  const std::uint64_t high = (hash(text, 0xCBF2'9CE4'8422'2325) & ~std::uint64_t{0xF000}) | 0x8000;
  const std::uint64_t low = (hash(text, high) & 0x3FFF'FFFF'FFFF'FFFF) | 0x8000'0000'0000'0000;
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32, (high >> 16) & 0xFFFF, high & 0xFFFF, low >> 48, low & 0xFFFF'FFFF'FFFF);
}

VirtualBdev::VirtualBdev(BdevInfo info, std::shared_ptr<Bdev> base) : Bdev(std::move(info)), base_(std::move(base)) {
  if (const auto* below = dynamic_cast<const VirtualBdev*>(base_.get()); below != nullptr) level_ = below->level_ + 1;
}

Result<void> VirtualBdev::claim_base(std::string claimant) {
  if (level_ > max_stack_levels) {
    return fail(ELOOP, fmt::format("base bdev '{}' stands on {} others already, more than {} levels are not allowed", base_->name(), level_ - 1,
                                   max_stack_levels));
  }
  auto opened = Registry::instance().open(base_->name(), std::move(claimant), true, [this](Event event) { base_event(event); });
  if (!opened) return std::unexpected(opened.error());
  descriptor_ = std::move(*opened);
  return {};
}

void VirtualBdev::base_event(Event event) {
  if (event == Event::resized) return base_resized();
  // Perhaps it is on its way out already.
  if (Registry::instance().find(name()).get() != this) return;
  log_notice("bdev '{}' goes with its base '{}'", name(), base_->name());
  Registry::instance().remove(name(), [](Result<void>) {});
}

void VirtualBdev::destroy(std::move_only_function<void()> done) {
  VirtualBdevs::instance().gone(*this);
  descriptor_.reset();
  done();
}

}  // namespace catnap::bdev
