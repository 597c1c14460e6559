// See virtual_bdevs.h.
#include "bdev/stack/virtual_bdevs.h"

#include <fmt/core.h>

#include <algorithm>

#include "reactor/base/log.h"

namespace catnap::bdev {

struct VirtualBdevs::Entry {
  explicit Entry(VirtualRecipe what) : recipe(std::move(what)) {}
  VirtualRecipe recipe;
  std::vector<std::string> made;  // names of the bdevs there are of it
};

VirtualBdevs::VirtualBdevs() {
  Registry::instance().add_examiner("virtual", [this](const std::shared_ptr<Bdev>& bdev, std::move_only_function<void()> done) {
    examine(*bdev);
    done();
  });
}

// Never destroyed, as the Registry.
VirtualBdevs& VirtualBdevs::instance() {
  static auto* all = new VirtualBdevs;
  return *all;
}

std::shared_ptr<VirtualBdevs::Entry> VirtualBdevs::find(std::string_view product_name, std::string_view name) const {
  for (const auto& entry : entries_) {
    if (entry->recipe.product_name == product_name && entry->recipe.name == name) return entry;
  }
  return nullptr;
}

bool VirtualBdevs::knows(std::string_view product_name, std::string_view name) const { return find(product_name, name) != nullptr; }

bool VirtualBdevs::waits(std::string_view product_name, std::string_view name) const {
  const auto entry = find(product_name, name);
  return entry != nullptr && entry->made.empty();
}

Result<std::vector<std::string>> VirtualBdevs::create(VirtualRecipe recipe) {
  if (recipe.makes_one) {
    if (recipe.name.empty()) return fail(EINVAL, "name '' is empty");
    if (recipe.name == recipe.base_name)
      return fail(EINVAL, fmt::format("name '{}' is that of its base: a bdev cannot stand on itself", recipe.name));
    if (Registry::instance().find(recipe.name) != nullptr) return fail(EEXIST, fmt::format("File exists: there is a bdev '{}' already", recipe.name));
  }
  for (const auto& entry : entries_) {
    const bool same = recipe.makes_one == entry->recipe.makes_one && entry->recipe.name == recipe.name &&
                      (recipe.makes_one || entry->recipe.product_name == recipe.product_name);
    if (same) {
      return fail(EEXIST, fmt::format("File exists: '{}' was created as {} on '{}' already{}", recipe.name, entry->recipe.product_name,
                                      entry->recipe.base_name, entry->made.empty() ? " and waits for it" : ""));
    }
  }
  auto entry = std::make_shared<Entry>(std::move(recipe));
  if (Registry::instance().find(entry->recipe.base_name) != nullptr) {
    auto names = build(*entry);
    if (!names && names.error().err != ENOKEY) return names;
    if (!names) log_notice("bdev '{}' on '{}' waits: {}", entry->recipe.name, entry->recipe.base_name, names.error().message);
    entries_.push_back(entry);
    return names ? names : std::vector<std::string>{};
  }
  log_notice("bdev '{}' waits for its base '{}'", entry->recipe.name, entry->recipe.base_name);
  entries_.push_back(entry);
  return std::vector<std::string>{};
}

// All of its bdevs, or none.
Result<std::vector<std::string>> VirtualBdevs::build(Entry& entry) {
  const auto base = Registry::instance().find(entry.recipe.base_name);
  auto bdevs = entry.recipe.make(base);
  if (!bdevs) return std::unexpected(bdevs.error());
  std::vector<std::string> names;
  for (const auto& bdev : *bdevs) {
    if (auto fit = Registry::instance().add(bdev); !fit) {
      for (const auto& name : names) Registry::instance().remove(name, [](Result<void>) {});
      entry.made.clear();
      return std::unexpected(fit.error());
    }
    names.push_back(bdev->name());
    entry.made = names;
  }
  return names;
}

void VirtualBdevs::examine(const Bdev& base) {
  for (const auto& entry : std::vector(entries_)) {
    if (entry->made.empty() && Registry::instance().find(entry->recipe.base_name).get() == &base) try_again(*entry);
  }
}

void VirtualBdevs::try_again(Entry& entry) {
  auto names = build(entry);
  if (!names) {
    log_warning("bdev '{}' could not be made on '{}': {}; bdev_examine tries again", entry.recipe.name, entry.recipe.base_name,
                names.error().message);
  }
}

void VirtualBdevs::retry() {
  for (const auto& entry : std::vector(entries_)) {
    if (entry->made.empty() && Registry::instance().find(entry->recipe.base_name) != nullptr) try_again(*entry);
  }
}

Result<std::vector<std::string>> VirtualBdevs::forget(std::string_view product_name, std::string_view name) {
  const auto entry = find(product_name, name);
  if (entry == nullptr) return fail(ENODEV, fmt::format("No such device: there is no {} bdev '{}'", product_name, name));
  std::erase(entries_, entry);
  return entry->made;
}

void VirtualBdevs::gone(const VirtualBdev& bdev) {
  for (const auto& entry : entries_) std::erase(entry->made, bdev.name());
}

std::vector<std::string> VirtualBdevs::config_calls() const {
  std::vector<std::string> calls;
  for (const auto& entry : entries_) calls.push_back(entry->recipe.config_json());
  return calls;
}

}  // namespace catnap::bdev
