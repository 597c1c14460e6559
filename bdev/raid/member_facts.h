// What an array may rely on about the bdevs that are its members, whatever stands between them and the disk.
// Owner: none (questions, on app_thread). Left out: their shapes (raid1.cpp).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "bdev/association.h"
#include "bdev/bdev.h"

namespace catnap::bdev {

// The associations of all remote disks at the bottom of a bdev: of one disk, also below a crypto bdev and the like, or of those of a raid0 or concat.
// (A raid1 deals with those of its members itself.) Valid while the bdev is open. Counted on any thread, made and watched on app_thread.
class Associations {
 public:
  Associations() = default;
  explicit Associations(Bdev& bdev);
  bool any() const { return !disks_.empty(); }
  // Goes up before an I/O of a new association is answered; 0: nothing is remote.
  std::uint64_t count() const {
    std::uint64_t total = 0;
    for (const Associated* disk : disks_) total += disk->associations();
    return total;
  }
  // As Associated::watch_associations(), of all of them.
  std::shared_ptr<void> watch(const std::function<void()>& made) const;

 private:
  std::vector<Associated*> disks_;
};

// Every block reads as zero: nothing was ever written to it, and what was not written reads as zeroes. False also where that is not known, as of a
// remote disk, whose own word about itself may be old.
bool promises_zeroes(const Bdev& bdev);
// What it holds is there after the end of the process: files, local disks and remote ones, and what stands on them.
bool outlives_the_process(const Bdev& bdev);
// At least in part reached over a connection that may be lost, also below other bdevs.
bool is_remote(const Bdev& bdev);

}  // namespace catnap::bdev
