// What the configuration needs of a poll group of the target: take a snapshot, take a socket, end. GroupAdapter is one (group_adapter.h);
// tests bring others.
// Owner: app_thread calls every member and gets every callback. Left out: everything a group does with them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "server/snapshot.h"
#include "transport/tcp/poll_group.h"

namespace catnap::server {

class GroupPort {
 public:
  virtual ~GroupPort() = default;

  // Of its thread: "nvmf_tgt_poll_group_000".
  virtual std::string name() const = 0;
  // The transport is there; called once, before the first add_connection().
  virtual void start(const tcp::TcpOptions& options) = 0;
  // Swaps the configuration, then `installed` on app_thread: from then on no command of this group sees an older one. Snapshots come in the
  // order of their generations; a later one may come before an earlier one is acknowledged.
  virtual void install(std::shared_ptr<const TargetSnapshot> snapshot, std::move_only_function<void()> installed) = 0;
  // Takes over a connection.
  virtual void add_connection(tcp::Incoming incoming) = 0;
  // Connections now, those on their way to the group included.
  virtual std::uint32_t queue_count() const = 0;
  // CPU of the reactor that the group runs on now; none: it is on none.
  virtual std::optional<unsigned> cpu() const = 0;
  // What its reactor is at, for the log when it does not answer.
  virtual std::string doing() const { return "not known"; }
  // Ends all connections after what is in flight, then `done` on app_thread.
  virtual void shut_down(std::move_only_function<void()> done) = 0;
};

}  // namespace catnap::server
