// Response texts (reply.h).
// Owner: none. Left out: "data" members of errors (no caller reads one).
#include "rpc/reply.h"

#include "rpc/json.h"

namespace catnap::rpc {
namespace {

std::string reply(const Json::Value& id, std::string_view member, const std::string& value) {
  std::string text = R"({"jsonrpc":"2.0","id":)";
  text += json_to_text(id);
  text += ",\"";
  text += member;
  text += "\":";
  text += value;
  text += "}\n";
  return text;
}

}  // namespace

std::string result_reply(const Json::Value& id, const Json::Value& result) { return reply(id, "result", json_to_text(result)); }

std::string error_reply(const Json::Value& id, const RpcError& error) {
  Json::Value value(Json::objectValue);
  value["code"] = error.code;
  value["message"] = error.message;
  return reply(id, "error", json_to_text(value));
}

}  // namespace catnap::rpc
