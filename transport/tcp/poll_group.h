// The NVMe/TCP queue pairs of one lightweight thread, and the listener that feeds poll groups with accepted sockets.
// Owner: PollGroup: its thread; Listener: app_thread. Left out: which group a connection goes to (server), TLS handshakes (secure_acceptor.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "reactor/base/error.h"
#include "reactor/base/log.h"
#include "reactor/thread.h"
#include "transport/command_sink.h"
#include "transport/tcp/admission.h"
#include "transport/tls/stream.h"

namespace catnap::tcp {

// Of TLS handshakes (secure_acceptor.h).
struct SecureAcceptorOptions {
  // From accept() to Finished; two round trips, and a machine that boots a rack of others at the same time.
  std::uint64_t handshake_timeout_us = 10'000'000;
  // At a time. Each is a socket and at most one record until a key is proven, then some 20 KiB of the library.
  std::uint32_t max_handshakes = 512;
  tls::StreamOptions stream;
};

struct TcpOptions {
  transport::TransportLimits limits;
  bool c2h_success = true;  // use the SUCCESS flag where the host disabled SQ flow control
  std::uint32_t sock_priority = 0;
  std::uint32_t send_buffer_bytes = 0;        // SO_SNDBUF; 0: the kernel's own
  std::uint32_t max_h2c_data_bytes = 131072;  // MAXH2CDATA of ICResp; Linux wants ≥ 4096
  // Largest piece asked for by one R2T; 0: all of a command's data at once, which costs the fewest round trips. Smaller pieces let a host with MAXR2T
  // > 0 have several outstanding for one command.
  std::uint32_t max_r2t_bytes = 0;
  // From accept(): ICReq is the first thing a host sends, 128 bytes without waiting for anybody; a peer that has not sent it by then is none.
  std::uint64_t ic_timeout_us = 10'000'000;
  // From accept(): Connect answered with success. Long enough for a host that authenticates by hand of a slow server, short against slow-loris.
  std::uint64_t handshake_timeout_us = 30'000'000;
  // A PDU that was begun is there as a whole by then, or the connection ends: 128 KiB in 30 s are 35 kbit/s, and after 30 s Linux gives up on an I/O.
  std::uint64_t pdu_timeout_us = 30'000'000;
  // After a C2HTermReq the host closes the connection (TCP Transport 1.0c, section 3.5.2); when it keeps its end open, it ends here. One round trip
  // and a retransmission or two; nothing that arrives meanwhile counts.
  std::uint64_t term_linger_us = 5'000'000;
  // In-capsule data beside the buffer pool (when that is at its cap), per connection: above it the connection is not read from until commands are
  // done. A queue of 128 commands with 4 KiB each never gets there.
  std::uint32_t max_buffered_bytes = 1U << 20;
  // An R2T not answered fully by then ends the connection, as its buffer is held meanwhile.
  std::uint64_t r2t_timeout_us = 60'000'000;
  // A host that takes nothing, or sends nothing of the data it owes, for this long loses its connection when others wait for buffers that such
  // connections hold; otherwise it may take its time. Well below the 30 s after which Linux gives up on an I/O.
  std::uint64_t send_stall_us = 5'000'000;
  // What counts as taking or sending something in that time: a byte now and then would keep megabytes from others. 64 KiB in 5 s are 105 kbit/s.
  std::uint32_t stall_bytes = 64U << 10;
  // Shared by all groups; null: every connection is taken (until the server's own limit).
  std::shared_ptr<Admission> admission;
  AdmissionLimits admission_limits;  // what `admission` was made with
  SecureAcceptorOptions secure;
};

// Written by the group's thread alone, read by any: a plain add without a locked instruction.
class Counter {
 public:
  Counter() = default;
  Counter(const Counter& other) : value_(other.get()) {}
  Counter& operator=(const Counter& other) {
    value_.store(other.get(), std::memory_order_relaxed);
    return *this;
  }
  Counter& operator+=(std::uint64_t by) {
    value_.store(get() + by, std::memory_order_relaxed);
    return *this;
  }
  Counter& operator++() { return *this += 1; }
  std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }
  operator std::uint64_t() const { return get(); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

struct TcpStats {
  Counter pdus_received, pdus_sent, bytes_received, bytes_sent;
  Counter receive_calls, send_calls, header_digest_errors, data_digest_errors, connections_total, terminations_sent;
  // Connections that were not taken, and those that were ended for being too slow.
  Counter refused_half_open, refused_half_open_per_host, refused_connections_per_host;
  Counter timed_out_icreq, timed_out_connect, timed_out_pdu, timed_out_r2t, timed_out_term, stalled;
  Counter receive_pauses;  // a connection was not read from for a while, as it had max_buffered_bytes
};

// What listening could not take, ever, in this process; any OS thread.
struct AcceptStats {
  std::atomic<std::uint64_t> accepted{0};
  std::atomic<std::uint64_t> refused_max_connections{0};  // the server's own limit (Target counts it)
  std::atomic<std::uint64_t> refused_no_fds{0};           // the process or the machine had no file descriptor (or memory) for it
};
AcceptStats& accept_stats();

class QueuePair;

// A connected non-blocking socket, and what came before it got here: nothing, or TLS (secure_acceptor.h).
struct Incoming {
  explicit Incoming(int socket) : fd(socket) {}
  int fd;
  std::unique_ptr<tls::Stream> stream;  // null: cleartext
  transport::SecureChannel channel;
  Admission::Ticket ticket;  // that it has already, with a stream
};

class PollGroup {
 public:
  // `new_queue_sink` gets the commands of a connection until Connect moves it to a controller's sink.
  PollGroup(Thread& thread, TcpOptions options, transport::CommandSink& new_queue_sink);
  ~PollGroup();
  PollGroup(const PollGroup&) = delete;
  PollGroup& operator=(const PollGroup&) = delete;

  // Takes over a connected non-blocking socket. On the group's thread.
  void add_connection(int fd) { add_connection(Incoming(fd)); }
  void add_connection(Incoming incoming);
  // Ends all connections after what is in execution was answered; `done` runs when the last queue pair is freed (commands in execution are waited
  // for). On the group's thread.
  void shut_down(std::move_only_function<void()> done);
  Thread& thread() { return thread_; }
  // Connections now; any OS thread.
  std::uint32_t queue_count() const { return queue_count_.load(std::memory_order_acquire); }
  // Sockets given to add_connection() that are gone again, ever; any OS thread. Whoever counts what it gave knows by this alone how many are here or
  // on their way (placement does); a sum of two counters that move at different times would now and then be one off.
  std::uint64_t finished_count() const { return finished_count_.load(std::memory_order_relaxed); }
  TcpStats stats() const;  // any OS thread: a snapshot, each counter by itself

  struct Impl;

 private:
  friend class QueuePair;
  Thread& thread_;
  std::atomic<std::uint32_t> queue_count_{0};
  std::atomic<std::uint64_t> finished_count_{0};
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
  enum class Refused : std::uint8_t { one, nobody, no_spare };
  Refused refuse_one();
  void pause();
  int spare_fd_ = -1;              // given up for a moment, to take a connection in and close it when there is no other fd
  std::unique_ptr<Timer> resume_;  // without even that accepting pauses, and resumes on this deadline
  std::uint64_t pause_us_ = 0;
};

}  // namespace catnap::tcp
