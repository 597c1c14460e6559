// Fuzzes the way of a JSON-RPC byte stream: found message by message however it is cut, read, decoded, and everything that is said about
// it is JSON again. Owner: the libFuzzer process. Left out: what methods do (the RPC tests call them on a real server).
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "reactor/base/check.h"
#include "rpc/json.h"
#include "rpc/request.h"

namespace {

using namespace catnap::rpc;

constexpr std::size_t max_batch_requests = 16;

Method declared_method() {
  return Method("declared", "One parameter of each type")
      .with({Param("name", ParamType::string, "text").required(), Param("flag", ParamType::boolean, "switch").or_default(true),
             Param("count", ParamType::integer, "number").range(-5, 5000), Param("rate", ParamType::number, "fraction"),
             Param("kind", ParamType::string, "choice").one_of({"a", "b"}, true).alias("old_kind"),
             Param("names", ParamType::array_of_string, "texts"),
             Param("inner", ParamType::object, "object").with_fields({Param("depth", ParamType::integer, "number").required()}),
             Param("list", ParamType::array_of_object, "objects").with_fields({Param("id", ParamType::integer, "number")}),
             Param("other", ParamType::any, "anything")});
}

// Whatever goes into an answer, the peer can read it.
bool readable(const Json::Value& said) {
  Json::Value answer(Json::objectValue);
  answer["said"] = said;
  return parse_json(json_to_text(answer)).has_value();
}

void judge_message(std::string_view text) {
  static const Method method = declared_method();
  const Message message = read_message(text, max_batch_requests);
  if (message.fault) CATNAP_CHECK(readable(message.fault->message));
  for (const Request& request : message.requests) {
    CATNAP_CHECK(readable(request.id));
    if (request.fault) continue;
    const auto params = MethodTable::decode(method, request.params);
    if (params) {
      CATNAP_CHECK(params->has("name"));
      CATNAP_CHECK(params->signed_integer("count") >= -5 && params->signed_integer("count") <= 5000);
    } else {
      CATNAP_CHECK(params.error().code == invalid_params);
      CATNAP_CHECK(readable(params.error().message));
    }
  }
}

// Scans `stream` given in pieces of at most `piece` bytes; returns where the messages end, one after another.
std::string ends_of_messages(std::string_view stream, std::size_t piece, bool judge) {
  std::string ends, buffer;
  ValueScanner scanner;
  while (!stream.empty()) {
    const std::size_t length = std::min(piece, stream.size());
    buffer += stream.substr(0, length);
    stream.remove_prefix(length);
    ValueScanner::State state;
    while ((state = scanner.scan(buffer)) == ValueScanner::State::complete) {
      CATNAP_CHECK(scanner.begin() < scanner.end() && scanner.end() <= buffer.size());
      const std::string message = buffer.substr(scanner.begin(), scanner.end() - scanner.begin());
      ends += std::to_string(message.size()) + ",";
      if (judge) judge_message(message);
      buffer.erase(0, scanner.end());
      scanner.restart();
    }
    if (state == ValueScanner::State::not_a_value) {
      CATNAP_CHECK(!scanner.error().empty());
      return ends + "!";
    }
  }
  return ends;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view stream(reinterpret_cast<const char*>(data), size);
  const std::string whole = ends_of_messages(stream, stream.size() + 1, true);
  CATNAP_CHECK(ends_of_messages(stream, 1, false) == whole);
  CATNAP_CHECK(ends_of_messages(stream, 7, false) == whole);
  return 0;
}
