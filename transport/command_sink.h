// The door between a transport (which moves bytes) and the server (which knows subsystems): one command, in three steps.
// Owner: everything here lives on the thread of the queue pair (its poll group). Left out: how bytes move (transport/tcp), what commands mean
// (server).
//
//   capsule arrives -> sink.plan(request)
//        complete  -> the transport sends request.cqe at once (in-capsule data is discarded)
//        execute   -> no data, or data the sink brings itself (lends): sink.execute(request)
//        transfer  -> the transport gets a buffer of request.data_length bytes (waiting in line if need be);
//                     host_to_controller: it then receives the data (in capsule, or R2T + H2CData), checks its digest, then execute(request);
//                     controller_to_host: execute(request) fills the buffer
//        wait      -> the sink keeps it and calls queue.replan(request) later, once: plan(request) is then asked again. Async Event Requests
//                     are kept this way: they hold no buffer, and the connection may die without waiting for them
//   execute(request) ends with queue.complete(request), before or after it returns, always on the queue's thread.
//   abandon(request) instead of execute() when the connection dies between plan and execute (also for `wait`), when its data digest was wrong, or
//   when abort() took it back; a request in execution is still completed by the sink, and the queue swallows the answer: it must therefore end by
//   itself.
//
// Waiting with the data there (the first half of a fused pair waits for the second, NVMe Base 2.0, section 3.4.2; either half may be executed first,
// as data arrives when it arrives): within execute() the sink calls queue.hold(request) instead of complete(). The request keeps its buffer, is no
// longer in execution (so a dying connection, or abort(), gives it to abandon()), and goes on after queue.resume(request): it is in execution again
// and execute() is not called a second time. What the sink must keep to:
//   - consumes_inline is false for a request that may be held: bytes in the receive buffer do not stay;
//   - of a pair, the half that was planned second says `never_waits`. Otherwise first halves could hold all buffers while every second half stands in
//     the line for one. Its length is bounded by max_unwaited_bytes (the sink bounds pairs by ACWU anyway);
//   - plan() is called in the order of arrival, so the sink sees there what follows a first half, and ends a first half that has no second.
// A host that never sends the second half loses its connection when others wait for buffers, like one that owes data (TcpOptions::send_stall_us).
//
// What the transport checks before plan(): PDU form, digests of headers, the SGL descriptor's type (sgl_descriptor_type_invalid), that in-capsule
// data fits the capsule (sgl_offset_invalid, data_sgl_length_invalid), and that the CID is not in use (command_id_conflict). After plan(): that the
// SGL describes at least data_length bytes (data_sgl_length_invalid), and that host_to_controller data is where the SGL says. The sink checks all
// else.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "reactor/base/error.h"
#include "reactor/buffer_pool.h"
#include "transport/nvme/command.h"
#include "transport/nvme/status.h"

namespace catnap {

class Thread;

namespace transport {

enum class DataDirection : std::uint8_t { none, host_to_controller, controller_to_host };
enum class PlanAction : std::uint8_t { complete, execute, transfer, wait };

// Memory a block device lends for the length of one send: lock() before bytes are read from it, unlock() after; both on the queue's thread,
// paired, never across a return to the loop (docs/architecture.md, "Copies"). What a send did not take is copied out before unlock().
class Lender {
 public:
  virtual void lock_for_send(std::uint64_t offset_bytes, std::uint64_t length_bytes) = 0;
  virtual void unlock_after_send(std::uint64_t offset_bytes, std::uint64_t length_bytes) = 0;

 protected:
  ~Lender() = default;
};

// A contiguous stretch of lent memory; null base: nothing lent.
struct Lease {
  const std::byte* base = nullptr;
  Lender* lender = nullptr;
  std::uint64_t offset_bytes = 0;  // what lock_for_send() wants
};

class CommandQueue;

// A connection that is encrypted and authenticated by TLS, and whose key it is (transport/tls/psk.h).
struct SecureChannel {
  std::string hostnqn;  // the host that has proven the key…
  std::string subnqn;   // …for this subsystem
  std::string suite;    // "TLS_AES_128_GCM_SHA256"
  std::string key_name;
  std::uint8_t identity_version = 0;
  bool generated = false;        // the key came out of DH-HMAC-CHAP
  bool kernel_sends = false;     // the kernel encrypts (kTLS)…
  bool kernel_receives = false;  // …and decrypts
};

// Most data of a request that says `never_waits`: memory beside the pool, so a queue can take at most half its entries times this.
inline constexpr std::uint32_t max_unwaited_bytes = 128U << 10;

// Bytes the sink may use in each request for its own state (a bdev I/O and a little more).
inline constexpr std::size_t sink_context_bytes = 128;

// One command in flight. Lives in an array made at connect; the index is the transfer tag. 272 bytes without the lists a transport adds.
struct Request {
  nvme::SubmissionEntry sqe;  // as received: the CID is the host's and is only echoed
  nvme::CompletionEntry cqe;  // status and DW0/DW1, by the sink; CID, SQHD and SQID the transport puts into the answer
  CommandQueue* queue = nullptr;

  // Set by plan().
  DataDirection direction = DataDirection::none;
  // The sink promises to be done with the bytes when execute() returns, so they may still lie in the receive buffer.
  bool consumes_inline = false;
  // Its buffer must not be waited for: at the pool's cap it comes from the heap. Only with data_length ≤ max_unwaited_bytes.
  bool never_waits = false;
  // Set by the transport before plan(): a Lease is acceptable as the answer's data.
  bool may_lend = false;
  std::uint32_t data_length = 0;  // bytes to move; ≤ what the SGL describes (checked by the transport's SGL rules, then by the sink)

  // Valid in execute() for transfers: data_length bytes, page-aligned unless consumes_inline.
  std::byte* data = nullptr;
  // Set by execute() instead of filling `data` when it was planned as `execute` with direction controller_to_host and may_lend.
  Lease lease;
  std::uint64_t planned_ns = 0;  // the sink's: when the command came

  alignas(16) std::byte sink_context[sink_context_bytes];
};

class CommandSink {
 public:
  virtual ~CommandSink() = default;
  virtual PlanAction plan(Request& request) = 0;
  // This command has come behind the one that plan() is asked about next: what it will need may be fetched from memory meanwhile. Nothing of it was
  // checked, and it may never be planned.
  virtual void expect(const nvme::SubmissionEntry& sqe) { (void)sqe; }
  virtual void execute(Request& request) = 0;
  virtual void abandon(Request& request) = 0;
  // The connection is gone and nobody wants the answer of this request, which is in execution: the sink may end it early. complete() comes all the
  // same, from within or later.
  virtual void unwanted(Request& request) { (void)request; }
  // The connection is gone and no request of the queue is in execution any more; the sink forgets the queue. Called once.
  virtual void queue_closed(CommandQueue& queue) = 0;
};

// What a sink may ask of the queue pair it serves.
class CommandQueue {
 public:
  virtual ~CommandQueue() = default;

  virtual void complete(Request& request) = 0;
  virtual void replan(Request& request) = 0;
  // Out of execution, keeping its data, until resume(); within execute() or later. See above.
  virtual void hold(Request& request) = 0;
  virtual void resume(Request& request) = 0;
  // Takes back the outstanding command with this CID (the Abort command; not from within plan()). `taken_back`: it had not begun: abandon() was
  // called and the host gets Command Abort Requested; that answer is queued when this returns, so before the Abort's own on the same queue. Data that
  // still comes for its R2Ts is thrown away, the connection goes on. `executing`: the sink has it (`request`), and may end it by its own means.
  // `not_found`: no such command, or its answer is on its way already.
  enum class AbortOutcome : std::uint8_t { taken_back, executing, not_found };
  struct Aborted {
    AbortOutcome outcome = AbortOutcome::not_found;
    Request* request = nullptr;
  };
  Aborted abort(std::uint16_t cid) { return abort_as(cid, nvme::GenericStatus::abort_requested); }
  // The same with another status for the host, when it is not the host that wants the command aborted.
  virtual Aborted abort_as(std::uint16_t cid, nvme::Status status) = 0;
  // CIDs of the outstanding commands that `chosen` picks.
  virtual std::vector<std::uint16_t> outstanding(const std::function<bool(const nvme::SubmissionEntry&)>& chosen) const = 0;
  // Ends the connection from the target's side after what is queued has gone out (removed listener, association loss, keep-alive expiry).
  virtual void disconnect(const std::string& reason) = 0;
  // The same, with a time of one's own for what is in execution; after it the connection is closed all the same. Ends an ending connection no later.
  virtual void disconnect_within(const std::string& reason, std::uint64_t /*grace_us*/) { disconnect(reason); }
  // Called by the sink when Connect succeeded: queue id, and its size in entries (SQSIZE + 1): the transport enforces the number of outstanding
  // commands and computes SQHD, unless SQ flow control is disabled (then SQHD is reserved and the C2H SUCCESS flag may be used).
  virtual void set_connected(std::uint16_t qid, std::uint16_t entries, bool sq_flow_control_disabled) = 0;
  // The sink that gets plan() from now on (a new connection starts with the sink that accepts Connect).
  virtual void set_sink(CommandSink& sink) = 0;

  virtual Thread& thread() = 0;
  virtual bool data_digest() const = 0;
  virtual bool header_digest() const = 0;
  // "127.0.0.1" and "4420" of both ends.
  struct Address {
    std::string traddr;
    std::string trsvcid;
    std::string adrfam;  // "IPv4" or "IPv6"
  };
  virtual const Address& local_address() const = 0;
  virtual const Address& peer_address() const = 0;
  // Null: cleartext.
  virtual const SecureChannel* secure_channel() const { return nullptr; }
  // Sink's own pointer (its queue pair object).
  void* sink_data = nullptr;
};

// Byte of in-capsule data a command's SGL describes, etc. are checked by the transport; this is what it needs to know.
struct TransportLimits {
  std::uint32_t max_io_size_bytes = 131072;         // MDTS; multiple of 4096, ≤ BufferPool::max_size_bytes
  std::uint32_t in_capsule_data_size_bytes = 4096;  // IOCCSZ; admin queues take 8192 as the TCP specification demands for Connect
  std::uint16_t max_queue_depth = 128;              // entries of an I/O queue
  std::uint16_t max_aq_depth = 128;
  std::uint16_t max_io_qpairs_per_ctrlr = 127;
  std::uint16_t keep_alive_granularity_100ms = 10;  // KAS: keep-alive times are rounded up to this; 1 s keeps a 5 s KATO what it says
  std::uint32_t min_kato_ms = 1000;                 // a shorter keep-alive time is taken as this one
  std::uint16_t masked_oncs = 0;                    // optional commands (bits of Identify Controller's ONCS) and…
  std::uint16_t masked_fuses = 0;                   // …fused operations (FUSES) that are neither told nor taken
};

}  // namespace transport
}  // namespace catnap
