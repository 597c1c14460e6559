// See uring.h. One I/O is one slot of the ring and one or more requests after one another: the transfer and its continuations; a zeroed range, then
// its fdatasync when durable.
#include "bdev/uring/uring.h"

#include <fmt/core.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>

#include <algorithm>

#include "bdev/json_text.h"
#include "reactor/base/log.h"

namespace catnap::bdev {
namespace {

// "Again" and "interrupted" in a row after which a request is given up as failed: each is a full trip through the kernel.
constexpr std::uint8_t max_attempts = 16;

class UringChannel final : public FileChannel, private UringClient, private MoveWatcher {
 public:
  UringChannel(UringBdev& bdev, Thread& thread, std::shared_ptr<UringRing> ring, unsigned ring_entries)
      : FileChannel(bdev, thread),
        UringClient(thread),
        MoveWatcher(thread),
        ring_entries_(ring_entries),
        ring_(std::move(ring)),
        submit_at_turn_end_([this] {
          if (ring_ != nullptr) ring_->submit();
        }) {}
  ~UringChannel() override {
    if (ring_ != nullptr) ring_->forget(*this);
  }

 private:
  using Stage = UringSlot::Stage;

  void start(BdevIo& io) override {
    if (io.op == Op::reset) {  // nothing here hangs on its own; what a device holds up, its driver resets
      finish(io, Status::ok);
      return;
    }
    if (io.op == Op::unmap && target().is_block_device()) {
      range_on_worker(io);
      return;
    }
    UringSlot* slot = has_ring() ? ring_->take_slot(*this) : nullptr;
    if (slot == nullptr) {
      finish(io, Status::no_memory);
      return;
    }
    slot->io = &io;
    slot->offset_bytes = offset_bytes(io);
    slot->left_bytes = length_bytes(io);
    switch (io.op) {
      case Op::flush:
        slot->stage = Stage::sync;
        break;
      case Op::unmap:
        slot->stage = Stage::punch;
        break;
      case Op::write_zeroes:
        slot->stage = target().may_zero_range() ? Stage::zero_range : Stage::punch;
        break;
      default:
        slot->stage = Stage::transfer;
        break;
    }
    send(*slot);
  }

  // The ring of the reactor that this thread is on: found anew after a move. False: the kernel has none for us now (the core tries again).
  bool has_ring() {
    if (ring_ != nullptr) return true;
    auto ring = UringRing::of_current_reactor(ring_entries_);
    if (!ring) log_warning("bdev '{}': {}", bdev().name(), ring.error().message);
    if (ring) ring_ = std::move(*ring);
    return ring_ != nullptr;
  }

  void leaving() override {
    if (ring_ == nullptr) return;
    ring_->submit_only();
    ring_->forget(*this);
    ring_.reset();
  }
  void arrived() override { retry_queued(); }

  // A request that began on another ring goes on with one of this ring's slots, or from its beginning when there is none.
  void send_here(UringSlot& slot) {
    UringSlot* here = has_ring() ? ring_->take_slot(*this) : nullptr;
    BdevIo& io = *slot.io;
    if (here != nullptr) {
      here->io = slot.io;
      here->stage = slot.stage;
      here->attempts = slot.attempts;
      here->offset_bytes = slot.offset_bytes;
      here->left_bytes = slot.left_bytes;
      here->rest = std::move(slot.rest);
    }
    give_back(slot);
    if (here != nullptr) {
      send(*here);
    } else {
      finish(io, Status::no_memory);
    }
  }

  static void give_back(UringSlot& slot) {
    if (slot.ring != nullptr) slot.ring->give_back(slot);
  }

  void send(UringSlot& slot) {
    if (slot.ring != ring_.get()) return send_here(slot);
    io_uring_sqe* sqe = ring_->prepare(slot);
    thread().at_turn_end(submit_at_turn_end_);
    switch (slot.stage) {
      case Stage::transfer:
        send_transfer(slot, sqe);
        break;
      case Stage::sync:
        io_uring_prep_fsync(sqe, target().fd(), IORING_FSYNC_DATASYNC);
        break;
      case Stage::zero_range:
        send_range(slot, sqe, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
        break;
      case Stage::punch:
        send_range(slot, sqe, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
        break;
    }
    io_uring_sqe_set_data(sqe, &slot);  // the prep functions clear it
  }

  void send_transfer(UringSlot& slot, io_uring_sqe* sqe) {
    const BdevIo& io = *slot.io;
    const iovec* iov = slot.rest.empty() ? io.iov : slot.rest.data();
    const auto count = slot.rest.empty() ? io.iov_count : static_cast<std::uint32_t>(slot.rest.size());
    const unsigned taken = std::min<std::uint32_t>(count, IOV_MAX);  // the rest goes as after a short transfer
    if (io.op == Op::read) {
      io_uring_prep_readv2(sqe, target().fd(), iov, taken, slot.offset_bytes, 0);
    } else {
      io_uring_prep_writev2(sqe, target().fd(), iov, taken, slot.offset_bytes, io.fua ? RWF_DSYNC : 0);
    }
  }

  void send_range(const UringSlot& slot, io_uring_sqe* sqe, int mode) {
    io_uring_prep_fallocate(sqe, target().fd(), mode, static_cast<off_t>(slot.offset_bytes), static_cast<off_t>(slot.left_bytes));
  }

  void request_done(UringSlot& slot, int result) override {
    if ((result == -EAGAIN || result == -EINTR) && ++slot.attempts < max_attempts) {
      send(slot);
      return;
    }
    slot.attempts = 0;
    switch (slot.stage) {
      case Stage::transfer:
        transfer_done(slot, result);
        break;
      case Stage::sync:
        end(slot, status_from_errno(target().judge_sync(-result), slot.io->op));
        break;
      case Stage::zero_range:
      case Stage::punch:
        range_done(slot, result);
        break;
    }
  }

  void transfer_done(UringSlot& slot, int result) {
    if (result <= 0) {                                                     // 0: the file ends within the I/O, so it was cut short behind our back
      if (slot.io->fua && result < 0) (void)target().judge_sync(-result);  // the error may be of an earlier write's write-back
      end(slot, status_from_errno(result == 0 ? EIO : -result, slot.io->op));
      return;
    }
    const auto moved = static_cast<std::uint64_t>(result);
    if (moved >= slot.left_bytes) {
      end(slot, Status::ok);
      return;
    }
    slot.offset_bytes += moved;
    slot.left_bytes -= moved;
    keep_rest(slot, moved);
    send(slot);
  }

  static void keep_rest(UringSlot& slot, std::uint64_t moved) {
    if (slot.rest.empty()) slot.rest.assign(slot.io->iov, slot.io->iov + slot.io->iov_count);
    auto piece = slot.rest.begin();
    while (moved >= piece->iov_len) {
      moved -= piece->iov_len;
      ++piece;
    }
    piece->iov_base = static_cast<std::byte*>(piece->iov_base) + moved;
    piece->iov_len -= moved;
    slot.rest.erase(slot.rest.begin(), piece);
  }

  void range_done(UringSlot& slot, int result) {
    BdevIo& io = *slot.io;
    if (result == -EOPNOTSUPP && slot.stage == Stage::zero_range) {
      target().zero_range_refused();
      slot.stage = Stage::punch;
      send(slot);
    } else if (result == 0 && io.fua) {
      slot.stage = Stage::sync;
      send(slot);
    } else {
      give_back(slot);
      finish_range(io, -result);
    }
  }

  void end(UringSlot& slot, Status status) {
    BdevIo& io = *slot.io;
    give_back(slot);
    finish(io, status);
  }

  void slot_free() override { retry_queued(); }

  unsigned ring_entries_;
  std::shared_ptr<UringRing> ring_;  // null after a move, until the next request
  Deferred submit_at_turn_end_;
};

}  // namespace

Result<std::shared_ptr<UringBdev>> UringBdev::create(UringOptions options, WorkerPool& workers) {
  if (auto allowed = UringRing::probe(); !allowed) return std::unexpected(allowed.error());
  FileOptions file;
  file.filename = std::move(options.filename);
  file.block_size = options.block_size;
  file.readonly = options.readonly;
  file.direct = options.direct;
  auto target = FileTarget::open(std::move(file));
  if (!target) return std::unexpected(target.error());
  BdevInfo info;
  info.name = std::move(options.name);
  info.uuid = std::move(options.uuid);
  info.product_name = "URING bdev";
  (*target)->describe(info);
  if (auto fits = check_geometry(info, std::uint64_t{1} << 63); !fits) return std::unexpected(fits.error());
  return std::shared_ptr<UringBdev>(new UringBdev(std::move(info), std::move(*target), workers, options.ring_entries));
}

Result<std::unique_ptr<Channel>> UringBdev::create_channel(Thread& thread) {
  auto ring = UringRing::of_current_reactor(ring_entries_);
  if (!ring) return std::unexpected(ring.error());
  return std::make_unique<UringChannel>(*this, thread, std::move(*ring), ring_entries_);
}

std::string UringBdev::driver_specific_json() const {
  JsonObject uring;
  uring.add("filename", target().filename()).add("o_direct", target().direct());
  return JsonObject().add_raw("uring", uring.text()).text();
}

std::string UringBdev::config_json() const {
  JsonObject params;
  params.add("name", name()).add("block_size", block_size()).add("filename", target().filename()).add("uuid", info().uuid);
  if (target().readonly()) params.add("readonly", true);
  return config_call("bdev_uring_create", params);
}

}  // namespace catnap::bdev
