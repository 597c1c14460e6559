// Exclusive use of a range of blocks, over all channels and threads of a bdev: who holds it knows that the I/Os that were under way there have ended
// and that new ones wait. For compare-and-write, and for layers that rewrite stripes. Owner: the list is the bdev's, under its mutex; grants and
// releases run on the thread that asked. Left out: shared locks.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

namespace catnap {
class Thread;
}

namespace catnap::bdev {

class Bdev;
struct BdevIo;

struct RangeHold {
  std::uint64_t offset_blocks = 0;
  std::uint64_t num_blocks = 0;
  const BdevIo* exempt = nullptr;  // the one I/O that may go on inside
  Thread* thread = nullptr;        // that asked
  std::function<void()> granted;
  bool installed = false;                 // binds; under the bdev's mutex
  bool is_granted = false;                // on `thread`
  bool given_up = false;                  // on `thread`: released before it was granted
  std::atomic<std::uint32_t> waiting{0};  // channels on which I/Os have to end first
};

class RangeLocks {
 public:
  explicit RangeLocks(Bdev& bdev) : bdev_(bdev) {}

  // Asks for num_blocks from offset_blocks on. `granted` runs once on the current thread, maybe before this returns. Ranges that overlap are granted
  // in the order of asking. `exempt` (may be null) is an I/O that does not wait for the lock, nor the lock for it.
  std::shared_ptr<RangeHold> lock(std::uint64_t offset_blocks, std::uint64_t num_blocks, const BdevIo* exempt, std::function<void()> granted);
  // On the thread that asked. A lock that was not granted yet is given up: `granted` does not run any more.
  void unlock(const std::shared_ptr<RangeHold>& hold);

 private:
  void install(const std::shared_ptr<RangeHold>& hold);
  void install_here(const std::shared_ptr<RangeHold>& hold);
  void cleared(const std::shared_ptr<RangeHold>& hold);
  void grant(const std::shared_ptr<RangeHold>& hold);
  void remove(const std::shared_ptr<RangeHold>& hold);
  bool may_install_locked(const RangeHold& hold) const;

  Bdev& bdev_;
};

}  // namespace catnap::bdev
