// A controller played by the test: correct by itself, and wrong exactly where a test says so. What a host sends is named as steps ("accept", "ICReq",
// "Connect", "Property Get CAP", "Identify CNS 01h", "read", ...), and to any occurrence of a step the controller can be told to react badly.
// Owner: the test's thread; every connection has an OS thread of its own, which ends with it. Left out: TLS, authentication, more than one namespace
// of data.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tests/protocol/client/pdu.h"
#include "tests/protocol/client/socket.h"
#include "transport/nvme/command.h"

namespace catnap::protocol {

// What the controller does instead of answering correctly. What each means on the wire stands in fake_deeds.cpp.
enum class Deed : std::uint8_t {
  correct,
  trickle,  // the correct bytes, one segment each: no fault at all
  // The connection.
  reset,
  close,
  silence,      // nothing, ever; the connection stays
  half_header,  // five bytes, then FIN
  half_pdu,     // all but the last byte, then nothing
  garbage,      // 4 KiB without meaning
  term_req,     // C2HTermReq
  // PDUs that are none, or not what comes now.
  unknown_type,
  host_type,  // a CapsuleCmd sent to the host
  second_ic_resp,
  wrong_hlen,
  tiny_plen,
  huge_plen,
  bad_header_digest,  // without header digests: one that was not agreed on
  // Answers.
  error_status,  // Internal Error, Do Not Retry
  wrong_cid,
  answer_twice,
  // Answers of commands that read.
  no_data,         // success without data
  short_data,      // half of it, then success
  over_long_data,  // more than was asked for
  data_beyond,     // behind the end
  data_gap,        // the second half only, marked as the last
  data_twice,
  data_of_other_cid,
  data_length_lies,  // DATAL is not what the PDU has
  bad_data_digest,   // without data digests: one that was not agreed on
  // Answers of commands that write.
  r2t_beyond,
  r2t_empty,
  r2t_of_other_cid,
  r2t_twice,
  early_success,  // success before the data was asked for; legal for the host to notice or not, but the command is over
  // An answer of a command that reads: an R2T, as if it wrote.
  r2t_for_read,
};
std::string_view deed_name(Deed deed);

enum class StepKind : std::uint8_t { accept, ic, plain, to_host, from_host };
// The bad deeds that make sense for a kind of step.
std::vector<Deed> deeds_for(StepKind kind);

struct FakeOptions {
  std::string subnqn = "nqn.2026-11.io.catnap:fake";
  std::uint64_t blocks = 4096;
  std::uint8_t lbads = 9;
  std::uint16_t granted_queues = 8;
  bool header_digest = true;  // as far as the host asks for it
  bool data_digest = true;
};

class FakeController {
 public:
  struct Seen {
    std::string step;
    unsigned occurrence;  // from 1, since forget()
    StepKind kind;
    bool operator==(const Seen&) const = default;
    std::string text() const { return step + " #" + std::to_string(occurrence); }
  };

  explicit FakeController(FakeOptions options = {});
  ~FakeController();
  FakeController(const FakeController&) = delete;
  FakeController& operator=(const FakeController&) = delete;

  std::uint16_t port() const { return port_; }
  const FakeOptions& options() const { return options_; }

  // One reaction to one occurrence of a step; `occurrence` 0: to every one.
  void misbehave(const std::string& step, unsigned occurrence, Deed deed);
  // Alters correct answers: the completion and data of commands, by step; ICResp.
  using ChangeAnswer = std::function<void(const std::string& step, nvme::CompletionEntry& cqe, Bytes& data)>;
  void change_answers(ChangeAnswer change);
  void change_ic_resp(std::function<void(tcp::IcResp&)> change);
  // All correct from now on; counts begin anew.
  void forget();
  // Since forget().
  std::vector<Seen> seen() const;
  bool misbehaved() const { return misbehaved_.load(); }

  // Completes an Asynchronous Event Request with `dw0` on some live admin connection, as soon as one waits. False: none did.
  bool raise_event(std::uint32_t dw0, Milliseconds limit = patience);
  // The same once, just before that occurrence of `step` is answered, on its connection.
  void raise_event_before(const std::string& step, unsigned occurrence, std::uint32_t dw0);
  unsigned live_connections() const;
  // Returns when every connection that was begun before this call is accepted: one of its own comes behind them in the listener's queue.
  void accept_waiting();
  // Ends all connections (FIN), and goes on listening.
  void drop_connections();
  // The namespace's bytes.
  Bytes memory() const;
  void resize(std::uint64_t blocks);

 private:
  friend class FakeConnection;
  void accept_loop();
  Deed next_deed(const std::string& step, StepKind kind);
  std::optional<std::uint32_t> event_before(const std::string& step);

  FakeOptions options_;
  std::uint16_t port_ = 0;
  int listener_ = -1;
  mutable std::mutex mutex_;
  std::vector<Seen> seen_;
  std::map<std::string, unsigned> counts_;
  std::map<std::pair<std::string, unsigned>, Deed> deeds_;
  std::map<std::pair<std::string, unsigned>, std::uint32_t> events_;
  ChangeAnswer change_answer_;
  std::function<void(tcp::IcResp&)> change_ic_resp_;
  std::atomic<bool> misbehaved_{false};
  Bytes memory_;
  struct Running {
    std::shared_ptr<class FakeConnection> connection;
    std::thread thread;
  };
  std::list<Running> running_;
  std::condition_variable event_request_came_;
  bool stopping_ = false;
  std::uint16_t last_accepted_port_ = 0;  // the peer's
  std::condition_variable accepted_;
  std::thread acceptor_;
};

}  // namespace catnap::protocol
