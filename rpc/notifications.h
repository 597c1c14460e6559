// What happened in the process, for those who ask: events with rising numbers and their time, the last max_kept of them. SPDK's notify methods, and a
// way to wait for the next event. What hosts bring about has a share of the places, so that they cannot push out the rest.
// Owner: app_thread. Left out: what happens (modules add types and events).
#pragma once

#include <json/json.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <string>
#include <vector>

#include "rpc/method.h"

namespace catnap::rpc {

class Notifications {
 public:
  // Enough for a client that asks every few seconds while a large configuration loads; SPDK keeps as many.
  static constexpr std::size_t max_kept = 1024;
  // Of these, brought about by hosts; older ones go first.
  static constexpr std::size_t max_kept_of_hosts = 256;

  enum class Cause : std::uint8_t { target, host };

  struct Event {
    Event(std::uint64_t event_id, std::string event_type, std::string event_context)
        : id(event_id), type(std::move(event_type)), context(std::move(event_context)) {}
    std::uint64_t id;
    std::string type;
    std::string context;                     // whom it is about: a name
    Json::Value details{Json::objectValue};  // names and texts
    std::uint64_t time_ms = 0;               // since 1970, UTC
    Cause cause = Cause::target;
  };

  static Notifications& instance();

  void add_type(std::string type);
  const std::vector<std::string>& types() const { return types_; }
  // The first has number 0.
  void add(std::string_view type, std::string context, Json::Value details = Json::Value(Json::objectValue), Cause cause = Cause::target);
  // Those with numbers from `from` on that are still there, at most `max`.
  std::vector<Event> since(std::uint64_t from, std::uint64_t max) const;
  // Calls `happened` once, when there is an event with a number of at least `from`; never within this call or within add(). The token gives up when
  // it dies.
  std::shared_ptr<void> when(std::uint64_t from, std::function<void()> happened);

 private:
  struct Waiter {
    Waiter(std::uint64_t wanted, std::function<void()> call) : from(wanted), happened(std::move(call)) {}
    std::uint64_t from;
    std::function<void()> happened;
  };
  void wake();

  std::vector<std::string> types_;
  std::deque<Event> events_;
  std::size_t of_hosts_ = 0;  // of events_
  std::uint64_t next_id_ = 0;
  std::vector<std::weak_ptr<Waiter>> waiters_;
};

// notify_get_types, notify_get_notifications.
void register_notify_methods(MethodTable& table);

}  // namespace catnap::rpc
