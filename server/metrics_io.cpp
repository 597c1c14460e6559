// Families about I/O: by namespace, host, connection and block device (metrics.h). Objects beyond --metrics-max-objects are summed up under the label
// value "other", histograms beyond --metrics-max-histograms too; an object without I/O has no histogram. Owner: app_thread.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "bdev/bdev.h"
#include "server/io_statistics.h"
#include "server/metrics.h"
#include "server/nvmf_common_rpc.h"

namespace catnap::server {

using web::Labels;
using web::MetricsPage;
using Type = web::MetricsPage::Type;

namespace {

constexpr const char* class_label[io_classes] = {R"(,op="read")", R"(,op="write")", R"(,op="other")"};

// One object, or the sum of all others.
struct Row {
  std::string labels;
  IoSums sums;  // latencies only where they are shown by themselves
};

// The objects of one kind, and what those have that do not stand for themselves.
struct Rows {
  std::vector<Row> rows;
  std::string other_labels;
  bool has_other = false;  // the last row is that of the others
  IoSums other_latencies;
};

// The families of one kind of object.
struct Names {
  const char* commands;
  const char* bytes;
  const char* errors;
  const char* latency;
  const char* whom;
};

constexpr Names of_namespaces{"catnap_namespace_commands_total", "catnap_namespace_bytes_total", "catnap_namespace_errors_total",
                              "catnap_namespace_latency_seconds", "of a namespace"};
constexpr Names of_hosts{"catnap_host_commands_total", "catnap_host_bytes_total", "catnap_host_errors_total", "catnap_host_latency_seconds",
                         "of a host in a subsystem"};
constexpr Names of_connections{"catnap_connection_commands_total", "catnap_connection_bytes_total", "catnap_connection_command_errors_total",
                               "catnap_connection_latency_seconds", "of a connection (an I/O queue)"};

bool any_ios(const IoSums& sums) {
  return std::ranges::any_of(sums.classes, [](const IoSums::Class& of) { return of.totals.ios > 0; });
}

void write_histograms(MetricsPage& page, const std::string& labels, const IoSums& sums) {
  for (std::size_t i = 0; i < io_classes; ++i) {
    const IoSums::Class& of = sums.classes[i];
    if (of.latencies != nullptr) page.add_histogram(labels + class_label[i], *of.latencies, of.totals.latency_ns);
  }
}

void write_rows(MetricsPage& page, const Names& names, const Rows& all) {
  const auto family = [&](const char* name, const std::string& what, std::uint64_t IoTotals::* field, bool has_other_class) {
    page.family(name, Type::counter, what + " " + names.whom);
    for (const Row& row : all.rows) {
      for (std::size_t i = 0; i < io_classes; ++i) {
        const IoTotals& totals = row.sums.classes[i].totals;
        // Reads and writes always; the rest where there was any.
        const bool is_other = i == static_cast<std::size_t>(IoClass::other);
        if (!is_other || (has_other_class && totals.ios + totals.errors > 0)) page.add(row.labels, class_label[i], totals.*field);
      }
    }
  };
  family(names.commands, "I/O commands answered with success", &IoTotals::ios, true);
  family(names.bytes, "Bytes of commands answered with success", &IoTotals::bytes, false);
  family(names.errors, "I/O commands answered with an error", &IoTotals::errors, true);
  page.family(names.latency, Type::histogram,
              std::string("Time from a command's arrival to the end of the turn that answered it, commands ") + names.whom);
  for (const Row& row : all.rows) write_histograms(page, row.labels, row.sums);
  write_histograms(page, all.other_labels, all.other_latencies);
}

// Rows of what is there. Latencies are summed up once for each object: for itself, or for all that are not shown by themselves.
template <typename Key, typename LabelsOf>
Rows rows_of(const std::vector<IoStatistics::Entry<Key>>& entries, const web::Options& options, std::string other_labels, LabelsOf labels_of) {
  Rows all;
  all.other_labels = std::move(other_labels);
  all.rows.reserve(std::min<std::size_t>(entries.size(), options.metrics_max_objects) + 1);
  IoSums others;
  std::size_t histograms = 0;
  for (const auto& entry : entries) {
    const bool has_row = all.rows.size() < options.metrics_max_objects;
    IoSums sums = entry.sum(false);
    if (has_row && histograms < options.metrics_max_histograms && any_ios(sums)) {
      ++histograms;
      sums = entry.sum(true);
    } else {
      entry.add_to(all.other_latencies);
    }
    if (has_row) {
      all.rows.push_back({labels_of(entry), std::move(sums)});
    } else {
      others.add(sums);
    }
  }
  all.has_other = entries.size() > options.metrics_max_objects;
  if (all.has_other) all.rows.push_back({all.other_labels, std::move(others)});
  return all;
}

// What is counted for nobody by name.
void add_others(Rows& all, const IoSums& more) {
  if (!all.has_other) all.rows.push_back({all.other_labels, IoSums()});
  all.has_other = true;
  for (std::size_t i = 0; i < io_classes; ++i) all.rows.back().sums.classes[i].totals += more.classes[i].totals;
  all.other_latencies.add(more);
}

}  // namespace

// By status, as the specification has it: its type and its code. Those that never were are left out.
void Metrics::write_io_errors(MetricsPage& page, const std::vector<ServerGroup*>& groups) {
  struct TypeName {
    nvme::StatusCodeType type;
    const char* name;
  };
  static constexpr TypeName types[] = {{nvme::StatusCodeType::generic, "generic"},
                                       {nvme::StatusCodeType::command_specific, "command"},
                                       {nvme::StatusCodeType::media, "media"},
                                       {nvme::StatusCodeType::path, "path"},
                                       {nvme::StatusCodeType::vendor, "vendor"}};
  page.family("catnap_command_errors_total", Type::counter,
              "I/O commands answered with an error, by status code type and status code (NVMe Base 2.0, 3.3.3.2.1)");
  for (const TypeName& type : types) {
    for (unsigned code = 0; code < 256; ++code) {
      std::uint64_t count = 0;
      for (const ServerGroup* group : groups) count += group->errors(type.type, static_cast<std::uint8_t>(code));
      if (count > 0) page.add(fmt::format(R"(type="{}",code="0x{:02x}")", type.name, code), count);
    }
  }
}

void Metrics::write_io(MetricsPage& page) const {
  const IoStatistics& statistics = controllers_.io_statistics();
  write_io_errors(page, groups_);
  const TargetSnapshot& configured = target().current();
  const Rows namespaces = rows_of(
      statistics.namespaces(), options_, Labels().add("subsystem", "other").add("nsid", "other").add("bdev", "other").text(), [&](const auto& entry) {
        const SubsystemSnapshot* subsystem = configured.find(entry.key.nqn);
        std::string bdev;
        if (subsystem != nullptr && subsystem->namespaces.contains(entry.key.nsid)) {
          bdev = subsystem->namespaces.at(entry.key.nsid)->bdev_name;
        }
        return Labels().add("subsystem", entry.key.nqn).add("nsid", std::uint64_t{entry.key.nsid}).add("bdev", bdev).text();
      });
  IoSums all;
  all.add(namespaces.other_latencies);
  for (const Row& row : namespaces.rows) {
    if (row.labels != namespaces.other_labels && row.sums.has_latencies()) all.add(row.sums);
  }
  page.family("catnap_command_latency_seconds", Type::histogram,
              "Time from an I/O command's arrival to the end of the turn that answered it, all namespaces");
  for (std::size_t i = 0; i < io_classes; ++i) {
    static const LatencyCounts none;
    const IoSums::Class& of = all.classes[i];
    page.add_histogram(std::string_view(class_label[i]).substr(1), of.latencies != nullptr ? *of.latencies : none, of.totals.latency_ns);
  }
  write_rows(page, of_namespaces, namespaces);

  Rows hosts = rows_of(statistics.hosts(), options_, Labels().add("subsystem", "other").add("host", "other").text(),
                       [](const auto& entry) { return Labels().add("subsystem", entry.key.nqn).add("host", entry.key.hostnqn).text(); });
  if (const auto past = statistics.other_hosts(); past != nullptr) add_others(hosts, *past);
  write_rows(page, of_hosts, hosts);

  const Rows connections =
      rows_of(statistics.connections(), options_,
              Labels().add("subsystem", "other").add("host", "other").add("cntlid", "other").add("qid", "other").text(), [](const auto& entry) {
                return Labels()
                    .add("subsystem", entry.key.host.nqn)
                    .add("host", entry.key.host.hostnqn)
                    .add("cntlid", std::uint64_t{entry.key.cntlid})
                    .add("qid", std::uint64_t{entry.key.qid})
                    .text();
              });
  write_rows(page, of_connections, connections);
}

// --- block devices ---

namespace {

struct BdevOp {
  bdev::Op op;
  const char* label;
};
constexpr BdevOp bdev_ops[] = {
    {bdev::Op::read, R"(,op="read")"},
    {bdev::Op::write, R"(,op="write")"},
    {bdev::Op::flush, R"(,op="flush")"},
    {bdev::Op::unmap, R"(,op="unmap")"},
    {bdev::Op::write_zeroes, R"(,op="write_zeroes")"},
};

void add_up(bdev::IoStats& sum, const bdev::IoStats& more) {
  for (std::size_t i = 0; i < bdev::op_count; ++i) {
    sum.ops[i] += more.ops[i];
    sum.bytes[i] += more.bytes[i];
    sum.latency_ns[i] += more.latency_ns[i];
    sum.errors[i] += more.errors[i];
  }
}

}  // namespace

void Metrics::write_bdevs(MetricsPage& page) const {
  struct BdevRow {
    std::string labels;
    bdev::IoStats stats;
  };
  std::vector<BdevRow> rows;
  const auto bdevs = bdev::Registry::instance().all();
  rows.reserve(bdevs.size());
  for (const auto& bdev : bdevs) {
    if (rows.size() < options_.metrics_max_objects) {
      rows.push_back({Labels().add("bdev", bdev->name()).add("product", bdev->info().product_name).text(), bdev->stats()});
      continue;
    }
    if (rows.size() == options_.metrics_max_objects) rows.push_back({Labels().add("bdev", "other").add("product", "other").text(), bdev::IoStats()});
    add_up(rows.back().stats, bdev->stats());
  }
  // What a device never did is left out, but for reads and writes.
  const auto family = [&](const char* name, const char* help, bool every_op, auto add) {
    page.family(name, Type::counter, help);
    for (const BdevRow& row : rows) {
      for (const BdevOp& of : bdev_ops) {
        const auto i = static_cast<std::size_t>(of.op);
        const bool basic = of.op == bdev::Op::read || of.op == bdev::Op::write;
        if ((basic && every_op) || row.stats.ops[i] + row.stats.errors[i] > 0) add(row.labels, of.label, row.stats, i);
      }
    }
  };
  page.family("catnap_bdevs", Type::gauge, "Block devices there are");
  page.add({}, bdevs.size());
  family("catnap_bdev_ios_total", "I/Os of a block device that ended well", true,
         [&](const std::string& labels, const char* op, const bdev::IoStats& stats, std::size_t i) { page.add(labels, op, stats.ops[i]); });
  family("catnap_bdev_bytes_total", "Bytes of a block device's I/Os", true,
         [&](const std::string& labels, const char* op, const bdev::IoStats& stats, std::size_t i) { page.add(labels, op, stats.bytes[i]); });
  family("catnap_bdev_errors_total", "I/Os of a block device that failed", false,
         [&](const std::string& labels, const char* op, const bdev::IoStats& stats, std::size_t i) { page.add(labels, op, stats.errors[i]); });
  family("catnap_bdev_seconds_total", "Time that a block device's I/Os took, added up; by turns of the loop, so 0 for what ends within one", false,
         [&](const std::string& labels, const char* op, const bdev::IoStats& stats, std::size_t i) {
           page.add_seconds(labels, op, stats.latency_ns[i]);
         });
}

}  // namespace catnap::server
