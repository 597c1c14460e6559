// An I/O that the core carries out as other I/Os of the same channel (its parts): split, staged through a buffer, or a reset.
// Owner: the channel's thread. Left out: what the parts are (split_io.h, staged_io.h, reset_run.h).
#pragma once

#include "bdev/bdev.h"

namespace catnap::bdev {

class PartedIo {
 public:
  virtual ~PartedIo() = default;
  PartedIo(const PartedIo&) = delete;
  PartedIo& operator=(const PartedIo&) = delete;

  // The module answered one of the parts. May end the whole, and this.
  virtual void part_done(BdevIo& part, Status status) = 0;
  // The whole is not wanted any more: no further part starts, those under way are taken back where that is possible, and the whole ends with
  // Status::aborted. False: too late.
  virtual bool abort() = 0;

 protected:
  // From now on the whole leads here; `whole` may be a part itself.
  PartedIo(Channel& channel, BdevIo& whole) : channel_(channel), whole_(whole), outer_(whole.parted) { whole.parted = this; }

  // What parts need of the channel.
  void prepare(BdevIo& part, Op op);
  void dispatch(BdevIo& part);
  bool take_back(BdevIo& part);
  // Deletes this.
  void end_whole(Status status);
  // Blocks from `offset` on that a part may have, by the module's limits (at most `wanted`).
  std::uint64_t blocks_allowed(std::uint64_t offset_blocks, std::uint64_t wanted) const;
  // The same for a part that ends at `end`.
  std::uint64_t blocks_allowed_before(std::uint64_t end_blocks, std::uint64_t wanted) const;
  static Channel::Core& core_of(Channel& channel);

  Channel& channel_;
  BdevIo& whole_;

 private:
  PartedIo* outer_;  // what a whole that is a part belongs to
};

}  // namespace catnap::bdev
