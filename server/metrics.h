// What /metrics shows (docs/metrics.md has each family): gathered when somebody asks, from counters that are kept anyway. Nothing is kept for it
// beside them. Owner: app_thread. Left out: the text's form (web/prometheus.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "reactor/runtime.h"
#include "reactor/task.h"
#include "rpc/dispatcher.h"
#include "server/controller_table.h"
#include "server/server_group.h"
#include "web/options.h"
#include "web/rpc_metrics.h"

namespace catnap::server {

class Metrics {
 public:
  // All given outlive it; `groups` may still be empty. Counts RPCs from now on.
  Metrics(Runtime& runtime, rpc::Dispatcher& dispatcher, ControllerTable& controllers, const std::vector<ServerGroup*>& groups,
          const web::Options& options);
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // The page, now or later, on app_thread. `certificate_end_s`: until when the HTTP server's certificate is valid, in seconds since 1970; nothing
  // without TLS.
  void collect(std::optional<std::int64_t> certificate_end_s, std::move_only_function<void(std::string)> done);

 private:
  using Done = std::move_only_function<void(std::string)>;
  static Task<void> gather(Metrics* self, std::optional<std::int64_t> certificate_end_s, std::shared_ptr<Done> done);
  void write_process(web::MetricsPage& page) const;
  void write_reactors(web::MetricsPage& page) const;
  void write_target(web::MetricsPage& page) const;
  void write_io(web::MetricsPage& page) const;
  static void write_io_errors(web::MetricsPage& page, const std::vector<ServerGroup*>& groups);
  void write_bdevs(web::MetricsPage& page) const;
  static void write_events(web::MetricsPage& page);

  Runtime& runtime_;
  rpc::Dispatcher& dispatcher_;
  ControllerTable& controllers_;
  const std::vector<ServerGroup*>& groups_;
  web::Options options_;
  web::RpcMetrics rpcs_;
  std::size_t page_bytes_ = 0;  // the last one had
};

}  // namespace catnap::server
