// The text of JSON-RPC 2.0 responses (specification section 5).
// Owner: none (pure functions). Left out: batches (connection.cpp puts their brackets).
#pragma once

#include <json/json.h>

#include <string>

#include "rpc/method.h"

namespace catnap::rpc {

// One response object on one line, ended by a line end, as SPDK ends its replies.
std::string result_reply(const Json::Value& id, const Json::Value& result);
std::string error_reply(const Json::Value& id, const RpcError& error);

}  // namespace catnap::rpc
