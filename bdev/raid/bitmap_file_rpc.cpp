// See bitmap_file_rpc.h.
#include "bdev/raid/bitmap_file_rpc.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "bdev/aio/aio.h"
#include "bdev/file/file_rpc.h"

namespace catnap::bdev {
namespace {

// Blocks; on the worker pool. The size is durable before anybody relies on it.
Result<void> make_file(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0 && errno == EEXIST) return {};
  if (fd < 0) return fail(errno, fmt::format("{}: bitmap_file '{}' cannot be made", std::strerror(errno), path));
  // Its blocks are taken now: on a full disk this call fails, and not the array one day.
  int err = posix_fallocate(fd, 0, static_cast<off_t>(bitmap_file_bytes));
  if (err == 0 && fsync(fd) != 0) err = errno;
  const bool made = err == 0;
  close(fd);
  if (made) return {};
  unlink(path.c_str());
  return fail(err, fmt::format("{}: bitmap_file '{}' of {} bytes cannot be made", std::strerror(err), path, bitmap_file_bytes));
}

}  // namespace

Task<Result<void>> open_bitmap_file(std::string array_name, std::string path) {
  const std::string name = raid_bitmap_bdev_name(array_name);
  if (const auto there = Registry::instance().find(name); there != nullptr) {
    const auto file = std::dynamic_pointer_cast<FileBdev>(there);
    if (file != nullptr && file->target().filename() == path) co_return Result<void>();
    co_return fail(EEXIST, fmt::format("File exists: bitmap_file '{}' would be bdev '{}', which there is already", path, name));
  }
  AioOptions options;
  options.name = name;
  options.filename = path;
  options.block_size = min_block_size;
  MakeFileBdev make = [options](WorkerPool& workers) -> Result<std::shared_ptr<FileBdev>> {
    if (auto made = make_file(options.filename); !made) return std::unexpected(made.error());
    return AioBdev::create(options, workers);
  };
  rpc::RpcResult<Json::Value> added = co_await create_file_bdev(name, std::move(make));
  if (!added) co_return fail(-added.error().code, added.error().message);
  co_return Result<void>();
}

Task<void> close_bitmap_file(std::string array_name) {
  const std::string name = raid_bitmap_bdev_name(array_name);
  if (Registry::instance().find(name) == nullptr) co_return;
  const Promise<bool> gone;
  Registry::instance().remove(name, [gone](Result<void>) { gone.set(true); });
  co_await gone;
}

}  // namespace catnap::bdev
