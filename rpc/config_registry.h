// Who can say what configuration is in force: each subsystem gives back its calls, framework_get_config and save_config show them.
// Owner: app_thread (adding at start, asking at any time). Left out: writing files (server/), loading.
#pragma once

#include <json/json.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace catnap::rpc {

class ConfigRegistry {
 public:
  // Gives back an array of {"method": NAME, "params": {…}}: calls that, made in this order, bring the present configuration about.
  using Dump = std::function<Json::Value()>;

  struct Subsystem {
    explicit Subsystem(std::string subsystem_name) : name(std::move(subsystem_name)) {}
    std::string name;
    std::vector<std::string> depends_on;
    std::vector<Dump> dumps;
  };

  // Several modules may add to one subsystem ("bdev"): their calls follow one another in the order of adding.
  // `depends_on`: subsystems whose calls must come first; they are shown by framework_get_subsystems.
  void add(std::string_view subsystem, Dump dump, std::vector<std::string> depends_on = {});

  // In the order of adding, moved behind what they depend on.
  std::vector<const Subsystem*> subsystems() const;
  // The calls of one subsystem; nothing when no module added it.
  std::optional<Json::Value> config(std::string_view subsystem) const;
  // {"subsystems": [{"subsystem": NAME, "config": […]}, …]}: what save_config writes and `catnapd -c` reads.
  Json::Value all() const;

 private:
  std::vector<Subsystem> subsystems_;
};

}  // namespace catnap::rpc
