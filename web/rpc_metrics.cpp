// Counts of RPCs (rpc_metrics.h).
// Owner: app_thread.
#include "web/rpc_metrics.h"

namespace catnap::web {

void RpcMetrics::answered(const rpc::CallRecord& record) {
  // The process asks itself for what it shows here.
  if (record.caller.kind == rpc::CallerKind::process || record.caller.kind == rpc::CallerKind::config_file) return;
  Counts& counts = methods_[record.method == nullptr ? std::string("unknown") : record.method->name];
  ++(record.outcome ? counts.ok : counts.failed);
  counts.took_ns += record.took_ns;
  took_ns_ += record.took_ns;
  latencies_.count(record.took_ns);
}

void RpcMetrics::write(MetricsPage& page) const {
  page.family("catnap_rpc_calls_total", MetricsPage::Type::counter, "JSON-RPC calls answered, by method and result");
  for (const auto& [method, counts] : methods_) {
    page.add(Labels().add("method", method).add("result", "ok").text(), counts.ok);
    page.add(Labels().add("method", method).add("result", "error").text(), counts.failed);
  }
  page.family("catnap_rpc_seconds_total", MetricsPage::Type::counter, "Time from a call to its answer, by method, waiting included");
  for (const auto& [method, counts] : methods_) page.add_seconds(Labels().add("method", method).text(), counts.took_ns);
  page.family("catnap_rpc_latency_seconds", MetricsPage::Type::histogram, "Time from a JSON-RPC call to its answer, waiting included");
  page.add_histogram({}, latencies_, took_ns_);
}

}  // namespace catnap::web
