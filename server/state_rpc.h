// framework_get_pending, framework_get_state: what the state file has, and what of it waits.
// Owner: app_thread. Left out: changing it (every method that changes configuration does).
#pragma once

#include "rpc/method.h"
#include "server/pending_calls.h"
#include "server/state_store.h"

namespace catnap::server {

// Both null without --state; else they outlive the table's use.
void register_state_methods(rpc::MethodTable& table, const StateStore* store, const PendingCalls* pending);

}  // namespace catnap::server
