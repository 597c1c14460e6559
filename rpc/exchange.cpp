// From a message to its reply (exchange.h).
// Owner: app_thread.
#include "rpc/exchange.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "reactor/runtime.h"
#include "rpc/reply.h"

namespace catnap::rpc {
namespace {

using Done = std::move_only_function<void(std::string)>;

// Replies of a batch, in the order in which they come, sent as one array when the last is there.
class Batch {
 public:
  Batch(std::size_t requests, Done done) : waiting_(requests), done_(std::move(done)) {}

  void add(std::string reply) {
    if (!reply.empty() && reply.back() == '\n') reply.pop_back();
    if (!reply.empty()) {
      replies_ += replies_.empty() ? "" : ",";
      replies_ += reply;
    }
    if (--waiting_ == 0) done_(replies_.empty() ? std::string() : "[" + replies_ + "]\n");
  }

 private:
  std::size_t waiting_;
  std::string replies_;
  Done done_;
};

// What is sent for one request. A malformed one is answered even when it looks like a notification (JSON-RPC 2.0 section 5, "id").
std::string reply_to(const Request& request, const RpcResult<Json::Value>& outcome) {
  if (request.is_notification && !(request.fault && request.fault->code == invalid_request)) return "";
  return outcome ? result_reply(request.id, *outcome) : error_reply(request.id, outcome.error());
}

// Its text may take milliseconds to write. Lists are the only results that grow with the configuration: one by itself, or as a member.
bool is_long(const Json::Value& result) {
  static constexpr Json::ArrayIndex long_list = 128;
  const auto is_long_list = [](const Json::Value& value) { return value.isArray() && value.size() >= long_list; };
  return is_long_list(result) || (result.isObject() && std::ranges::any_of(result, is_long_list));
}

// The reply is written, and the result freed, on a worker if that takes long.
void reply_when_written(Request request, RpcResult<Json::Value> outcome, Done done) {
  if (Runtime::instance() == nullptr || !outcome || !is_long(*outcome)) {
    done(reply_to(request, outcome));
    return;
  }
  Runtime::instance()->workers().submit(
      *Thread::current(),
      [request = std::move(request), outcome = std::move(outcome)]() mutable {
        std::string text = reply_to(request, outcome);
        outcome = Json::Value();
        return text;
      },
      std::move(done));
}

void answer_one(Dispatcher& dispatcher, Request request, const CallerPtr& caller, Done done) {
  if (request.fault) {
    done(reply_to(request, std::unexpected(*request.fault)));
    return;
  }
  const std::string method = request.method;
  Json::Value params = std::move(request.params);
  request.params = Json::Value();
  dispatcher.submit_from(caller, method, std::move(params),
                         [request = std::move(request), done = std::move(done)](RpcResult<Json::Value> outcome) mutable {
                           reply_when_written(std::move(request), std::move(outcome), std::move(done));
                         });
}

}  // namespace

void answer(Dispatcher& dispatcher, Message message, const CallerPtr& caller, Done done) {
  if (message.fault) {
    done(error_reply(Json::Value(), *message.fault));
    return;
  }
  if (!message.is_batch) {
    answer_one(dispatcher, std::move(message.requests.front()), caller, std::move(done));
    return;
  }
  const auto batch = std::make_shared<Batch>(message.requests.size(), std::move(done));
  for (Request& request : message.requests) {
    answer_one(dispatcher, std::move(request), caller, [batch](std::string reply) { batch->add(std::move(reply)); });
  }
}

}  // namespace catnap::rpc
