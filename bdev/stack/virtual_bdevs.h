// Which virtual bdevs the user wishes for: each is made at once when its base is there, else as soon as it appears; it comes back when its base went
// and came back; and the configuration shows it in any case. So a configuration file may name bases that only come later in it.
// Owner: app_thread. Left out: JSON-RPC (stack_rpc.h), what the modules are.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bdev/stack/virtual_bdev.h"

namespace catnap::bdev {

// One call of a create method.
struct VirtualRecipe {
  using Made = std::vector<std::shared_ptr<VirtualBdev>>;
  VirtualRecipe() = default;

  std::string name;          // of the bdev; of a group of bdevs (split) that of the base
  std::string base_name;     // name, alias or UUID
  std::string product_name;  // the module's: VirtualBdevs::remove() asks for it
  // False: several bdevs with other names of their own come from it.
  bool makes_one = true;
  // Makes the bdevs over that base, which it claims; they are not yet registered. ENOKEY: something else than the base is still missing, try again at
  // retry().
  std::function<Result<Made>(const std::shared_ptr<Bdev>& base)> make;
  std::function<std::string()> config_json;
};

class VirtualBdevs {
 public:
  static VirtualBdevs& instance();

  // Names of the bdevs made now; none when the base is not there yet. Errors: EEXIST (name taken, or wished for already), EINVAL (stands on itself),
  // what `make` and the claim say. After an error nothing is left of it.
  Result<std::vector<std::string>> create(VirtualRecipe recipe);
  // Whether a recipe of that module and name has no bdev, since its base (or a key) is not there.
  // Each bdev that appears is examined for this (Registry::add_examiner); bdev_examine does it by hand.
  bool waits(std::string_view product_name, std::string_view name) const;
  bool knows(std::string_view product_name, std::string_view name) const;
  // Forgets the recipe and gives back the names of the bdevs there are of it, which the caller removes. Errors: ENODEV.
  Result<std::vector<std::string>> forget(std::string_view product_name, std::string_view name);
  // Tries again to make what could not be made although its base is there: something else was missing (ENOKEY).
  void retry();
  // The calls, as JSON texts, in the order in which they were made.
  std::vector<std::string> config_calls() const;
  // The registry frees it: its recipe waits for the base again, if it is still wished for.
  void gone(const VirtualBdev& bdev);

 private:
  struct Entry;
  VirtualBdevs();
  ~VirtualBdevs() = delete;
  Result<std::vector<std::string>> build(Entry& entry);
  void examine(const Bdev& base);
  void try_again(Entry& entry);
  std::shared_ptr<Entry> find(std::string_view product_name, std::string_view name) const;

  std::vector<std::shared_ptr<Entry>> entries_;
};

}  // namespace catnap::bdev
