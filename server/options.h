// The command line of catnapd: its own options, and those of SPDK's applications, so that scripts made for nvmf_tgt start it unchanged.
// Owner: main(), before any thread. Left out: what the options do.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "reactor/cpumask.h"
#include "reactor/reactor.h"
#include "server/confine_options.h"
#include "web/options.h"

namespace catnap::server {

inline constexpr int exit_usage = 2;   // wrong option or value
inline constexpr int exit_failed = 1;  // the start failed

struct Options {
  CpuMask cpumask;  // empty: one reactor, on the first CPU allowed
  std::string rpc_socket = "/var/tmp/spdk.sock";
  std::string config_file;  // empty: none
  std::string state_file;   // empty: none
  ReactorMode mode = ReactorMode::adaptive;
  bool wait_for_rpc = false;
  bool demo = false;
  bool no_rpc_server = false;
  bool ignore_config_errors = false;
  bool silence_notices = false;
  web::Options http;
  std::vector<std::string> log_flags;
  std::optional<std::vector<std::string>> rpcs_allowed;  // names, or beginnings followed by "*"; nothing: all
  std::uint64_t max_spin_us = ReactorOptions{}.max_spin_us;
  std::uint64_t buffer_cap_mib = ReactorOptions{}.buffer_cap_bytes >> 20;  // per reactor
  std::uint32_t max_connections = 0;                                       // 0: TargetLimits' default
  ConfineOptions confine;
  std::vector<std::string> without_effect;  // SPDK's options given, as spelled there
};

// The process shall end with this: `text` goes to standard output when the code is 0, else to standard error.
struct EarlyExit {
  EarlyExit(int exit_code, std::string message) : code(exit_code), text(std::move(message)) {}
  int code;
  std::string text;
};

// --help and --version come back as EarlyExit with code 0, errors with exit_usage and a sentence naming option and value.
std::expected<Options, EarlyExit> parse_options(int argc, const char* const* argv);

}  // namespace catnap::server
