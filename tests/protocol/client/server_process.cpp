// Starting, watching and ending the server under test. Owner: the test's thread. Left out: see server_process.h.
#include "tests/protocol/client/server_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace catnap::protocol {

namespace {

// What is promised is 2 s; more here, as a sanitizer build also looks for leaks at its end, and the machine may do other things.
constexpr Milliseconds stop_limit{60'000};
constexpr Milliseconds retry_pause{10};

// Nothing tells us when a child exits or listens, in a way that needs no thread: so look again after a moment, within a bound.
void pause_before_looking_again() { ::poll(nullptr, 0, static_cast<int>(retry_pause.count())); }

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

[[noreturn]] void become_server(const std::string& program, const std::vector<std::string>& arguments, const std::string& log_path) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that crashes leaves no server behind
  int log = ::open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  std::vector<char*> argv;
  argv.push_back(const_cast<char*>(program.c_str()));
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  ::_exit(127);
}

}  // namespace

std::uint16_t free_port() {
  Socket probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  if (::bind(probe.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return 0;
  if (::getsockname(probe.fd(), reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  return ntohs(address.sin_port);
}

std::string two_cpus() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  ::sched_getaffinity(0, sizeof(allowed), &allowed);
  std::string list;
  for (int cpu = 0, found = 0; cpu < CPU_SETSIZE && found < 2; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    list += (found++ == 0 ? "" : ",") + std::to_string(cpu);
  }
  return "[" + list + "]";
}

Result<std::unique_ptr<ServerProcess>> ServerProcess::start(const std::string& program, const std::vector<std::string>& arguments) {
  if (::access(program.c_str(), X_OK) != 0) return fail(ENOENT, "there is no server program " + program);
  std::unique_ptr<ServerProcess> server(new ServerProcess());
  std::string name = (std::filesystem::temp_directory_path() / "catnap-protocol-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) return fail(errno, "cannot make " + name);
  server->directory_ = name;

  std::vector<std::string> all{"-r", server->rpc_socket()};
  all.insert(all.end(), arguments.begin(), arguments.end());
  server->pid_ = ::fork();
  if (server->pid_ < 0) return fail(errno, "fork");
  if (server->pid_ == 0) become_server(program, all, server->directory_ + "/log");

  auto ready = server->wait_until_ready();
  if (!ready) return std::unexpected(ready.error());
  return server;
}

Result<void> ServerProcess::wait_until_ready() {
  auto deadline = std::chrono::steady_clock::now() + patience;
  while (std::chrono::steady_clock::now() < deadline) {
    auto client = RpcClient::open(rpc_socket());
    if (client) {
      rpc_ = std::make_unique<RpcClient>(std::move(*client));
      return {};
    }
    if (!is_running()) return fail(EIO, "the server ended with " + std::to_string(exit_code_) + " at start: " + log());
    pause_before_looking_again();
  }
  return fail(ETIMEDOUT, "the server's RPC socket did not come up: " + log());
}

ServerProcess::~ServerProcess() {
  stop();
  check_nothing_refused();
  std::error_code ignored;
  if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
}

// A system call that catnapd's filter does not know is a mistake in the filter, also where the caller found another way: no test goes on after that.
void ServerProcess::check_nothing_refused() const {
  const std::string said = log();
  const std::size_t at = said.find("was refused by catnapd's own filter");
  if (at == std::string::npos) return;
  const std::size_t line = said.rfind('\n', at) + 1;
  std::fprintf(stderr, "%s\n", said.substr(line, said.find('\n', at) - line).c_str());
  std::abort();
}

bool ServerProcess::is_running() {
  if (pid_ <= 0 || reaped_) return false;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return true;
  reaped_ = true;
  exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  return false;
}

int ServerProcess::stop() {
  if (!is_running()) return exit_code_;
  ::kill(pid_, SIGTERM);
  auto deadline = std::chrono::steady_clock::now() + stop_limit;
  while (is_running()) {
    if (std::chrono::steady_clock::now() >= deadline) ::kill(pid_, SIGKILL);
    pause_before_looking_again();
  }
  return exit_code_;
}

std::string ServerProcess::log() const { return read_file(directory_ + "/log"); }

std::uint64_t ServerProcess::cpu_ticks() const {
  std::string text = read_file("/proc/" + std::to_string(pid_) + "/stat");
  // The name in parentheses may hold spaces; utime and stime are fields 14 and 15, the 12th and 13th behind it.
  std::istringstream fields(text.substr(text.rfind(')') + 1));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  std::uint64_t user = 0;
  std::uint64_t system = 0;
  fields >> user >> system;
  return user + system;
}

// clang says it in its own way.
#if defined(__SANITIZE_THREAD__)
#define CATNAP_UNDER_TSAN
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CATNAP_UNDER_TSAN
#endif
#endif

namespace {

// ThreadSanitizer adds a thread of its own that wakes ten times a second. It keeps the process's name, as no thread of the server's but the main one
// does.
bool is_sanitizers_own([[maybe_unused]] const std::filesystem::path& task, [[maybe_unused]] pid_t pid) {
#ifdef CATNAP_UNDER_TSAN
  return task.filename() != std::to_string(pid) && read_file(task / "comm") == read_file("/proc/" + std::to_string(pid) + "/comm");
#else
  return false;
#endif
}

}  // namespace

std::uint64_t ServerProcess::voluntary_switches() const {
  std::uint64_t sum = 0;
  std::error_code error;
  for (const auto& task : std::filesystem::directory_iterator("/proc/" + std::to_string(pid_) + "/task", error)) {
    if (is_sanitizers_own(task.path(), pid_)) continue;
    std::istringstream lines(read_file(task.path() / "status"));
    for (std::string key; lines >> key;) {
      if (key != "voluntary_ctxt_switches:") continue;
      std::uint64_t count = 0;
      lines >> count;
      sum += count;
    }
  }
  return sum;
}

std::uint64_t ServerProcess::resident_kib() const {
  std::istringstream lines(read_file("/proc/" + std::to_string(pid_) + "/status"));
  for (std::string key; lines >> key;) {
    std::uint64_t kib = 0;
    if (key == "VmRSS:" && lines >> kib) return kib;
  }
  return 0;
}

}  // namespace catnap::protocol
