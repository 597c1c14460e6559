// See passthru.h.
#include "bdev/passthru/passthru.h"

#include "bdev/json_text.h"

namespace catnap::bdev {
namespace {

class PassthruChannel final : public VirtualChannel {
 public:
  PassthruChannel(Bdev& bdev, Thread& thread, ChannelRef base_channel) : VirtualChannel(bdev, thread, std::move(base_channel)) {}

 private:
  void execute(BdevIo& io) override { base().submit(child_of(io)); }
};

}  // namespace

std::shared_ptr<PassthruBdev> PassthruBdev::create(const PassthruOptions& options, const std::shared_ptr<Bdev>& base) {
  BdevInfo info = info_over(*base, options.name, product, options.uuid.empty() ? derived_uuid(*base, product) : options.uuid);
  return std::shared_ptr<PassthruBdev>(new PassthruBdev(std::move(info), base));
}

VirtualRecipe PassthruBdev::recipe(PassthruOptions options) {
  VirtualRecipe recipe;
  recipe.name = options.name;
  recipe.base_name = options.base_bdev_name;
  recipe.product_name = product;
  recipe.make = [options](const std::shared_ptr<Bdev>& base) -> Result<VirtualRecipe::Made> { return VirtualRecipe::Made{create(options, base)}; };
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
  return std::make_unique<PassthruChannel>(*this, thread, std::move(*below));
}

std::string PassthruBdev::driver_specific_json() const {
  return JsonObject().add_raw("passthru", JsonObject().add("name", name()).add("base_bdev_name", base().name()).text()).text();
}

}  // namespace catnap::bdev
