// See channel_key.h.
#include "bdev/nvme/channel_key.h"

#include <utility>

namespace catnap::bdev {

ChannelKeyMaking::ChannelKeyMaking(Thread& app_thread, tcp::HostQueueOptions options) : thread_(app_thread), options_(std::move(options)) {
  options_.concatenate = true;
  options_.kato_ms = 0;
  options_.generated_psk.reset();
}

Task<Result<ChannelKey>> ChannelKeyMaking::run() {
  const auto keep = shared_from_this();
  tcp::HostQueueUser& user = *this;
  queue_ = std::make_unique<tcp::HostQueue>(thread_, options_, user);
  self_ = keep;  // until queue_ended()
  queue_->connect();
  co_await ended_;
  if (key_ == nullptr) co_return std::unexpected(why_);
  co_return key_;
}

void ChannelKeyMaking::close(Error why) {
  key_.reset();
  if (queue_ != nullptr && !queue_->over()) queue_->close(std::move(why));
}

void ChannelKeyMaking::queue_ready(tcp::HostQueue& queue, std::uint32_t) {
  key_ = queue.options().generated_psk;
  queue.close(Error(ESHUTDOWN, key_ != nullptr ? "authenticated; what follows goes over TLS" : "the authentication left no key for TLS"));
}

void ChannelKeyMaking::queue_ended(tcp::HostQueue&, const Error& why) {
  const auto keep = std::move(self_);
  why_ = why;
  queue_.reset();
  ended_.set(true);
}

}  // namespace catnap::bdev
