// The host side of one NVMe/TCP connection: connects without blocking, submits commands, takes their data and answers, and says in words why it
// ended.
//
// Owner: one lightweight thread, with which it moves (socket, timers and turn-end work are the thread's). Every step waits for the socket or a
// deadline; nothing blocks, nothing polls unless a poll period is set. Commands live in their user's memory (HostRequest) and wait in line when the
// queue is full, so an I/O allocates nothing. What is shared with the target's queue pair: PDU structs, framing and digests, the send queue. Left
// out: what commands mean (bdev/nvme), reconnecting (bdev/nvme/controller.h), the exchange of an authentication (host_auth.h).
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "keyring/keyring.h"
#include "reactor/base/error.h"
#include "reactor/deferred.h"
#include "reactor/thread.h"
#include "reactor/timer.h"
#include "transport/command_sink.h"
#include "transport/dhchap/host_exchange.h"
#include "transport/nvme/command.h"
#include "transport/nvme/fabrics.h"
#include "transport/nvme/status.h"
#include "transport/tcp/address.h"
#include "transport/tcp/framing.h"
#include "transport/tcp/send_queue.h"
#include "transport/tls/handshake.h"
#include "transport/tls/psk.h"
#include "transport/tls/stream.h"

namespace catnap::tcp {

// One command of the host. Fill what stands first, then HostQueue::submit(); must stay put until `done` ran, once, on the queue's thread.
struct HostRequest {
  using Done = void (*)(HostRequest& request);
  // What is known when it is over.
  enum class Outcome : std::uint8_t {
    answered,  // `cqe` is the controller's (or says data_transfer_error, transient_transport_error: its data was short, or its digest wrong)
    not_sent,  // the connection ended, and no controller can have seen the whole command: it was not carried out
    lost,      // the connection ended behind the command: it was carried out, or not, or will be (docs/initiator.md, "Writes in flight")
  };

  nvme::SubmissionEntry sqe;  // opcode, FUSE, NSID and CDWs; the queue fills in CID, PSDT and SGL
  transport::DataDirection direction = transport::DataDirection::none;
  Outcome outcome = Outcome::not_sent;
  // A pair of a fused operation: `second` is submitted right behind this one. Submit the first only.
  HostRequest* second = nullptr;
  // The command's data, data_bytes in all, at most max_segments pieces. The memory belongs to the queue until `done`.
  const iovec* iov = nullptr;
  std::uint32_t iov_count = 0;
  std::uint32_t data_bytes = 0;
  // CRC-32C of all data_bytes that go out, where the user knows it and they have not changed since: it is then not computed again. Data that go out
  // in several PDUs are digested all the same.
  std::optional<std::uint32_t> known_digest;
  Done done = nullptr;
  void* context = nullptr;
  nvme::CompletionEntry cqe;

  // The queue's.
  std::uint64_t submitted_ns = 0;
  HostRequest* next = nullptr;
  std::uint16_t slot = 0;
  bool waiting = false;  // in the line of a full queue
  bool late = false;     // was reported; set by the user: is never reported
  // Of whoever hands the command on to another thread.
  Done lent_done = nullptr;
  void* lent_context = nullptr;

  nvme::Status status() const { return nvme::status_of(cqe); }
};

struct HostQueueOptions {
  SocketAddress address;
  std::optional<SocketAddress> source;
  bool header_digest = false;
  bool data_digest = false;
  bool disable_sq_flow_control = false;
  std::uint16_t qid = 0;       // 0: admin
  std::uint16_t entries = 32;  // of the submission queue, 2..4095; one less is outstanding at most
  std::uint32_t kato_ms = 0;   // admin only
  nvme::ConnectData connect;
  // In-capsule data of commands behind Connect: what IOCCSZ allows, 0: none.
  std::uint32_t in_capsule_bytes = 0;
  // Until ICResp is there. A SYN and its first retransmissions; whoever has not answered then is not there.
  std::uint64_t connect_timeout_us = 10'000'000;
  // From then on until Connect is answered.
  std::uint64_t fabrics_timeout_us = 10'000'000;
  std::uint64_t command_timeout_us = 0;  // then HostQueueUser::request_late; 0: none
  std::uint64_t poll_period_us = 0;      // 0: event driven
  std::uint32_t sock_priority = 0;       // SO_PRIORITY
  // TLS with this key as it is when connecting; null: cleartext. Its identity is of `connect`'s NQNs.
  keyring::KeyRef psk;
  // 0 or 1; none: 1, and 0 where the controller refuses that (SPDK knows no other).
  std::optional<std::uint8_t> psk_identity_version;
  // TLS with a key that an authentication has left behind; null: see psk.
  std::shared_ptr<const tls::GeneratedPsk> generated_psk;
  // Of an admin queue in cleartext: authenticates, asked or not, and leaves generated_psk in options() when it is ready.
  bool concatenate = false;
  // Authenticates with these when the controller demands it, or when the controller is to authenticate itself; null: cannot.
  std::shared_ptr<const dhchap::HostCredentials> credentials;
  tls::StreamOptions tls;
  std::uint32_t user_timeout_ms = 0;  // TCP_USER_TIMEOUT: sent bytes that stay unacknowledged so long end the connection; 0: the system's
};

// Counted per queue; read on its thread.
struct HostQueueStats {
  std::uint64_t receive_calls = 0, send_calls = 0, bytes_received = 0, bytes_sent = 0;
  std::uint64_t pdus_received = 0, pdus_sent = 0;
  std::uint64_t requests = 0;         // submitted
  std::uint64_t queued_requests = 0;  // that found the queue full
  std::uint64_t polls = 0, idle_polls = 0;
  std::uint64_t data_digest_errors = 0;
};

class HostAuth;
class HostQueue;

// Told on the queue's thread, from the queue's own callbacks: it must not be destroyed within them but in queue_ended().
class HostQueueUser {
 public:
  // Connect was answered with success: commands may be submitted. `connect_dw0`: CNTLID and AUTHREQ.
  virtual void queue_ready(HostQueue& queue, std::uint32_t connect_dw0) = 0;
  // The connection is over, for `why`, and every request has been given back. The queue may be destroyed within.
  virtual void queue_ended(HostQueue& queue, const Error& why) = 0;
  // A command has been outstanding for command_timeout_us. Once per command; it stays outstanding.
  virtual void request_late(HostQueue& queue, HostRequest& request) = 0;

 protected:
  ~HostQueueUser() = default;
};

class HostQueue {
 public:
  static constexpr std::uint32_t max_segments = 128;  // pieces of one command's data: fewer than the send queue takes at once (max_item_pieces)
  static constexpr std::uint16_t max_entries = 4095;  // 12 bits of the CID are the slot, 4 its generation

  HostQueue(Thread& thread, HostQueueOptions options, HostQueueUser& user);
  ~HostQueue();
  HostQueue(const HostQueue&) = delete;
  HostQueue& operator=(const HostQueue&) = delete;

  // Begins to connect; what comes of it is queue_ready or queue_ended, never within the call.
  void connect();
  // Submits a command (or a pair). On a queue that is not ready it ends at once as `not_sent`.
  void submit(HostRequest& request);
  // Takes back a command that waits in line; it ends as `not_sent` before this returns. False: it is outstanding (cid_of() for an Abort).
  bool take_back(HostRequest& request);
  // The CID under which an outstanding command is known to the controller.
  std::uint16_t cid_of(const HostRequest& request) const;
  // Authenticates once more, on a queue that is ready, while commands go on. `done` is told once; after a failure the queue has ended. A queue that
  // is not ready, or is at it already, takes the credentials for its next connection and says so (EAGAIN).
  void authenticate(std::shared_ptr<const dhchap::HostCredentials> credentials, std::function<void(const Result<void>& outcome)> done);
  // Ends the connection; queue_ended follows in a later step of the loop.
  void close(Error why);

  bool ready() const { return state_ == State::ready; }
  bool over() const { return state_ == State::closed; }
  // The controller knows of the end: it (or its system, for a process that died) had ended the connection before this side did, or what it sent just
  // now is the reason. Not known: this side ended it, maybe because nothing came through any more.
  bool ended_by_controller() const { return ended_by_controller_; }
  Thread& thread() const { return thread_; }
  const HostQueueOptions& options() const { return options_; }
  // "127.0.0.1:4420 qid 1", for the log.
  const std::string& label() const { return label_; }
  // The local address, once connected.
  const transport::CommandQueue::Address& local_address() const { return local_; }
  // Null: cleartext, or not secured yet.
  const transport::SecureChannel* secure_channel() const { return tls_ != nullptr ? &channel_ : nullptr; }
  // Commands outstanding and waiting in line; the address stays good for the queue's life.
  const std::uint32_t& outstanding() const { return outstanding_; }
  const HostQueueStats& stats() const { return stats_; }
  // 0: event driven. Otherwise the socket leaves the epoll set, and is looked at once per period. At any time.
  void set_poll_period_us(std::uint64_t period_us);
  std::uint64_t poll_period_us() const { return options_.poll_period_us; }
  void set_command_timeout_us(std::uint64_t timeout_us);

 private:
  enum class State : std::uint8_t { idle, connecting, securing, initializing, attaching, ready, closed };
  enum class Receive : std::uint8_t { header, payload, digest };
  struct Slot;

  // --- life (host_queue.cpp) ---
  Result<void> open_socket();
  void connected();
  void secure(std::uint8_t identity_version);
  void secured(std::unique_ptr<tls::Stream> stream);
  void not_secured(const Error& why);
  void come_back_for_tls();
  void send_ic_req();
  void send_connect();
  static void connect_answered(HostRequest& request);
  void become_ready();
  bool must_authenticate() const;
  bool lacks_secure_channel() const;
  void begin_authentication();
  void keep_generated_psk();
  void on_deadline();
  void watch_deadlines();
  void report_late(std::uint64_t now_ns);
  bool controller_hung_up() const;
  bool must_not_arrive_later() const;
  void forget_unsent() const;
  void end();
  void give_back_all();
  void fail_protocol(const Fault& fault, const std::byte* header, std::size_t header_bytes);
  void poll_socket();
  void apply_poll_period();

  // --- commands (host_commands.cpp) ---
  bool has_room(const HostRequest& request) const;
  void start(HostRequest& request);
  void start_waiting();
  void queue_command(Slot& slot);
  void queue_data_part(Slot& slot, std::uint32_t length);
  void queue_h2c_data(Slot& slot);
  void on_item_sent(SendItem& item);
  void answer(Slot& slot);
  void finish(Slot& slot, HostRequest::Outcome outcome);
  void release(Slot& slot);
  void want_flush() { thread_.at_turn_end(flush_); }
  void flush();
  void update_interest();
  Slot* slot_of(std::uint16_t cid);

  // --- receive (host_receive.cpp) ---
  void on_event(std::uint32_t events);
  bool on_readable();
  std::size_t parse(std::byte* bytes, std::size_t size);
  std::size_t take_header(std::byte* bytes, std::size_t size);
  std::size_t take_payload(const std::byte* bytes, std::size_t size);
  std::size_t take_digest(const std::byte* bytes, std::size_t size);
  std::optional<Fault> handle_header(const std::byte* header);
  std::optional<Fault> handle_ic_resp(const std::byte* header);
  std::optional<Fault> handle_capsule_resp(const std::byte* header);
  std::optional<Fault> handle_c2h_data(const std::byte* header);
  std::optional<Fault> handle_r2t(const std::byte* header);
  void handle_term_req(const std::byte* header);
  std::size_t payload_pieces(iovec* pieces, std::size_t max_pieces) const;
  void payload_taken(std::uint32_t bytes);
  void payload_done(bool digest_ok);

  Thread& thread_;
  HostQueueOptions options_;
  HostQueueUser& user_;
  std::string label_;
  transport::CommandQueue::Address local_;
  int fd_ = -1;
  struct Offer;
  std::shared_ptr<Offer> offer_;               // of the TLS handshake
  std::unique_ptr<tls::Handshake> handshake_;  // until the queue is ready
  std::unique_ptr<tls::Stream> tls_;           // null: cleartext
  transport::SecureChannel channel_;
  State state_ = State::idle;
  Receive receive_ = Receive::header;
  bool watching_writable_ = false;
  bool in_fd_group_ = false;
  bool ended_by_controller_ = false;
  std::uint8_t cpda_ = 0;
  std::uint32_t max_h2c_data_bytes_ = min_max_h2c_data;
  Negotiated negotiated_;
  Error why_{0, ""};
  std::string fault_values_;  // of the PDU at fault

  // Receiving: the current PDU, and where its payload goes.
  Layout layout_;
  std::vector<std::byte> partial_;  // an incomplete header, at most 255 bytes
  Slot* payload_slot_ = nullptr;
  std::uint32_t payload_at_ = 0;  // offset within the command's data
  std::uint32_t payload_left_ = 0;
  std::uint32_t payload_bytes_ = 0;
  bool payload_last_ = false;
  bool payload_success_ = false;
  std::array<std::byte, digest_bytes> digest_{};
  std::uint32_t digest_have_ = 0;

  std::unique_ptr<Slot[]> slots_;
  Slot* free_ = nullptr;
  std::uint32_t in_use_ = 0;
  std::uint32_t outstanding_ = 0;
  Slot* oldest_ = nullptr;  // in the order of submission
  Slot* newest_ = nullptr;
  HostRequest* line_first_ = nullptr;
  HostRequest* line_last_ = nullptr;

  SendQueue send_queue_;
  std::vector<std::byte> control_bytes_;  // ICReq, later H2CTermReq
  SendItem control_item_;
  HostRequest connect_request_;
  std::shared_ptr<HostAuth> auth_;  // while an authentication is under way
  std::function<void(const Result<void>&)> auth_done_;
  iovec connect_iov_{};
  Deferred flush_;
  Deferred read_on_;  // TLS has bytes that no event of the socket tells of
  Deferred ended_;
  Timer deadline_;
  std::uint64_t step_deadline_ns_ = 0;  // of connecting; 0: none
  Poller* poller_ = nullptr;
  HostQueueStats stats_;
};

}  // namespace catnap::tcp
