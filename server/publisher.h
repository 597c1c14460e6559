// Publication of the configuration: sends each snapshot to every poll group and knows when all of them have it (commit).
// Owner: app_thread. Left out: what is in a snapshot (target.h).
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <vector>

#include "reactor/base/error.h"
#include "reactor/task.h"
#include "server/group_port.h"
#include "server/snapshot.h"

namespace catnap::server {

class Publisher {
 public:
  using SnapshotPtr = std::shared_ptr<const TargetSnapshot>;
  // Called for each publication in order, once every group has acknowledged it.
  using OnCommit = std::function<void(const SnapshotPtr& old, const SnapshotPtr& next)>;

  Publisher(SnapshotPtr first, OnCommit on_commit) : current_(std::move(first)), committed_(current_), on_commit_(std::move(on_commit)) {}
  Publisher(const Publisher&) = delete;
  Publisher& operator=(const Publisher&) = delete;

  // A further group: gets the current snapshot at once, and its acknowledgement counts from then on. The group outlives the publisher's use.
  void attach(GroupPort& group);
  // No group any more: what is published is committed at once.
  void detach_all();
  // `next` follows current(): its generation is a higher one.
  void publish(SnapshotPtr next);

  const SnapshotPtr& current() const { return current_; }
  std::uint64_t committed_generation() const { return committed_->generation; }

  // What takes longer than this is told in the log, once: with a reactor per CPU a publication takes microseconds.
  static constexpr std::uint64_t late_us = 5'000'000;

  // Returns when `generation` is committed. Error: ETIMEDOUT after timeout_us, naming the groups that have not acknowledged; the change stays applied
  // and is committed when they do.
  Task<Result<void>> committed(std::uint64_t generation, std::uint64_t timeout_us);

 private:
  struct Member {
    GroupPort* group;
    std::uint64_t acknowledged;
  };
  struct Waiter {
    std::uint64_t generation = 0;
    bool answered = false;
    Promise<bool> promise;  // true: committed; false: timed out
  };

  void send_to(std::size_t member, const SnapshotPtr& snapshot);
  void acknowledge(std::size_t member, std::uint64_t generation);
  void advance();
  std::string laggards(std::uint64_t generation, bool with_doings) const;

  SnapshotPtr current_;
  SnapshotPtr committed_;
  std::deque<SnapshotPtr> pending_;  // published, not committed
  std::vector<Member> members_;
  std::list<std::shared_ptr<Waiter>> waiters_;
  OnCommit on_commit_;
};

}  // namespace catnap::server
