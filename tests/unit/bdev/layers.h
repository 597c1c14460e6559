// What the conformance suite stacks: layers over the modules of bench.h, each one with what it changes of its base's promises.
// Owner: the test's OS thread. Left out: stacks of more than two layers (nothing new happens there).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/unit/bdev/bench.h"

namespace catnap::bdev {

struct Layer {
  Layer() = default;
  std::string name;
  bool scrambles = false;  // what was never written here reads as noise
  bool halves = false;     // half as large as its base
  bool is_slow = false;    // by timers
  // Over `base`, which is registered; not registered itself. Null where `begin` does it. On app_thread.
  std::function<std::shared_ptr<Bdev>(const std::shared_ptr<Bdev>& base)> make;
  // For modules that register by themselves, when they are ready: gives back the name.
  std::function<std::string(const std::shared_ptr<Bdev>& base)> begin;
};

// Makes it and has it registered, now or soon. Its name, empty after a failure. On app_thread.
std::string add_layer(const Layer& layer, const std::shared_ptr<Bdev>& base);
// Arrays outlive their members; this takes all of them away when their bdevs are gone. On app_thread.
void forget_arrays();

// passthru, delay, error, split, crypto, raid0, raid1.
std::vector<Layer> all_layers();
// concat: as raid0 but for the arithmetic.
Layer concat_layer();
// A module of the tests' own, whose execute() has no resources at every n-th call (2 or more).
Layer starved_layer(std::uint32_t every);

// A bottom and up to two layers.
struct Stack {
  Stack() = default;
  std::string name;
  Module bottom;
  std::vector<Layer> layers;

  bool scrambles() const;
  bool is_slow() const;  // files and timers
  bool keeps_data() const { return bottom.keeps_data; }
  // The bottom's size for module_size_bytes at the top.
  std::uint64_t bottom_bytes() const;
  bool has(std::string_view layer_name) const;
  // Parts of split bdevs stay as they were cut, and so does what stands on them.
  bool keeps_its_size() const;
};

// Every module, every layer on every kind of module, every layer on every layer (arrays on some), and each layer on a base that is out of resources
// now and then.
std::vector<Stack> all_stacks();

}  // namespace catnap::bdev
