// I/O of hosts counted by namespace, host and connection: commands, bytes, errors, latencies from a command's arrival to the end of the turn that
// answered it. Owner: an IoCounts: the poll group's thread that counts in it, any may read meanwhile; IoStatistics: any OS thread (a mutex, which no
// I/O takes). Left out: block devices (bdev.h has statistics of its own), admin commands.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "reactor/base/latency_histogram.h"

namespace catnap::server {

enum class IoClass : std::uint8_t { read, write, other };  // write: also write zeroes; other: flush, compare, copy, verify, reservations...
inline constexpr std::size_t io_classes = 3;
const char* io_class_name(IoClass io_class);

// Counts as plain numbers, of one class.
struct IoTotals {
  std::uint64_t ios = 0, bytes = 0, errors = 0, latency_ns = 0;
  IoTotals& operator+=(const IoTotals& other);
};

// What one thread counts for one object. Histograms are made with the first I/O of their class: a thousand idle namespaces have none.
class IoCounts {
 public:
  // Several I/Os that were answered with success; each is counted in the histogram besides.
  void count(IoClass io_class, const IoTotals& more) {
    Class& of = classes_[static_cast<std::size_t>(io_class)];
    add(of.ios, more.ios);
    add(of.bytes, more.bytes);
    add(of.latency_ns, more.latency_ns);
  }
  LatencyHistogram& histogram(IoClass io_class) {
    Class& of = classes_[static_cast<std::size_t>(io_class)];
    LatencyHistogram* const made = of.histogram.load(std::memory_order_relaxed);
    return made != nullptr ? *made : *first(of);
  }
  void count_error(IoClass io_class) { add(classes_[static_cast<std::size_t>(io_class)].errors, 1); }

  IoTotals totals(IoClass io_class) const;
  const LatencyHistogram* latencies(IoClass io_class) const;  // null: none yet
  ~IoCounts();
  IoCounts() = default;
  IoCounts(const IoCounts&) = delete;
  IoCounts& operator=(const IoCounts&) = delete;

 private:
  struct Class {
    std::atomic<std::uint64_t> ios{0}, bytes{0}, errors{0}, latency_ns{0};
    std::atomic<LatencyHistogram*> histogram{nullptr};
  };
  static void add(std::atomic<std::uint64_t>& counter, std::uint64_t by) {
    counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }
  static LatencyHistogram* first(Class& of);

  std::array<Class, io_classes> classes_;
};

// A command that was answered in this turn.
struct FinishedIo {
  IoCounts* connection = nullptr;
  IoCounts* name_space = nullptr;  // null: of no one namespace
  std::uint64_t began_ns = 0;
  std::uint32_t bytes = 0;
  IoClass io_class = IoClass::other;

  bool counts_where(const FinishedIo& other) const {
    return connection == other.connection && name_space == other.name_space && io_class == other.io_class;
  }
};
// Counts the first of these and those behind it that count in the same places; mostly all of a turn, so their sums are added up before they are
// added. Returns what comes behind them.
inline const FinishedIo* count_run(const FinishedIo* first, const FinishedIo* end, std::uint64_t now_ns) {
  LatencyHistogram& of_connection = first->connection->histogram(first->io_class);
  LatencyHistogram* const of_namespace = first->name_space == nullptr ? nullptr : &first->name_space->histogram(first->io_class);
  IoTotals sum;
  const FinishedIo* io = first;
  do {
    const std::uint64_t latency_ns = now_ns > io->began_ns ? now_ns - io->began_ns : 0;
    const std::size_t bucket = LatencyHistogram::bucket_of(latency_ns);
    of_connection.count_in(bucket);
    if (of_namespace != nullptr) of_namespace->count_in(bucket);
    ++sum.ios;
    sum.bytes += io->bytes;
    sum.latency_ns += latency_ns;
    ++io;
  } while (io != end && io->counts_where(*first));
  first->connection->count(first->io_class, sum);
  if (first->name_space != nullptr) first->name_space->count(first->io_class, sum);
  return io;
}

// Counts of several objects, or of one that is gone, summed up.
struct IoSums {
  struct Class {
    IoTotals totals;
    std::unique_ptr<LatencyCounts> latencies;  // null: none
  };
  std::array<Class, io_classes> classes;

  void add(const IoCounts& counts, bool with_latencies = true);
  void add(const IoSums& other, bool with_latencies = true);
  bool empty() const;
  bool has_latencies() const;
  const Class& of(IoClass io_class) const { return classes[static_cast<std::size_t>(io_class)]; }
};

// Who counts what, now and before.
class IoStatistics {
 public:
  // Hosts that are gone whose counts are remembered each by itself; those of further ones go into other_hosts(): hosts choose their names.
  static constexpr std::size_t max_past_hosts = 256;

  struct NamespaceKey {
    std::string nqn;
    std::uint32_t nsid = 0;
    auto operator<=>(const NamespaceKey&) const = default;
  };
  struct HostKey {
    std::string nqn;
    std::string hostnqn;
    auto operator<=>(const HostKey&) const = default;
  };
  struct ConnectionKey {
    HostKey host;
    std::uint16_t cntlid = 0;
    std::uint16_t qid = 0;
  };

  // --- for groups ---
  std::shared_ptr<IoCounts> add_namespace(const NamespaceKey& key);
  void remove_namespace(const NamespaceKey& key, const std::shared_ptr<IoCounts>& counts);
  std::shared_ptr<IoCounts> add_connection(const ConnectionKey& key);
  void remove_connection(const ConnectionKey& key, const std::shared_ptr<IoCounts>& counts);
  // It is not configured any more: what was counted for it goes with it.
  void forget_namespace(const NamespaceKey& key);
  void forget_subsystem(const std::string& nqn);

  // --- for readers: who counts now, and the sum of those that are gone (null: nothing). By key. ---
  template <typename Key>
  struct Entry {
    Key key;
    std::vector<std::shared_ptr<const IoCounts>> live;
    std::shared_ptr<const IoSums> past;

    // Into sums of several, latencies included.
    void add_to(IoSums& all) const {
      if (past != nullptr) all.add(*past);
      for (const auto& counts : live) all.add(*counts);
    }
    IoSums sum(bool with_latencies) const {
      IoSums all;
      if (past != nullptr) all.add(*past, with_latencies);
      for (const auto& counts : live) all.add(*counts, with_latencies);
      return all;
    }
  };
  std::vector<Entry<NamespaceKey>> namespaces() const;
  std::vector<Entry<HostKey>> hosts() const;
  std::vector<Entry<ConnectionKey>> connections() const;
  std::shared_ptr<const IoSums> other_hosts() const;

 private:
  struct Counted {
    std::vector<std::shared_ptr<IoCounts>> live;
    std::shared_ptr<const IoSums> past;
    bool forgotten = false;
    std::uint64_t left = 0;  // when the last one went, as a rising number
  };
  struct Connection {
    ConnectionKey key;
    std::shared_ptr<IoCounts> counts;
  };
  static void leave(Counted& counted, const std::shared_ptr<IoCounts>& counts);
  void bound_past_hosts();

  mutable std::mutex mutex_;
  std::map<NamespaceKey, Counted> namespaces_;
  std::map<HostKey, Counted> hosts_;
  std::vector<Connection> connections_;
  std::shared_ptr<const IoSums> other_hosts_;
  std::size_t past_hosts_ = 0;
  std::uint64_t leaves_ = 0;
};

}  // namespace catnap::server
