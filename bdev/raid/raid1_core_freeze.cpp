// A raid1 that cannot record what it must, on any member or on the device with its bitmap: reads go on, writes fail, and each write that comes has it
// try again, so that it is whole again when the device is, and nothing wakes up meanwhile. See raid1_core.h.
#include "bdev/raid/raid1_core.h"
#include "bdev/raid/raid1_marks.h"
#include "bdev/raid/raid1_sync.h"
#include "reactor/base/log.h"

namespace catnap::bdev::raid1 {

void Core::freeze(const std::string& reason) {
  thaw_failed_ = true;
  if (frozen_) return;
  frozen_ = true;
  log_error("raid '{}': {}; writes fail until it can be recorded", superblock_.name, reason);
  listener_.frozen_changed();
  publish({});
}

void Core::ask_thaw() {
  if (thaw_asked_.exchange(true)) return;
  executor_->post([self = shared_from_this()] { self->thaw(); });
}

// Who belongs to the array, then every page of the bitmap: of those that could not be written it is not known what stands there.
void Core::thaw() {
  thaw_asked_.store(false);
  if (marks_ == nullptr || thawing_) return;
  if (!frozen_) return thaw_over();
  thawing_ = true;
  change(
      [this] {
        thaw_failed_ = false;
        return true;
      },
      [this] {
        if (thaw_failed_) return thaw_over();
        marks_->write_again([this] { thaw_over(); });
      });
}

void Core::thaw_over() {
  if (std::exchange(thawing_, false) && !thaw_failed_) {
    frozen_ = false;
    marks_->written_again();
    log_notice("raid '{}': members and bitmap are recorded again; writes go on", superblock_.name);
    listener_.frozen_changed();
  }
  ++thaws_tried_;
  publish({});
  if (frozen_) return;
  sync_->look();
  marks_->watch();
}

void Core::external_returned(Port* port, std::uint32_t copy) {
  external_ = port;
  external_copy_ = copy;
  ask_thaw();
}

}  // namespace catnap::bdev::raid1
