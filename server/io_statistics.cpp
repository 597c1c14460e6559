// Who counts I/O (io_statistics.h).
// Owner: any OS thread, under the mutex.
#include "server/io_statistics.h"

#include <algorithm>

namespace catnap::server {

const char* io_class_name(IoClass io_class) {
  static constexpr const char* names[io_classes] = {"read", "write", "other"};
  return names[static_cast<std::size_t>(io_class)];
}

IoTotals& IoTotals::operator+=(const IoTotals& other) {
  ios += other.ios;
  bytes += other.bytes;
  errors += other.errors;
  latency_ns += other.latency_ns;
  return *this;
}

IoCounts::~IoCounts() {
  for (Class& of : classes_) delete of.histogram.load(std::memory_order_relaxed);
}

LatencyHistogram* IoCounts::first(Class& of) {
  auto* const histogram = new LatencyHistogram;
  of.histogram.store(histogram, std::memory_order_release);
  return histogram;
}

IoTotals IoCounts::totals(IoClass io_class) const {
  const Class& of = classes_[static_cast<std::size_t>(io_class)];
  const auto read = [](const std::atomic<std::uint64_t>& counter) { return counter.load(std::memory_order_relaxed); };
  return {read(of.ios), read(of.bytes), read(of.errors), read(of.latency_ns)};
}

const LatencyHistogram* IoCounts::latencies(IoClass io_class) const {
  return classes_[static_cast<std::size_t>(io_class)].histogram.load(std::memory_order_acquire);
}

void IoSums::add(const IoCounts& counts, bool with_latencies) {
  for (std::size_t i = 0; i < io_classes; ++i) {
    classes[i].totals += counts.totals(static_cast<IoClass>(i));
    const LatencyHistogram* histogram = with_latencies ? counts.latencies(static_cast<IoClass>(i)) : nullptr;
    if (histogram == nullptr) continue;
    if (classes[i].latencies == nullptr) classes[i].latencies = std::make_unique<LatencyCounts>();
    classes[i].latencies->add(*histogram);
  }
}

void IoSums::add(const IoSums& other, bool with_latencies) {
  for (std::size_t i = 0; i < io_classes; ++i) {
    classes[i].totals += other.classes[i].totals;
    if (!with_latencies || other.classes[i].latencies == nullptr) continue;
    if (classes[i].latencies == nullptr) classes[i].latencies = std::make_unique<LatencyCounts>();
    classes[i].latencies->add(*other.classes[i].latencies);
  }
}

bool IoSums::has_latencies() const {
  return std::ranges::any_of(classes, [](const Class& of) { return of.latencies != nullptr; });
}

bool IoSums::empty() const {
  return std::ranges::all_of(classes, [](const Class& of) { return of.totals.ios == 0 && of.totals.errors == 0; });
}

// --- who counts ---

// Takes it off the list, and what it has counted into the sum of those that are gone. Readers keep the sum that they have.
void IoStatistics::leave(Counted& counted, const std::shared_ptr<IoCounts>& counts) {
  std::erase(counted.live, counts);
  IoSums more;
  more.add(*counts);
  if (more.empty()) return;
  auto past = std::make_shared<IoSums>();
  if (counted.past != nullptr) past->add(*counted.past);
  past->add(more);
  counted.past = std::move(past);
}

std::shared_ptr<IoCounts> IoStatistics::add_namespace(const NamespaceKey& key) {
  auto counts = std::make_shared<IoCounts>();
  const std::lock_guard lock(mutex_);
  Counted& counted = namespaces_[key];
  counted.forgotten = false;
  counted.live.push_back(counts);
  return counts;
}

void IoStatistics::remove_namespace(const NamespaceKey& key, const std::shared_ptr<IoCounts>& counts) {
  const std::lock_guard lock(mutex_);
  const auto found = namespaces_.find(key);
  if (found == namespaces_.end()) return;
  leave(found->second, counts);
  if (found->second.forgotten && found->second.live.empty()) namespaces_.erase(found);
}

void IoStatistics::forget_namespace(const NamespaceKey& key) {
  const std::lock_guard lock(mutex_);
  const auto found = namespaces_.find(key);
  if (found == namespaces_.end()) return;
  found->second.forgotten = true;
  found->second.past.reset();
  if (found->second.live.empty()) namespaces_.erase(found);
}

std::shared_ptr<IoCounts> IoStatistics::add_connection(const ConnectionKey& key) {
  auto counts = std::make_shared<IoCounts>();
  const std::lock_guard lock(mutex_);
  connections_.push_back({key, counts});
  const auto [at, is_new] = hosts_.try_emplace(key.host);
  Counted& counted = at->second;
  if (!is_new && counted.live.empty()) --past_hosts_;
  counted.forgotten = false;
  counted.live.push_back(counts);
  return counts;
}

void IoStatistics::remove_connection(const ConnectionKey& key, const std::shared_ptr<IoCounts>& counts) {
  const std::lock_guard lock(mutex_);
  std::erase_if(connections_, [&](const Connection& connection) { return connection.counts == counts; });
  const auto found = hosts_.find(key.host);
  if (found == hosts_.end()) return;
  leave(found->second, counts);
  if (!found->second.live.empty()) return;
  if (found->second.forgotten) {
    hosts_.erase(found);
    return;
  }
  found->second.left = ++leaves_;
  ++past_hosts_;
  bound_past_hosts();
}

// The one that left longest ago becomes one of the others.
void IoStatistics::bound_past_hosts() {
  while (past_hosts_ > max_past_hosts) {
    auto oldest = hosts_.end();
    for (auto at = hosts_.begin(); at != hosts_.end(); ++at) {
      if (at->second.live.empty() && (oldest == hosts_.end() || at->second.left < oldest->second.left)) oldest = at;
    }
    if (oldest == hosts_.end()) return;
    if (oldest->second.past != nullptr) {
      auto others = std::make_shared<IoSums>();
      if (other_hosts_ != nullptr) others->add(*other_hosts_);
      others->add(*oldest->second.past);
      other_hosts_ = std::move(others);
    }
    hosts_.erase(oldest);
    --past_hosts_;
  }
}

void IoStatistics::forget_subsystem(const std::string& nqn) {
  const std::lock_guard lock(mutex_);
  for (auto at = hosts_.begin(); at != hosts_.end();) {
    Counted& counted = at->second;
    if (at->first.nqn != nqn) {
      ++at;
      continue;
    }
    counted.forgotten = true;
    counted.past.reset();
    if (counted.live.empty()) {
      --past_hosts_;
      at = hosts_.erase(at);
    } else {
      ++at;
    }
  }
}

// --- reading ---

namespace {

template <typename Entry, typename Map>
std::vector<Entry> entries_of(const Map& counted) {
  std::vector<Entry> entries;
  entries.reserve(counted.size());
  for (const auto& [key, of] : counted) entries.push_back({key, {of.live.begin(), of.live.end()}, of.past});
  return entries;
}

}  // namespace

std::vector<IoStatistics::Entry<IoStatistics::NamespaceKey>> IoStatistics::namespaces() const {
  const std::lock_guard lock(mutex_);
  return entries_of<Entry<NamespaceKey>>(namespaces_);
}

std::vector<IoStatistics::Entry<IoStatistics::HostKey>> IoStatistics::hosts() const {
  const std::lock_guard lock(mutex_);
  return entries_of<Entry<HostKey>>(hosts_);
}

std::vector<IoStatistics::Entry<IoStatistics::ConnectionKey>> IoStatistics::connections() const {
  const std::lock_guard lock(mutex_);
  std::vector<Entry<ConnectionKey>> entries;
  entries.reserve(connections_.size());
  for (const Connection& connection : connections_) entries.push_back({connection.key, {connection.counts}, nullptr});
  return entries;
}

std::shared_ptr<const IoSums> IoStatistics::other_hosts() const {
  const std::lock_guard lock(mutex_);
  return other_hosts_;
}

}  // namespace catnap::server
