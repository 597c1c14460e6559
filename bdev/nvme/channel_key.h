// Secure channel concatenation, first half: a connection in cleartext that authenticates itself, so that both sides have a key for TLS, and ends.
// What follows goes over TLS with that key (association.h), or not at all. Source: NVMe Base 2.0, section 8.13.5. Owner: app_thread. Left out: the
// exchange (transport/dhchap), what the key is used for.
#pragma once

#include <memory>

#include "reactor/task.h"
#include "transport/tcp/host_queue.h"

namespace catnap::bdev {

using ChannelKey = std::shared_ptr<const tls::GeneratedPsk>;

class ChannelKeyMaking final : public std::enable_shared_from_this<ChannelKeyMaking>, private tcp::HostQueueUser {
 public:
  // `options`: of an admin queue, with credentials.
  ChannelKeyMaking(Thread& app_thread, tcp::HostQueueOptions options);
  // Once.
  Task<Result<ChannelKey>> run();
  void close(Error why);

 private:
  void queue_ready(tcp::HostQueue& queue, std::uint32_t connect_dw0) override;
  void queue_ended(tcp::HostQueue& queue, const Error& why) override;
  void request_late(tcp::HostQueue&, tcp::HostRequest&) override {}

  Thread& thread_;
  tcp::HostQueueOptions options_;
  std::unique_ptr<tcp::HostQueue> queue_;
  ChannelKey key_;
  Promise<bool> ended_;
  Error why_{ENOTCONN, "not connected"};
  std::shared_ptr<ChannelKeyMaking> self_;  // while there is a queue
};

}  // namespace catnap::bdev
