// Which class carries out which level. See raid.h.
#include "bdev/raid/raid1.h"
#include "bdev/raid/striped.h"

namespace catnap::bdev {

Result<std::unique_ptr<RaidLevel>> make_raid_level(RaidArray& array) {
  switch (array.options().kind) {
    case RaidKind::raid0:
      return make_raid0_level(array);
    case RaidKind::concat:
      return make_concat_level(array);
    case RaidKind::raid1:
      return make_raid1_level(array);
  }
  return fail(EINVAL, "Invalid argument: raid_level");
}

}  // namespace catnap::bdev
