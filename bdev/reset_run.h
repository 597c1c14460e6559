// A reset of a bdev: on every channel, new I/O waits, what waits already or can be taken back ends as aborted, and what is in the module's hands is
// waited for; then the module resets; then I/O goes on. One at a time per bdev. Owner: the thread of the channel on which the reset was submitted.
// Left out: a bound (what a device holds up, its driver's time-outs end).
#pragma once

#include <atomic>

#include "bdev/parted_io.h"

namespace catnap::bdev {

class ResetRun final : public PartedIo {
 public:
  // `whole` is the front of the bdev's resets. On the channel's thread; frees itself.
  static void begin(Channel& channel, BdevIo& whole);

  void part_done(BdevIo& part, Status status) override;
  bool abort() override { return false; }

 private:
  ResetRun(Channel& channel, BdevIo& whole) : PartedIo(channel, whole) {}
  void freeze_all();
  void drained();
  void execute();
  void thaw_all();

  BdevIo part_;
  std::atomic<std::uint32_t> waiting_{0};
};

}  // namespace catnap::bdev
