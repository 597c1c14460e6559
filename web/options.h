// What the HTTP server is told on the command line, with its bounds.
// Owner: main(), before any thread. Left out: what it does with it (front_door.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace catnap::web {

struct Options {
  std::string address;           // ADDRESS:PORT; "": no HTTP
  std::string credentials_file;  // credentials.h
  std::string certificate_file;  // PEM, with whatever chain clients need; read again with reload() (server.h), as the other two are
  std::string key_file;          // PEM
  // Body of one request. The same as at the Unix socket: the longest real ones are configuration batches of some hundred KiB.
  std::uint32_t max_request_kib = 4096;
  // Memory of one connection for its request line, headers and buffers. Browsers send 2 KiB, cookies of other services on the same host 8 KiB.
  std::uint32_t max_header_kib = 32;
  // A browser opens six, Prometheus one, a control plane a handful.
  std::uint32_t max_connections = 64;
  // Of one address, so that one client cannot keep all others out.
  std::uint32_t max_connections_per_address = 32;
  // A request that was begun is there as a whole by then, and an answer is taken by then, or the connection ends: 4 MiB in 30 s are 1.1 Mbit/s.
  std::uint32_t timeout_s = 30;
  // A connection without a request.
  std::uint32_t idle_timeout_s = 60;
  // Wrong credentials within a minute, from one address, before it has to wait; a person mistypes a few times.
  std::uint32_t max_failures = 10;
  // Objects of a kind (namespaces, hosts, connections, bdevs...) that have series of their own in /metrics; all further ones are summed up as
  // "other".
  std::uint32_t metrics_max_objects = 1024;
  // The same for latency histograms, which are some hundred lines each.
  std::uint32_t metrics_max_histograms = 64;
};

// --http and the options that begin so.
void add_options(CLI::App& app, Options& options);
// The directories that the files lie in, by their names and by where symbolic links lead: what must stay readable for reading them again.
std::vector<std::string> directories_of_files(const Options& options);
// What does not fit together, for people; "": all is well.
std::string conflict(const Options& options);

}  // namespace catnap::web
