// The real catnapd as a child process, with its RPC socket, log and files in a directory of its own.
// Owner: the test's thread. Left out: its configuration (the tests send RPCs).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "reactor/base/error.h"
#include "tests/protocol/client/rpc_client.h"

namespace catnap::protocol {

// A loopback port that was free a moment ago.
std::uint16_t free_port();
// For catnapd -m: the first two CPUs this process may use ("[0,1]"), or the only one.
std::string two_cpus();

class ServerProcess {
 public:
  // Starts `program` with -r and `arguments`, and waits until its RPC socket accepts. Errors: EIO with the end of the log when it dies first,
  // ETIMEDOUT, what fork or mkdtemp say.
  static Result<std::unique_ptr<ServerProcess>> start(const std::string& program, const std::vector<std::string>& arguments = {});
  ~ServerProcess();  // SIGTERM, and SIGKILL when that does not help
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  // SIGTERM, then wait. The exit code; negative: the signal it died of (-SIGKILL when it did not stop by itself). Idempotent.
  int stop();
  // Has it died by itself?
  bool is_running();
  pid_t pid() const { return pid_; }
  const std::string& directory() const { return directory_; }
  std::string rpc_socket() const { return directory_ + "/rpc.sock"; }
  // What it wrote to stdout and stderr so far.
  std::string log() const;
  RpcClient& rpc() { return *rpc_; }

  // User and system CPU time in clock ticks, all threads (/proc/PID/stat).
  std::uint64_t cpu_ticks() const;
  // Voluntary context switches of all threads: how often any of them went to sleep (/proc/PID/task/*/status).
  std::uint64_t voluntary_switches() const;
  std::uint64_t resident_kib() const;

 private:
  ServerProcess() = default;
  Result<void> wait_until_ready();
  void check_nothing_refused() const;

  pid_t pid_ = -1;
  bool reaped_ = false;
  int exit_code_ = 0;
  std::string directory_;
  std::unique_ptr<RpcClient> rpc_;
};

}  // namespace catnap::protocol
