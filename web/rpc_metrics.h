// How often each JSON-RPC method was called, what came of it and how long it took.
// Owner: app_thread. Left out: who called (the audit log has it).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "rpc/caller.h"
#include "web/prometheus.h"

namespace catnap::web {

class RpcMetrics final : public rpc::CallObserver {
 public:
  void answered(const rpc::CallRecord& record) override;
  void write(MetricsPage& page) const;

 private:
  struct Counts {
    std::uint64_t ok = 0, failed = 0, took_ns = 0;
  };
  // By method; names that nobody knows share "unknown", so the methods bound it.
  std::map<std::string, Counts, std::less<>> methods_;
  LatencyCounts latencies_;
  std::uint64_t took_ns_ = 0;
};

}  // namespace catnap::web
