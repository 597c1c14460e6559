// Judging whether reactors are alive. See liveness.h.
// Owner: app_thread.
#include "server/service/liveness.h"

#include <fmt/format.h>
#include <poll.h>

#include <utility>

#include "reactor/timer.h"

namespace catnap::server {
namespace {

bool fds_are_ready(int epoll_fd) {
  pollfd asked{epoll_fd, POLLIN, 0};
  return epoll_fd >= 0 && ::poll(&asked, 1, 0) > 0;
}

}  // namespace

LifeSign look_at(const Reactor& reactor) {
  LifeSign sign;
  const Reactor::WaitState state = reactor.wait_state();
  sign.turns = reactor.stats().turns;
  sign.waits = state.waits;
  sign.waiting = state.waiting;
  sign.work = state.due;
  if (!state.waiting || !sign.work.empty()) return sign;
  if (state.notified) {
    sign.work = "a message";
  } else if (state.until_ns != TimerHeap::never_ns && state.until_ns <= reactor.clock().now_ns()) {
    sign.work = "a deadline";
  } else if (fds_are_ready(state.epoll_fd)) {
    sign.work = "a ready file descriptor";
  }
  return sign;
}

std::optional<std::string> why_not_alive(const LifeSign& before, const LifeSign& now) {
  if (before.turns != now.turns) return std::nullopt;
  if (!before.waiting && !now.waiting) return "has not come out of a callback since the last look";
  // In between, for whoever has just fallen asleep or just woken up: the next look will tell.
  if (!before.waiting || !now.waiting || before.waits != now.waits) return std::nullopt;
  if (before.work.empty() || now.work.empty()) return std::nullopt;
  return "sleeps, and has not woken up since the last look for " + now.work;
}

std::string Liveness::look(const std::vector<Reactor*>& reactors) {
  std::string complaints;
  std::map<const Reactor*, LifeSign> seen;
  for (const Reactor* reactor : reactors) {
    LifeSign now = look_at(*reactor);
    if (const auto before = before_.find(reactor); before != before_.end()) {
      if (const auto why = why_not_alive(before->second, now))
        complaints += fmt::format("{}{} {}", complaints.empty() ? "" : "; ", reactor->name(), *why);
    }
    seen.emplace(reactor, std::move(now));
  }
  before_ = std::move(seen);
  return complaints;
}

}  // namespace catnap::server
