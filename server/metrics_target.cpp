// Families about the NVMe-oF target: connections, what came over them, and what went wrong (metrics.h).
// Owner: app_thread; the counters belong to the poll groups' threads and are read where they stand.
#include <array>

#include "server/metrics.h"
#include "transport/tcp/poll_group.h"

namespace catnap::server {

using web::MetricsPage;
using Type = web::MetricsPage::Type;

namespace {

struct TcpCounter {
  const char* label;
  tcp::Counter tcp::TcpStats::* count;
};

// What came in and went out, over all groups.
constexpr TcpCounter traffic[] = {
    {R"(direction="in")", &tcp::TcpStats::bytes_received},
    {R"(direction="out")", &tcp::TcpStats::bytes_sent},
};
constexpr TcpCounter pdus[] = {
    {R"(direction="in")", &tcp::TcpStats::pdus_received},
    {R"(direction="out")", &tcp::TcpStats::pdus_sent},
};
constexpr TcpCounter system_calls[] = {
    {R"(call="recvmsg")", &tcp::TcpStats::receive_calls},
    {R"(call="sendmsg")", &tcp::TcpStats::send_calls},
};
constexpr TcpCounter errors[] = {
    {R"(kind="header_digest")", &tcp::TcpStats::header_digest_errors},
    {R"(kind="data_digest")", &tcp::TcpStats::data_digest_errors},
    {R"(kind="terminated")", &tcp::TcpStats::terminations_sent},
    {R"(kind="timeout_icreq")", &tcp::TcpStats::timed_out_icreq},
    {R"(kind="timeout_connect")", &tcp::TcpStats::timed_out_connect},
    {R"(kind="timeout_pdu")", &tcp::TcpStats::timed_out_pdu},
    {R"(kind="timeout_r2t")", &tcp::TcpStats::timed_out_r2t},
    {R"(kind="timeout_term")", &tcp::TcpStats::timed_out_term},
    {R"(kind="stalled")", &tcp::TcpStats::stalled},
};
constexpr TcpCounter refusals[] = {
    {R"(reason="half_open")", &tcp::TcpStats::refused_half_open},
    {R"(reason="half_open_per_host")", &tcp::TcpStats::refused_half_open_per_host},
    {R"(reason="connections_per_host")", &tcp::TcpStats::refused_connections_per_host},
};

}  // namespace

void Metrics::write_target(MetricsPage& page) const {
  std::vector<tcp::TcpStats> tcp;
  ServerGroup::Stats sum;
  for (const ServerGroup* group : groups_) {
    tcp.push_back(group->tcp_stats());
    const ServerGroup::Stats of = group->stats();
    sum.current_admin_qpairs += of.current_admin_qpairs;
    sum.current_io_qpairs += of.current_io_qpairs;
    sum.current_unassociated_qpairs += of.current_unassociated_qpairs;
    sum.pending_bdev_io += of.pending_bdev_io;
    sum.completed_nvme_io += of.completed_nvme_io;
  }
  const auto family = [&](const char* name, const char* help, const auto& counters) {
    page.family(name, Type::counter, help);
    for (const TcpCounter& counter : counters) {
      std::uint64_t total = 0;
      for (const tcp::TcpStats& stats : tcp) total += (stats.*counter.count).get();
      page.add(counter.label, total);
    }
  };
  page.family("catnap_connections", Type::gauge, "NVMe/TCP connections there are, by kind; unassociated ones have not finished Connect");
  page.add(R"(kind="admin")", sum.current_admin_qpairs);
  page.add(R"(kind="io")", sum.current_io_qpairs);
  page.add(R"(kind="unassociated")", sum.current_unassociated_qpairs);
  const tcp::AcceptStats& accept = tcp::accept_stats();
  page.family("catnap_connections_accepted_total", Type::counter, "NVMe/TCP connections taken");
  page.add({}, accept.accepted.load(std::memory_order_relaxed));
  family("catnap_connections_refused_total", "NVMe/TCP connections not taken, by the limit that was reached", refusals);
  page.add(R"(reason="max_connections")", accept.refused_max_connections.load(std::memory_order_relaxed));
  page.add(R"(reason="no_fds")", accept.refused_no_fds.load(std::memory_order_relaxed));
  family("catnap_connection_errors_total", "What went wrong on NVMe/TCP connections, by kind", errors);
  family("catnap_network_bytes_total", "Bytes over NVMe/TCP connections, headers included", traffic);
  family("catnap_network_pdus_total", "PDUs over NVMe/TCP connections", pdus);
  family("catnap_network_calls_total", "System calls for NVMe/TCP connections", system_calls);
  page.family("catnap_commands_completed_total", Type::counter, "NVMe I/O commands answered");
  page.add({}, sum.completed_nvme_io);
  page.family("catnap_device_ios_pending", Type::gauge, "I/Os of hosts that block devices have at present");
  page.add({}, sum.pending_bdev_io);
}

}  // namespace catnap::server
