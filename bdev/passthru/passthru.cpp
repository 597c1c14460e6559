// See passthru.h.
#include "bdev/passthru/passthru.h"

#include "bdev/json_text.h"

namespace catnap::bdev {

Result<std::shared_ptr<PassthruBdev>> PassthruBdev::create(const PassthruOptions& options, const std::shared_ptr<Bdev>& base) {
  auto claimed = claim_base(*base, product);
  if (!claimed) return std::unexpected(claimed.error());
  return std::shared_ptr<PassthruBdev>(new PassthruBdev(info_over(*base, options.name, product, options.uuid), std::move(*claimed)));
}

VirtualRecipe PassthruBdev::recipe(PassthruOptions options) {
  VirtualRecipe recipe;
  recipe.name = options.name;
  recipe.base_name = options.base_bdev_name;
  recipe.product_name = product;
  recipe.make = [options](const std::shared_ptr<Bdev>& base) -> Result<VirtualRecipe::Made> {
    auto made = create(options, base);
    if (!made) return std::unexpected(made.error());
    return VirtualRecipe::Made{std::move(*made)};
  };
  recipe.config_json = [options] {
    JsonObject params;
    params.add("name", options.name).add("base_bdev_name", options.base_bdev_name);
    if (!options.uuid.empty()) params.add("uuid", options.uuid);
    return config_call("bdev_passthru_create", params);
  };
  return recipe;
}

Result<std::unique_ptr<Channel>> PassthruBdev::create_channel(Thread& thread) {
  auto below = base_channel();
  if (!below) return std::unexpected(below.error());
  return std::make_unique<StackedChannel>(*this, thread, std::move(*below));
}

std::string PassthruBdev::driver_specific_json() const {
  return JsonObject().add_raw("passthru", JsonObject().add("name", name()).add("base_bdev_name", base().name()).text()).text();
}

}  // namespace catnap::bdev
