// The command line of catnapd. See options.h.
// Owner: main(), before any thread.
#include "server/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <set>
#include <string_view>

#include "reactor/base/log.h"
#include "rpc/version.h"

namespace catnap::server {
namespace {

constexpr const char* spdk_group = "Options of SPDK's applications, accepted without effect";

// Takes a flag or an option with one argument, and remembers that it was given.
struct ForeignOption {
  const char* names;
  bool has_argument;
};

constexpr ForeignOption foreign_options[] = {
    {"-s,--mem-size", true},        {"--no-huge", false},
    {"-u,--no-pci", false},         {"-i,--shm-id", true},
    {"-e,--tpoint-group", true},    {"-g,--single-file-segments", false},
    {"-R,--huge-unlink", false},    {"-W,--pci-whitelist", true},
    {"-A,--pci-allowed", true},     {"-B,--pci-blocked", true},
    {"-d,--limit-coredump", false}, {"-n,--mem-channels", true},
    {"-p,--main-core", true},       {"--lcores", true},
    {"--iova-mode", true},          {"--base-virtaddr", true},
    {"--huge-dir", true},           {"--env-context", true},
    {"--vfio-vf-token", true},      {"--num-trace-entries", true},
    {"--msg-mempool-size", true},   {"--disable-cpumask-locks", false},
    {"--enforce-numa", false},      {"--max-delay", true},
};

void add_foreign_options(CLI::App& app, Options& options) {
  for (const ForeignOption& foreign : foreign_options) {
    CLI::Option* added = nullptr;
    const std::string names = foreign.names;
    if (foreign.has_argument) {
      const std::function<void(const std::string&)> remember = [&options, names](const std::string&) { options.without_effect.push_back(names); };
      added = app.add_option_function<std::string>(names, remember)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    } else {
      added = app.add_flag_callback(names, [&options, names] { options.without_effect.push_back(names); });
    }
    added->group(spdk_group);
  }
}

struct RawValues {
  std::string cpumask;
  std::string mode;
  std::string rpcs_allowed;
  bool interrupt_mode = false;
  bool version = false;
};

void add_options(CLI::App& app, Options& options, RawValues& raw) {
  app.add_option("-m,--cpumask", raw.cpumask, "CPUs that get a reactor: 0x3, or [0,2-3]; without it the first one allowed");
  app.add_option("-r,--rpc-socket", options.rpc_socket, "Where JSON-RPC is served (a Unix socket)")->capture_default_str();
  app.add_option("-c,--config,--json", options.config_file, "Configuration to begin with, as save_config writes it");
  app.add_option("--state", options.state_file,
                 "File that keeps the configuration: each change is on disk before it is answered, and a restart begins with it (-c then only where "
                 "there is no such file yet)")
      ->check([](const std::string& given) { return given.empty() ? std::string("names no file") : std::string(); });
  app.add_option("--mode", raw.mode,
                 "adaptive (default): sleep when idle, after looking a little while; interrupt: sleep at once; poll: never sleep");
  app.add_flag("--interrupt-mode", raw.interrupt_mode, "The same as --mode interrupt");
  app.add_flag("--wait-for-rpc", options.wait_for_rpc, "Initialise only when framework_start_init is called");
  app.add_flag("--no-rpc-server", options.no_rpc_server, "Serve no JSON-RPC at a Unix socket");
  app.add_flag("--demo", options.demo, "Serve a 1 GiB RAM disk on 127.0.0.1:4420 to any host, and say how to connect");
  app.add_flag("--json-ignore-init-errors", options.ignore_config_errors, "Go on when a call of the configuration file fails");
  app.add_option("-L,--logflag", options.log_flags, "Switch a log flag on (repeatable; \"all\" for every one)")
      ->type_size(1)
      ->allow_extra_args(false);
  app.add_flag("--silence-noticelog", options.silence_notices, "Print warnings and errors only");
  app.add_option("--max-spin-us", options.max_spin_us, "Longest look for work before sleeping, adaptive mode")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000000));
  app.add_option("--buffer-cap-mib", options.buffer_cap_mib, "Data buffers a reactor may hold; at the cap I/O waits its turn")
      ->capture_default_str()
      ->check(CLI::Range(4, 1 << 20));
  app.add_option("--max-connections", options.max_connections,
                 "Most NVMe/TCP connections at a time (default 8192, or what the limit of open files leaves)")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option(
         "--rpcs-allowed", raw.rpcs_allowed,
         "The only methods that clients may call, with commas between them; bdev_get_* is all that begin so. Configuration files may call all")
      ->check([](const std::string& given) { return given.empty() ? std::string("names no method") : std::string(); });
  app.add_flag("-v,--version", raw.version, "Print the version");
}

// What stands between commas, without the blanks around it.
std::vector<std::string> words_of(const std::string& list) {
  std::vector<std::string> words;
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    const std::size_t first = std::min(list.find_first_not_of(" \t", begin), end);
    const std::size_t last = list.find_last_not_of(" \t,", end == list.size() ? end : end - 1);
    if (first < end) words.push_back(list.substr(first, last + 1 - first));
    begin = end + 1;
  }
  return words;
}

std::expected<void, EarlyExit> usage_error(std::string text) { return std::unexpected(EarlyExit(exit_usage, "catnapd: " + std::move(text) + "\n")); }

std::expected<void, EarlyExit> interpret(const RawValues& raw, Options& options) {
  if (!raw.cpumask.empty()) {
    const auto mask = CpuMask::parse(raw.cpumask);
    if (!mask) return usage_error("--cpumask: " + mask.error().message);
    if (mask->empty()) return usage_error(fmt::format("--cpumask '{}' has no CPU in it", raw.cpumask));
    options.cpumask = *mask;
  }
  if (raw.interrupt_mode) options.mode = ReactorMode::interrupt;
  if (!raw.mode.empty()) {
    const auto mode = reactor_mode_from_name(raw.mode);
    if (!mode) return usage_error(fmt::format("--mode '{}' is not one of adaptive, interrupt, poll", raw.mode));
    if (raw.interrupt_mode && *mode != ReactorMode::interrupt) return usage_error("--interrupt-mode and --mode exclude each other");
    options.mode = *mode;
  }
  if (!raw.rpcs_allowed.empty()) {
    options.rpcs_allowed = words_of(raw.rpcs_allowed);
    if (options.rpcs_allowed->empty()) return usage_error(fmt::format("--rpcs-allowed '{}' names no method", raw.rpcs_allowed));
  }
  if (options.demo && !options.config_file.empty()) return usage_error("--demo and --config exclude each other");
  if (options.demo && !options.state_file.empty()) return usage_error("--demo and --state exclude each other");
  if (options.wait_for_rpc && options.no_rpc_server) return usage_error("--wait-for-rpc and --no-rpc-server exclude each other");
  if (const std::string wrong = web::conflict(options.http); !wrong.empty()) return usage_error(wrong);
  if (options.rpc_socket.empty()) return usage_error("--rpc-socket is empty");
  if (const auto wrong = check_confine_options(options.confine)) return usage_error(*wrong);
  for (const std::string& name : options.log_flags) {
    const auto flags = log_flags();
    if (name != "all" && std::none_of(flags.begin(), flags.end(), [&](const LogFlag* flag) { return name == flag->name(); })) {
      std::set<std::string_view> names;  // several flags may share a name
      for (const LogFlag* flag : flags) names.insert(flag->name());
      std::string known = "all";
      for (const std::string_view each : names) known += fmt::format(", {}", each);
      return usage_error(fmt::format("--logflag '{}' is not one of {}", name, known));
    }
  }
  return {};
}

}  // namespace

std::expected<Options, EarlyExit> parse_options(int argc, const char* const* argv) {
  Options options;
  RawValues raw;
  CLI::App app("catnapd: an NVMe-oF/TCP storage target that sleeps when there is nothing to do", "catnapd");
  app.set_help_flag("-h,--help", "Print this");
  add_options(app, options, raw);
  web::add_options(app, options.http);
  add_confine_options(app, options.confine);
  add_foreign_options(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return std::unexpected(EarlyExit(0, app.help()));
  } catch (const CLI::ParseError& error) {
    return std::unexpected(EarlyExit(exit_usage, fmt::format("catnapd: {}\nRun catnapd --help for the options.\n", error.what())));
  }
  if (raw.version) return std::unexpected(EarlyExit(0, rpc::version_text() + "\n"));
  if (auto interpreted = interpret(raw, options); !interpreted) return std::unexpected(interpreted.error());
  return options;
}

}  // namespace catnap::server
