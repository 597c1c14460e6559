// What the state file has, as text in pieces: the calls that make the configuration in force, without what a restart shall not bring back, and those
// still pending. Pieces of what has not changed since the last time are the same objects, so that a change of one of a thousand subsystems costs the
// text of one.
// Owner: app_thread; pieces never change and go to any thread. Left out: writing (state_store.h), reading at start (state_file.h).
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "rpc/config_registry.h"
#include "rpc/method.h"

namespace catnap::server {

class PendingCalls;

// One after another they are the text; none is null.
using StatePieces = std::vector<std::shared_ptr<const std::string>>;
std::string joined(const StatePieces& pieces);

// `calls`, an array of {method, params}, without those that the state file does not keep, and with other values where a declaration says so
// (rpc/method.h): of those with a parameter "persist" the ones where it is true stay; calls that change nothing (waits) stay.
Json::Value kept_calls(const rpc::MethodTable& methods, Json::Value calls);

class StateText {
 public:
  using Piece = std::shared_ptr<const std::string>;

  StateText(const rpc::MethodTable& methods, const rpc::ConfigRegistry& registry, const PendingCalls& pending)
      : methods_(methods), registry_(registry), pending_(pending) {}
  StateText(const StateText&) = delete;
  StateText& operator=(const StateText&) = delete;

  StatePieces take();
  // Pieces written out anew, ever.
  std::uint64_t made() const { return made_; }

 private:
  class Writer;
  Piece piece_of(Json::Value calls);

  const rpc::MethodTable& methods_;
  const rpc::ConfigRegistry& registry_;
  const PendingCalls& pending_;
  std::uint64_t made_ = 0;
  // Of the last time. One that has died meanwhile is another at the same address. They are not held: namespaces have bdevs open.
  std::unordered_map<const void*, std::pair<std::weak_ptr<const void>, Piece>> of_objects_;
  std::unordered_map<std::string, Piece> of_texts_;
};

}  // namespace catnap::server
