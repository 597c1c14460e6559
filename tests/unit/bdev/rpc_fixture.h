// The bdev methods called as the RPC server calls them: decoded parameters in, result or error out.
// Owner: the test's OS thread. Left out: the wire.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "bdev/aio/aio_rpc.h"
#include "bdev/bdev_rpc.h"
#include "bdev/malloc/malloc_rpc.h"
#include "bdev/null/null_rpc.h"
#include "bdev/rpc_common.h"
#include "bdev/uring/uring_rpc.h"
#include "reactor/iobuf_rpc.h"
#include "reactor/runtime.h"
#include "reactor/task.h"
#include "rpc/notifications.h"

namespace catnap::bdev {

using rpc::RpcResult;
using Answer = RpcResult<Json::Value>;

class RpcTest : public testing::Test {
 protected:
  RpcTest() {
    register_bdev_methods(table_);
    register_bdev_null_methods(table_);
    register_bdev_malloc_methods(table_);
    register_bdev_aio_methods(table_);
    register_bdev_uring_methods(table_);
    rpc::register_notify_methods(table_);
    register_iobuf_methods(table_);
    register_bdev_config(config_);
    register_bdev_policy_config(config_);
    register_bdev_notifications();
  }

  // Calls one after another on app_thread, then gives the answers.
  struct Call {
    Call(std::string call_method, std::string call_params) : method(std::move(call_method)), params(std::move(call_params)) {}
    std::string method;
    std::string params;
  };
  std::vector<Answer> run(std::vector<Call> calls) {
    RuntimeOptions options;
    options.mode = ReactorMode::interrupt;
    const auto runtime = std::move(*Runtime::start(options));
    calls_ = std::move(calls);
    answers_.clear();
    runtime->run([&] { next(); });
    return std::move(answers_);
  }

  void next() {
    if (answers_.size() == calls_.size()) {
      clean_up();
      return;
    }
    const Call& call = calls_[answers_.size()];
    if (call.method == "config") return answered(config_.config("bdev").value_or(Json::Value()));
    const rpc::Method* method = table_.find(call.method);
    ASSERT_NE(method, nullptr) << call.method;
    auto params = rpc::MethodTable::decode(*method, parse_json(call.params));
    if (!params) return answered(std::unexpected(params.error()));
    if (method->sync) return answered(method->sync(*params));
    spawn<Answer>(method->task(*params), [this](Answer answer) { answered(std::move(answer)); });
  }
  // One bdev after another, each waited for; then the end.
  void clean_up() {
    const auto left = Registry::instance().all();
    if (left.empty()) {
      Runtime::instance()->request_stop();
    } else {
      Registry::instance().remove(left.front()->name(), [this](Result<void>) { Thread::current()->send([this] { clean_up(); }); });
    }
  }
  void answered(Answer answer) {
    answers_.push_back(std::move(answer));
    Thread::current()->send([this] { next(); });
  }

  rpc::MethodTable table_;
  rpc::ConfigRegistry config_;
  std::vector<Call> calls_;
  std::vector<Answer> answers_;
};

}  // namespace catnap::bdev
