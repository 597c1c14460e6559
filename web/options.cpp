// --http and its kin (options.h).
// Owner: main(), before any thread.
#include "web/options.h"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <system_error>

namespace catnap::web {

void add_options(CLI::App& app, Options& options) {
  constexpr const char* group = "HTTP";
  const auto bounded = [&](const char* name, std::uint32_t& value, std::uint32_t least, std::uint32_t most, const char* help) {
    app.add_option(name, value, help)->capture_default_str()->check(CLI::Range(least, most))->group(group);
  };
  app.add_option("--http", options.address,
                 "Serve JSON-RPC, /metrics, /healthz, /readyz and the dashboard at ADDRESS:PORT, as 127.0.0.1:9420 or [::1]:9420; off without it")
      ->group(group);
  app.add_option("--http-credentials", options.credentials_file, "Who may use it, one NAME:ROLE:HASH a line (docs/web.md); needed off loopback")
      ->group(group);
  app.add_option("--http-cert", options.certificate_file, "TLS: certificate and chain, PEM")->group(group);
  app.add_option("--http-key", options.key_file, "TLS: key of the certificate, PEM")->group(group);
  bounded("--http-max-request-kib", options.max_request_kib, 1, 65536, "Largest body of a request");
  bounded("--http-max-header-kib", options.max_header_kib, 4, 1024, "Memory of a connection for its request line and headers");
  bounded("--http-max-connections", options.max_connections, 1, 4096, "Most connections at a time; more wait");
  bounded("--http-max-connections-per-address", options.max_connections_per_address, 1, 4096, "Most connections of one address; more are closed");
  bounded("--http-timeout-s", options.timeout_s, 1, 3600, "A request that was begun is there by then, and its answer is taken by then");
  bounded("--http-idle-timeout-s", options.idle_timeout_s, 1, 86400, "A connection without a request ends after so long");
  bounded("--http-max-failures", options.max_failures, 1, 100000, "Wrong credentials of one address within a minute before it has to wait");
  bounded("--metrics-max-objects", options.metrics_max_objects, 1, 100000,
          "Namespaces, hosts, connections and bdevs, of each so many, that have series of their own in /metrics; the rest is summed up as other");
  bounded("--metrics-max-histograms", options.metrics_max_histograms, 0, 10000, "The same for latency histograms");
}

std::vector<std::string> directories_of_files(const Options& options) {
  std::vector<std::string> directories;
  for (const std::string* file : {&options.credentials_file, &options.certificate_file, &options.key_file}) {
    if (file->empty()) continue;
    std::error_code error;
    const std::filesystem::path named = std::filesystem::absolute(*file, error);
    directories.push_back(named.parent_path().string());
    const std::filesystem::path real = std::filesystem::canonical(named, error);
    if (!error) directories.push_back(real.parent_path().string());
  }
  return directories;
}

std::string conflict(const Options& options) {
  if (options.address.empty()) {
    const char* alone = !options.credentials_file.empty()   ? "--http-credentials"
                        : !options.certificate_file.empty() ? "--http-cert"
                        : !options.key_file.empty()         ? "--http-key"
                                                            : nullptr;
    return alone == nullptr ? std::string() : std::string(alone) + " is given without --http";
  }
  if (options.certificate_file.empty() != options.key_file.empty()) return "--http-cert and --http-key belong together";
  return "";
}

}  // namespace catnap::web
