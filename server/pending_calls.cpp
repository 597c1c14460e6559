// Calls that wait for what they need. See pending_calls.h.
// Owner: app_thread.
#include "server/pending_calls.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <optional>
#include <utility>

#include "reactor/base/log.h"
#include "reactor/clock.h"
#include "rpc/json.h"
#include "server/happenings.h"

namespace catnap::server {

struct PendingCalls::Call {
  explicit Call(ConfigCall what) : call(std::move(what)) {}
  ConfigCall call;
  Unfit unfit;
  std::optional<rpc::RpcError> reason;  // nothing: not tried yet
  std::uint64_t tries = 0;
  std::uint64_t not_before_ns = 0;
  bool gone = false;  // made, or taken back: no longer part of the state
};

namespace {

// Neither time nor a device makes these right; they are tried again when something else has come that they may stand on.
bool is_final(const rpc::RpcError& error) {
  switch (error.code) {
    case rpc::method_not_found:
    case rpc::invalid_params:
    case rpc::invalid_request:
    case -EINVAL:
    case -EOPNOTSUPP:
    case -EPERM:
    case -EEXIST:
    case -EALREADY:
      return true;
    default:
      return false;
  }
}

const Json::Value* value_at(const Json::Value& params, const std::string& path) {
  const Json::Value* value = &params;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    value = value->isObject() ? value->find(path.data() + begin, path.data() + end) : nullptr;
    if (value == nullptr) return nullptr;
    begin = end + 1;
  }
  return value;
}

bool same_value(const Json::Value& left, const Json::Value& right) {
  // As texts: to jsoncpp a signed 5 is not an unsigned one.
  if (!left.isString() || !right.isString()) return rpc::json_to_text(left) == rpc::json_to_text(right);
  const std::string one = left.asString(), other = right.asString();
  return std::equal(one.begin(), one.end(), other.begin(), other.end(),
                    [](unsigned char a, unsigned char b) { return std::tolower(a) == std::tolower(b); });
}

bool names(const std::vector<std::string>& methods, const std::string& method) {
  return std::any_of(methods.begin(), methods.end(), [&](const std::string& name) {
    return name.ends_with('*') ? method.starts_with(std::string_view(name).substr(0, name.size() - 1)) : method == name;
  });
}

bool concerns(const rpc::TakeBack& rule, const Json::Value& params, const ConfigCall& waiting) {
  if (!names(rule.methods, waiting.method)) return false;
  const bool all_same = std::all_of(rule.same.begin(), rule.same.end(), [&](const auto& pair) {
    const bool may_lack = pair.first.starts_with('?');
    const Json::Value* own = value_at(params, may_lack ? pair.first.substr(1) : pair.first);
    if (own == nullptr && may_lack) return true;
    const Json::Value* other = value_at(waiting.params, pair.second);
    return own != nullptr && other != nullptr && same_value(*own, *other);
  });
  return all_same && (!rule.also || rule.also(params, waiting.params));
}

Json::Value call_json(const ConfigCall& call) {
  Json::Value json(Json::objectValue);
  json["method"] = call.method;
  if (!call.params.isNull()) json["params"] = call.params;
  return json;
}

}  // namespace

PendingCalls::PendingCalls(Thread& app_thread, rpc::Dispatcher& dispatcher, std::function<Json::Value()> in_force)
    : app_thread_(app_thread), dispatcher_(dispatcher), in_force_(std::move(in_force)), timer_([this] { retry_round(); }) {}

void PendingCalls::add(const std::vector<ConfigCall>& calls) {
  for (const ConfigCall& call : calls) calls_.push_back(std::make_shared<Call>(call));
}

Task<void> PendingCalls::replay(ConfigFile::Which which) {
  const Calls all = calls_;
  replaying_ = true;
  for (const std::shared_ptr<Call>& call : all) {
    const rpc::Method* method = dispatcher_.methods().find(call->call.method);
    const bool is_startup = method != nullptr && method->phase == rpc::Phase::startup_only;
    if (stopped_) co_return;
    if (call->gone || call->reason || is_startup != (which == ConfigFile::Which::startup)) continue;
    Promise<bool> over;
    try_one(call, [over](bool) { over.set(true); });
    const bool waited = co_await over;
    static_cast<void>(waited);
    if (call->reason) {
      log_warning("state: {} is pending: {} ({})", rpc::printable(call->call.method), call->reason->message, call->reason->code);
    }
  }
  replaying_ = false;
  std::erase_if(calls_, [](const std::shared_ptr<Call>& call) { return call->gone; });
  if (which == ConfigFile::Which::runtime) arm();
}

void PendingCalls::add_lost(const std::string& subsystem, const Json::Value& call, Unfit unfit) {
  if (stopped_) return;
  ConfigCall lost;
  lost.subsystem = subsystem;
  lost.method = call["method"].asString();
  lost.params = call["params"];
  const std::string text = rpc::json_to_text(call_json(lost));
  if (std::any_of(calls_.begin(), calls_.end(), [&](const auto& other) { return rpc::json_to_text(call_json(other->call)) == text; })) return;
  calls_.push_back(std::make_shared<Call>(std::move(lost)));
  calls_.back()->unfit = std::move(unfit);
  calls_.back()->reason.emplace(-ENODEV, "No such device: it was there, and has gone by itself");
  log_notice("state: {} waits for what has gone to come back", rpc::printable(calls_.back()->call.method));
  Happenings::instance().tell(Happening(configuration_waits, calls_.back()->call.method).with("reason", calls_.back()->reason->message));
  arm();
}

bool PendingCalls::awaits_namespace(const std::string& nqn, std::uint32_t nsid) const {
  return std::any_of(calls_.begin(), calls_.end(), [&](const std::shared_ptr<Call>& pending) {
    const Json::Value& params = pending->call.params;
    return pending->call.method == "nvmf_subsystem_add_ns" && params.isObject() && params["nqn"] == Json::Value(nqn) &&
           params["namespace"].isObject() && params["namespace"]["nsid"].isUInt() && params["namespace"]["nsid"].asUInt() == nsid;
  });
}

void PendingCalls::forget_untried() {
  std::erase_if(calls_, [](const std::shared_ptr<Call>& call) { return !call->reason; });
}

// Of a long row that is being replayed each is the first: taking it out one by one would move all the others each time.
void PendingCalls::drop(const std::shared_ptr<Call>& call) {
  call->gone = true;
  if (!replaying_) std::erase(calls_, call);
}

// `done(true)`: it is no longer pending.
void PendingCalls::try_one(const std::shared_ptr<Call>& call, std::move_only_function<void(bool)> done) {
  ++call->tries;
  if (auto why = call->unfit ? call->unfit() : std::nullopt) {
    call->reason = std::move(why);
    done(false);
    return;
  }
  const std::uint64_t began_ns = app_thread_.now_ns();
  auto still_wanted = [this, call] { return !stopped_ && !call->gone; };
  // Not as a coroutine: the next change must find the call gone when it has succeeded.
  auto reply = [this, call, began_ns, done = std::move(done)](rpc::RpcResult<Json::Value> outcome) mutable {
    tried(call, outcome, began_ns);
    done(call->gone);
  };
  dispatcher_.submit_if(call->call.method, call->call.params, std::move(still_wanted), std::move(reply), rpc::Origin::config_file);
}

void PendingCalls::tried(const std::shared_ptr<Call>& call, const rpc::RpcResult<Json::Value>& outcome, std::uint64_t began_ns) {
  if (call->gone) return;  // taken back meanwhile
  const rpc::Method* method = dispatcher_.methods().find(call->call.method);
  // A module that finds its own again (an array by its superblock) was there before.
  const bool exists = !outcome && (outcome.error().code == -EEXIST || outcome.error().code == -EALREADY);
  const bool there_already = exists && is_in_force(call->call);
  // What only asks or waits is no part of the state: it has had its turn.
  if (outcome || there_already || (method != nullptr && !method->changes_state)) {
    drop(call);
    return;
  }
  call->reason = outcome.error();
  const std::uint64_t took_ns = app_thread_.now_ns() - began_ns;
  call->not_before_ns = app_thread_.now_ns() + patience * took_ns;
}

bool PendingCalls::is_in_force(const ConfigCall& call) const {
  const Json::Value config = in_force_();
  const std::string wanted = rpc::json_to_text(call_json(call));
  for (const Json::Value& subsystem : config["subsystems"]) {
    for (const Json::Value& each : subsystem["config"]) {
      if (rpc::json_to_text(each) == wanted) return true;
    }
  }
  return false;
}

void PendingCalls::look_again() {
  if (calls_.empty()) return;
  look_at_all_ = true;
  arm();
}

void PendingCalls::arm() {
  if (timer_.armed()) return;
  const bool any =
      look_at_all_ || std::any_of(calls_.begin(), calls_.end(), [](const auto& call) { return !call->reason || !is_final(*call->reason); });
  if (any && !stopped_) app_thread_.arm_in_us(timer_, retry_us);
}

void PendingCalls::retry_round() {
  if (std::exchange(round_under_way_, true)) return;
  go_on(std::make_shared<Calls>(calls_), 0, std::exchange(look_at_all_, false), false);
}

// One after the other, so that what they stand on comes before them.
void PendingCalls::go_on(std::shared_ptr<Calls> round, std::size_t at, bool all, bool any) {
  for (; at < round->size(); ++at) {
    const auto& call = (*round)[at];
    const bool due = !call->reason || call->not_before_ns <= app_thread_.now_ns();
    if (!due || call->gone || (call->reason && is_final(*call->reason) && !any && !all)) continue;
    try_one(call, [this, round, at, all, any, call](bool gone) {
      if (gone) {
        log_notice("state: {} is no longer pending", rpc::printable(call->call.method));
        Happenings::instance().tell(Happening(configuration_back, call->call.method));
      }
      // On a stack of its own: a long row of calls that end at once must not nest.
      app_thread_.send([this, round, at, all, any = any || gone] { go_on(round, at + 1, all, any); });
    });
    return;
  }
  round_under_way_ = false;
  arm();
  if (any && picked_up_) picked_up_();
}

std::vector<std::pair<std::string, Json::Value>> PendingCalls::waiting() const {
  std::vector<std::pair<std::string, Json::Value>> calls;
  for (const auto& pending : calls_) {
    if (!pending->gone) calls.emplace_back(pending->call.subsystem, call_json(pending->call));
  }
  return calls;
}

// Those that a call concerns, and what goes with them.
std::size_t PendingCalls::erase_concerned(const rpc::TakeBack& rule, const Json::Value& params) {
  Calls erased;
  std::erase_if(calls_, [&](const std::shared_ptr<Call>& pending) {
    if (!concerns(rule, params, pending->call)) return false;
    erased.push_back(pending);
    return true;
  });
  std::size_t count = 0;
  for (const std::shared_ptr<Call>& each : erased) {
    if (std::exchange(each->gone, true)) continue;
    ++count;
    const rpc::Method* method = dispatcher_.methods().find(each->call.method);
    if (method == nullptr) continue;
    for (const rpc::TakeBack& further : method->go_with_it) count += erase_concerned(further, each->call.params);
  }
  return count;
}

bool PendingCalls::take_back(const rpc::Method& method, const rpc::Params& params, bool made) {
  std::size_t count = 0;
  for (const rpc::TakeBack& rule : method.takes_back) {
    if (made || !rule.only_when_made) count += erase_concerned(rule, params.all());
  }
  if (calls_.empty()) timer_.disarm();
  return count > 0;
}

Json::Value PendingCalls::shown() const {
  Json::Value list(Json::arrayValue);
  for (const auto& pending : calls_) {
    if (pending->gone) continue;
    const rpc::Method* method = dispatcher_.methods().find(pending->call.method);
    Json::Value entry(Json::objectValue);
    entry["subsystem"] = pending->call.subsystem;
    entry["method"] = pending->call.method;
    entry["params"] = method != nullptr ? rpc::MethodTable::without_secrets(*method, pending->call.params) : Json::Value();
    entry["code"] = pending->reason ? pending->reason->code : 0;
    entry["message"] = pending->reason ? pending->reason->message : "not tried yet";
    entry["tries"] = Json::UInt64(pending->tries);
    entry["retried"] = !pending->reason || !is_final(*pending->reason);
    list.append(std::move(entry));
  }
  return list;
}

void PendingCalls::stop() {
  stopped_ = true;
  timer_.disarm();
}

}  // namespace catnap::server
