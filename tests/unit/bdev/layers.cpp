// See layers.h.
#include "tests/unit/bdev/layers.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "bdev/crypto/crypto.h"
#include "bdev/delay/delay.h"
#include "bdev/error/error.h"
#include "bdev/passthru/passthru.h"
#include "bdev/raid/raid_arrays.h"
#include "bdev/split/split.h"

namespace catnap::bdev {
namespace {

constexpr const char* key_name = "conformance";

template <typename Made>
std::shared_ptr<Bdev> taken(Made made) {
  if (made) return std::move(*made);
  ADD_FAILURE() << made.error().message;
  return nullptr;
}

std::string over(const Bdev& base, const char* layer) { return std::string(layer) + "_on_" + base.name(); }

Layer passthru_layer() {
  Layer layer;
  layer.name = "passthru";
  layer.make = [](const std::shared_ptr<Bdev>& base) {
    PassthruOptions options;
    options.name = over(*base, "P");
    return taken(PassthruBdev::create(options, base));
  };
  return layer;
}

Layer delay_layer() {
  Layer layer;
  layer.name = "delay";
  layer.is_slow = true;
  layer.make = [](const std::shared_ptr<Bdev>& base) {
    DelayOptions options;
    options.name = over(*base, "D");
    options.latencies->us[DelayLatencies::avg_read] = 10;
    options.latencies->us[DelayLatencies::p99_read] = 300;
    options.latencies->us[DelayLatencies::avg_write] = 20;
    options.latencies->us[DelayLatencies::p99_write] = 200;
    return taken(DelayBdev::create(options, base));
  };
  return layer;
}

Layer error_layer() {
  Layer layer;
  layer.name = "error";
  layer.make = [](const std::shared_ptr<Bdev>& base) {
    ErrorOptions options;
    options.base_name = base->name();
    return taken(ErrorBdev::create(options, base));
  };
  return layer;
}

// The second of two parts: what is wrong with its origin shows.
Layer split_layer() {
  Layer layer;
  layer.name = "split";
  layer.halves = true;
  layer.make = [](const std::shared_ptr<Bdev>& base) -> std::shared_ptr<Bdev> {
    SplitOptions options;
    options.base_bdev_name = base->name();
    options.count = 2;
    auto parts = SplitBdev::create(options, base);
    if (parts) return parts->back();
    ADD_FAILURE() << parts.error().message;
    return nullptr;
  };
  return layer;
}

Layer crypto_layer() {
  Layer layer;
  layer.name = "crypto";
  layer.scrambles = true;
  layer.make = [](const std::shared_ptr<Bdev>& base) {
    if (CryptoKeys::instance().find(key_name) == nullptr) {
      auto key = CryptoKey::create(key_name, std::string(64, '1'), std::string(64, '2'));
      EXPECT_TRUE(key.has_value() && CryptoKeys::instance().add(*key).has_value());
    }
    CryptoOptions options;
    options.name = over(*base, "C");
    options.key_name = key_name;
    return taken(CryptoBdev::create(options, base));
  };
  return layer;
}

// An array of both halves of the base.
Layer array_layer(RaidKind kind) {
  Layer layer;
  layer.name = raid_kind_name(kind);
  layer.halves = kind == RaidKind::raid1;
  layer.begin = [kind](const std::shared_ptr<Bdev>& base) {
    SplitOptions halves;
    halves.base_bdev_name = base->name();
    halves.count = 2;
    RaidOptions options;
    options.name = over(*base, kind == RaidKind::raid0 ? "R0" : kind == RaidKind::raid1 ? "R1" : "RC");
    options.kind = kind;
    options.strip_size_kib = kind == RaidKind::raid1 ? 0 : 16;
    options.assume_clean = kind == RaidKind::raid1;
    auto parts = SplitBdev::create(halves, base);
    EXPECT_TRUE(parts.has_value());
    if (!parts) return std::string();
    for (const auto& part : *parts) {
      EXPECT_TRUE(Registry::instance().add(part).has_value());
      options.members.push_back(part->name());
    }
    const std::string name = options.name;
    spawn<Result<void>>(RaidArrays::instance().create(std::move(options)), [](Result<void> created) {
      if (!created) ADD_FAILURE() << created.error().message;
    });
    return name;
  };
  return layer;
}

class StarvedChannel final : public StackedChannel {
 public:
  StarvedChannel(Bdev& bdev, Thread& thread, ChannelRef base_channel, std::uint32_t every)
      : StackedChannel(bdev, thread, std::move(base_channel)), every_(every) {}

 private:
  void execute(BdevIo& io) override {
    if (++calls_ % every_ == 0) {
      complete(io, Status::no_memory);
    } else {
      forward(io);
    }
  }

  const std::uint32_t every_;
  std::uint32_t calls_ = 0;
};

class StarvedBdev final : public VirtualBdev {
 public:
  static std::shared_ptr<StarvedBdev> create(const std::shared_ptr<Bdev>& base, std::uint32_t every) {
    auto claimed = claim_base(*base, "starved");
    EXPECT_TRUE(claimed.has_value());
    BdevInfo info = info_over(*base, over(*base, "S"), "starved", "");
    return std::shared_ptr<StarvedBdev>(new StarvedBdev(std::move(info), std::move(*claimed), every));
  }

 private:
  StarvedBdev(BdevInfo info, std::shared_ptr<StackedBase> base, std::uint32_t every) : VirtualBdev(std::move(info), std::move(base)), every_(every) {}
  Result<std::unique_ptr<Channel>> create_channel(Thread& thread) override {
    auto below = base_channel();
    if (!below) return std::unexpected(below.error());
    return std::make_unique<StarvedChannel>(*this, thread, std::move(*below), every_);
  }

  std::uint32_t every_;
};

Stack stack_of(const Module& bottom, std::vector<Layer> layers) {
  Stack stack;
  stack.bottom = bottom;
  stack.layers = std::move(layers);
  stack.name = bottom.name;
  for (const Layer& layer : stack.layers) stack.name = layer.name + "_on_" + stack.name;
  return stack;
}

}  // namespace

std::vector<Layer> all_layers() {
  return {passthru_layer(), delay_layer(), error_layer(), split_layer(), crypto_layer(), array_layer(RaidKind::raid0), array_layer(RaidKind::raid1)};
}

Layer concat_layer() { return array_layer(RaidKind::concat); }

std::string add_layer(const Layer& layer, const std::shared_ptr<Bdev>& base) {
  if (layer.begin) return layer.begin(base);
  auto made = layer.make(base);
  if (made == nullptr) return "";
  const auto added = Registry::instance().add(made);
  EXPECT_TRUE(added.has_value());
  return added ? made->name() : "";
}

void forget_arrays() {
  for (const auto& array : RaidArrays::instance().all()) {
    spawn<Result<void>>(RaidArrays::instance().remove(array->name(), false), [](Result<void> removed) { EXPECT_TRUE(removed.has_value()); });
  }
}

Layer starved_layer(std::uint32_t every) {
  Layer layer;
  layer.name = "starved" + std::to_string(every);
  layer.is_slow = true;
  layer.make = [every](const std::shared_ptr<Bdev>& base) { return StarvedBdev::create(base, every); };
  return layer;
}

bool Stack::scrambles() const { return std::ranges::any_of(layers, &Layer::scrambles); }
bool Stack::is_slow() const { return bottom.is_file || std::ranges::any_of(layers, &Layer::is_slow); }
bool Stack::keeps_its_size() const { return has("split") || has("raid0") || has("raid1") || has("concat"); }
bool Stack::has(std::string_view layer_name) const {
  return std::ranges::any_of(layers, [&](const Layer& layer) { return layer.name == layer_name; });
}
std::uint64_t Stack::bottom_bytes() const { return module_size_bytes << std::ranges::count_if(layers, &Layer::halves); }

std::vector<Stack> all_stacks() {
  std::vector<Stack> stacks;
  Module memory;
  for (const Module& module : all_modules()) {
    if (module.name == "malloc") memory = module;
    stacks.push_back(stack_of(module, {}));
    if (module.name == "null" || module.name == "malloc") stacks.push_back(stack_of(module, {concat_layer()}));
    // The other manners of the file modules differ below what a layer sees.
    if (module.name != "null" && module.name != "malloc" && module.name != "uring" && module.name != "aio") continue;
    for (const Layer& layer : all_layers()) {
      if (layer.scrambles && !module.keeps_data) continue;  // zeroes made up below are noise above
      stacks.push_back(stack_of(module, {layer}));
    }
  }
  for (const Layer& lower : all_layers()) {
    for (const Layer& upper : all_layers()) {
      // Arrays take long to make: with those that hand everything on, those that change data, and with each other.
      const auto goes_with_arrays = [](const Layer& layer) { return layer.begin || layer.name == "passthru" || layer.scrambles; };
      if ((lower.begin || upper.begin) && !(goes_with_arrays(lower) && goes_with_arrays(upper) && lower.name != upper.name)) continue;
      stacks.push_back(stack_of(memory, {lower, upper}));
    }
  }
  for (const std::uint32_t every : {2u, 3u, 7u}) {
    for (const Layer& upper : all_layers()) {
      if (!upper.begin || every == 3) stacks.push_back(stack_of(memory, {starved_layer(every), upper}));
    }
  }
  return stacks;
}

}  // namespace catnap::bdev
