// Reads requests and batches (request.h).
// Owner: none. Left out: framing (ValueScanner finds where a message ends).
#include "rpc/request.h"

#include <fmt/format.h>

#include <utility>

#include "rpc/json.h"

namespace catnap::rpc {
namespace {

std::string_view text_of(const Json::Value& value, std::string_view whole) {
  const auto start = static_cast<std::size_t>(value.getOffsetStart());
  return whole.substr(start, static_cast<std::size_t>(value.getOffsetLimit()) - start);
}

RpcError invalid(std::string reason) { return {invalid_request, "Invalid Request: " + std::move(reason)}; }

std::optional<RpcError> fault_of_members(const Json::Value& object) {
  for (const std::string& name : object.getMemberNames()) {
    if (name != "jsonrpc" && name != "method" && name != "params" && name != "id") {
      return invalid(fmt::format("unknown member '{}' (a request has jsonrpc, method, params and id)", printable(name)));
    }
  }
  if (object.isMember("jsonrpc") && object["jsonrpc"] != Json::Value("2.0")) {
    return invalid(fmt::format("\"jsonrpc\" is {}, it must be \"2.0\"", json_excerpt(object["jsonrpc"])));
  }
  if (!object["method"].isString()) {
    return invalid(object.isMember("method") ? fmt::format("\"method\" is {}, it must be a string", json_excerpt(object["method"]))
                                             : std::string("\"method\" is missing"));
  }
  return std::nullopt;
}

// The value was read with the last of equal keys kept; its text tells whether there were any.
std::optional<RpcError> fault_of_duplicates(const Json::Value& object, std::string_view whole) {
  const auto strict = parse_json(text_of(object, whole));
  if (strict) return std::nullopt;
  if (object["params"].isObject()) {
    const auto params = parse_json(text_of(object["params"], whole));
    if (!params && params.error().kind == JsonError::Kind::duplicate_key) {
      return RpcError(invalid_params, fmt::format("Invalid parameters: duplicate parameter '{}'", printable(params.error().message)));
    }
  }
  return invalid(fmt::format("duplicate member '{}'", printable(strict.error().message)));
}

Request read_request(const Json::Value& object, std::string_view whole, bool may_hold_duplicates) {
  Request request;
  if (!object.isObject()) {
    request.fault = invalid(fmt::format("{} is not an object", json_excerpt(object)));
    return request;
  }
  const Json::Value& id = object["id"];
  request.is_notification = !object.isMember("id");
  if (!id.isNull() && !id.isString() && !(id.isNumeric() && !id.isBool())) {
    request.fault = invalid(fmt::format("\"id\" is {}, it must be a string, a number or null", json_excerpt(id)));
    return request;
  }
  request.id = id;
  request.fault = fault_of_members(object);
  if (!request.fault && may_hold_duplicates) request.fault = fault_of_duplicates(object, whole);
  if (request.fault) return request;
  request.method = object["method"].asString();
  request.params = object["params"];
  return request;
}

}  // namespace

Message read_message(std::string_view text, std::size_t max_batch_requests) {
  Message message;
  auto value = parse_json(text);
  bool duplicates = false;
  if (!value && value.error().kind == JsonError::Kind::duplicate_key) {
    duplicates = true;
    value = parse_json(text, DuplicateKeys::keep_last);
  }
  if (!value) {
    message.fault = RpcError(parse_error, "Parse error: " + value.error().message);
    return message;
  }
  const Json::Value& root = *value;
  message.is_batch = root.isArray();
  if (!message.is_batch) {
    message.requests.push_back(read_request(root, text, duplicates));
    return message;
  }
  if (root.empty()) message.fault = invalid("the batch is empty");
  if (root.size() > max_batch_requests) {
    message.fault = invalid(fmt::format("the batch has {} requests, it may have {}", root.size(), max_batch_requests));
  }
  if (message.fault) return message;
  for (const Json::Value& one : root) message.requests.push_back(read_request(one, text, duplicates));
  return message;
}

}  // namespace catnap::rpc
