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

// Messages quote values, and a value may be as long as a request: what is in the middle of such a sentence helps nobody.
constexpr std::size_t max_message_bytes = 1024;
constexpr std::size_t kept_at_the_end = 256;

std::string shortened(const std::string& message) {
  if (message.size() <= max_message_bytes) return message;
  const std::size_t cut = message.size() - max_message_bytes;
  std::string text = message.substr(0, max_message_bytes - kept_at_the_end);
  // Not within a character; json_to_text() would show half of one as U+FFFD.
  while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0xC0U) == 0x80U) text.pop_back();
  text += " [… " + std::to_string(cut) + " bytes …] ";
  std::size_t from = message.size() - kept_at_the_end;
  while (from < message.size() && (static_cast<unsigned char>(message[from]) & 0xC0U) == 0x80U) ++from;
  return text + message.substr(from);
}

}  // namespace

std::string result_reply(const Json::Value& id, const Json::Value& result) { return reply(id, "result", json_to_text(result)); }

std::string error_reply(const Json::Value& id, const RpcError& error) {
  Json::Value value(Json::objectValue);
  value["code"] = error.code;
  value["message"] = shortened(error.message);
  return reply(id, "error", json_to_text(value));
}

}  // namespace catnap::rpc
