// What modules that stand on another bdev share: opening and claiming it, following its events, a channel below for each channel above, I/Os handed
// down. Owner: StackedBdev belongs to app_thread; StackedChannel and its children to the channel's thread. Left out: several bdevs below (each module
// with that keeps them itself, out of the same pieces).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bdev/bdev.h"

namespace catnap::bdev {

// An I/O handed down for one of the bdev above. Comes from its pool's free list: no allocation once a channel has seen its peak.
struct ChildIo {
  BdevIo io;                 // what the bdev below gets
  BdevIo* parent = nullptr;  // null: not in use
  void* extra = nullptr;     // the module's: a buffer, a step, kept from use to use if the module likes
  ChildIo* next_free = nullptr;
  // The module's as well: a number (a deadline, a step), and the links of a two-way list (stack/child_list.h).
  std::uint64_t word = 0;
  ChildIo* list_previous = nullptr;
  ChildIo* list_next = nullptr;
};

class ChildPool {
 public:
  // `io` is a fresh BdevIo with op, fua, offset and size, iov, accepts_lease and source offset of `parent`, and context = the child.
  ChildIo& take(BdevIo& parent);
  void give_back(ChildIo& child);
  // The child in use for that parent; null: none (the first of several).
  ChildIo* find(const BdevIo& parent) const;
  std::size_t in_use() const { return in_use_; }
  // All children there are, in use or not: for modules that free what `extra` holds.
  const std::vector<std::unique_ptr<ChildIo>>& all() const { return children_; }
  static ChildIo& of(BdevIo& io) { return *static_cast<ChildIo*>(io.context); }

 private:
  std::vector<std::unique_ptr<ChildIo>> children_;
  ChildIo* free_ = nullptr;
  std::size_t in_use_ = 0;
};

// A channel with one channel below. As it stands it hands every I/O down unchanged; modules override execute() and call forward() when it is time.
class StackedChannel : public Channel {
 public:
  StackedChannel(Bdev& bdev, Thread& thread, ChannelRef below) : Channel(bdev, thread), below_(std::move(below)) {}

 protected:
  void execute(BdevIo& io) override { forward(io); }
  bool abort_in_module(BdevIo& io) override;
  // Hands `io` down as it is, offset_blocks later by `shift_blocks` (the source of a copy too); answers it with what comes back, lease included.
  void forward(BdevIo& io, std::uint64_t shift_blocks = 0);
  // The same for a child that the module has made itself with children().take(): `done` is the module's, which gives it back and completes the
  // parent.
  void submit_below(ChildIo& child, BdevIo::Done done);
  ChildPool& children() { return children_; }
  Channel& below() { return *below_.get(); }

 private:
  static void forwarded(BdevIo& io);

  ChannelRef below_;
  ChildPool children_;
};

class StackedBdev;

// The hold on the bdev below: made before the bdev above is, and given to it.
struct StackedBase {
  std::unique_ptr<Descriptor> descriptor;
  StackedBdev* above = nullptr;
};

// A bdev on one other, which it holds open, and claims. It goes when the one below is removed, and follows its size.
class StackedBdev : public Bdev {
 public:
  ~StackedBdev() override;
  Bdev& base() const { return base_->descriptor->bdev(); }
  bool supports(Op op) const override { return base().supports(op); }
  // The base's, where a block here is a block there.
  std::optional<std::uint64_t> allocated_blocks() const override;
  // Closes the base, then done. A module that has more to free does that first and calls this.
  void destroy(std::move_only_function<void()> done) override;

 protected:
  // `info` as the module wants it to be seen; `base` from open_base().
  StackedBdev(BdevInfo info, std::shared_ptr<StackedBase> base);
  // Opens and claims. Errors: as Registry::open.
  static Result<std::shared_ptr<StackedBase>> open_base(std::string_view name, std::string module, Claim claim);
  // Fills what a bdev inherits from what it stands on: block sizes, size, cache, unmap's promise, lent reads and inline consumption, and that the
  // base carries out compare-and-write, copy and verify. Not name, UUID and product; and not alignment and limits, which the base keeps itself. A
  // module that changes data, order or time takes back what it cannot keep.
  static void inherit(BdevInfo& info, const Bdev& base);
  // A channel of the base for the current thread, for create_channel().
  Result<ChannelRef> base_channel() const { return base().get_channel(); }
  // On app_thread, when the base has another size: as it stands, takes it over unchanged.
  virtual void base_resized(std::uint64_t num_blocks) { set_num_blocks(num_blocks); }

 private:
  void base_event(Event event);

  std::shared_ptr<StackedBase> base_;
};

}  // namespace catnap::bdev
