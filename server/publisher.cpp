// Publication of the configuration. See publisher.h.
// Owner: app_thread. Left out: taking a published snapshot back: every change is checked before it is published.
#include "server/publisher.h"

#include <fmt/format.h>

#include <algorithm>

#include "reactor/base/check.h"
#include "reactor/base/log.h"

namespace catnap::server {

void Publisher::attach(GroupPort& group) {
  // It has nothing yet, but what is committed stays committed: no connection reaches the group before this first snapshot does.
  members_.push_back(Member{&group, committed_->generation});
  send_to(members_.size() - 1, current_);
}

void Publisher::detach_all() {
  members_.clear();
  advance();
}

void Publisher::publish(SnapshotPtr next) {
  CATNAP_CHECK(next->generation > current_->generation);
  current_ = std::move(next);
  pending_.push_back(current_);
  for (std::size_t member = 0; member < members_.size(); ++member) send_to(member, current_);
  advance();
}

void Publisher::send_to(std::size_t member, const SnapshotPtr& snapshot) {
  const std::uint64_t generation = snapshot->generation;
  members_[member].group->install(snapshot, [this, member, generation] { acknowledge(member, generation); });
}

void Publisher::acknowledge(std::size_t member, std::uint64_t generation) {
  if (member >= members_.size()) return;  // after detach_all()
  members_[member].acknowledged = std::max(members_[member].acknowledged, generation);
  advance();
}

void Publisher::advance() {
  std::uint64_t everywhere = current_->generation;
  for (const Member& member : members_) everywhere = std::min(everywhere, member.acknowledged);
  while (!pending_.empty() && pending_.front()->generation <= everywhere) {
    const SnapshotPtr old = std::exchange(committed_, pending_.front());
    pending_.pop_front();
    const SnapshotPtr next = committed_;
    on_commit_(old, next);
  }
  for (auto at = waiters_.begin(); at != waiters_.end();) {
    if ((*at)->generation > committed_->generation) {
      ++at;
      continue;
    }
    (*at)->answered = true;
    (*at)->promise.set(true);
    at = waiters_.erase(at);
  }
}

std::string Publisher::laggards(std::uint64_t generation, bool with_doings) const {
  std::string names;
  for (const Member& member : members_) {
    if (member.acknowledged >= generation) continue;
    names += (names.empty() ? "" : ", ") + member.group->name();
    if (with_doings) names += fmt::format(" ({})", member.group->doing());
  }
  return names;
}

Task<Result<void>> Publisher::committed(std::uint64_t generation, std::uint64_t timeout_us) {
  if (generation <= committed_->generation) co_return Result<void>();
  auto waiter = std::make_shared<Waiter>();
  waiter->generation = generation;
  waiters_.push_back(waiter);
  Timer timer([this, waiter] {
    if (std::exchange(waiter->answered, true)) return;
    waiters_.remove(waiter);
    waiter->promise.set(false);
  });
  Timer late([this, waiter] {
    if (!waiter->answered) log_warning("a change waits for poll groups since {} s: {}", late_us / 1'000'000, laggards(waiter->generation, true));
  });
  Thread::current()->arm_in_us(timer, timeout_us);
  if (timeout_us > late_us) Thread::current()->arm_in_us(late, late_us);
  const bool in_time = co_await waiter->promise;
  if (in_time) co_return Result<void>();
  co_return fail(ETIMEDOUT, fmt::format("Connection timed out: the change is applied, but within {} ms the poll groups {} have not taken it up yet",
                                        timeout_us / 1000, laggards(generation, false)));
}

}  // namespace catnap::server
