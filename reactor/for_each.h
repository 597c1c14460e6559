// Runs a function on each of several lightweight threads, then a completion on the one that asked: for-each-thread and for-each-channel stand on it.
// Owner: the asking thread. Left out: waiting only so long (ask_threads.h).
#pragma once

#include <functional>
#include <vector>

#include "reactor/thread.h"

namespace catnap {

// Runs `visit` on each of `threads`, in no particular order, each on itself; then `done` on the calling thread (which must be a lightweight thread,
// and does not exit until then). A thread that has exited counts as visited; `visit` is not run there. Never within the call.
void for_each_of(const std::vector<Thread*>& threads, std::function<void(Thread&)> visit, Message done);

}  // namespace catnap
