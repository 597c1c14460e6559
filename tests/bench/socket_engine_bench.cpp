// socket-engine-bench: would io_uring serve sockets with less CPU than epoll, recv and send do? Two bare servers with the byte shapes of 4 KiB reads,
// in turn, many times; prints what one takes of the other. The answer so far is in docs/performance.md; kernels change, so ask again. Owner: a
// process per side, each on a CPU of its own. Left out: NVMe, blocks, errors other than giving up.
//
// Usage: socket-engine-bench [--pairs 15] [--seconds 0.4]
#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <liburing.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "reactor/base/error.h"
#include "reactor/clock.h"
#include "tests/bench/loopback.h"

namespace catnap::perf {
namespace {

constexpr std::size_t request_bytes = 72, response_bytes = 24 + 4096 + 24;
constexpr std::size_t most_at_once_bytes = 256 << 10;
constexpr int server_cpu = 0, client_cpu = 1;

struct Shape {
  std::size_t connections;
  std::size_t depth;
};

struct Measured {
  double iops = 0;
  double cpu_us_per_io = 0;
};

[[noreturn]] void die(const char* what, int error = errno) {
  fmt::print(stderr, "socket-engine-bench: {}: {}\n", what, errno_text(error));
  std::exit(1);
}

void pin(int cpu) {
  if (!pin_to(cpu)) die("pinning to a CPU");
}

// What has come on a connection, and what is to go out for it.
struct Connection {
  int fd = -1;
  std::size_t have_bytes = 0;
  std::size_t owed_bytes = 0;
  bool sending = false;  // io_uring: one send at a time, as two could overtake each other

  // Whole messages of `in_bytes` among the `got` that came; each is owed an answer of `out_bytes`.
  std::size_t take(std::size_t got, std::size_t in_bytes, std::size_t out_bytes) {
    have_bytes += got;
    const std::size_t messages = have_bytes / in_bytes;
    have_bytes %= in_bytes;
    owed_bytes += messages * out_bytes;
    return messages;
  }
};

using Connections = std::vector<Connection>;

// Answers until a peer goes or the time is over; `looks` instead of sleeping. Returns how many messages came.
std::uint64_t epoll_loop(Connections& connections, std::size_t in_bytes, std::size_t out_bytes, bool looks, std::uint64_t until_ns) {
  std::vector<char> received(most_at_once_bytes), sent(most_at_once_bytes);
  std::vector<epoll_event> events(256);
  const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  for (Connection& connection : connections) {
    fcntl(connection.fd, F_SETFL, O_NONBLOCK);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = &connection;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connection.fd, &event) != 0) die("epoll");
  }
  std::uint64_t messages = 0;
  while (system_clock().now_ns() < until_ns) {
    const int ready = epoll_wait(epoll_fd, events.data(), static_cast<int>(events.size()), looks ? 0 : 100);
    for (int i = 0; i < ready; ++i) {
      Connection& connection = *static_cast<Connection*>(events[static_cast<std::size_t>(i)].data.ptr);
      const ssize_t got = recv(connection.fd, received.data(), received.size(), 0);
      if (got == 0) return messages;
      if (got > 0) messages += connection.take(static_cast<std::size_t>(got), in_bytes, out_bytes);
      // What the depth allows fits into the socket, so there is no waiting to be able to send.
      while (connection.owed_bytes > 0) {
        const ssize_t gone = send(connection.fd, sent.data(), std::min(connection.owed_bytes, sent.size()), MSG_NOSIGNAL);
        if (gone < 0) return messages;
        connection.owed_bytes -= static_cast<std::size_t>(gone);
      }
    }
  }
  return messages;
}

// One receive that stays armed per connection, buffers that the kernel chooses, one system call per turn for all connections.
class RingServer {
 public:
  explicit RingServer(Connections& connections) : connections_(connections), memory_(buffers * buffer_bytes), sent_(most_at_once_bytes) {
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE;
    params.cq_entries = 4096;
    if (const int error = io_uring_queue_init_params(1024, &ring_, &params); error != 0) die("io_uring", -error);
    offer_buffers();
    for (std::size_t i = 0; i < connections_.size(); ++i) arm(i);
  }
  ~RingServer() {
    io_uring_queue_exit(&ring_);
    std::free(offered_);
  }
  RingServer(const RingServer&) = delete;
  RingServer& operator=(const RingServer&) = delete;

  void run(std::uint64_t until_ns) {
    while (!over_ && system_clock().now_ns() < until_ns) {
      io_uring_submit_and_wait(&ring_, 1);
      io_uring_cqe* completion = nullptr;
      unsigned head = 0, seen = 0;
      io_uring_for_each_cqe(&ring_, head, completion) {
        ++seen;
        completed(*completion);
      }
      io_uring_cq_advance(&ring_, seen);
      for (const std::size_t i : answering_) send_owed(i);
      answering_.clear();
    }
  }

 private:
  static constexpr unsigned buffers = 256;  // a power of two
  static constexpr std::size_t buffer_bytes = 64 << 10;

  void offer_buffers() {
    offered_ = static_cast<io_uring_buf_ring*>(std::aligned_alloc(4096, buffers * sizeof(io_uring_buf)));
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<std::uintptr_t>(offered_);
    registration.ring_entries = buffers;
    if (const int error = io_uring_register_buf_ring(&ring_, &registration, 0); error != 0) die("provided buffers", -error);
    io_uring_buf_ring_init(offered_);
    for (unsigned short i = 0; i < buffers; ++i) offer(i);
  }
  void offer(unsigned short buffer) {
    io_uring_buf_ring_add(offered_, memory_.data() + buffer * buffer_bytes, buffer_bytes, buffer, io_uring_buf_ring_mask(buffers), 0);
    io_uring_buf_ring_advance(offered_, 1);
  }
  void arm(std::size_t i) {
    io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
    io_uring_prep_recv_multishot(entry, connections_[i].fd, nullptr, 0, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->ioprio |= IORING_RECVSEND_POLL_FIRST;
    entry->user_data = i * 2;
  }
  void send_owed(std::size_t i) {
    Connection& connection = connections_[i];
    if (connection.sending || connection.owed_bytes == 0) return;
    io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
    io_uring_prep_send(entry, connection.fd, sent_.data(), std::min(connection.owed_bytes, sent_.size()), MSG_NOSIGNAL | MSG_WAITALL);
    entry->user_data = i * 2 + 1;
    connection.sending = true;
  }
  void completed(const io_uring_cqe& completion) {
    const std::size_t i = completion.user_data / 2;
    Connection& connection = connections_[i];
    if (completion.res == -ENOBUFS) return arm(i);
    if (completion.res <= 0) {
      over_ = true;
      return;
    }
    const auto bytes = static_cast<std::size_t>(completion.res);
    if (completion.user_data % 2 == 1) {
      connection.sending = false;
      connection.owed_bytes -= bytes;
    } else {
      connection.take(bytes, request_bytes, response_bytes);
      offer(static_cast<unsigned short>(completion.flags >> IORING_CQE_BUFFER_SHIFT));
      if ((completion.flags & IORING_CQE_F_MORE) == 0) arm(i);
    }
    if (connection.owed_bytes > 0) answering_.push_back(i);
  }

  Connections& connections_;
  std::vector<char> memory_;
  std::vector<char> sent_;
  io_uring ring_{};
  io_uring_buf_ring* offered_ = nullptr;
  std::vector<std::size_t> answering_;
  bool over_ = false;
};

int listen_on(sockaddr_in& address) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const as_any = reinterpret_cast<sockaddr*>(&address);
  if (listener < 0 || bind(listener, as_any, size) != 0 || listen(listener, SOMAXCONN) != 0 || getsockname(listener, as_any, &size) != 0)
    die("listening");
  return listener;
}

double cpu_seconds(int whose) {
  rusage usage{};
  getrusage(whose, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

[[noreturn]] void serve(int listener, const Shape& shape, bool by_ring) {
  pin(server_cpu);
  Connections connections(shape.connections);
  for (Connection& connection : connections) {
    connection.fd = accept(listener, nullptr, nullptr);
    if (connection.fd < 0) die("accept");
    tune_socket(connection.fd);
  }
  if (by_ring) {
    RingServer(connections).run(UINT64_MAX);
  } else {
    epoll_loop(connections, request_bytes, response_bytes, false, UINT64_MAX);
  }
  _exit(0);
}

Measured measure(const Shape& shape, bool by_ring, double seconds) {
  sockaddr_in address{};
  const int listener = listen_on(address);
  const double before_s = cpu_seconds(RUSAGE_CHILDREN);
  const pid_t server = fork();
  if (server < 0) die("fork");
  if (server == 0) serve(listener, shape, by_ring);
  pin(client_cpu);
  Connections connections(shape.connections);
  const std::vector<char> first(shape.depth * request_bytes);
  for (Connection& connection : connections) {
    connection.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection.fd < 0 || connect(connection.fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) die("connecting");
    tune_socket(connection.fd);
  }
  for (const Connection& connection : connections) {
    if (send(connection.fd, first.data(), first.size(), MSG_NOSIGNAL) < 0) die("the first requests");
  }
  const std::uint64_t until_ns = system_clock().now_ns() + static_cast<std::uint64_t>(seconds * 1e9);
  const auto answers = static_cast<double>(epoll_loop(connections, response_bytes, request_bytes, true, until_ns));
  for (const Connection& connection : connections) close(connection.fd);
  close(listener);
  int status = 0;
  waitpid(server, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || answers == 0) die("the server failed", EPROTO);
  return {answers / seconds, (cpu_seconds(RUSAGE_CHILDREN) - before_s) * 1e6 / answers};
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void compare(const Shape& shape, int pairs, double seconds) {
  std::vector<double> iops, cpu;
  for (int i = 0; i < pairs; ++i) {
    const bool ring_first = i % 2 == 0;
    const Measured one = measure(shape, ring_first, seconds), other = measure(shape, !ring_first, seconds);
    const Measured &ring = ring_first ? one : other, &epoll = ring_first ? other : one;
    iops.push_back(ring.iops / epoll.iops);
    cpu.push_back(ring.cpu_us_per_io / epoll.cpu_us_per_io);
  }
  const auto [least, most] = std::minmax_element(cpu.begin(), cpu.end());
  fmt::print("{} connections, depth {}: io_uring {:.2f} of epoll's IOPS, {:.2f} of its CPU per I/O ({:.2f} to {:.2f})\n", shape.connections,
             shape.depth, median(iops), median(cpu), *least, *most);
}

}  // namespace
}  // namespace catnap::perf

int main(int argc, char** argv) {
  using catnap::perf::Shape;
  int pairs = 15;
  double seconds = 0.4;
  CLI::App app{"What io_uring takes of epoll's CPU for sockets, with bare servers"};
  app.add_option("--pairs", pairs, "runs of each, in turn")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--seconds", seconds, "of each run")->check(CLI::Range(0.01, 60.0))->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  for (const Shape& shape : {Shape{1, 1}, Shape{1, 32}, Shape{16, 1}, Shape{64, 1}, Shape{256, 1}, Shape{16, 32}})
    catnap::perf::compare(shape, pairs, seconds);
  return 0;
}
