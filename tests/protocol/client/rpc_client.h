// JSON-RPC over the server's Unix socket, one call at a time. Owner: the test's thread. Left out: batches (the RPC engine's own tests).
#pragma once

#include <json/json.h>

#include <string>

#include "tests/protocol/client/socket.h"

namespace catnap::protocol {

class RpcClient {
 public:
  static Result<RpcClient> open(const std::string& socket_path);

  // The result, or an Error: err is the JSON-RPC code (negative as on the wire), or a positive errno of the socket.
  Result<Json::Value> call(const std::string& method, Json::Value params = Json::Value());

 private:
  Socket socket_;
  int next_id_ = 1;
};

// A JSON object from its text, in tests' short hand: json(R"({"name": "a"})"). Null for text that is not JSON.
Json::Value json(const std::string& text);

}  // namespace catnap::protocol
