// See crypto.h.
#include "bdev/crypto/crypto.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <vector>

#include "bdev/crypto/xts.h"
#include "bdev/json_text.h"
#include "bdev/stack/child_list.h"
#include "reactor/buffer_pool.h"
#include "reactor/deferred.h"
#include "reactor/reactor.h"

namespace catnap::bdev {
namespace {

constexpr std::uint32_t step_bytes = CryptoBdev::step_bytes;
constexpr std::size_t max_slots = BufferPool::max_size_bytes / step_bytes;
constexpr std::size_t page_bytes = 4096;

// A write under way: encrypted step by step into the slots of its buffer, each slot written below by a child.
struct WriteJob {
  BdevIo* io = nullptr;  // null: free
  Buffer pooled;
  std::byte* data = nullptr;
  std::uint32_t free_slots = 0;   // one bit each
  std::uint32_t under_way = 0;    // children below
  std::uint64_t done_blocks = 0;  // encrypted
  Status status = Status::ok;     // the first failure
  bool stepping = false;          // a step is on the stack: it looks itself at what its child brought
  bool queued = false;
  std::array<iovec, max_slots> iov{};
  WriteJob* next = nullptr;  // queue, or free list
};

class CryptoChannel final : public StackedChannel {
 public:
  CryptoChannel(Bdev& bdev, Thread& thread, ChannelRef base_channel, XtsCipher cipher)
      : StackedChannel(bdev, thread, std::move(base_channel)),
        cipher_(std::move(cipher)),
        block_size_(bdev.block_size()),
        step_blocks_(step_bytes / bdev.block_size()),
        go_on_([this] { do_steps(); }) {}
  ~CryptoChannel() override { std::free(reserve_); }

 private:
  static CryptoChannel& of(const ChildIo& child) { return static_cast<CryptoChannel&>(*child.parent->channel); }

  void execute(BdevIo& io) override {
    if (io.op == Op::write) {
      write(io);
    } else if (io.op == Op::read) {
      ChildIo& child = children().take(io);
      child.word = 0;
      child.extra = nullptr;
      child.io.accepts_lease = false;
      submit_below(child, [](BdevIo& done) {
        ChildIo& read = ChildPool::of(done);
        of(read).decrypt_step(read);
      });
    } else {
      forward(io);
    }
  }

  // Reads: word counts the blocks that are decrypted, extra is set while it waits for its next step.

  void decrypt_step(ChildIo& child) {
    BdevIo& io = *child.parent;
    if (child.io.status == Status::ok) {
      const std::uint64_t blocks = std::min(io.num_blocks - child.word, step_blocks_);
      cipher_.decrypt(io.iov, io.iov_count, child.word * block_size_, io.offset_blocks + child.word, blocks);
      child.word += blocks;
      if (child.word < io.num_blocks) {
        child.extra = this;
        decrypting_.push_back(child);
        thread().make_ready(go_on_);
        return;
      }
    }
    answer_read(child, child.io.status);
  }

  void answer_read(ChildIo& child, Status status) {
    BdevIo& io = *child.parent;
    children().give_back(child);
    complete(io, status);
  }

  // Writes.

  void write(BdevIo& io) {
    WriteJob& job = take_job(io);
    if (!take_memory(job)) {
      free_job(job);
      complete(io, Status::no_memory);
      return;
    }
    encrypt_step(job);
  }

  bool take_memory(WriteJob& job) {
    const std::uint64_t length = job.io->num_blocks * block_size_;
    const std::uint64_t wanted = std::min<std::uint64_t>(length, BufferPool::max_size_bytes);
    if (Reactor* reactor = Reactor::current(); reactor != nullptr) job.pooled = reactor->buffers().try_get(wanted);
    if (job.pooled) {
      job.data = job.pooled.data();
      const auto slots = static_cast<std::uint32_t>((wanted + step_bytes - 1) / step_bytes);
      job.free_slots = (std::uint32_t{1} << slots) - 1;
      return true;
    }
    if (reserve_in_use_) return false;  // its user's end brings this one back
    if (reserve_ == nullptr) reserve_ = static_cast<std::byte*>(std::aligned_alloc(page_bytes, step_bytes));
    if (reserve_ == nullptr) return false;
    reserve_in_use_ = true;
    job.data = reserve_;
    job.free_slots = 1;
    return true;
  }

  void encrypt_step(WriteJob& job) {
    BdevIo& io = *job.io;
    const auto slot = static_cast<std::uint32_t>(__builtin_ctz(job.free_slots));
    std::byte* const to = job.data + std::size_t{slot} * step_bytes;
    const std::uint64_t blocks = std::min(io.num_blocks - job.done_blocks, step_blocks_);
    cipher_.encrypt(io.iov, io.iov_count, job.done_blocks * block_size_, to, io.offset_blocks + job.done_blocks, blocks);

    ChildIo& child = children().take(io);
    job.iov[slot] = {to, static_cast<std::size_t>(blocks * block_size_)};
    child.io.iov = &job.iov[slot];
    child.io.iov_count = 1;
    child.io.offset_blocks = io.offset_blocks + job.done_blocks;
    child.io.num_blocks = blocks;
    child.io.borrowed = false;
    child.word = slot;
    child.extra = &job;
    job.free_slots &= ~(std::uint32_t{1} << slot);
    job.done_blocks += blocks;
    ++job.under_way;
    job.stepping = true;
    submit_below(child, [](BdevIo& done) {
      ChildIo& written = ChildPool::of(done);
      of(written).step_written(written);
    });
    job.stepping = false;
    advance(job);
  }

  void step_written(ChildIo& child) {
    auto& job = *static_cast<WriteJob*>(child.extra);
    const Status status = child.io.status;
    job.free_slots |= std::uint32_t{1} << child.word;
    --job.under_way;
    child.extra = nullptr;  // its next use may be one that is only handed down, and abort looks here
    children().give_back(child);
    if (job.status == Status::ok) job.status = status;
    if (!job.stepping) advance(job);
  }

  // The next step, or the end, when it is time for it.
  void advance(WriteJob& job) {
    const bool more = job.done_blocks < job.io->num_blocks && job.status == Status::ok;
    if (more && job.free_slots != 0 && !job.queued) {
      job.queued = true;
      job.next = nullptr;
      (last_job_ != nullptr ? last_job_->next : first_job_) = &job;
      last_job_ = &job;
      thread().make_ready(go_on_);
    }
    if (more || job.under_way > 0 || job.queued) return;
    BdevIo& io = *job.io;
    const Status status = job.status;
    free_job(job);
    complete(io, status);
  }

  // One step of writing and one of reading per turn.
  void do_steps() {
    if (WriteJob* job = first_job_; job != nullptr) {
      first_job_ = job->next;
      if (first_job_ == nullptr) last_job_ = nullptr;
      job->queued = false;
      if (job->status == Status::ok) {
        encrypt_step(*job);
      } else {
        advance(*job);
      }
    }
    if (ChildIo* child = decrypting_.first(); child != nullptr) {
      decrypting_.remove(*child);
      child->extra = nullptr;
      decrypt_step(*child);
    }
    if (first_job_ != nullptr || !decrypting_.empty()) thread().make_ready(go_on_);
  }

  WriteJob& take_job(BdevIo& io) {
    if (free_jobs_ == nullptr) {
      jobs_.push_back(std::make_unique<WriteJob>());
      free_jobs_ = jobs_.back().get();
    }
    WriteJob& job = *free_jobs_;
    free_jobs_ = job.next;
    job.next = nullptr;
    job.io = &io;
    job.done_blocks = 0;
    job.status = Status::ok;
    return job;
  }

  void free_job(WriteJob& job) {
    if (job.data != nullptr && job.data == reserve_) reserve_in_use_ = false;
    job.pooled.reset();
    job.data = nullptr;
    job.io = nullptr;
    job.next = free_jobs_;
    free_jobs_ = &job;
  }

  bool abort_in_module(BdevIo& io) override {
    if (io.op == Op::write) return abort_write(io);
    ChildIo* child = children().find(io);
    if (child == nullptr) return false;
    if (child->extra == nullptr) return below().abort(child->io);
    decrypting_.remove(*child);
    child->extra = nullptr;
    answer_read(*child, Status::aborted);
    return true;
  }

  // What is not encrypted yet stays undone; what is below is asked for back.
  bool abort_write(BdevIo& io) {
    const auto found = std::ranges::find_if(jobs_, [&io](const auto& job) { return job->io == &io; });
    if (found == jobs_.end()) return false;
    WriteJob& job = **found;
    if (job.done_blocks == io.num_blocks) {
      ChildIo* child = children().find(io);
      return child != nullptr && job.under_way == 1 && below().abort(child->io);
    }
    job.status = Status::aborted;
    if (!job.queued) advance(job);  // else its turn ends it
    return true;
  }

  XtsCipher cipher_;
  const std::uint64_t block_size_;
  const std::uint64_t step_blocks_;
  std::vector<std::unique_ptr<WriteJob>> jobs_;
  WriteJob* free_jobs_ = nullptr;
  WriteJob* first_job_ = nullptr;  // those with a step to do
  WriteJob* last_job_ = nullptr;
  ChildList decrypting_;
  // Writing goes on with this alone while the pool is at its cap, so that it never waits for somebody who waits for it.
  std::byte* reserve_ = nullptr;
  bool reserve_in_use_ = false;
  Deferred go_on_;
};

}  // namespace

Result<std::shared_ptr<CryptoBdev>> CryptoBdev::create(const CryptoOptions& options, const std::shared_ptr<Bdev>& base) {
  auto key = CryptoKeys::instance().find(options.key_name);
  if (key == nullptr) return fail(ENOKEY, fmt::format("Required key not available: there is no key '{}'", options.key_name));
  auto claimed = claim_base(*base, product);
  if (!claimed) return std::unexpected(claimed.error());
  BdevInfo info = info_over(*base, options.name, product, options.uuid);
  info.lends_reads = false;
  info.consumes_inline = false;
  info.unmap_reads_zeroes = false;
  info.core_compares = true;
  info.core_writes_zeroes = true;
  info.native_compare_and_write = info.native_copy = info.native_verify = false;
  return std::shared_ptr<CryptoBdev>(new CryptoBdev(std::move(info), std::move(*claimed), std::move(key)));
}

VirtualRecipe CryptoBdev::recipe(CryptoOptions options) {
  VirtualRecipe recipe;
  recipe.name = options.name;
  recipe.base_name = options.base_bdev_name;
  recipe.product_name = product;
  recipe.make = [options](const std::shared_ptr<Bdev>& base) -> Result<VirtualRecipe::Made> {
    auto made = create(options, base);
    if (!made) return std::unexpected(made.error());
    return VirtualRecipe::Made{std::move(*made)};
  };
  recipe.config_json = [options] {
    JsonObject params;
    params.add("base_bdev_name", options.base_bdev_name).add("name", options.name).add("key_name", options.key_name);
    if (!options.uuid.empty()) params.add("uuid", options.uuid);
    return config_call("bdev_crypto_create", params);
  };
  return recipe;
}

// All but these are made of reads and writes by the core.
bool CryptoBdev::supports(Op op) const {
  switch (op) {
    case Op::read:
    case Op::write:
    case Op::flush:
    case Op::unmap:
    case Op::reset:
    case Op::write_uncorrectable:
      return base().supports(op);
    case Op::compare:
    case Op::verify:
      return base().supports(Op::read);
    default:
      return base().supports(Op::write);
  }
}

Result<std::unique_ptr<Channel>> CryptoBdev::create_channel(Thread& thread) {
  auto cipher = XtsCipher::create(*key_, block_size());
  if (!cipher) return std::unexpected(cipher.error());
  auto below = base_channel();
  if (!below) return std::unexpected(below.error());
  return std::make_unique<CryptoChannel>(*this, thread, std::move(*below), std::move(*cipher));
}

std::string CryptoBdev::driver_specific_json() const {
  JsonObject json;
  json.add("base_bdev_name", base().name()).add("name", name()).add("key_name", key_->name());
  return JsonObject().add_raw("crypto", json.text()).text();
}

}  // namespace catnap::bdev
