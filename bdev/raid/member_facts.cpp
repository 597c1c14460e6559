// See member_facts.h.
#include "bdev/raid/member_facts.h"

#include <algorithm>

#include "bdev/raid/raid_bdev.h"
#include "bdev/stacked.h"

namespace catnap::bdev {
namespace {

// Whether `holds` for every bdev at the bottom of a stack; false where a member of an array is not there.
bool of_all_below(const Bdev& bdev, const std::function<bool(const Bdev&)>& holds) {
  if (dynamic_cast<const Associated*>(&bdev) != nullptr) return holds(bdev);
  if (const auto* stacked = dynamic_cast<const StackedBdev*>(&bdev)) return of_all_below(stacked->base(), holds);
  if (const auto* raid = dynamic_cast<const RaidBdev*>(&bdev)) {
    return std::ranges::all_of(raid->array().members(),
                               [&holds](const auto& member) { return member->present() && of_all_below(member->bdev(), holds); });
  }
  return holds(bdev);
}

void find_associated(Bdev& bdev, std::vector<Associated*>& disks) {
  if (auto* disk = dynamic_cast<Associated*>(&bdev)) {
    disks.push_back(disk);
  } else if (const auto* stacked = dynamic_cast<const StackedBdev*>(&bdev)) {
    find_associated(stacked->base(), disks);
  } else if (const auto* raid = dynamic_cast<const RaidBdev*>(&bdev)) {
    // The members of these stay as long as the array's bdev does.
    if (raid->array().options().kind == RaidKind::raid1) return;
    for (const auto& member : raid->array().members()) {
      if (member->present()) find_associated(member->bdev(), disks);
    }
  }
}

}  // namespace

Associations::Associations(Bdev& bdev) { find_associated(bdev, disks_); }

std::shared_ptr<void> Associations::watch(const std::function<void()>& made) const {
  auto tokens = std::make_shared<std::vector<std::shared_ptr<void>>>();
  for (Associated* disk : disks_) tokens->push_back(disk->watch_associations(made));
  return tokens;
}

bool is_remote(const Bdev& bdev) {
  return !of_all_below(bdev, [](const Bdev& below) { return dynamic_cast<const Associated*>(&below) == nullptr; });
}

bool promises_zeroes(const Bdev& bdev) { return bdev.info().unmap_reads_zeroes && bdev.allocated_blocks() == std::uint64_t{0} && !is_remote(bdev); }

// By name: only these are known to. Memory and the null bdev do not, and what comes later has to be looked at first.
bool outlives_the_process(const Bdev& bdev) {
  return of_all_below(bdev, [](const Bdev& below) {
    const std::string& product = below.info().product_name;
    return product == "URING bdev" || product == "AIO disk" || dynamic_cast<const Associated*>(&below) != nullptr;
  });
}

}  // namespace catnap::bdev
