// See file_rpc.h.
#include "bdev/file/file_rpc.h"

#include <fmt/core.h>

#include <utility>

#include "bdev/rpc_common.h"
#include "reactor/runtime.h"

namespace catnap::bdev {

using rpc::RpcError;
using rpc::RpcResult;

namespace {

using Made = Result<std::shared_ptr<FileBdev>>;

Promise<Made> make_on_worker(WorkerPool& workers, MakeFileBdev make) {
  auto work = [&workers, make = std::move(make)]() mutable { return make(workers); };
  return call_blocking<Made>(workers, std::move(work));
}

Promise<Result<std::uint64_t>> measure_on_worker(const FileBdev& bdev) {
  auto work = [target = bdev.shared_target()] { return target->measure_blocks(); };
  return call_blocking<Result<std::uint64_t>>(bdev.workers(), std::move(work));
}

}  // namespace

Task<RpcResult<Json::Value>> create_file_bdev(std::string name, MakeFileBdev make) {
  if (Registry::instance().find(name) != nullptr) {
    co_return std::unexpected(RpcError(-EEXIST, fmt::format("File exists: there is a bdev '{}' already", name)));
  }
  const Promise<Made> making = make_on_worker(Runtime::instance()->workers(), std::move(make));
  Made made = co_await making;
  if (!made) co_return std::unexpected(RpcError(made.error()));
  const std::shared_ptr<FileBdev> bdev = *made;
  RpcResult<Json::Value> answer = add_and_answer(bdev);
  if (!answer) bdev->destroy([bdev] {});  // closes the file on the worker pool
  co_return answer;
}

Task<RpcResult<Json::Value>> rescan_file_bdev(std::string name, std::string product_name) {
  const auto bdev = std::dynamic_pointer_cast<FileBdev>(Registry::instance().find(name));
  if (bdev == nullptr) co_return no_such_bdev(name);
  if (bdev->info().product_name != product_name) co_return another_kind(name, bdev->info().product_name, product_name);
  const Promise<Result<std::uint64_t>> measuring = measure_on_worker(*bdev);
  Result<std::uint64_t> blocks = co_await measuring;
  if (!blocks) co_return std::unexpected(RpcError(blocks.error()));
  if (Registry::instance().find(name) == bdev) bdev->take_size(*blocks);
  co_return Json::Value(true);
}

}  // namespace catnap::bdev
