// The NVMe/TCP queue pairs of one lightweight thread, and the listener that feeds poll groups with accepted sockets.
// Owner: PollGroup: its thread; Listener: app_thread. Left out: which group a connection goes to (server), TLS.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "reactor/base/error.h"
#include "reactor/thread.h"
#include "transport/command_sink.h"

namespace catnap::tcp {

struct TcpOptions {
  transport::TransportLimits limits;
  bool c2h_success = true;  // use the SUCCESS flag where the host disabled SQ flow control
  std::uint32_t sock_priority = 0;
  std::uint32_t send_buffer_bytes = 0;        // SO_SNDBUF; 0: the kernel's own
  std::uint32_t max_h2c_data_bytes = 131072;  // MAXH2CDATA of ICResp; Linux wants ≥ 4096
  // A peer that has not finished ICReq and Connect by then is dropped: long enough for a slow WAN handshake, short enough against slow-loris.
  std::uint64_t handshake_timeout_us = 30'000'000;
  // An R2T not answered fully by then ends the connection, as its buffer is held meanwhile.
  std::uint64_t r2t_timeout_us = 60'000'000;
};

struct TcpStats {
  std::uint64_t pdus_received = 0, pdus_sent = 0, bytes_received = 0, bytes_sent = 0;
  std::uint64_t receive_calls = 0, send_calls = 0, header_digest_errors = 0, data_digest_errors = 0, connections_total = 0, terminations_sent = 0;
};

class QueuePair;

class PollGroup {
 public:
  // `new_queue_sink` gets the commands of a connection until Connect moves it to a controller's sink.
  PollGroup(Thread& thread, TcpOptions options, transport::CommandSink& new_queue_sink);
  ~PollGroup();
  PollGroup(const PollGroup&) = delete;
  PollGroup& operator=(const PollGroup&) = delete;

  // Takes over a connected non-blocking socket. On the group's thread.
  void add_connection(int fd);
  // Ends all connections; `done` runs when the last queue pair is freed (commands in execution are waited for). On the group's thread.
  void shut_down(std::move_only_function<void()> done);
  Thread& thread() { return thread_; }
  // Connections now; any OS thread (placement reads it).
  std::uint32_t queue_count() const { return queue_count_.load(std::memory_order_relaxed); }
  TcpStats stats() const;  // any OS thread

  struct Impl;

 private:
  friend class QueuePair;
  Thread& thread_;
  std::atomic<std::uint32_t> queue_count_{0};
  std::unique_ptr<Impl> impl_;
};

class Listener {
 public:
  // `traddr` is an IPv4 or IPv6 address in numbers ("127.0.0.1", "::1", "0.0.0.0"), `trsvcid` a port in 1..65535, `adrfam` "IPv4" or "IPv6" (any
  // case). Errors: EINVAL (named), EADDRINUSE, EADDRNOTAVAIL, EACCES. `on_accept` gets each connected, non-blocking socket, on the current thread.
  static Result<std::unique_ptr<Listener>> open(const std::string& traddr, const std::string& trsvcid, const std::string& adrfam,
                                                std::function<void(int fd)> on_accept);
  ~Listener();  // stops listening; accepted connections stay
  std::uint16_t port() const { return port_; }

 private:
  Listener() = default;
  void accept_ready();
  int fd_ = -1;
  std::uint16_t port_ = 0;
  Thread* thread_ = nullptr;
  std::function<void(int)> on_accept_;
  std::unique_ptr<Timer> resume_;  // after EMFILE: accepting pauses, and resumes on this deadline
};

}  // namespace catnap::tcp
