// See aio.h. One I/O is one slot of the context and one or more requests after one another, or one call on the worker pool.
#include "bdev/aio/aio.h"

#include <fmt/core.h>
#include <limits.h>
#include <linux/fs.h>
#include <sys/uio.h>

#include <algorithm>

#include "bdev/file/per_thread.h"
#include "bdev/json_text.h"

namespace catnap::bdev {
namespace {

// Takes `moved` bytes off the front of a list.
void drop_front(std::vector<iovec>& list, std::uint64_t moved) {
  auto piece = list.begin();
  while (piece != list.end() && moved >= piece->iov_len) {
    moved -= piece->iov_len;
    ++piece;
  }
  if (piece != list.end() && moved > 0) {
    piece->iov_base = static_cast<std::byte*>(piece->iov_base) + moved;
    piece->iov_len -= moved;
  }
  list.erase(list.begin(), piece);
}

// The whole of a transfer, however long it takes: on a worker. 0, or a positive errno.
int transfer_blocking(int fd, bool is_read, bool fua, std::vector<iovec> list, std::uint64_t offset_bytes) {
  while (!list.empty()) {
    const auto offset = static_cast<off_t>(offset_bytes);
    const int count = static_cast<int>(std::min<std::size_t>(list.size(), IOV_MAX));
    const ssize_t moved = is_read ? preadv2(fd, list.data(), count, offset, 0) : pwritev2(fd, list.data(), count, offset, fua ? RWF_DSYNC : 0);
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) return errno;
    if (moved == 0) return EIO;  // the file ends within the I/O, so it was cut short behind our back
    offset_bytes += static_cast<std::uint64_t>(moved);
    drop_front(list, static_cast<std::uint64_t>(moved));
  }
  return 0;
}

class AioChannel final : public FileChannel, private AioClient {
 public:
  AioChannel(AioBdev& bdev, Thread& thread, std::shared_ptr<AioContext> context)
      : FileChannel(bdev, thread), bdev_(bdev), context_(std::move(context)) {}
  ~AioChannel() override { context_->forget(*this); }

 private:
  void start(BdevIo& io) override {
    switch (io.op) {
      case Op::reset:
        finish(io, Status::ok);
        break;  // nothing here hangs on its own; what a device holds up, its driver resets
      case Op::flush:
        flush_on_worker(io);
        break;
      case Op::unmap:
      case Op::write_zeroes:
        range_on_worker(io);
        break;
      case Op::compare_and_write:
      case Op::copy:
      case Op::verify:
      case Op::write_uncorrectable:
        finish(io, Status::not_supported);
        break;  // the core carries out the first three
      case Op::read:
      case Op::write:
      case Op::compare:
        if (target().direct()) {
          transfer(io);
        } else if (io.op != Op::read || !read_from_cache(io)) {
          transfer_on_worker(io, std::vector<iovec>(io.iov, io.iov + io.iov_count), offset_bytes(io));
        }
        break;
    }
  }

  void transfer(BdevIo& io) {
    AioSlot* slot = context_->take_slot(*this);
    if (slot == nullptr) {
      finish(io, Status::no_memory);
      return;
    }
    slot->io = &io;
    slot->offset_bytes = offset_bytes(io);
    slot->left_bytes = length_bytes(io);
    send(*slot);
  }

  void send(AioSlot& slot) {
    const BdevIo& io = *slot.io;
    const iovec* iov = slot.rest.empty() ? io.iov : slot.rest.data();
    const std::size_t count = std::min<std::size_t>(slot.rest.empty() ? io.iov_count : slot.rest.size(), IOV_MAX);
    const auto offset = static_cast<long long>(slot.offset_bytes);
    const int flags = (bdev_.nowait() ? RWF_NOWAIT : 0) | (io.op == Op::write && io.fua ? RWF_DSYNC : 0);
    if (io.op == Op::read) {
      io_prep_preadv2(&slot.control, target().fd(), iov, static_cast<int>(count), offset, flags);
    } else {
      io_prep_pwritev2(&slot.control, target().fd(), iov, static_cast<int>(count), offset, flags);
    }
    context_->send(slot);
  }

  void request_done(AioSlot& slot, long result) override {
    BdevIo& io = *slot.io;
    if (result == -EOPNOTSUPP && bdev_.nowait()) {
      bdev_.nowait_refused();
      send(slot);
    } else if (result == -EAGAIN) {
      std::vector<iovec> list = slot.rest.empty() ? std::vector<iovec>(io.iov, io.iov + io.iov_count) : std::move(slot.rest);
      const std::uint64_t offset = slot.offset_bytes;
      context_->give_back(slot);
      transfer_on_worker(io, std::move(list), offset);
    } else if (result <= 0) {
      context_->give_back(slot);
      transfer_ended(io, result == 0 ? EIO : static_cast<int>(-result));
    } else if (static_cast<std::uint64_t>(result) >= slot.left_bytes) {
      context_->give_back(slot);
      finish(io, Status::ok);
    } else {
      if (slot.rest.empty()) slot.rest.assign(io.iov, io.iov + io.iov_count);
      drop_front(slot.rest, static_cast<std::uint64_t>(result));
      slot.offset_bytes += static_cast<std::uint64_t>(result);
      slot.left_bytes -= static_cast<std::uint64_t>(result);
      send(slot);
    }
  }

  void slot_free() override { retry_queued(); }

  // True: the page cache had all of it, and the I/O is complete.
  bool read_from_cache(BdevIo& io) {
    const int count = static_cast<int>(std::min<std::uint32_t>(io.iov_count, IOV_MAX));
    const ssize_t moved = preadv2(target().fd(), io.iov, count, static_cast<off_t>(offset_bytes(io)), RWF_NOWAIT);
    if (moved < 0 || static_cast<std::uint64_t>(moved) != length_bytes(io)) return false;
    finish(io, Status::ok);
    return true;
  }

  void transfer_on_worker(BdevIo& io, std::vector<iovec> list, std::uint64_t offset_bytes) {
    auto work = [file = bdev_.shared_target(), is_read = io.op == Op::read, fua = io.fua, list = std::move(list), offset_bytes]() mutable {
      return transfer_blocking(file->fd(), is_read, fua, std::move(list), offset_bytes);
    };
    workers().submit(thread(), std::move(work), [this, &io](int err) { transfer_ended(io, err); });
  }

  void transfer_ended(BdevIo& io, int err) {
    if (err != 0 && io.op == Op::write && io.fua) (void)target().judge_sync(err);  // the error may be of an earlier write's write-back
    finish(io, status_from_errno(err, io.op));
  }

  AioBdev& bdev_;
  std::shared_ptr<AioContext> context_;
};

PerThread<AioContext>& contexts() {
  static auto* contexts = new PerThread<AioContext>;
  return *contexts;
}

}  // namespace

Result<std::shared_ptr<AioBdev>> AioBdev::create(AioOptions options, WorkerPool& workers) {
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
  info.product_name = "AIO disk";
  (*target)->describe(info);
  info.core_writes_zeroes = !options.fallocate;
  if (auto fits = check_geometry(info, std::uint64_t{1} << 63); !fits) return std::unexpected(fits.error());
  return std::shared_ptr<AioBdev>(new AioBdev(std::move(info), std::move(*target), workers, options.fallocate, options.context_entries));
}

bool AioBdev::supports(Op op) const { return FileBdev::supports(op) && (op != Op::unmap || fallocate_); }

Result<std::unique_ptr<Channel>> AioBdev::create_channel(Thread& thread) {
  auto context = contexts().get(thread, context_entries_);
  if (!context) return std::unexpected(context.error());
  return std::make_unique<AioChannel>(*this, thread, std::move(*context));
}

std::string AioBdev::driver_specific_json() const {
  JsonObject aio;
  aio.add("filename", target().filename()).add("block_size_override", target().block_size_given()).add("readonly", target().readonly());
  aio.add("fallocate", fallocate_).add("nowait", target().direct() && nowait()).add("o_direct", target().direct());
  return JsonObject().add_raw("aio", aio.text()).text();
}

std::string AioBdev::config_json() const {
  JsonObject params;
  params.add("name", name());
  if (target().block_size_given()) params.add("block_size", block_size());
  params.add("filename", target().filename()).add("readonly", target().readonly()).add("fallocate", fallocate_).add("uuid", info().uuid);
  return config_call("bdev_aio_create", params);
}

}  // namespace catnap::bdev
