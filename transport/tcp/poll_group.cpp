// The queue pairs of one thread. See poll_group.h.
#include "transport/tcp/poll_group.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <unordered_map>

#include "reactor/base/check.h"
#include "reactor/base/log_limit.h"
#include "reactor/heap_trim.h"
#include "transport/tcp/address.h"
#include "transport/tcp/queue_pair.h"
#include "transport/tcp/same_host.h"

namespace catnap::tcp {

namespace {

// Connections that are not taken: per cause, not per host, as hosts can be many.
LogLimit refusal_log(1);

const char* text_of(Refusal refusal) {
  switch (refusal) {
    case Refusal::none:
      break;
    case Refusal::half_open:
      return "too many connections have not finished their handshake (max_half_open)";
    case Refusal::half_open_per_host:
      return "too many of this host's connections have not finished their handshake (max_half_open_per_host)";
    case Refusal::connections_per_host:
      return "this host has as many connections as it may (max_connections_per_host)";
  }
  return "";
}

Counter& counter_of(TcpStats& stats, Refusal refusal) {
  if (refusal == Refusal::half_open) return stats.refused_half_open;
  return refusal == Refusal::half_open_per_host ? stats.refused_half_open_per_host : stats.refused_connections_per_host;
}

}  // namespace

struct PollGroup::Impl {
  GroupContext context;
  std::unordered_map<QueuePair*, std::unique_ptr<QueuePair>> queue_pairs;
  std::move_only_function<void()> on_empty;
  bool shutting_down = false;
  HeapTrim trim;
};

PollGroup::PollGroup(Thread& thread, TcpOptions options, transport::CommandSink& new_queue_sink)
    : thread_(thread), impl_(new Impl{{thread, options, new_queue_sink, undumped_bytes(receive_buffer_bytes), {}, {}, {}}, {}, {}, false, {}}) {
  impl_->context.on_freed = [this](QueuePair& queue_pair) {
    impl_->queue_pairs.erase(&queue_pair);
    finished_count_.fetch_add(1, std::memory_order_relaxed);
    queue_count_.fetch_sub(1, std::memory_order_release);  // who sees it gone here finds it finished, too
    impl_->trim.freed_one(impl_->queue_pairs.size());
    if (impl_->queue_pairs.empty() && impl_->on_empty) std::exchange(impl_->on_empty, {})();
  };
}

PollGroup::~PollGroup() { CATNAP_CHECK(impl_->queue_pairs.empty()); }

void PollGroup::add_connection(Incoming incoming) {
  const int fd = incoming.fd;
  check_on_thread(thread_, "tcp::PollGroup");
  if (impl_->shutting_down) {
    finished_count_.fetch_add(1, std::memory_order_relaxed);
    close(fd);
    return;
  }
  const TcpOptions& options = impl_->context.options;
  if (options.admission != nullptr && incoming.stream == nullptr) {
    const std::string host = peer_address_of(fd).traddr;
    const Refusal refusal = options.admission->enter(host, incoming.ticket);
    if (refusal != Refusal::none) {
      log_limited(refusal_log, LogLevel::warning, text_of(refusal), "NVMe/TCP connection from {} refused: {}", host, text_of(refusal));
      ++counter_of(impl_->context.stats, refusal);
      finished_count_.fetch_add(1, std::memory_order_relaxed);
      close(fd);
      return;
    }
  }
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  spare_pacing(fd);
  if (options.sock_priority != 0) setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &options.sock_priority, sizeof options.sock_priority);
  if (options.send_buffer_bytes != 0) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &options.send_buffer_bytes, sizeof options.send_buffer_bytes);
  auto queue_pair = std::make_unique<QueuePair>(impl_->context, std::move(incoming));
  if (!queue_pair->start()) {
    finished_count_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  QueuePair* key = queue_pair.get();
  impl_->queue_pairs.emplace(key, std::move(queue_pair));
  queue_count_.fetch_add(1, std::memory_order_relaxed);
  ++impl_->context.stats.connections_total;
}

void PollGroup::shut_down(std::move_only_function<void()> done) {
  check_on_thread(thread_, "tcp::PollGroup");
  impl_->shutting_down = true;
  if (impl_->queue_pairs.empty()) return done();
  impl_->on_empty = std::move(done);
  for (const auto& [key, queue_pair] : impl_->queue_pairs) queue_pair->shut_down();
}

TcpStats PollGroup::stats() const { return impl_->context.stats; }

}  // namespace catnap::tcp
