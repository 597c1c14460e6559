// Who can say what configuration is in force: each subsystem tells its calls, framework_get_config and save_config show them, and the state file has
// them. Owner: app_thread (adding at start, asking at any time). Left out: writing files (server/), loading.
#pragma once

#include <json/json.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace catnap::rpc {

class ConfigRegistry {
 public:
  // Is told the calls of a configuration one after another, in forms that say what has not changed since the last time: a state file is asked for at
  // each change, and hardly any of a thousand objects differs then.
  class Listener {
   public:
    virtual ~Listener() = default;
    // {"method": NAME, "params": {…}}
    virtual void call(Json::Value call) = 0;
    // The same as JSON text: equal texts are equal calls.
    virtual void text(const std::string& call) = 0;
    // An array of calls that follow from `of` alone, an object that never changes.
    virtual void same_for(const std::shared_ptr<const void>& of, const std::function<Json::Value()>& calls) = 0;
  };
  // Tells calls that, made in this order, bring the present configuration about.
  using Telling = std::function<void(Listener&)>;
  // Gives them back as an array.
  using Dump = std::function<Json::Value()>;

  struct Subsystem {
    explicit Subsystem(std::string subsystem_name) : name(std::move(subsystem_name)) {}
    std::string name;
    std::vector<std::string> depends_on;
    std::vector<Telling> tellings;
  };

  // Several modules may add to one subsystem ("bdev"): their calls follow one another in the order of adding.
  // `depends_on`: subsystems whose calls must come first; they are shown by framework_get_subsystems.
  void add(std::string_view subsystem, Dump dump, std::vector<std::string> depends_on = {});
  void add_telling(std::string_view subsystem, Telling telling, std::vector<std::string> depends_on = {});

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
