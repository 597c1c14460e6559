// The target's side of one NVMe/TCP connection: a submission and a completion queue (TCP Transport 1.0c, section 3.3).
// Owner: its poll group's thread. Left out: what commands mean (CommandSink), TLS, placement.
//
// Files: queue_pair.cpp (life, commands), receive.cpp (bytes in), foresee.cpp (data that is expected), respond.cpp (bytes out), take_back.cpp
// (commands held back and aborted).
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "reactor/deferred.h"
#include "reactor/thread.h"
#include "reactor/timer.h"
#include "reactor/undumped_bytes.h"
#include "transport/command_sink.h"
#include "transport/nvme/status.h"
#include "transport/tcp/foreseen.h"
#include "transport/tcp/framing.h"
#include "transport/tcp/poll_group.h"
#include "transport/tcp/send_queue.h"
#include "transport/tcp/slot.h"

namespace catnap::tcp {

// What the queue pairs of a poll group share.
struct GroupContext {
  Thread& thread;
  TcpOptions options;
  transport::CommandSink& new_queue_sink;
  // Bytes are received here and leave it before the turn ends; one for all connections of the group.
  UndumpedBytes receive_buffer;
  Foreseen foreseen;  // of one receive
  TcpStats stats;
  std::function<void(QueuePair&)> on_freed;
};

// Room for a turn's worth of depth-32 4 KiB in-capsule writes; larger reads lengthen a turn more than they save calls.
inline constexpr std::size_t receive_buffer_bytes = std::size_t{256} << 10;

class QueuePair final : public transport::CommandQueue {
 public:
  QueuePair(GroupContext& group, Incoming incoming);
  ~QueuePair() override;

  // Registers the socket. False: it could not be (the caller frees the queue pair).
  bool start();
  // Closes the connection now: requests not in execution are abandoned, the rest is waited for, then GroupContext::on_freed.
  // `expected`: the host's own wish, or told before; anything else is worth a line in the log.
  void close(const std::string& reason, bool expected = false);

  // As disconnect(), for all connections at once: not worth a line each; one that is ending already ends now.
  void shut_down();

  void complete(transport::Request& request) override;
  void replan(transport::Request& request) override;
  void hold(transport::Request& request) override;
  void resume(transport::Request& request) override;
  Aborted abort_as(std::uint16_t cid, nvme::Status status) override;
  std::vector<std::uint16_t> outstanding(const std::function<bool(const nvme::SubmissionEntry&)>& chosen) const override;
  void disconnect(const std::string& reason) override;
  void disconnect_within(const std::string& reason, std::uint64_t grace_us) override;
  void set_connected(std::uint16_t qid, std::uint16_t entries, bool sq_flow_control_disabled) override;
  void set_sink(transport::CommandSink& sink) override { sink_ = &sink; }
  Thread& thread() override { return group_.thread; }
  bool data_digest() const override { return negotiated_.data_digest; }
  bool header_digest() const override { return negotiated_.header_digest; }
  const Address& local_address() const override { return local_; }
  const Address& peer_address() const override { return peer_; }
  const transport::SecureChannel* secure_channel() const override { return tls_ != nullptr ? &channel_ : nullptr; }

 private:
  enum class State : std::uint8_t {
    expecting_ic_req,
    ready,
    terminating,    // C2HTermReq queued or sent: what still arrives is thrown away until the host closes
    disconnecting,  // closes when the send queue is empty
    closed,         // socket gone; waits for requests in execution
  };
  enum class Receive : std::uint8_t { header, payload, digest };

  // --- life (queue_pair.cpp) ---
  void enter(State next);
  void leave_buffer_line();
  void linger(State next, const std::string& reason);
  void abandon_all();
  void finish_if_idle();
  void on_io_deadline();
  void watch_deadlines();
  void expect_by(std::uint64_t deadline_ns);
  void arm_by(std::uint64_t deadline_ns);
  bool end_if_too_slow(std::uint64_t now_ns);
  bool end_if_stalled(std::uint64_t now_ns);
  void begin_data_window() {
    data_progress_ns_ = group_.thread.now_ns();
    received_in_window_ = 0;
  }
  bool owes_for(std::uint64_t time_ns, std::uint64_t now_ns) const;
  void trim_slots();
  Slot* take_slot();
  void free_slot(Slot& slot);
  Slot* slot_at(std::uint32_t index);
  std::string label() const;

  // --- commands (queue_pair.cpp) ---
  void start_command(const CapsuleCmd& capsule, std::uint32_t payload_bytes);
  std::optional<nvme::Status> check_sgl(const nvme::SubmissionEntry& sqe, std::uint32_t payload_bytes) const;
  void plan(Slot& slot);
  void plan_transfer(Slot& slot);
  void get_buffer(Slot& slot);
  void have_buffer(Slot& slot, Buffer buffer);
  void have_memory(Slot& slot);
  void execute(Slot& slot);
  void fail(Slot& slot, nvme::Status status);
  void abandon(Slot& slot, nvme::Status status);
  void use_heap(Slot& slot, std::size_t size_bytes);
  void release_heap(Slot& slot);

  // --- held back and aborted (take_back.cpp) ---
  bool take_back(Slot& slot, nvme::Status status);
  bool stop_asking(Slot& slot);
  void answer_aborted(Slot& slot);
  bool owes_data(const Slot& slot) const { return slot.aborted && slot.received_bytes < slot.asked_bytes; }
  void drain(Slot& slot);
  void discard_h2c_data(Slot& slot, std::uint32_t payload_bytes);
  bool has_free_slot() const { return in_use_ < slot_limit_; }

  // --- receive (receive.cpp) ---
  void on_event(std::uint32_t events);
  void on_readable();
  bool attempt();
  void receive();
  void close_as_received();
  void come_back_for_tls();
  void discard_readable();
  void note_begun_pdu();
  bool send_early();
  bool goes_on() const { return state_ == State::expecting_ic_req || state_ == State::ready; }
  void parse_all(std::byte* bytes, std::size_t size);
  void payload_filled(std::size_t bytes);
  std::size_t parse(std::byte* bytes, std::size_t size);
  std::size_t take_header(std::byte* bytes, std::size_t size);
  std::size_t take_payload(std::byte* bytes, std::size_t size);
  std::size_t take_digest(const std::byte* bytes, std::size_t size);
  bool take_whole_payload_in_place(Slot& slot, std::byte* bytes, std::size_t size, std::size_t& taken);
  void expect_next(const std::byte* bytes, std::size_t size, std::size_t pdu_bytes);
  void handle_header(const std::byte* header, const Layout& layout);
  void handle_ic_req(const std::byte* header);
  void handle_capsule(const std::byte* header, const Layout& layout);
  void handle_h2c_data(const std::byte* header, const Layout& layout);
  void handle_term_req(const std::byte* header, const Layout& layout);
  std::optional<Fault> check_h2c_data(const H2CData& pdu, std::uint32_t payload_bytes);
  void prepare_in_capsule_memory(Slot& slot);
  void payload_arrived();
  void payload_done(bool digest_ok);

  // --- expected data (foresee.cpp) ---
  Foreseen& foresee(bool payload_first);
  void foresee_asked(Foreseen& plan, const AskedOrder::Asked& asked);
  const Slot* still_asked(const AskedOrder::Asked& asked, std::uint32_t& from_bytes);
  void take_foreseen(std::size_t filled, std::size_t size);
  std::size_t take_foreseen_pdu(Foreseen::Pdu& pdu, std::size_t size);

  // --- send (respond.cpp) ---
  void queue_response(Slot& slot);
  void put_data(Slot& slot, bool says_success);
  void put_response(Slot& slot);
  void queue_r2t(Slot& slot);
  void queue_ic_resp(std::uint8_t dgst);
  void terminate(const Fault& fault, const std::byte* header, std::size_t header_bytes);
  void on_item_sent(SendItem& item);
  void want_flush() { group_.thread.at_turn_end(flush_); }
  void flush();
  void watch_writable(bool on);
  void update_interest();

  GroupContext& group_;
  transport::CommandSink* sink_;
  int fd_;
  std::unique_ptr<tls::Stream> tls_;  // null: cleartext
  State state_ = State::expecting_ic_req;
  Receive receive_ = Receive::header;
  bool watching_writable_ = false;
  bool paused_ = false;  // not read from: heap_bytes_ is above TcpOptions::max_buffered_bytes
  bool c2h_success_ = false;
  bool sq_flow_control_disabled_ = false;
  bool connected_ = false;
  std::uint8_t hpda_ = 0;
  std::uint16_t qid_ = 0;
  std::uint16_t entries_ = 1;
  std::uint16_t sq_head_ = 0;
  std::uint32_t max_r2ts_ = 1;  // per command, 1's based
  std::string close_reason_;
  Negotiated negotiated_;
  Address local_, peer_;
  transport::SecureChannel channel_;

  // What the last receive brought, until it is looked at in the same turn: bytes in the group's buffer, or where they belong.
  struct Arrived {
    bool waits = false;
    std::size_t kept_bytes = 0;    // of an incomplete header, before them in the buffer
    std::size_t direct_bytes = 0;  // room there was for the data under way
    ssize_t bytes = 0;             // as recvmsg() says
    int err = 0;
  };
  Arrived arrived_;
  // Receiving: the current PDU, and where its payload goes.
  Layout layout_;
  std::vector<std::byte> partial_;  // an incomplete header, at most 255 bytes
  Slot* payload_slot_ = nullptr;    // null: payload is thrown away
  std::byte* payload_to_ = nullptr;
  std::uint32_t payload_left_ = 0;
  std::uint32_t payload_bytes_ = 0;
  std::array<std::byte, digest_bytes> digest_{};
  std::uint32_t digest_have_ = 0;
  AskedOrder asked_;
  bool foresees_ = true;     // the last data that was asked for came as expected
  bool after_data_ = false;  // the last PDU was H2CData

  // Slot 0 serves Connect; the others are made when it succeeded.
  std::vector<std::unique_ptr<Slot>> slots_;
  Slot* free_ = nullptr;
  std::uint32_t slot_limit_ = 1;
  std::uint32_t in_use_ = 0;  // slots neither free nor draining: never above slot_limit_
  std::uint32_t executing_ = 0;
  std::uint32_t waiting_data_ = 0;
  std::uint32_t kept_ = 0;
  std::uint32_t draining_ = 0;
  std::uint64_t heap_bytes_ = 0;
  std::uint64_t discarded_bytes_ = 0;  // since C2HTermReq
  std::unique_ptr<std::bitset<65536>> cids_in_use_;

  SendQueue send_queue_;
  std::vector<std::byte> control_bytes_;  // ICResp, later C2HTermReq
  SendItem control_item_;
  Deferred flush_;
  Deferred read_on_;  // TLS has bytes that no event of the socket tells of
  Deferred freed_;
  Admission::Ticket ticket_;
  Timer io_timer_;  // handshake, half a PDU, unanswered R2Ts, a host that does not read, lingering, slots to give back
  std::uint64_t accepted_ns_ = 0;
  std::uint64_t handshake_deadline_ns_ = 0;  // ICReq's, then Connect's
  std::uint64_t pdu_since_ns_ = 0;           // when half a PDU was first found at the end of what had arrived; 0: there is none
  std::uint64_t trim_at_ns_ = 0;
  std::uint64_t linger_deadline_ns_ = 0;
  std::uint64_t sent_in_window_ = 0;      // bytes since stalled_since_ns_
  std::uint64_t received_in_window_ = 0;  // bytes of data since data_progress_ns_
  // Windows of TcpOptions::send_stall_us: while host data is owed for a buffer held, and while writable is watched.
  std::uint64_t data_progress_ns_ = 0;
  std::uint64_t stalled_since_ns_ = 0;
};

}  // namespace catnap::tcp
