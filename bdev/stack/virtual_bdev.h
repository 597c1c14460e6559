// What every bdev that stands on another one shares: the claim of its base, following the base's size, going when the base goes, and a channel
// that passes I/O on without touching its data.
// Owner: a VirtualBdev belongs to app_thread, its channels to their threads. Left out: bdevs on several bases; which virtual bdevs are wished for
// while their base is not there (virtual_bdevs.h).
#pragma once

#include <memory>
#include <string>

#include "bdev/bdev.h"
#include "bdev/stack/child_io.h"

namespace catnap::bdev {

// Levels above a real bdev. Each costs a few frames of stack per I/O; SPDK's users build three or four.
inline constexpr std::uint32_t max_stack_levels = 16;

class VirtualBdev : public Bdev {
 public:
  // What a bdev passes on from its base: geometry, hints, and what it promises about flush, unmap, lent reads and inline data.
  static BdevInfo info_over(const Bdev& base, std::string name, std::string product_name, std::string uuid);
  // A UUID (version 8, RFC 9562 section 5.8) made of the base's UUID, the module and a number: the same after each restart.
  static std::string derived_uuid(const Bdev& base, std::string_view module, std::uint64_t number = 0);

  Bdev& base() const { return *base_; }
  // Levels above a real bdev, 1 for the first.
  std::uint32_t level() const { return level_; }
  bool supports(Op op) const override { return base_->supports(op); }
  // "" : shown by VirtualBdevs, which also knows those whose base is not there.
  std::string config_json() const override { return ""; }
  void destroy(std::move_only_function<void()> done) override;

  // On app_thread, before Registry::add(): opens the base for writing and claims it for `claimant` ("passthru P0").
  // Errors: EBUSY naming who has it, ELOOP (too many levels), ENODEV.
  Result<void> claim_base(std::string claimant);

 protected:
  VirtualBdev(BdevInfo info, std::shared_ptr<Bdev> base);
  // The base has another size now. Without an override the bdev takes the same number of blocks.
  virtual void base_resized() { set_num_blocks(base_->num_blocks()); }
  Result<ChannelRef> base_channel() { return base_->get_channel(); }

 private:
  void base_event(Event event);

  std::shared_ptr<Bdev> base_;
  std::unique_ptr<Descriptor> descriptor_;
  std::uint32_t level_ = 1;
};

// The channel of a virtual bdev: holds the base's channel of the same thread.
class VirtualChannel : public Channel {
 protected:
  VirtualChannel(Bdev& bdev, Thread& thread, ChannelRef base) : Channel(bdev, thread), base_(std::move(base)) {}

  Channel& base() const { return *base_.get(); }
  // A child that asks the base for what `io` asks: same range, same memory, lent if the parent takes that. Submit it with base().submit().
  ChildIo& child_of(BdevIo& io) {
    ChildIo& child = children_.take();
    child.op = io.op;
    child.fua = io.fua;
    child.offset_blocks = io.offset_blocks;
    child.num_blocks = io.num_blocks;
    child.iov = io.iov;
    child.iov_count = io.iov_count;
    child.accepts_lease = io.accepts_lease;
    child.parent = &io;
    child.context = this;
    child.done = [](BdevIo& done) { static_cast<VirtualChannel*>(done.context)->child_done(static_cast<ChildIo&>(done)); };
    return child;
  }
  // The base answered. Here: the parent gets that answer.
  virtual void child_done(ChildIo& child) { answer_parent(child, child.status); }
  // Gives the child back and completes its parent.
  void answer_parent(ChildIo& child, Status status) {
    BdevIo& parent = *child.parent;
    parent.lease = child.lease;
    children_.give_back(child);
    complete(parent, status);
  }
  ChildPool& children() { return children_; }

 private:
  ChannelRef base_;
  ChildPool children_;
};

}  // namespace catnap::bdev
