// One connection of a FakeController: PDUs in, steps named, correct answers made, deeds done.
// Owner: its OS thread; what says so may be called by others. Left out: the listener and the script (fake_controller.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "tests/protocol/client/connection.h"
#include "tests/protocol/fake/fake_controller.h"
#include "transport/nvme/fabrics.h"

namespace catnap::protocol {

// The correct answer to a command.
struct FakeAnswer {
  std::string step;
  StepKind kind = StepKind::plain;
  nvme::CompletionEntry cqe;
  Bytes data;                  // to the host
  std::uint32_t wanted = 0;    // from the host, by R2T
  std::uint64_t write_at = 0;  // where in the namespace it goes
  bool held = false;           // Asynchronous Event Request: answered by raise_event
};

class FakeConnection {
 public:
  FakeConnection(FakeController& controller, Socket socket) : controller_(controller), socket_(std::move(socket)) {}

  void run();
  // From other OS threads.
  bool raise_event(std::uint32_t dw0);
  void hang_up();
  bool over() const { return over_.load(); }

 private:
  struct Writing {
    FakeAnswer answer;
    Bytes bytes;
    std::uint32_t received = 0;
  };

  // --- fake_connection.cpp ---
  bool handle_pdu(std::span<const std::byte> pdu);
  bool answer_ic_req(std::span<const std::byte> pdu);
  bool handle_capsule(std::span<const std::byte> pdu);
  bool handle_h2c_data(std::span<const std::byte> pdu);
  bool send(std::span<const std::byte> bytes);
  Bytes data_pdu(std::uint16_t cid, std::uint32_t offset_bytes, std::span<const std::byte> data, bool last) const;
  Bytes response_pdu(const nvme::CompletionEntry& cqe) const;
  Bytes r2t_pdu(std::uint16_t cid, std::uint32_t offset_bytes, std::uint32_t length_bytes) const;

  // --- fake_commands.cpp: what a correct controller says ---
  FakeAnswer answer_of(const nvme::SubmissionEntry& sqe, std::span<const std::byte> in_capsule);
  void fabrics(const nvme::SubmissionEntry& sqe, FakeAnswer& answer);
  void admin(const nvme::SubmissionEntry& sqe, FakeAnswer& answer);
  void identify(const nvme::SubmissionEntry& sqe, FakeAnswer& answer);
  void log_page(const nvme::SubmissionEntry& sqe, FakeAnswer& answer);
  void io(const nvme::SubmissionEntry& sqe, std::span<const std::byte> in_capsule, FakeAnswer& answer);
  void store(std::uint64_t at, std::span<const std::byte> bytes);

  // --- fake_deeds.cpp; false: the connection is over ---
  bool perform(Deed deed, const FakeAnswer& answer);
  bool answer_correctly(const FakeAnswer& answer);
  bool bad_connection(Deed deed, std::span<const std::byte> correct);
  bool bad_pdu(Deed deed, const FakeAnswer& answer);
  bool bad_data(Deed deed, const FakeAnswer& answer);
  bool bad_r2t(Deed deed, const FakeAnswer& answer);
  bool reset();

  FakeController& controller_;
  Socket socket_;
  std::mutex send_mutex_;
  std::atomic<bool> over_{false};
  Digests digests_;
  std::uint32_t alignment_bytes_ = 4;
  bool initialized_ = false;
  bool mute_ = false;  // takes everything and says nothing any more
  std::uint16_t qid_ = 0;
  std::uint16_t entries_ = 32;
  std::uint32_t commands_ = 0;
  nvme::Cc cc_;
  std::map<std::uint16_t, Writing> writing_;  // by CID
  std::mutex events_mutex_;
  std::deque<std::uint16_t> waiting_events_;
  std::deque<std::uint32_t> pending_events_;
};

}  // namespace catnap::protocol
