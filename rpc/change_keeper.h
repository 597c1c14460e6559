// Who keeps configuration changes beyond the end of the process: asked before each call that changes state, told after it.
// Owner: app_thread. Left out: files (server/state_store.h).
#pragma once

#include <functional>

#include "reactor/base/error.h"
#include "rpc/method.h"

namespace catnap::rpc {

class ChangeKeeper {
 public:
  using Prepared = std::move_only_function<void(Result<void>)>;
  using Answer = std::move_only_function<void(RpcResult<Json::Value>)>;

  virtual ~ChangeKeeper() = default;

  // Before the call runs, in its turn; no other change is under way, except calls that gave their turn up. Calls `prepared` once, now or later: an
  // error refuses the call, and nothing of it has happened.
  virtual void prepare(const Method& method, const Params& params, Prepared prepared) = 0;
  // A call that changes state runs now (`prepared`: the one that prepare() was asked for; else one that is not kept): what others have changed is
  // whole at this moment, and nothing of this call is in it.
  virtual void begins(bool prepared) = 0;
  // Its change is made, as it has ended or has given its turn up: what is in force is whole again.
  virtual void made() = 0;
  // The call has ended with `outcome`, which may be another one when `answer` is called: then what is in force is kept, or the answer says that it
  // is not. The next call begins meanwhile.
  virtual void settle(const Method& method, const Params& params, RpcResult<Json::Value> outcome, Answer answer) = 0;
};

}  // namespace catnap::rpc
