// See superblock_io.h.
#include "bdev/raid/superblock_io.h"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

namespace catnap::bdev {
namespace {

// One I/O of a coroutine, with memory of its own. Shared: it stays until the bdev has answered.
struct OneIo {
  OneIo(Op op, std::uint64_t offset_blocks, std::uint64_t num_blocks, std::size_t bytes) : deadline([this] { give_up(); }) {
    if (bytes > 0) memory.resize(bytes);
    iov = {memory.data(), bytes};
    io.op = op;
    io.offset_blocks = offset_blocks;
    io.num_blocks = num_blocks;
    io.iov = bytes > 0 ? &iov : nullptr;
    io.iov_count = bytes > 0 ? 1 : 0;
    io.context = this;
    io.done = [](BdevIo& over) {
      auto& one = *static_cast<OneIo*>(over.context);
      one.under_way = false;
      one.ended.set(over.status);
    };
  }
  void start() {
    under_way = true;
    channel->submit(io);
  }
  // Takes it back where that is possible.
  void give_up() {
    if (under_way) channel->abort(io);
  }
  BdevIo io;
  std::vector<std::byte> memory;
  iovec iov{};
  ChannelRef channel;
  bool under_way = false;
  Timer deadline;
  Promise<Status> ended;
};

std::uint64_t area_blocks(const Bdev& bdev) { return std::max<std::uint64_t>(superblock_area_bytes / bdev.block_size(), 2); }

Result<void> outcome_of(Status status, const char* what, const Bdev& bdev) {
  if (status == Status::ok) return {};
  return fail(EIO, fmt::format("Input/output error: {} the superblock of bdev '{}': {}", what, bdev.name(), status_name(status)));
}

// Neither a bdev that does not answer nor one that is being removed keeps the caller, or the removal, waiting if it can give the I/O back.
Task<Result<void>> run(std::shared_ptr<Bdev> bdev, std::shared_ptr<OneIo> one, const char* what) {
  auto opened = Registry::instance().open(bdev->name(), "raid superblock", Claim::none, [weak = std::weak_ptr(one)](Event event) {
    if (const auto alive = weak.lock(); alive != nullptr && event == Event::removed) alive->give_up();
  });
  if (!opened) co_return std::unexpected(opened.error());
  auto channel = bdev->get_channel();
  if (!channel) co_return std::unexpected(channel.error());
  one->channel = std::move(*channel);
  Thread::current()->arm_in_us(one->deadline, superblock_io_limit_us);
  one->start();
  const Status status = co_await one->ended;
  one->deadline.disarm();
  one->channel = {};
  co_return outcome_of(status, what, *bdev);
}

Task<Result<void>> flush(std::shared_ptr<Bdev> bdev) {
  if (!bdev->info().write_cache || !bdev->supports(Op::flush)) co_return Result<void>();
  auto one = std::make_shared<OneIo>(Op::flush, 0, 0, 0);
  Result<void> flushed = co_await run(bdev, one, "flushing");
  co_return flushed;
}

Task<Result<std::vector<std::byte>>> read_area(std::shared_ptr<Bdev> bdev) {
  auto one = std::make_shared<OneIo>(Op::read, 0, area_blocks(*bdev), area_blocks(*bdev) * bdev->block_size());
  Result<void> read = co_await run(bdev, one, "reading");
  if (!read) co_return std::unexpected(read.error());
  co_return std::move(one->memory);
}

}  // namespace

Task<Result<std::optional<Superblock>>> read_raid_superblock(std::shared_ptr<Bdev> bdev) {
  if (bdev->num_blocks() <= area_blocks(*bdev) || bdev->block_size() > superblock_copy_bytes || !bdev->supports(Op::read)) {
    co_return std::optional<Superblock>();
  }
  Result<std::vector<std::byte>> area = co_await read_area(bdev);
  if (!area) co_return std::unexpected(area.error());
  auto found = newest_superblock(*area);
  if (!found && found.error().err == ENOENT) co_return std::optional<Superblock>();
  if (!found) co_return std::unexpected(found.error());
  co_return std::optional<Superblock>(std::move(found->superblock));
}

Task<Result<void>> write_raid_superblock(std::shared_ptr<Bdev> bdev, Superblock superblock) {
  Result<std::vector<std::byte>> area = co_await read_area(bdev);
  if (!area) co_return std::unexpected(area.error());
  const auto newest = newest_superblock(*area);
  const std::uint64_t copy_blocks = superblock_copy_bytes / bdev->block_size();
  const std::vector<std::byte> bytes = encode_superblock(superblock);
  const std::uint64_t copy = newest && newest->copy == 0 ? 1 : 0;
  auto one = std::make_shared<OneIo>(Op::write, copy * copy_blocks, bytes.size() / bdev->block_size(), bytes.size());
  one->memory = bytes;
  one->iov.iov_base = one->memory.data();
  Result<void> written = co_await run(bdev, one, "writing");
  if (!written) co_return written;
  written = co_await flush(bdev);
  co_return written;
}

Task<Result<void>> clear_raid_superblock(std::shared_ptr<Bdev> bdev) {
  auto one = std::make_shared<OneIo>(Op::write, 0, area_blocks(*bdev), area_blocks(*bdev) * bdev->block_size());
  Result<void> written = co_await run(bdev, one, "clearing");
  if (!written) co_return written;
  written = co_await flush(bdev);
  co_return written;
}

}  // namespace catnap::bdev
