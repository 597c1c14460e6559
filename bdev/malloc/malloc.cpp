// See malloc.h. One I/O is a job that walks its stripes; a job that cannot go on is parked on the channel and runs again from the ready list.
#include "bdev/malloc/malloc.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <list>

#include "bdev/iov.h"
#include "bdev/json_text.h"
#include "bdev/malloc/stream_copy.h"
#include "bdev/zero_area.h"
#include "reactor/deferred.h"
#include "reactor/numa_memory.h"
#include "reactor/worker_pool.h"

namespace catnap::bdev {
namespace {

// Stripes with something in them that one run of an unmap or write zeroes clears: 128 × about 3 µs of page freeing, well below a millisecond.
constexpr std::uint32_t stripes_cleared_per_turn = 128;
// Stripes looked at: mere bit tests, about 5 ns each.
constexpr std::uint32_t stripes_visited_per_turn = 16384;
// Runs from the ready list after which a writer insists in place. A send takes some 10 µs and a turn about as long, so a stripe that was never found
// free in 64 turns is being read by several reactors without a gap.
constexpr std::uint32_t polite_attempts = 64;

// What will be copied soon comes from memory while other commands are looked at. Not for long runs, which the CPU's own prefetching is good at, and
// whose writes go past the caches.
constexpr std::uint64_t most_fetched_ahead_bytes = 8192;
constexpr std::uint64_t cache_line_bytes = 64;
constexpr int for_reading = 0, for_writing = 1;

// Touches no page that is not there: a prefetch does not fault.
template <int purpose>
void fetch_ahead(const std::byte* from, std::uint64_t length) {
  constexpr int into_the_second_cache = 2;
  if (length > most_fetched_ahead_bytes) return;
  for (const std::byte* const end = from + length; from < end; from += cache_line_bytes) __builtin_prefetch(from, purpose, into_the_second_cache);
}

class MallocChannel final : public Channel {
 public:
  MallocChannel(Bdev& bdev, Thread& thread, MallocMemory& memory, BadBlocks& bad_blocks)
      : Channel(bdev, thread), memory_(memory), bad_blocks_(bad_blocks), block_size_(bdev.block_size()), resume_([this] { run_parked(); }) {}

 private:
  // A write or clearing that has to go on later.
  struct Parked {
    explicit Parked(BdevIo& whole) : io(&whole) {}
    BdevIo* io;
    std::uint64_t done_bytes = 0;
    std::unique_ptr<std::byte[]> data;  // of a write: what is left of it from `data_from_bytes` on
    std::uint64_t data_from_bytes = 0;
    std::uint32_t attempts = 0;
  };

  void execute(BdevIo& io) override {
    switch (io.op) {
      case Op::read:
        complete(io, unreadable(io) ? Status::media_error : read(io));
        break;
      case Op::write:
        write(io);
        break;
      case Op::compare:
        complete(io, unreadable(io) ? Status::media_error : compare(io));
        break;
      case Op::unmap:
      case Op::write_zeroes:
        clear(io);
        break;
      case Op::flush:
      case Op::reset:
        complete(io, Status::ok);
        break;  // memory has nothing behind it, and nothing hangs
      case Op::verify:
        complete(io, unreadable(io) ? Status::media_error : Status::ok);
        break;  // memory can be read
      case Op::write_uncorrectable:
        bad_blocks_.mark(io.offset_blocks, io.num_blocks);
        complete(io, Status::ok);
        break;
      case Op::compare_and_write:
      case Op::copy:
        complete(io, Status::not_supported);
        break;  // the core's
    }
  }

  void expect(Op op, std::uint64_t offset_blocks, std::uint64_t num_blocks) override {
    const std::uint64_t blocks = bdev().num_blocks();
    if (num_blocks > blocks || offset_blocks > blocks - num_blocks) return;
    const std::byte* const from = memory_.base() + offset_blocks * block_size_;
    if (op == Op::write) {
      fetch_ahead<for_writing>(from, num_blocks * block_size_);
    } else {
      fetch_ahead<for_reading>(from, num_blocks * block_size_);
    }
  }

  bool unreadable(const BdevIo& io) const { return bad_blocks_.any() && bad_blocks_.touches(io.offset_blocks, io.num_blocks); }

  // A write, unmap or zeroing is done: its blocks are good again.
  void written(BdevIo& io) {
    if (bad_blocks_.any()) [[unlikely]] {
      bad_blocks_.clear(io.offset_blocks, io.num_blocks);
    }
    complete(io, Status::ok);
  }

  Status read(BdevIo& io) {
    const std::uint64_t from = io.offset_blocks * block_size_;
    const std::uint64_t length = io.num_blocks * block_size_;
    if (io.accepts_lease) {
      // Never written: what a write beside this read puts there may be missed, as the two have no order. In part written: the send will touch the
      // holes too, so they count as taken from now on, and an unmap gives them back.
      if (length <= zero_area_bytes && !memory_.any_written(from, length)) {
        io.lease = lend_zeroes();
      } else {
        memory_.mark_written(from, length);
        io.lease = {memory_.base() + from, &memory_, from};
        fetch_ahead<for_reading>(io.lease.base, length);
      }
      return Status::ok;
    }
    IovCursor to(io.iov, io.iov_count);
    for (std::uint64_t at = from, end = from + length; at < end;) {
      const std::uint64_t piece = MallocMemory::within_stripe(at, end - at);
      StripeLock& lock = memory_.lock_of(at);
      lock.lock_shared();
      copy_to(to, at, piece);
      lock.unlock_shared();
      at += piece;
    }
    return Status::ok;
  }

  // Page by page only where holes are: touching one through the mapping would take it.
  void copy_to(IovCursor& to, std::uint64_t at, std::uint64_t length) {
    while (length > 0) {
      const std::uint64_t piece = std::min(length, MallocMemory::page_bytes - at % MallocMemory::page_bytes);
      if (memory_.any_written(at, piece)) {
        to.copy_in(memory_.base() + at, piece);
      } else {
        to.fill_zero(piece);
      }
      at += piece;
      length -= piece;
    }
  }

  Status compare(BdevIo& io) {
    IovCursor expected(io.iov, io.iov_count);
    for (std::uint64_t at = io.offset_blocks * block_size_, end = at + io.num_blocks * block_size_; at < end;) {
      const std::uint64_t piece = MallocMemory::within_stripe(at, end - at);
      StripeLock& lock = memory_.lock_of(at);
      lock.lock_shared();
      const bool same = memory_.any_written(at, piece) ? expected.equals(memory_.base() + at, piece) : expected.equals_zero(piece);
      lock.unlock_shared();
      if (!same) return Status::compare_failed;
      at += piece;
    }
    return Status::ok;
  }

  void write(BdevIo& io) {
    IovCursor from(io.iov, io.iov_count);
    const std::uint64_t start = io.offset_blocks * block_size_;
    const std::uint64_t length = io.num_blocks * block_size_;
    for (std::uint64_t done = 0; done < length;) {
      const std::uint64_t at = start + done;
      const std::uint64_t piece = MallocMemory::within_stripe(at, length - done);
      StripeLock& lock = memory_.lock_of(at);
      if (!lock.try_lock()) {
        park_write(io, from, done, length - done);
        return;
      }
      memory_.mark_written(at, piece);
      if (memory_.outgrows_caches() && length > most_fetched_ahead_bytes) {
        from.copy_out_by(memory_.base() + at, piece, stream_copy);
      } else {
        from.copy_out(memory_.base() + at, piece);
      }
      lock.unlock();
      done += piece;
    }
    written(io);
  }

  void park_write(BdevIo& io, IovCursor& from, std::uint64_t done_bytes, std::uint64_t left_bytes) {
    Parked& parked = parked_.emplace_back(io);
    parked.done_bytes = parked.data_from_bytes = done_bytes;
    parked.data = std::make_unique_for_overwrite<std::byte[]>(left_bytes);
    from.copy_out(parked.data.get(), left_bytes);
    thread().make_ready(resume_);
  }

  void clear(BdevIo& io) {
    Parked job(io);
    if (clear_some(job)) {
      written(io);
      return;
    }
    parked_.push_back(std::move(job));
    thread().make_ready(resume_);
  }

  // True when a stripe was locked; false: taken by others, come back.
  static bool lock_politely(StripeLock& lock, std::uint32_t attempts) {
    if (lock.try_lock()) return true;
    if (attempts < polite_attempts) return false;
    lock.lock_insistently();
    return true;
  }

  // True: done to its end.
  bool clear_some(Parked& job) {
    const std::uint64_t start = job.io->offset_blocks * block_size_;
    const std::uint64_t length = job.io->num_blocks * block_size_;
    std::uint32_t cleared = 0;
    for (std::uint32_t visited = 0; job.done_bytes < length; ++visited) {
      if (cleared == stripes_cleared_per_turn || visited == stripes_visited_per_turn) return false;
      const std::uint64_t at = start + job.done_bytes;
      const std::uint64_t piece = MallocMemory::within_stripe(at, length - job.done_bytes);
      // A look without the lock: a write under way beside this unmap has no order with it, so it may as well come after.
      if (memory_.any_written(at, piece)) {
        StripeLock& lock = memory_.lock_of(at);
        if (!lock_politely(lock, job.attempts)) {
          ++job.attempts;
          return false;
        }
        memory_.zero_within_stripe(at, piece);
        lock.unlock();
        job.attempts = 0;
        ++cleared;
      }
      job.done_bytes += piece;
    }
    return true;
  }

  bool write_some(Parked& job) {
    const std::uint64_t start = job.io->offset_blocks * block_size_;
    const std::uint64_t length = job.io->num_blocks * block_size_;
    while (job.done_bytes < length) {
      const std::uint64_t at = start + job.done_bytes;
      const std::uint64_t piece = MallocMemory::within_stripe(at, length - job.done_bytes);
      StripeLock& lock = memory_.lock_of(at);
      if (!lock_politely(lock, job.attempts)) {
        ++job.attempts;
        return false;
      }
      memory_.mark_written(at, piece);
      std::memcpy(memory_.base() + at, job.data.get() + (job.done_bytes - job.data_from_bytes), piece);
      lock.unlock();
      job.attempts = 0;
      job.done_bytes += piece;
    }
    return true;
  }

  void run_parked() {
    std::list<Parked> batch;
    batch.splice(batch.end(), parked_);
    while (!batch.empty()) {
      Parked& job = batch.front();
      if (job.io->op == Op::write ? write_some(job) : clear_some(job)) {
        BdevIo& io = *job.io;
        batch.pop_front();
        written(io);
      } else {
        parked_.splice(parked_.end(), batch, batch.begin());
      }
    }
    if (!parked_.empty()) thread().make_ready(resume_);
  }

  MallocMemory& memory_;
  BadBlocks& bad_blocks_;
  const std::uint64_t block_size_;
  std::list<Parked> parked_;
  Deferred resume_;
};

}  // namespace

Result<std::shared_ptr<MallocBdev>> MallocBdev::create(MallocOptions options, WorkerPool* workers) {
  BdevInfo info;
  info.name = std::move(options.name);
  info.uuid = std::move(options.uuid);
  info.product_name = "Malloc disk";
  info.block_size = options.block_size;
  info.physical_block_size = options.physical_block_size != 0 ? options.physical_block_size : options.block_size;
  info.num_blocks = options.num_blocks;
  info.lends_reads = true;
  info.consumes_inline = true;
  info.optimal_io_boundary_blocks = options.optimal_io_boundary_blocks;
  info.split_at_boundary = options.optimal_io_boundary_blocks > 0;
  info.native_verify = true;
  if (auto fits = check_geometry(info, MallocMemory::max_size_bytes); !fits) return std::unexpected(fits.error());
  auto memory = MallocMemory::create(info.num_blocks * info.block_size);
  if (!memory) return std::unexpected(memory.error());
  if (options.numa_node) prefer_node((*memory)->base(), info.num_blocks * info.block_size, *options.numa_node);
  return std::shared_ptr<MallocBdev>(new MallocBdev(std::move(info), std::move(*memory), workers, options.numa_node));
}

bool MallocBdev::supports(Op) const { return true; }

Result<std::unique_ptr<Channel>> MallocBdev::create_channel(Thread& thread) {
  return std::make_unique<MallocChannel>(*this, thread, *memory_, bad_blocks_);
}

std::optional<std::uint64_t> MallocBdev::allocated_blocks() const {
  return std::min((memory_->allocated_bytes() + block_size() - 1) / block_size(), num_blocks());
}

std::string MallocBdev::config_json() const {
  JsonObject params;
  params.add("name", name()).add("num_blocks", num_blocks()).add("block_size", block_size());
  params.add("physical_block_size", info().physical_block_size).add("uuid", info().uuid);
  params.add("optimal_io_boundary", info().optimal_io_boundary_blocks);
  if (numa_node_) params.add("numa_id", *numa_node_);
  return config_call("bdev_malloc_create", params);
}

void MallocBdev::destroy(std::move_only_function<void()> done) {
  if (workers_ == nullptr) {
    memory_.reset();
    done();
    return;
  }
  auto free_memory = [memory = std::move(memory_)]() mutable {
    memory.reset();
    return true;
  };
  workers_->submit(*Thread::current(), std::move(free_memory), [done = std::move(done)](bool) mutable { done(); });
}

}  // namespace catnap::bdev
