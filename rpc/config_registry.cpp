// Collects the configuration of all subsystems (config_registry.h).
// Owner: app_thread. Left out: the RPCs that show it (framework_rpc.cpp).
#include "rpc/config_registry.h"

#include <algorithm>
#include <utility>

#include "reactor/base/check.h"
#include "rpc/json.h"

namespace catnap::rpc {
namespace {

// Everything as values, in one array.
class Collector final : public ConfigRegistry::Listener {
 public:
  void call(Json::Value call) override { calls.append(std::move(call)); }
  void text(const std::string& call) override {
    auto parsed = parse_json(call);
    CATNAP_CHECK(parsed.has_value());  // our own modules write it
    calls.append(std::move(*parsed));
  }
  void same_for(const std::shared_ptr<const void>&, const std::function<Json::Value()>& make) override {
    Json::Value some = make();
    for (Json::Value& call : some) calls.append(std::move(call));
  }
  Json::Value calls{Json::arrayValue};
};

}  // namespace

void ConfigRegistry::add(std::string_view subsystem, Dump dump, std::vector<std::string> depends_on) {
  add_telling(
      subsystem,
      [dump = std::move(dump)](Listener& listener) {
        Json::Value calls = dump();
        for (Json::Value& call : calls) listener.call(std::move(call));
      },
      std::move(depends_on));
}

void ConfigRegistry::add_telling(std::string_view subsystem, Telling telling, std::vector<std::string> depends_on) {
  auto found = std::find_if(subsystems_.begin(), subsystems_.end(), [&](const Subsystem& one) { return one.name == subsystem; });
  if (found == subsystems_.end()) found = subsystems_.insert(subsystems_.end(), Subsystem(std::string(subsystem)));
  found->tellings.push_back(std::move(telling));
  for (std::string& name : depends_on) {
    if (std::find(found->depends_on.begin(), found->depends_on.end(), name) == found->depends_on.end()) found->depends_on.push_back(std::move(name));
  }
}

std::vector<const ConfigRegistry::Subsystem*> ConfigRegistry::subsystems() const {
  std::vector<const Subsystem*> waiting, ordered;
  for (const Subsystem& one : subsystems_) waiting.push_back(&one);
  const auto is_waiting = [&](const std::string& name) {
    return std::any_of(waiting.begin(), waiting.end(), [&](const Subsystem* one) { return one->name == name; });
  };
  while (!waiting.empty()) {
    auto next = std::find_if(waiting.begin(), waiting.end(),
                             [&](const Subsystem* one) { return std::none_of(one->depends_on.begin(), one->depends_on.end(), is_waiting); });
    if (next == waiting.end()) next = waiting.begin();  // a circle: the order of adding decides
    ordered.push_back(*next);
    waiting.erase(next);
  }
  return ordered;
}

std::optional<Json::Value> ConfigRegistry::config(std::string_view subsystem) const {
  for (const Subsystem& one : subsystems_) {
    if (one.name != subsystem) continue;
    Collector collector;
    for (const Telling& tell : one.tellings) tell(collector);
    return std::move(collector.calls);
  }
  return std::nullopt;
}

Json::Value ConfigRegistry::all() const {
  Json::Value list(Json::arrayValue);
  for (const Subsystem* one : subsystems()) {
    Json::Value entry(Json::objectValue);
    entry["subsystem"] = one->name;
    entry["config"] = *config(one->name);
    list.append(std::move(entry));
  }
  Json::Value whole(Json::objectValue);
  whole["subsystems"] = std::move(list);
  return whole;
}

}  // namespace catnap::rpc
