// The passthru bdev: hands every I/O to its base as it is. The measure of what one layer costs, and the smallest example of a virtual bdev.
// Owner: a PassthruBdev belongs to app_thread, its channels to their threads. Left out: everything (that is the point).
#pragma once

#include <memory>
#include <string>

#include "bdev/stack/virtual_bdev.h"
#include "bdev/stack/virtual_bdevs.h"

namespace catnap::bdev {

struct PassthruOptions {
  PassthruOptions() = default;
  std::string name;
  std::string base_bdev_name;
  std::string uuid;  // empty: made from the base's
};

class PassthruBdev final : public VirtualBdev {
 public:
  static constexpr const char* product = "passthru";

  // Over that base, which it claims; not yet registered. Errors: VirtualBdev::claim_base()'s.
  static Result<std::shared_ptr<PassthruBdev>> create(const PassthruOptions& options, const std::shared_ptr<Bdev>& base);
  static VirtualRecipe recipe(PassthruOptions options);

  std::string driver_specific_json() const override;

 private:
  using VirtualBdev::VirtualBdev;
  Result<std::unique_ptr<Channel>> create_channel(Thread& thread) override;
};

}  // namespace catnap::bdev
