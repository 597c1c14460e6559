// See zero_area.h.
#include "bdev/zero_area.h"

#include <sys/mman.h>

#include "reactor/base/check.h"

namespace catnap::bdev {
namespace {

class ZeroLender final : public transport::Lender {
 public:
  void lock_for_send(std::uint64_t, std::uint64_t) override {}
  void unlock_after_send(std::uint64_t, std::uint64_t) override {}
};

}  // namespace

const std::byte* zero_area() {
  static const std::byte* const area = [] {
    void* memory = mmap(nullptr, zero_area_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CATNAP_CHECK(memory != MAP_FAILED);
    return static_cast<const std::byte*>(memory);
  }();
  return area;
}

transport::Lease lend_zeroes() {
  static ZeroLender lender;
  return {zero_area(), &lender, 0};
}

}  // namespace catnap::bdev
