// JSON-RPC client. Owner: the test's thread. Left out: see rpc_client.h.
#include "tests/protocol/client/rpc_client.h"

#include <memory>

namespace catnap::protocol {

namespace {

constexpr std::size_t receive_step_bytes = 64 * 1024;

bool parse(const std::string& text, Json::Value& value) {
  Json::CharReaderBuilder builder;
  std::unique_ptr<Json::CharReader> reader(builder.newCharReader());
  try {
    return reader->parse(text.data(), text.data() + text.size(), &value, nullptr);
  } catch (const Json::Exception&) {
    return false;
  }
}

}  // namespace

Json::Value json(const std::string& text) {
  Json::Value value;
  return parse(text, value) ? value : Json::Value();
}

Result<RpcClient> RpcClient::open(const std::string& socket_path) {
  auto socket = Socket::connect_unix(socket_path);
  if (!socket) return std::unexpected(socket.error());
  RpcClient client;
  client.socket_ = std::move(*socket);
  return client;
}

Result<Json::Value> RpcClient::call(const std::string& method, Json::Value params) {
  Json::Value request;
  request["jsonrpc"] = "2.0";
  request["id"] = next_id_++;
  request["method"] = method;
  if (!params.isNull()) request["params"] = std::move(params);
  std::string text = Json::writeString(Json::StreamWriterBuilder(), request);
  auto sent = socket_.send_all(std::as_bytes(std::span(text)));
  if (!sent) return std::unexpected(sent.error());

  std::string answer;
  Json::Value reply;
  while (true) {  // an answer is whole when it parses: one object, one call at a time
    auto bytes = socket_.receive_some(receive_step_bytes);
    if (!bytes) return std::unexpected(Error(bytes.error().err, method + ": " + bytes.error().message));
    if (bytes->empty()) return fail(ECONNRESET, (method + ": the server closed the RPC connection after ").append(answer));
    answer.append(reinterpret_cast<const char*>(bytes->data()), bytes->size());
    if (parse(answer, reply)) break;
  }
  if (reply.isMember("error")) return fail(reply["error"]["code"].asInt(), method + ": " + reply["error"]["message"].asString());
  return reply["result"];
}

}  // namespace catnap::protocol
