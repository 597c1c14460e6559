// What the configuration needs of a poll group of the target: take a snapshot, take a socket, end. ServerGroup is one; tests bring others.
// Owner: thread(), except where marked. Left out: everything a group does with them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "reactor/thread.h"
#include "server/snapshot.h"

namespace catnap::server {

class TargetGroup {
 public:
  virtual ~TargetGroup() = default;

  virtual Thread& thread() = 0;  // any OS thread
  // Swaps the configuration at the end of this loop turn, then calls `installed` (on thread()): from then on no command of this group sees an
  // older one. Snapshots come in the order of their generations.
  virtual void install(std::shared_ptr<const TargetSnapshot> snapshot, std::move_only_function<void()> installed) = 0;
  // Takes over a connected non-blocking socket.
  virtual void add_connection(int fd) = 0;
  // Connections now. Any OS thread.
  virtual std::uint32_t queue_count() const = 0;
  // Ends all connections after what is in flight; `done` on thread() when the last one is freed.
  virtual void shut_down(std::move_only_function<void()> done) = 0;
};

}  // namespace catnap::server
