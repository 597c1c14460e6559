// See notifications.h.
#include "rpc/notifications.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <utility>

#include "reactor/thread.h"
#include "reactor/timed_answer.h"

namespace catnap::rpc {

// Never destroyed: modules add events as long as they live.
Notifications& Notifications::instance() {
  static auto* notifications = new Notifications;
  return *notifications;
}

void Notifications::add_type(std::string type) {
  if (std::ranges::find(types_, type) == types_.end()) types_.push_back(std::move(type));
}

void Notifications::add(std::string_view type, std::string context, Json::Value details, Cause cause) {
  using std::chrono::milliseconds;
  Event& event = events_.emplace_back(next_id_++, std::string(type), std::move(context));
  event.details = std::move(details);
  event.cause = cause;
  event.time_ms = static_cast<std::uint64_t>(std::chrono::duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count());
  if (cause == Cause::host) ++of_hosts_;
  const auto of_host = [](const Event& each) { return each.cause == Cause::host; };
  auto goes = events_.end();
  if (of_hosts_ > max_kept_of_hosts) {
    goes = std::ranges::find_if(events_, of_host);
  } else if (events_.size() > max_kept) {
    goes = events_.begin();
  }
  if (goes != events_.end()) {
    if (of_host(*goes)) --of_hosts_;
    events_.erase(goes);
  }
  wake();
}

std::vector<Notifications::Event> Notifications::since(std::uint64_t from, std::uint64_t max) const {
  const auto first = std::ranges::find_if(events_, [from](const Event& event) { return event.id >= from; });
  const auto count = std::min<std::uint64_t>(max, static_cast<std::uint64_t>(events_.end() - first));
  return {first, first + static_cast<std::ptrdiff_t>(count)};
}

std::shared_ptr<void> Notifications::when(std::uint64_t from, std::function<void()> happened) {
  auto waiter = std::make_shared<Waiter>(from, std::move(happened));
  waiters_.push_back(waiter);
  if (from < next_id_) wake();
  return waiter;
}

void Notifications::wake() {
  for (const auto& weak : std::exchange(waiters_, {})) {
    const auto waiter = weak.lock();
    if (waiter == nullptr) continue;
    if (waiter->from >= next_id_) {
      waiters_.push_back(weak);
      continue;
    }
    Thread::current()->send([weak] {
      if (const auto alive = weak.lock()) alive->happened();
    });
  }
}

namespace {

// An hour: a client that wants to wait longer asks again.
constexpr std::uint64_t max_wait_ms = 3'600'000;

// RFC 3339, in UTC, with milliseconds.
std::string time_text(std::uint64_t time_ms) {
  const auto seconds = static_cast<std::time_t>(time_ms / 1000);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min,
                     parts.tm_sec, time_ms % 1000);
}

Json::Value to_json(const std::vector<Notifications::Event>& events) {
  Json::Value list(Json::arrayValue);
  for (const auto& event : events) {
    Json::Value entry(Json::objectValue);
    entry["type"] = event.type;
    entry["ctx"] = event.context;
    entry["id"] = Json::Value(static_cast<Json::UInt64>(event.id));
    entry["time"] = time_text(event.time_ms);
    if (!event.details.empty()) entry["details"] = event.details;
    list.append(std::move(entry));
  }
  return list;
}

Task<RpcResult<Json::Value>> get_notifications(Params params) {
  const std::uint64_t from = params.integer("id");
  const std::uint64_t max = params.has("max") ? params.integer("max") : ~std::uint64_t{0};
  const std::uint64_t wait_ms = params.integer("wait_ms");
  auto& notifications = Notifications::instance();
  auto events = notifications.since(from, max);
  if (events.empty() && wait_ms > 0 && max > 0) {
    const auto answer = TimedAnswer<bool>::within_us(wait_ms * 1000);
    const auto waiting = notifications.when(from, [answer] { answer->give(true); });
    co_await answer->promise();
    events = notifications.since(from, max);
  }
  co_return to_json(events);
}

RpcResult<Json::Value> get_types(const Params&) {
  Json::Value list(Json::arrayValue);
  for (const auto& type : Notifications::instance().types()) list.append(type);
  return list;
}

}  // namespace

void register_notify_methods(MethodTable& table) {
  table.add(Method("notify_get_types", "Shows what kinds of events there are").result("array of names").handler(get_types));
  table.add(
      Method("notify_get_notifications", "Shows what happened, or waits until something does")
          .with({Param("id", ParamType::integer, "Number of the first event wanted").range(0, ~std::uint64_t{0}).or_default(0),
                 Param("max", ParamType::integer, "Most events wanted; all without it").range(0, ~std::uint64_t{0}),
                 Param("wait_ms", ParamType::integer, "When there is none yet: milliseconds to wait for one").range(0, max_wait_ms).or_default(0)})
          .result("array of {type, ctx, id, time, details}; `time` in UTC, `details` (ours) only where there is more to say")
          .coroutine(get_notifications));
}

}  // namespace catnap::rpc
