// What the RPC methods of the uring and aio bdevs share: creating on the worker pool, and rescan.
// Owner: app_thread. Left out: the methods' declarations (uring_rpc.cpp, aio_rpc.cpp).
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "bdev/file/file_bdev.h"
#include "reactor/task.h"
#include "rpc/method.h"

namespace catnap::bdev {

using MakeFileBdev = std::move_only_function<Result<std::shared_ptr<FileBdev>>(WorkerPool& workers)>;

// Runs `make` on the worker pool and adds what it made. -17 when the name is taken.
Task<rpc::RpcResult<Json::Value>> create_file_bdev(std::string name, MakeFileBdev make);

// Measures the file or device again and publishes its size. -19 when there is no such bdev of that module.
Task<rpc::RpcResult<Json::Value>> rescan_file_bdev(std::string name, std::string product_name);

}  // namespace catnap::bdev
