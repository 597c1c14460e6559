// Calls of the state file that could not be made yet: what they need (an address of this machine, a device, a bdev) is not there, or they are
// refused. So are the calls that made what has gone by itself since (another target, and what stood on it): what was asked for is the configuration,
// not what can be reached at the moment. They stay part of the state, are shown, and those that may succeed later are tried again each second while
// there are any; nothing wakes up without. Owner: app_thread. Left out: the file (state_store.h), configuration files without --state (config_file.h:
// those fail the start).
#pragma once

#include <json/json.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "reactor/task.h"
#include "reactor/timer.h"
#include "rpc/dispatcher.h"
#include "server/config_file.h"

namespace catnap::server {

class PendingCalls {
 public:
  // Between two rounds of tries. What has appeared is in service within 2 s.
  static constexpr std::uint64_t retry_us = 1'000'000;
  // A try that took long (a connection attempt) is repeated after this many times as long, so that changes of clients get their turn.
  static constexpr std::uint64_t patience = 10;

  // `in_force`: the calls that make the present configuration, in rpc::ConfigRegistry::all()'s form.
  PendingCalls(Thread& app_thread, rpc::Dispatcher& dispatcher, std::function<Json::Value()> in_force);
  PendingCalls(const PendingCalls&) = delete;
  PendingCalls& operator=(const PendingCalls&) = delete;

  // Calls to be made by replay(); from now on they are part of the state.
  void add(const std::vector<ConfigCall>& calls);
  // Makes those of the phase that were not tried yet, in order. None fails it: what cannot be made stays.
  Task<void> replay(ConfigFile::Which which);
  // {method, params} that made something which has gone by itself: waits from now on for it to come back. `unfit`, if given, is asked before each
  // try: a reason not to make the call.
  using Unfit = std::function<std::optional<rpc::RpcError>()>;
  void add_lost(const std::string& subsystem, const Json::Value& call, Unfit unfit = nullptr);
  // A namespace with this NSID waits for that subsystem.
  bool awaits_namespace(const std::string& nqn, std::uint32_t nsid) const;
  // They have been made in another way (a seed), or shall not be.
  void forget_untried();

  // Subsystem and {method, params} of those that wait, in order: they belong behind those in force of the same subsystem.
  std::vector<std::pair<std::string, Json::Value>> waiting() const;
  // A client's call succeeded (`made`), or found nothing: takes waiting calls back as its declaration says. True when there were any.
  bool take_back(const rpc::Method& method, const rpc::Params& params, bool made);
  // A client has changed something: what was refused may be possible now, and is tried once.
  void look_again();
  // [{subsystem, method, params, code, message, tries, retried}], without secrets.
  Json::Value shown() const;
  bool empty() const { return calls_.empty(); }
  // After calls went because they succeeded: the state on disk may be brought up to date.
  void when_picked_up(std::function<void()> told) { picked_up_ = std::move(told); }
  void stop();

 private:
  struct Call;
  using Calls = std::vector<std::shared_ptr<Call>>;

  void try_one(const std::shared_ptr<Call>& call, std::move_only_function<void(bool)> done);
  std::size_t erase_concerned(const rpc::TakeBack& rule, const Json::Value& params);
  void tried(const std::shared_ptr<Call>& call, const rpc::RpcResult<Json::Value>& outcome, std::uint64_t began_ns);
  void retry_round();
  void go_on(std::shared_ptr<Calls> round, std::size_t at, bool all, bool any);
  void arm();
  void drop(const std::shared_ptr<Call>& call);
  bool is_in_force(const ConfigCall& call) const;

  Thread& app_thread_;
  rpc::Dispatcher& dispatcher_;
  std::function<Json::Value()> in_force_;
  Calls calls_;
  bool look_at_all_ = false;  // in the next round, also at those that are refused
  bool round_under_way_ = false;
  bool replaying_ = false;  // those that are gone are still in calls_
  bool stopped_ = false;
  std::function<void()> picked_up_;
  Timer timer_;
};

}  // namespace catnap::server
