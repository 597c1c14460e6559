// The configuration a process begins with: SPDK's format, a list of RPC calls by subsystem, replayed in order.
// Owner: parsing: none; replaying: app_thread. Left out: writing (framework_get_config), state kept across restarts.
#pragma once

#include <json/json.h>

#include <string>
#include <vector>

#include "reactor/base/error.h"
#include "reactor/task.h"
#include "rpc/dispatcher.h"

namespace catnap::server {

struct ConfigCall {
  std::string subsystem;
  std::string method;
  Json::Value params;
};

class ConfigFile {
 public:
  // Blocks while reading: for main(), before any thread. Errors name the file: what open and read say, EFBIG.
  static Result<ConfigFile> read(const std::string& path);
  // {"subsystems": [{"subsystem": NAME, "config": [{"method": NAME, "params": {…}}, …]}, …]}; "config" may be null, an entry may be an array of calls
  // (SPDK's batches), and there may be comments, as in SPDK. Errors: EINVAL with `name` and the place.
  static Result<ConfigFile> parse(const std::string& name, const std::string& text);
  // 1 GiB of RAM on 127.0.0.1:4420, for --demo.
  static ConfigFile demo();

  const std::string& name() const { return name_; }
  const std::vector<ConfigCall>& calls() const { return calls_; }

  enum class Which : std::uint8_t { startup, runtime };
  // Calls those methods that belong before the target is initialised (startup), or all others. Stops at the first that fails: the error names file,
  // subsystem, method and reason. `ignore_errors`: logs it instead, and goes on. The file and the dispatcher outlive the task.
  Task<Result<void>> replay(rpc::Dispatcher* dispatcher, Which which, bool ignore_errors) const;

  // A file longer than this is not a configuration; 1024 subsystems with 32 namespaces each are some 10 MiB.
  static constexpr std::size_t max_bytes = std::size_t{64} << 20;

 private:
  std::string name_;
  std::vector<ConfigCall> calls_;
};

inline constexpr const char* demo_nqn = "nqn.2026-11.io.catnap:demo";
inline constexpr const char* demo_address = "127.0.0.1";
inline constexpr const char* demo_port = "4420";

}  // namespace catnap::server
