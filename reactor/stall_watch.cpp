// What a long callback is called in reports. See stall_watch.h.
#include "reactor/stall_watch.h"

#include "reactor/thread.h"

namespace catnap {
namespace {

const char* kind_text(StallWatch::Kind kind) {
  switch (kind) {
    case StallWatch::Kind::message:
      return "a message";
    case StallWatch::Kind::timer:
      return "a timer";
    case StallWatch::Kind::poller:
      return "poller ";
    case StallWatch::Kind::fd:
      return "fd ";
    case StallWatch::Kind::ready_work:
      return "ready work";
    case StallWatch::Kind::turn_end:
      return "turn-end work";
  }
  return "?";
}

}  // namespace

void StallWatch::note(Kind kind, std::string_view name, std::uint64_t took_ns) {
  longest_ns_ = took_ns;
  longest_ = kind_text(kind);
  longest_ += name;
  if (const Thread* thread = Thread::current()) longest_ += " of thread " + thread->name();
}

}  // namespace catnap
