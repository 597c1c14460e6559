// In-band authentication of a host's queue: the commands that carry the exchange (Authentication Send and Receive), its arithmetic on the worker
// pool, its deadline. Source: NVMe Base 2.0, sections 6.1, 6.2 and 8.13.5. Owner: the queue's thread, which it keeps from exiting while a worker
// computes. Left out: messages (transport/dhchap), when to authenticate (host_queue.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "reactor/thread.h"
#include "reactor/timer.h"
#include "transport/dhchap/host_exchange.h"
#include "transport/tcp/host_queue.h"

namespace catnap::tcp {

// A whole authentication: the largest group takes a slow CPU a second, and a controller with a crowd at its door takes its time.
inline constexpr std::uint64_t authentication_timeout_us = 20'000'000;

class HostAuth final : public std::enable_shared_from_this<HostAuth> {
 public:
  using Submit = std::function<void(HostRequest& request)>;
  using Done = std::function<void(const Result<void>& outcome)>;

  // `submit` brings a command to the queue; `done` is told once, unless stop() comes first.
  static std::shared_ptr<HostAuth> create(Thread& thread, const dhchap::HostCredentials& credentials, const nvme::ConnectData& connect, Submit submit,
                                          Done done, dhchap::AuthConcatenation concatenation = dhchap::AuthConcatenation::none);
  void start();
  // What an authentication with concatenation has left behind, from `done` on; once.
  std::optional<dhchap::GeneratedPsk> take_psk() { return exchange_.take_psk(); }
  // Nobody wants to know any more. The request, if one is outstanding, is the queue's to give back.
  void stop();

 private:
  HostAuth(Thread& thread, const dhchap::HostCredentials& credentials, const nvme::ConnectData& connect, Submit submit, Done done,
           dhchap::AuthConcatenation concatenation);
  void step();
  void command(nvme::FabricsType type, transport::DataDirection direction);
  static void answered(HostRequest& request);
  void compute(dhchap::Work work);
  void finish(Result<void> outcome);

  Thread& thread_;
  dhchap::HostExchange exchange_;
  Submit submit_;
  Done done_;
  bool over_ = false;
  dhchap::Bytes buffer_;
  iovec iov_{};
  HostRequest request_;
  std::shared_ptr<HostAuth> self_;    // while the request is outstanding
  std::optional<Thread::Hold> hold_;  // while a worker computes
  Timer deadline_;
};

}  // namespace catnap::tcp
