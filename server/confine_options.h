// Options about what the process may do and who may talk to it, and about the service around it; and their putting into effect, in the order that the
// head of confine_options.cpp explains.
// Owner: main(), before any thread starts. Left out: the options of everything else (options.h).
#pragma once

#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "reactor/base/error.h"
#include "rpc/unix_listener.h"
#include "server/confine/account.h"
#include "server/confine/seccomp_filter.h"

namespace CLI {
class App;
}

namespace catnap::server {

struct ConfineOptions {
  std::string user;                        // NAME[:GROUP]; "": stay who it is
  std::vector<std::string> allowed_paths;  // none: not restricted
  std::string seccomp = "on";              // on, off, log
  std::string io_uring = "on";             // on, off
  std::string core_dumps = "off";          // on, off
  std::string rpc_socket_mode = "0600";    // octal
  std::string rpc_socket_owner;            // "": the user of --user, or who it is
  std::string rpc_socket_group;            // "": its group
  std::string audit_log = "log";           // log, off, or a file
  std::string log_target = "auto";         // auto, stderr, journal, or journal:SOCKET
};

// Declares them. Values are checked by check_confine_options().
void add_confine_options(CLI::App& app, ConfineOptions& options);
// A sentence that names option and value, or nothing.
std::optional<std::string> check_confine_options(const ConfineOptions& options);

// --log-target. Errors: those of log_to_journal().
Result<void> choose_log_target(const ConfineOptions& options);

// What must be looked up while everything may still be read.
struct Confinement {
  std::optional<confine::Account> account;
  rpc::SocketAccess socket_access;
};
Result<Confinement> plan_confinement(const ConfineOptions& options);

// First --user, after what needs root (the RPC socket and its directory, limits) is there. The process has no more rights than that afterwards.
Result<void> lose_privileges(const ConfineOptions& options, const Confinement& plan);
// Then, after files named on the command line are open: --allow-path and --seccomp. `state_file` and `rpc_socket` ("": none) stay usable whatever
// --allow-path says, and so do `readable` files and directories.
Result<void> restrict_process(const ConfineOptions& options, const std::string& state_file, const std::string& rpc_socket,
                              const std::vector<std::string>& readable);

}  // namespace catnap::server
