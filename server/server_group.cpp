// A group's configuration, queues and bdev channels. See server_group.h.
// Owner: the poll group's thread. Left out: Connect (fabrics_commands.cpp).
#include "server/server_group.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "reactor/base/check.h"
#include "reactor/base/log_limit.h"
#include "reactor/reactor.h"
#include "server/connect.h"
#include "server/io_queue.h"

namespace catnap::server {

namespace {

void add_to(std::atomic<std::uint64_t>& counter, std::uint64_t amount) {
  counter.store(counter.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
}

}  // namespace

ServerGroup::ServerGroup(Thread& thread, ControllerTable& table) : thread_(thread), table_(table), count_finished_([this] { count_finished(); }) {}

ServerGroup::~ServerGroup() { CATNAP_CHECK(queues_.empty() && served_.empty() && retired_.empty()); }

// --- connections ---

void ServerGroup::add_connection(tcp::Incoming incoming) {
  if (poll_group_ == nullptr) {
    poll_group_ = std::make_unique<tcp::PollGroup>(thread_, options_, *this);
    visible_poll_group_.store(poll_group_.get(), std::memory_order_release);
  }
  poll_group_->add_connection(std::move(incoming));
}

std::uint32_t ServerGroup::queue_count() const {
  const tcp::PollGroup* group = visible_poll_group_.load(std::memory_order_acquire);
  return group == nullptr ? 0 : group->queue_count();
}

std::uint64_t ServerGroup::finished_count() const {
  const tcp::PollGroup* group = visible_poll_group_.load(std::memory_order_acquire);
  return group == nullptr ? 0 : group->finished_count();
}

tcp::TcpStats ServerGroup::tcp_stats() const {
  const tcp::PollGroup* group = visible_poll_group_.load(std::memory_order_acquire);
  return group == nullptr ? tcp::TcpStats() : group->stats();
}

ServerGroup::Stats ServerGroup::stats() const {
  Stats stats;
  stats.admin_qpairs = admin_qpairs_.load(std::memory_order_relaxed);
  stats.io_qpairs = io_qpairs_.load(std::memory_order_relaxed);
  stats.current_admin_qpairs = current_admin_qpairs_.load(std::memory_order_relaxed);
  stats.current_io_qpairs = current_io_qpairs_.load(std::memory_order_relaxed);
  const std::uint64_t connected = stats.current_admin_qpairs + stats.current_io_qpairs;
  const std::uint64_t all = queue_count();
  stats.current_unassociated_qpairs = all > connected ? all - connected : 0;  // read one after the other: may be apart by one
  stats.pending_bdev_io = pending_bdev_io_.load(std::memory_order_relaxed);
  stats.completed_nvme_io = completed_nvme_io_.load(std::memory_order_relaxed);
  return stats;
}

void ServerGroup::end_queue(std::uint64_t queue_id, std::string reason, bool at_once) {
  thread_.send([this, queue_id, reason = std::move(reason), at_once] {
    const auto found = queues_.find(queue_id);
    if (found == queues_.end() || found->second->queue() == nullptr) return;
    transport::CommandQueue& queue = *found->second->queue();
    if (at_once) {
      queue.disconnect_within(reason, 0);
    } else {
      queue.disconnect(reason);
    }
  });
}

void ServerGroup::abort_command(std::uint64_t queue_id, std::uint16_t cid, std::move_only_function<void(bool aborted)> done) {
  thread_.send([this, queue_id, cid, done = std::move(done)]() mutable {
    const auto found = queues_.find(queue_id);
    if (found == queues_.end() || found->second->qid() == 0) return done(false);
    static_cast<IoQueue&>(*found->second).abort_command(cid, std::move(done));
  });
}

void ServerGroup::forget(ServedQueue& queue) {
  add_to(queue.qid() == 0 ? current_admin_qpairs_ : current_io_qpairs_, ~std::uint64_t{0});
  queues_.erase(queue.id());
}

void ServerGroup::shut_down(std::move_only_function<void()> done) {
  CATNAP_CHECK(!shut_down_done_);
  shut_down_done_ = std::move(done);
  if (poll_group_ == nullptr) return finish_shut_down();
  poll_group_->shut_down([this] { finish_shut_down(); });
}

// Every queue is gone, so every slot is retired; the last ones are freed a message later (release_later).
void ServerGroup::finish_shut_down() {
  if (!retired_.empty()) {
    thread_.send([this] { finish_shut_down(); });
    return;
  }
  snapshot_.reset();
  std::exchange(shut_down_done_, nullptr)();
}

// --- configuration ---

void ServerGroup::install(std::shared_ptr<const TargetSnapshot> snapshot, std::move_only_function<void()> installed) {
  // Between two callbacks no command holds on to anything of the old snapshot but its slot: the swap needs no other moment.
  swap_in(std::move(snapshot));
  if (installed) installed();
}

std::shared_ptr<const SubsystemSnapshot> ServerGroup::subsystem(std::string_view nqn) const {
  if (snapshot_ == nullptr) return nullptr;
  const auto found = snapshot_->subsystems.find(nqn);
  return found == snapshot_->subsystems.end() ? nullptr : found->second;
}

void ServerGroup::swap_in(std::shared_ptr<const TargetSnapshot> snapshot) {
  const std::shared_ptr<const TargetSnapshot> old = std::exchange(snapshot_, std::move(snapshot));
  for (auto& [nqn, served] : served_) {
    refresh_slots(nqn, served);
    for (IoQueue* queue : served.queues) queue->configuration_installed();
  }
  end_displaced_queues();
}

// Queues whose subsystem, host permission or listener went away.
void ServerGroup::end_displaced_queues() {
  std::vector<std::pair<std::shared_ptr<ServedQueue>, std::string>> displaced;
  for (const auto& [id, queue] : queues_) {
    if (queue->queue() == nullptr) continue;
    const auto admitted = admit(snapshot_.get(), queue->host(), queue->queue()->local_address());
    if (!admitted) displaced.emplace_back(queue, admitted.error().reason);
  }
  for (const auto& [queue, reason] : displaced) {
    if (queue->queue() == nullptr) continue;
    if (snapshot_->ending_grace_us != 0) {
      queue->queue()->disconnect_within(reason, snapshot_->ending_grace_us);
    } else {
      queue->queue()->disconnect(reason);
    }
  }
}

// --- namespaces ---

void ServerGroup::attach_io_queue(IoQueue& queue) {
  const std::string& nqn = queue.host().subnqn;
  GroupSubsystem& served = served_[nqn];
  served.queues.push_back(&queue);
  if (served.queues.size() == 1) refresh_slots(nqn, served);
  queue.configuration_installed();
}

void ServerGroup::detach_io_queue(IoQueue& queue) {
  const auto found = served_.find(queue.host().subnqn);
  CATNAP_CHECK(found != served_.end());
  std::erase(found->second.queues, &queue);
  if (!found->second.queues.empty()) return;
  for (auto& [nsid, slot] : found->second.slots) retire(found->first, std::move(slot));
  served_.erase(found);
}

NamespaceSlot* ServerGroup::slot(const std::string& nqn, std::uint32_t nsid) {
  const auto served = served_.find(nqn);
  if (served == served_.end()) return nullptr;
  const auto found = served->second.slots.find(nsid);
  return found == served->second.slots.end() ? nullptr : found->second.get();
}

// Slots of namespaces that stay are kept with their channels; those that went, or stand on another bdev now, retire.
void ServerGroup::refresh_slots(const std::string& nqn, GroupSubsystem& served) {
  const auto next = subsystem(nqn);
  for (auto at = served.slots.begin(); at != served.slots.end();) {
    const bool stays = next != nullptr && next->namespaces.contains(at->first) && next->namespaces.at(at->first)->bdev == at->second->config->bdev;
    if (stays) {
      ++at;
      continue;
    }
    retire(nqn, std::move(at->second));
    at = served.slots.erase(at);
  }
  if (next == nullptr) return;
  for (const auto& [nsid, config] : next->namespaces) {
    std::unique_ptr<NamespaceSlot>& slot = served.slots[nsid];
    if (slot == nullptr) {
      slot = std::make_unique<NamespaceSlot>();
      slot->counts = table_.io_statistics().add_namespace({nqn, nsid});
    }
    slot->config = config;
    slot->block_shift = static_cast<std::uint8_t>(std::countr_zero(config->bdev->block_size()));
    if (!slot->channel) open_channel(*slot);
  }
}

// Without a channel the namespace answers Namespace Not Ready; the next configuration or connection tries again.
void ServerGroup::open_channel(NamespaceSlot& slot) {
  auto channel = slot.config->bdev->get_channel();
  if (channel) {
    slot.channel = std::move(*channel);
  } else {
    // Tried again with each connection, so a host can ask for it.
    static LogLimit no_channel_log;
    log_limited(no_channel_log, LogLevel::error, slot.config->bdev_name, "Namespace {} on bdev {}: no channel on {}: {}", slot.config->nsid,
                slot.config->bdev_name, thread_.name(), channel.error().message);
  }
}

void ServerGroup::count_finished() {
  if (finished_count_ == 0) return;
  const std::uint64_t now_ns = thread_.reactor()->clock().now_ns();
  const FinishedIo* const end = finished_.data() + finished_count_;
  for (const FinishedIo* run = finished_.data(); run != end;) run = count_run(run, end, now_ns);
  finished_count_ = 0;
}

void ServerGroup::retire(const std::string& nqn, std::unique_ptr<NamespaceSlot> slot) {
  NamespaceSlot& retired = *slot;
  count_finished();
  table_.io_statistics().remove_namespace({nqn, retired.config->nsid}, retired.counts);
  retired.retired = true;
  retired_.emplace(&retired, std::move(slot));
  if (retired.in_flight == 0) release_later(retired);
}

// Not at once: what this turn's completions have lent is sent at the end of the turn, and the channel must still be there then.
void ServerGroup::release_later(NamespaceSlot& slot) {
  thread_.send([this, released = &slot] { retired_.erase(released); });
}

void ServerGroup::io_done(NamespaceSlot& slot) {
  CATNAP_DCHECK(slot.in_flight > 0);
  --slot.in_flight;
  pending_bdev_io_.store(pending_bdev_io_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
  if (slot.retired && slot.in_flight == 0) release_later(slot);
}

}  // namespace catnap::server
