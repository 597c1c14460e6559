// catnap-tcp-bound: what a server could reach that does nothing but TCP: it answers every so many bytes by so many others. The yardstick for targets:
// the byte shapes of NVMe/TCP without NVMe, blocks or queues.
// Owner: a process per side, each on a CPU of its own. Left out: several connections, digests.
//
// Usage: catnap-tcp-bound --request 72 --response 4216 --depth 32 --seconds 1 [--server-waits] [--unpaced] [--rate N --burst N]
#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <optional>
#include <vector>

#include "reactor/base/error.h"
#include "reactor/clock.h"
#include "tests/bench/loopback.h"
#include "tests/bench/perf/latency.h"
#include "tests/bench/perf/pace.h"
#include "transport/tcp/same_host.h"

namespace catnap::perf {
namespace {

struct BoundOptions {
  std::size_t request = 72;     // bytes from the client: a read's capsule
  std::size_t response = 4216;  // bytes from the server: C2HData's header, 4 KiB, CapsuleResp
  std::uint32_t depth = 32;
  double seconds = 1;
  double warm_up_seconds = 0.1;
  bool server_waits = false;  // sleeps in epoll when there is nothing; else it keeps looking
  std::uint64_t rate = 0;
  std::uint32_t burst = 1;
  bool unpaced = false;  // as catnapd's sockets within a host; else the system's congestion control
  int server_cpu = 0;
  int client_cpu = 1;
};

constexpr std::size_t chunk_bytes = 1 << 20;

[[noreturn]] void die(const char* what) {
  fmt::print(stderr, "catnap-tcp-bound: {}: {}\n", what, errno_text(errno));
  std::exit(1);
}

void pin(int cpu) {
  if (!pin_to(cpu)) die("pinning to a CPU");
}

void prepare(int fd, const BoundOptions& options) {
  if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0) die("O_NONBLOCK");
  tune_socket(fd);
  if (options.unpaced) tcp::spare_pacing(fd);
}

// A socket of which whole messages of `in_bytes` are taken, and to which messages of `out_bytes` go.
class Side {
 public:
  Side(int fd, std::size_t in_bytes, std::size_t out_bytes)
      : fd_(fd), in_bytes_(in_bytes), out_bytes_(out_bytes), received_(chunk_bytes), sent_(chunk_bytes) {}

  // How many messages have come; nothing: the other side is gone.
  std::optional<std::size_t> take() {
    const ssize_t got = recv(fd_, received_.data(), received_.size(), 0);
    if (got == 0) return std::nullopt;
    if (got < 0) {
      if (errno == EAGAIN) return 0;
      return std::nullopt;
    }
    have_ += static_cast<std::size_t>(got);
    const std::size_t messages = have_ / in_bytes_;
    have_ %= in_bytes_;
    return messages;
  }
  void owe(std::size_t messages) { owed_ += messages * out_bytes_; }
  // Sends what the socket takes now.
  bool send_owed() {
    while (owed_ > 0) {
      const ssize_t sent = send(fd_, sent_.data(), std::min(owed_, sent_.size()), MSG_NOSIGNAL);
      if (sent < 0) return errno == EAGAIN;
      owed_ -= static_cast<std::size_t>(sent);
    }
    return true;
  }
  bool owes() const { return owed_ > 0; }
  int fd() const { return fd_; }

 private:
  int fd_;
  std::size_t in_bytes_;
  std::size_t out_bytes_;
  std::vector<char> received_;
  std::vector<char> sent_;
  std::size_t have_ = 0;
  std::size_t owed_ = 0;
};

// Until the client goes. Its CPU time is read by the client's process, as that of a child.
void serve(Side side, bool waits) {
  const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{EPOLLIN, {}};
  if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, side.fd(), &event) != 0) die("epoll");
  bool armed_for_sending = false;
  for (;;) {
    const auto messages = side.take();
    if (!messages) return;
    side.owe(*messages);
    if (!side.send_owed()) return;
    if (*messages > 0 || !waits) continue;
    if (side.owes() != armed_for_sending) {
      armed_for_sending = side.owes();
      event.events = EPOLLIN | (armed_for_sending ? static_cast<std::uint32_t>(EPOLLOUT) : 0U);
      epoll_ctl(epoll_fd, EPOLL_CTL_MOD, side.fd(), &event);
    }
    epoll_wait(epoll_fd, &event, 1, -1);
  }
}

struct Measured {
  Latencies latencies;
  double seconds = 0;
};

// Keeps the depth outstanding, or sends what is due. Answers come in the order of the requests.
Measured load(Side side, const BoundOptions& options) {
  Measured measured;
  std::deque<std::uint64_t> since_ns, due_ns;
  const std::uint64_t began_ns = system_clock().now_ns();
  const std::uint64_t measure_from_ns = began_ns + static_cast<std::uint64_t>(options.warm_up_seconds * 1e9);
  const std::uint64_t until_ns = measure_from_ns + static_cast<std::uint64_t>(options.seconds * 1e9);
  std::optional<Pace> pace;
  if (options.rate > 0) pace.emplace(options.rate, options.burst, began_ns);
  for (std::uint64_t now_ns = began_ns; now_ns < until_ns; now_ns = system_clock().now_ns()) {
    if (pace) {
      pace->advance(now_ns, [&](std::uint64_t when_ns) { due_ns.push_back(when_ns); });
    } else {
      while (due_ns.size() + since_ns.size() < options.depth) due_ns.push_back(now_ns);
    }
    for (; !due_ns.empty() && since_ns.size() < options.depth; due_ns.pop_front()) {
      since_ns.push_back(due_ns.front());
      side.owe(1);
    }
    const bool sent = side.send_owed();
    const auto answers = side.take();
    if (!sent || !answers) die("the server is gone");
    if (*answers == 0) continue;
    const std::uint64_t came_ns = system_clock().now_ns();
    for (std::size_t i = 0; i < *answers; ++i, since_ns.pop_front()) {
      if (came_ns >= measure_from_ns) measured.latencies.add(came_ns - since_ns.front());
    }
  }
  measured.seconds = static_cast<double>(system_clock().now_ns() - measure_from_ns) / 1e9;
  return measured;
}

double cpu_seconds_of_children() {
  rusage usage{};
  getrusage(RUSAGE_CHILDREN, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int run(const BoundOptions& options) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const as_any = reinterpret_cast<sockaddr*>(&address);
  if (listener < 0 || bind(listener, as_any, size) != 0 || listen(listener, 1) != 0 || getsockname(listener, as_any, &size) != 0) die("listening");
  const pid_t server = fork();
  if (server < 0) die("fork");
  if (server == 0) {
    pin(options.server_cpu);
    const int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) die("accept");
    prepare(fd, options);
    serve(Side(fd, options.request, options.response), options.server_waits);
    _exit(0);
  }
  pin(options.client_cpu);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, as_any, size) != 0) die("connecting");
  prepare(fd, options);
  const Measured measured = load(Side(fd, options.response, options.request), options);
  close(fd);
  waitpid(server, nullptr, 0);
  const auto ios = static_cast<double>(measured.latencies.count());
  // The server's whole life, its warm-up with it.
  const double served = ios * (options.seconds + options.warm_up_seconds) / options.seconds;
  const double cpu_s = cpu_seconds_of_children();
  fmt::print(
      R"({{"iops": {:.0f}, "mean_us": {:.2f}, "p50_us": {:.2f}, "p99_us": {:.2f}, "target_cpu_us_per_io": {:.3f}, "target_cpu_percent": {:.2f}}})"
      "\n",
      ios / measured.seconds, measured.latencies.mean_ns() / 1e3, static_cast<double>(measured.latencies.percentile_ns(0.5)) / 1e3,
      static_cast<double>(measured.latencies.percentile_ns(0.99)) / 1e3, cpu_s * 1e6 / std::max(served, 1.0),
      100 * cpu_s / (options.seconds + options.warm_up_seconds));
  return 0;
}

}  // namespace
}  // namespace catnap::perf

int main(int argc, char** argv) {
  catnap::perf::BoundOptions options;
  CLI::App app("What TCP alone allows: a server that answers so many bytes by so many others");
  app.add_option("--request", options.request, "bytes of a request")->check(CLI::Range(1, 1 << 26));
  app.add_option("--response", options.response, "bytes of an answer")->check(CLI::Range(1, 1 << 26));
  app.add_option("--depth", options.depth, "requests outstanding")->check(CLI::Range(1, 65536));
  app.add_option("--seconds", options.seconds, "how long")->check(CLI::Range(0.1, 3600.0));
  app.add_option("--warm-up", options.warm_up_seconds, "seconds of load before that")->check(CLI::Range(0.0, 600.0));
  app.add_flag("--server-waits", options.server_waits, "the server sleeps when there is nothing to do, instead of looking for it");
  app.add_option("--rate", options.rate, "requests per second, 0: as fast as answers come");
  app.add_option("--burst", options.burst, "with --rate: so many at once")->check(CLI::Range(1, 65536));
  app.add_flag("--unpaced", options.unpaced, "not the system's congestion control, but what catnapd uses within a host");
  app.add_option("--server-cpu", options.server_cpu, "CPU of the server")->check(CLI::Range(0, 1023));
  app.add_option("--client-cpu", options.client_cpu, "CPU of the client")->check(CLI::Range(0, 1023));
  CLI11_PARSE(app, argc, argv);
  return catnap::perf::run(options);
}
