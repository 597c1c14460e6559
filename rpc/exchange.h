// One message's way through JSON-RPC 2.0, whatever brought it: its requests are called, and their replies become one text, batches as one array.
// Owner: app_thread. Left out: bytes to messages (request.h), connections (connection.h), HTTP.
#pragma once

#include <functional>
#include <string>

#include "rpc/caller.h"
#include "rpc/dispatcher.h"
#include "rpc/request.h"

namespace catnap::rpc {

// Calls `done` exactly once, now or later, with what is to be sent: one line, or "" when nobody waits for an answer (notifications).
void answer(Dispatcher& dispatcher, Message message, const CallerPtr& caller, std::move_only_function<void(std::string)> done);

}  // namespace catnap::rpc
