// See virtual_bdev.h.
#include "bdev/stack/virtual_bdev.h"

#include <fmt/core.h>

#include "bdev/stack/virtual_bdevs.h"

namespace catnap::bdev {
namespace {

// FNV-1a, 64 bits: spreads names; nothing secret depends on it.
std::uint64_t hash(std::string_view text, std::uint64_t start) {
  for (const char c : text) start = (start ^ static_cast<unsigned char>(c)) * 0x100'0000'01B3;
  return start ^ (start >> 29);
}

std::string derived_uuid(const Bdev& base, std::string_view product, std::uint64_t number) {
  const std::string text = fmt::format("{} {} {}", base.info().uuid, product, number);
  const std::uint64_t high = (hash(text, 0xCBF2'9CE4'8422'2325) & ~std::uint64_t{0xF000}) | 0x8000;
  const std::uint64_t low = (hash(text, high) & 0x3FFF'FFFF'FFFF'FFFF) | 0x8000'0000'0000'0000;
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32, (high >> 16) & 0xFFFF, high & 0xFFFF, low >> 48, low & 0xFFFF'FFFF'FFFF);
}

}  // namespace

std::uint32_t stack_level_of(const Bdev& bdev) {
  const auto* stacked = dynamic_cast<const StackLevel*>(&bdev);
  return stacked != nullptr ? stacked->level() : 0;
}

Result<void> check_stack_level(const Bdev& base) {
  if (stack_level_of(base) < max_stack_levels) return {};
  return fail(ELOOP, fmt::format("Too many levels: base bdev '{}' stands on {} others already, the limit", base.name(), max_stack_levels));
}

BdevInfo VirtualBdev::info_over(const Bdev& base, std::string name, std::string product, std::string uuid, std::uint64_t number) {
  BdevInfo info;
  inherit(info, base);
  info.name = std::move(name);
  info.uuid = uuid.empty() ? derived_uuid(base, product, number) : std::move(uuid);
  info.product_name = std::move(product);
  return info;
}

VirtualBdev::VirtualBdev(BdevInfo info, std::shared_ptr<StackedBase> base)
    : StackedBdev(std::move(info), std::move(base)), level_(stack_level_of(StackedBdev::base()) + 1) {}

Result<std::shared_ptr<StackedBase>> VirtualBdev::claim_base(const Bdev& base, std::string module, Claim claim) {
  if (auto fits = check_stack_level(base); !fits) return std::unexpected(fits.error());
  return open_base(base.name(), std::move(module), claim);
}

void VirtualBdev::destroy(std::move_only_function<void()> done) {
  VirtualBdevs::instance().gone(*this);
  StackedBdev::destroy(std::move(done));
}

}  // namespace catnap::bdev
