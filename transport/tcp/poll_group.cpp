// The queue pairs of one thread. See poll_group.h.
#include "transport/tcp/poll_group.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <unordered_map>

#include "reactor/base/check.h"
#include "reactor/base/log.h"
#include "transport/tcp/queue_pair.h"

namespace catnap::tcp {

struct PollGroup::Impl {
  GroupContext context;
  std::unordered_map<QueuePair*, std::unique_ptr<QueuePair>> queue_pairs;
  std::move_only_function<void()> on_empty;
  bool shutting_down = false;
};

PollGroup::PollGroup(Thread& thread, TcpOptions options, transport::CommandSink& new_queue_sink)
    : thread_(thread),
      impl_(new Impl{{thread, options, new_queue_sink, std::make_unique_for_overwrite<std::byte[]>(receive_buffer_bytes), {}, {}}, {}, {}, false}) {
  impl_->context.on_freed = [this](QueuePair& queue_pair) {
    impl_->queue_pairs.erase(&queue_pair);
    finished_count_.fetch_add(1, std::memory_order_relaxed);
    queue_count_.fetch_sub(1, std::memory_order_release);  // who sees it gone here finds it finished, too
    if (impl_->queue_pairs.empty() && impl_->on_empty) std::exchange(impl_->on_empty, {})();
  };
}

PollGroup::~PollGroup() { CATNAP_CHECK(impl_->queue_pairs.empty()); }

void PollGroup::add_connection(int fd) {
  check_on_thread(thread_, "tcp::PollGroup");
  if (impl_->shutting_down) {
    finished_count_.fetch_add(1, std::memory_order_relaxed);
    close(fd);
    return;
  }
  const TcpOptions& options = impl_->context.options;
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (options.sock_priority != 0) setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &options.sock_priority, sizeof options.sock_priority);
  if (options.send_buffer_bytes != 0) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &options.send_buffer_bytes, sizeof options.send_buffer_bytes);
  auto queue_pair = std::make_unique<QueuePair>(impl_->context, fd);
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
