// One NVMe/TCP connection as a host sees it: ICReq, single PDUs in and out, and whole commands with all the PDUs they need.
// Owner: the test's thread. Left out: what commands mean (host.h).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "tests/protocol/client/pdu.h"
#include "tests/protocol/client/socket.h"
#include "transport/nvme/status.h"

namespace catnap::protocol {

struct ConnectionOptions {
  Digests digests;
  std::uint8_t hpda = 0;
  std::uint32_t max_r2t = 1;  // 1's based; the wire has it 0's based
  int receive_buffer_bytes = 0;
  std::string traddr = "127.0.0.1";
};

// Where a command's data goes.
struct Payload {
  enum class Way : std::uint8_t { none, in_capsule, by_r2t, to_host };
  Way way = Way::none;
  Bytes bytes;               // to be written
  std::uint32_t length = 0;  // to be read

  static Payload none() { return {}; }
  static Payload in_capsule(Bytes bytes) { return {Way::in_capsule, std::move(bytes), 0}; }
  static Payload by_r2t(Bytes bytes) { return {Way::by_r2t, std::move(bytes), 0}; }
  static Payload to_host(std::uint32_t length_bytes) { return {Way::to_host, {}, length_bytes}; }
};

// How a command ended, and what was seen on the way.
struct CommandResult {
  Outcome outcome = Outcome::closed;  // pdu: completed, by a CapsuleResp or by the SUCCESS flag
  std::string note;
  nvme::CompletionEntry cqe;
  nvme::Status status;
  Bytes data;
  unsigned r2t_pdus = 0;
  unsigned c2h_data_pdus = 0;
  bool by_success_flag = false;

  bool is(nvme::Status expected) const { return outcome == Outcome::pdu && status.same_code(expected); }
  bool ok() const { return is(nvme::Status()); }
};

class Connection {
 public:
  Connection() = default;  // not connected: everything ends with Outcome::closed
  // TCP connect, ICReq, ICResp. Errors: connect's, EPROTO for a wrong or missing ICResp.
  static Result<Connection> open(std::uint16_t port, ConnectionOptions options = {});
  // TCP only: nothing is sent.
  static Result<Connection> open_bare(std::uint16_t port, ConnectionOptions options = {});

  // Raw bytes. False when the connection is gone.
  bool send(std::span<const std::byte> bytes);
  ReceivedPdu receive_pdu(Milliseconds limit = patience);
  // Everything up to the peer's FIN or reset; nullopt when it does not come in time.
  std::optional<Bytes> receive_until_closed(Milliseconds limit = patience);

  // A PDU with this connection's digests and alignment.
  template <typename Header>
  Bytes pdu(const Header& header, std::span<const std::byte> data = {}) const {
    return build_pdu(header, data, options_.digests, data_alignment_bytes_);
  }
  Bytes capsule(const nvme::SubmissionEntry& sqe, std::span<const std::byte> in_capsule = {}) const;
  Bytes h2c_data(std::uint16_t cid, std::uint16_t ttag, std::uint32_t offset_bytes, std::span<const std::byte> data, bool last) const;

  // Sends the command with a free command id (sqe.cid is overwritten) and an SGL that fits the payload; returns the id.
  std::uint16_t submit(nvme::SubmissionEntry sqe, Payload payload = Payload::none());
  // Handles PDUs, of this command and of others in flight, until this one is complete.
  CommandResult wait(std::uint16_t cid, Milliseconds limit = patience);
  CommandResult run(const nvme::SubmissionEntry& sqe, Payload payload = Payload::none());

  // The TermReq with which the controller ended the connection, if wait() met one.
  const std::optional<ReceivedPdu>& termination() const { return termination_; }
  const tcp::IcResp& ic_resp() const { return ic_resp_; }
  const ConnectionOptions& options() const { return options_; }
  Socket& socket() { return socket_; }
  std::uint16_t next_cid() { return next_cid_++; }

 private:
  struct Pending {
    Payload payload;
    CommandResult result;
    bool done = false;
  };

  Outcome handle(const ReceivedPdu& pdu, std::string& note);
  bool handle_r2t(const tcp::R2T& r2t, std::string& note);
  bool handle_c2h_data(const ReceivedPdu& pdu, std::string& note);
  bool handle_completion(const nvme::CompletionEntry& cqe, std::string& note);

  Socket socket_;
  ConnectionOptions options_;
  std::uint32_t data_alignment_bytes_ = 4;  // from CPDA: of what we send
  tcp::IcResp ic_resp_;
  Bytes received_;  // bytes not parsed yet
  std::map<std::uint16_t, Pending> pending_;
  std::optional<ReceivedPdu> termination_;
  std::uint16_t next_cid_ = 1;
};

}  // namespace catnap::protocol
