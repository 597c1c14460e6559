// One JSON-RPC request object taken apart and checked (JSON-RPC 2.0 section 4), down to the duplicate keys within it.
// Owner: none (values). Left out: what the method thinks of its parameters (method.h).
#pragma once

#include <json/json.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rpc/method.h"

namespace catnap::rpc {

struct Request {
  bool is_notification = false;  // no "id" member: nothing is answered
  Json::Value id;                // null also when it could not be made out
  std::string method;
  Json::Value params;  // null when absent
  // Set when it cannot be dispatched; answered even without an id, as the specification has it for invalid requests.
  std::optional<RpcError> fault;
};

struct Message {
  bool is_batch = false;
  std::vector<Request> requests;  // one, or the batch's
  std::optional<RpcError> fault;  // unparsable (parse_error), an empty batch, or too long a one: answered with id null
};

// `text` is one whole array or object of the stream.
Message read_message(std::string_view text, std::size_t max_batch_requests);

}  // namespace catnap::rpc
