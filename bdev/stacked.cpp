// See stacked.h.
#include "bdev/stacked.h"

#include "reactor/base/check.h"

namespace catnap::bdev {

ChildIo& ChildPool::take(BdevIo& parent) {
  if (free_ == nullptr) {
    children_.push_back(std::make_unique<ChildIo>());
    free_ = children_.back().get();
  }
  ChildIo& child = *free_;
  free_ = child.next_free;
  child.next_free = nullptr;
  child.parent = &parent;
  ++in_use_;
  BdevIo& io = child.io;
  io.op = parent.op;
  io.fua = parent.fua;
  io.iov = parent.iov;
  io.iov_count = parent.iov_count;
  io.offset_blocks = parent.offset_blocks;
  io.num_blocks = parent.num_blocks;
  io.accepts_lease = parent.accepts_lease;
  io.borrowed = parent.borrowed && (parent.notes & BdevIo::note_copy) == 0;
  if (parent.op == Op::copy) io.source_offset_blocks = parent.source_offset_blocks;
  io.context = &child;
  return child;
}

void ChildPool::give_back(ChildIo& child) {
  CATNAP_DCHECK(child.parent != nullptr);
  child.parent = nullptr;
  child.next_free = free_;
  free_ = &child;
  --in_use_;
}

ChildIo* ChildPool::find(const BdevIo& parent) const {
  for (const auto& child : children_) {
    if (child->parent == &parent) return child.get();
  }
  return nullptr;
}

void StackedChannel::forward(BdevIo& io, std::uint64_t shift_blocks) {
  ChildIo& child = children_.take(io);
  child.io.offset_blocks += shift_blocks;
  if (io.op == Op::copy) child.io.source_offset_blocks += shift_blocks;
  submit_below(child, &StackedChannel::forwarded);
}

void StackedChannel::submit_below(ChildIo& child, BdevIo::Done done) {
  child.io.done = done;
  below_->submit(child.io);
}

void StackedChannel::forwarded(BdevIo& io) {
  ChildIo& child = ChildPool::of(io);
  BdevIo& parent = *child.parent;
  auto& channel = static_cast<StackedChannel&>(*parent.channel);
  if (io.accepts_lease) parent.lease = io.lease;
  const Status status = io.status;
  channel.children_.give_back(child);
  channel.complete(parent, status);
}

bool StackedChannel::abort_in_module(BdevIo& io) {
  ChildIo* child = children_.find(io);
  return child != nullptr && below_->abort(child->io);
}

StackedBdev::StackedBdev(BdevInfo info, std::shared_ptr<StackedBase> base) : Bdev(std::move(info)), base_(std::move(base)) { base_->above = this; }

StackedBdev::~StackedBdev() { base_->above = nullptr; }

Result<std::shared_ptr<StackedBase>> StackedBdev::open_base(std::string_view name, std::string module, Claim claim) {
  auto base = std::make_shared<StackedBase>();
  auto on_event = [weak = std::weak_ptr(base)](Event event) {
    const auto alive = weak.lock();
    if (alive != nullptr && alive->above != nullptr) alive->above->base_event(event);
  };
  auto opened = Registry::instance().open(name, std::move(module), claim, on_event);
  if (!opened) return std::unexpected(opened.error());
  base->descriptor = std::move(*opened);
  return base;
}

void StackedBdev::inherit(BdevInfo& info, const Bdev& base) {
  const BdevInfo& below = base.info();
  info.block_size = below.block_size;
  info.physical_block_size = below.physical_block_size;
  info.num_blocks = base.num_blocks();
  info.write_cache = below.write_cache;
  info.unmap_reads_zeroes = below.unmap_reads_zeroes;
  info.lends_reads = below.lends_reads;
  info.consumes_inline = below.consumes_inline;
  info.optimal_io_boundary_blocks = below.optimal_io_boundary_blocks;
  info.native_compare_and_write = info.native_copy = info.native_verify = true;
}

std::optional<std::uint64_t> StackedBdev::allocated_blocks() const {
  if (num_blocks() != base().num_blocks() || block_size() != base().block_size()) return std::nullopt;
  return base().allocated_blocks();
}

void StackedBdev::destroy(std::move_only_function<void()> done) {
  base_->descriptor.reset();
  done();
}

void StackedBdev::base_event(Event event) {
  if (event == Event::resized) {
    base_resized(base().num_blocks());
  } else if (Registry::instance().find(name()).get() == this) {
    Registry::instance().remove(name(), [](Result<void>) {}, Removal::lost);
  }
}

}  // namespace catnap::bdev
