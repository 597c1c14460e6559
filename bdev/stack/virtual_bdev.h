// A bdev on one other that the user asked for by a create method: what these modules share above bdev/stacked.h.
// Owner: app_thread. Left out: claim, events, channels and I/O (stacked.h); those whose base is not there (virtual_bdevs.h).
#pragma once

#include <memory>
#include <string>

#include "bdev/stacked.h"

namespace catnap::bdev {

// Levels above a real bdev. Each costs a few frames of stack per I/O; SPDK's users build three or four.
inline constexpr std::uint32_t max_stack_levels = 16;

// Bdevs that stand on others (also those on several) count how high.
class StackLevel {
 public:
  virtual ~StackLevel() = default;
  // Levels above a real bdev, 1 for the first.
  virtual std::uint32_t level() const = 0;
};
// 0 for a real bdev.
std::uint32_t stack_level_of(const Bdev& bdev);
// Whether one more may stand on it. Errors: ELOOP.
Result<void> check_stack_level(const Bdev& base);

class VirtualBdev : public StackedBdev, public StackLevel {
 public:
  std::uint32_t level() const override { return level_; }
  // "": VirtualBdevs shows it, which also knows those whose base is not there.
  std::string config_json() const override { return ""; }
  void destroy(std::move_only_function<void()> done) override;

  // What is inherited from the base, under that name. `uuid` empty: one made of the base's UUID, the product and `number`, the same after each
  // restart (version 8, RFC 9562 section 5.8).
  static BdevInfo info_over(const Bdev& base, std::string name, std::string product, std::string uuid, std::uint64_t number = 0);
  // Opens and claims the base for a module. Errors: EBUSY naming who has it, ELOOP (too many levels), ENODEV.
  static Result<std::shared_ptr<StackedBase>> claim_base(const Bdev& base, std::string module, Claim claim = Claim::exclusive);

 protected:
  VirtualBdev(BdevInfo info, std::shared_ptr<StackedBase> base);

 private:
  std::uint32_t level_ = 1;
};

}  // namespace catnap::bdev
