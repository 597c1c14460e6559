// In-band authentication of one queue (NVMe Base 2.0, sections 6.1, 6.2 and 8.13.5): Authentication Send and Receive on the live connection. While a
// queue must authenticate itself it is the queue's sink, and lets nothing else pass; afterwards the served queue hands it the two commands, for
// re-authentication. So a queue that need not authenticate itself, or has, pays nothing for it.
//
// Owner: the queue's poll group thread. Arithmetic runs on the worker pool, a few at a time for the whole process; the command stays in execution
// meanwhile, so its queue cannot go away. Left out: messages and their order (transport/dhchap), who has which keys (snapshot.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "reactor/timer.h"
#include "server/snapshot.h"
#include "transport/command_sink.h"
#include "transport/dhchap/target_exchange.h"

namespace catnap::server {

class ServedQueue;

// What nvmf_subsystem_get_qpairs shows. Written by the queue's thread, read by any.
struct AuthShown {
  static constexpr std::uint8_t none = 0xFF;
  std::atomic<std::uint8_t> state{none};  // TargetExchange::State; none: authentication never began
  std::atomic<std::uint8_t> hash{none};
  std::atomic<std::uint8_t> group{none};
};

// The longest buffer that Authentication Receive may offer. Messages have up to 1,104 bytes, Linux and SPDK ask for 4 KiB.
inline constexpr std::uint32_t max_auth_receive_bytes = 16384;

class Authentication final : public transport::CommandSink {
 public:
  // `called_subnqn`: the subsystem's NQN as the host gave it, which may be the discovery subsystem's other name. `concatenation`: of the listener.
  Authentication(ServedQueue& served, std::string called_subnqn, std::shared_ptr<AuthShown> shown, Concatenation concatenation = Concatenation::none);
  ~Authentication() override;

  // From now on until it has authenticated itself, for at most AuthenticationRules::timeout_ms, the queue does nothing else. The keep-alive time has
  // no say: hosts ask for 5 s, and one whose CPU is slow or emulated computes for longer with a large group.
  void require(transport::CommandQueue& queue);
  // The queue is closed.
  void end() { deadline_.disarm(); }

  // --- sink of a queue that must authenticate itself, or has done so over cleartext to come back by TLS ---
  transport::PlanAction plan(transport::Request& request) override;
  void execute(transport::Request& request) override;
  void abandon(transport::Request& request) override;
  void unwanted(transport::Request& request) override;
  void queue_closed(transport::CommandQueue& queue) override;

  // --- the two commands, on any queue ---
  static bool is_command(const transport::Request& request);
  transport::PlanAction plan_command(transport::Request& request);

 private:
  using Exchange = dhchap::TargetExchange;

  dhchap::TargetRules current_rules() const;
  const dhchap::TargetRules& rules(bool begins);
  AuthenticationRules limits() const;
  void begin();
  void take(transport::Request& request);
  void taken(transport::Request& request);
  void give(transport::Request& request);
  void given(transport::Request& request);
  void compute(dhchap::Work work, transport::Request& request, void (Authentication::*then)(transport::Request&));
  void passed();
  void keep_psk(dhchap::GeneratedPsk psk);
  void note_failure();
  void finish(transport::Request& request, nvme::Status status);
  void finish_and_end(transport::Request& request, nvme::Status status);
  void too_late();
  void arm();
  void show();
  const std::string& address() const;

  ServedQueue& served_;
  const std::string called_subnqn_;
  std::shared_ptr<AuthShown> shown_;
  std::unique_ptr<Exchange> exchange_;
  dhchap::TargetRules rules_;  // of the exchange under way
  const Concatenation concatenation_;
  std::string replaced_;  // the key generated last on this queue
  bool required_ = false;
  bool leaving_ = false;  // what comes is for a secure channel, on another connection
  bool computing_ = false;
  bool failure_noted_ = false;
  Timer deadline_;
};

}  // namespace catnap::server
