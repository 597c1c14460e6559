// See error.h.
#include "bdev/error/error.h"

#include <algorithm>
#include <vector>

#include "bdev/json_text.h"
#include "bdev/stack/child_list.h"

namespace catnap::bdev {
namespace {

// Of a write: a scatter list with one byte replaced, and that byte. Of a read: what to do to the answer.
struct Corrupted {
  std::vector<iovec> iov;
  std::byte byte{};
  std::uint64_t offset_bytes = 0;
};

// The byte at `offset` of a scatter list; null behind its end.
std::byte* byte_at(const iovec* iov, std::uint32_t count, std::uint64_t offset) {
  for (std::uint32_t i = 0; i < count; ++i) {
    if (offset < iov[i].iov_len) return static_cast<std::byte*>(iov[i].iov_base) + offset;
    offset -= iov[i].iov_len;
  }
  return nullptr;
}

// The writer's memory stays as it is: the list points around that byte.
std::unique_ptr<Corrupted> corrupted(const BdevIo& io, const Injection& injection) {
  const std::byte* place = byte_at(io.iov, io.iov_count, injection.corrupt_offset_bytes);
  if (place == nullptr) return nullptr;
  auto made = std::make_unique<Corrupted>();
  made->byte = *place ^ std::byte{injection.corrupt_value};
  for (std::uint32_t i = 0; i < io.iov_count; ++i) {
    auto* const base = static_cast<std::byte*>(io.iov[i].iov_base);
    if (place < base || place >= base + io.iov[i].iov_len) {
      made->iov.push_back(io.iov[i]);
      continue;
    }
    const auto before = static_cast<std::size_t>(place - base);
    if (before > 0) made->iov.push_back({base, before});
    made->iov.push_back({&made->byte, 1});
    if (before + 1 < io.iov[i].iov_len) made->iov.push_back({base + before + 1, io.iov[i].iov_len - before - 1});
    made->iov.insert(made->iov.end(), io.iov + i + 1, io.iov + io.iov_count);
    break;  // the same memory may stand in the list twice; only the first is meant
  }
  return made;
}

}  // namespace

class ErrorChannel final : public StackedChannel {
 public:
  ErrorChannel(Bdev& bdev, Thread& thread, ChannelRef base_channel, Injections& injections)
      : StackedChannel(bdev, thread, std::move(base_channel)), injections_(injections) {}

  void resume_pending() {
    ChildList resumed;
    std::swap(resumed, pending_);
    while (!resumed.empty()) {
      ChildIo& child = *resumed.first();
      resumed.remove(child);
      child.word = 0;
      hand_down(child);
    }
  }

 private:
  void execute(BdevIo& io) override {
    if (!injections_.any()) {
      forward(io);
      return;
    }
    const auto injection = injections_.meets(io, in_flight() - 1);  // without this one, as SPDK counts
    if (!injection) {
      forward(io);
      return;
    }
    switch (injection->fault) {
      case Fault::failure:
        complete(io, injection->status.value_or(status_from_errno(EIO, io.op)));
        break;
      case Fault::nomem:
        complete(io, Status::no_memory);
        break;
      case Fault::pending: {
        ChildIo& child = children().take(io);
        child.word = 1;  // held back
        child.extra = nullptr;
        pending_.push_back(child);
        break;
      }
      case Fault::corrupt_data:
        corrupt(io, *injection);
        break;
    }
  }

  void corrupt(BdevIo& io, const Injection& injection) {
    ChildIo& child = children().take(io);
    child.word = 0;
    auto around = io.op == Op::write ? corrupted(io, injection) : nullptr;
    if (around != nullptr) {
      child.io.iov = around->iov.data();
      child.io.iov_count = static_cast<std::uint32_t>(around->iov.size());
    } else if (io.op == Op::read) {
      around = std::make_unique<Corrupted>();
      around->byte = std::byte{injection.corrupt_value};
      around->offset_bytes = injection.corrupt_offset_bytes;
    }
    child.extra = around.release();
    hand_down(child);
  }

  void hand_down(ChildIo& child) {
    submit_below(child, [](BdevIo& done) {
      ChildIo& answered = ChildPool::of(done);
      static_cast<ErrorChannel*>(answered.parent->channel)->base_answered(answered);
    });
  }

  void base_answered(ChildIo& child) {
    BdevIo& parent = *child.parent;
    const std::unique_ptr<Corrupted> around(static_cast<Corrupted*>(child.extra));
    child.extra = nullptr;
    const Status status = child.io.status;
    if (around != nullptr && parent.op == Op::read && status == Status::ok) {
      std::byte* place = byte_at(parent.iov, parent.iov_count, around->offset_bytes);
      if (place != nullptr) *place ^= around->byte;
    }
    children().give_back(child);
    complete(parent, status);
  }

  bool abort_in_module(BdevIo& io) override {
    ChildIo* child = children().find(io);
    if (child == nullptr) return false;
    if (child->word == 0) return below().abort(child->io);
    pending_.remove(*child);
    child->word = 0;
    children().give_back(*child);
    complete(io, Status::aborted);
    return true;
  }

  Injections& injections_;
  ChildList pending_;
};

void Injections::set(Op op, const Injection& injection) {
  const std::lock_guard lock(mutex_);
  by_op_[static_cast<std::size_t>(op)] = injection;
  update_any();
}

void Injections::clear() {
  const std::lock_guard lock(mutex_);
  by_op_ = {};
  update_any();
}

void Injections::update_any() {
  any_.store(std::ranges::any_of(by_op_, [](const Injection& injection) { return injection.count > 0; }), std::memory_order_relaxed);
}

std::optional<Injection> Injections::meets(const BdevIo& io, std::uint64_t in_flight) {
  const std::lock_guard lock(mutex_);
  Injection& injection = by_op_[static_cast<std::size_t>(io.op)];
  if (injection.count == 0 || in_flight < injection.queue_depth) return std::nullopt;
  const std::uint64_t end = injection.offset_blocks + injection.num_blocks;
  if (injection.num_blocks > 0 && (io.offset_blocks >= end || io.offset_blocks + io.num_blocks <= injection.offset_blocks)) return std::nullopt;
  if (--injection.count == 0) update_any();
  return injection;
}

Result<std::shared_ptr<ErrorBdev>> ErrorBdev::create(const ErrorOptions& options, const std::shared_ptr<Bdev>& base) {
  auto claimed = claim_base(*base, product);
  if (!claimed) return std::unexpected(claimed.error());
  BdevInfo info = info_over(*base, name_for(options.base_name), product, options.uuid);
  info.lends_reads = false;
  info.consumes_inline = false;
  return std::shared_ptr<ErrorBdev>(new ErrorBdev(std::move(info), std::move(*claimed)));
}

VirtualRecipe ErrorBdev::recipe(ErrorOptions options) {
  VirtualRecipe recipe;
  recipe.name = name_for(options.base_name);
  recipe.base_name = options.base_name;
  recipe.product_name = product;
  recipe.make = [options](const std::shared_ptr<Bdev>& base) -> Result<VirtualRecipe::Made> {
    auto made = create(options, base);
    if (!made) return std::unexpected(made.error());
    return VirtualRecipe::Made{std::move(*made)};
  };
  recipe.config_json = [options] {
    JsonObject params;
    params.add("base_name", options.base_name);
    if (!options.uuid.empty()) params.add("uuid", options.uuid);
    return config_call("bdev_error_create", params);
  };
  return recipe;
}

void ErrorBdev::resume_pending(std::move_only_function<void()> done) {
  for_each_channel([](Channel& channel) { static_cast<ErrorChannel&>(channel).resume_pending(); }, std::move(done));
}

Result<std::unique_ptr<Channel>> ErrorBdev::create_channel(Thread& thread) {
  auto below = base_channel();
  if (!below) return std::unexpected(below.error());
  return std::make_unique<ErrorChannel>(*this, thread, std::move(*below), injections_);
}

std::string ErrorBdev::driver_specific_json() const {
  return JsonObject().add_raw("error_disk", JsonObject().add("base_bdev", base().name()).text()).text();
}

}  // namespace catnap::bdev
