// The HTTP server: JSON-RPC at POST / and /rpc, /metrics, /healthz, /readyz, and the dashboard. libmicrohttpd parses and writes; it is run by the
// loop of app_thread, when a socket of its epoll set is ready, and otherwise not at all: while nobody talks, nothing wakes up. Owner: app_thread, but
// prepare(): main's OS thread, before any other. Left out: what a request may do (request.h), who somebody is (authenticator.h).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "reactor/base/error.h"
#include "reactor/base/log.h"
#include "reactor/deferred.h"
#include "reactor/thread.h"
#include "reactor/worker_pool.h"
#include "rpc/dispatcher.h"
#include "web/address.h"
#include "web/authenticator.h"
#include "web/certificate.h"
#include "web/credentials.h"
#include "web/options.h"

struct MHD_Connection;
struct MHD_Daemon;

namespace catnap::web {

class Peer;
class Request;

// What can go wrong with the options has gone wrong by then: files are read, the socket listens. Made before privileges are given up.
class Prepared {
 public:
  // `future_user`: who the process is about to become (--user). Errors: those of Address, Credentials and Certificate; EACCES for an address off
  // loopback without credentials.
  static Result<Prepared> prepare(const Options& options, std::optional<uid_t> future_user = std::nullopt);
  Prepared(Prepared&& other) noexcept;
  Prepared& operator=(Prepared&&) = delete;
  ~Prepared();

  const Address& address() const { return address_; }
  bool tls() const { return certificate_ != nullptr; }

 private:
  friend class Server;
  Prepared() = default;

  Options options_;
  Address address_;
  int listen_fd_ = -1;
  std::optional<Credentials> credentials_;
  std::shared_ptr<const Certificate> certificate_;  // null: no TLS
};

// What the server stands on; all outlive it.
struct Services {
  Services(rpc::Dispatcher& rpc_dispatcher, WorkerPool& worker_pool) : dispatcher(rpc_dispatcher), workers(worker_pool) {}
  rpc::Dispatcher& dispatcher;
  WorkerPool& workers;
  // Why the process is not alive, or not ready to serve; "": it is.
  std::function<std::string()> not_alive;
  std::function<std::string()> not_ready;
  // Are RPCs taken now? Until then they are answered with 503.
  std::function<bool()> takes_rpcs;
  // Calls back on app_thread with the page of metrics, now or later.
  std::function<void(std::move_only_function<void(std::string)>)> metrics;
};

class Server {
 public:
  // Serves on the current thread (app_thread). Errors: EINVAL, libmicrohttpd does not start.
  static Result<std::unique_ptr<Server>> serve(Prepared prepared, Services services);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Where the dashboard is, for people.
  std::string url() const { return (tls() ? "https://" : "http://") + address_.text() + "/"; }
  // Until when the certificate that new connections are shown is valid, in seconds since 1970; nothing: no TLS.
  std::optional<std::int64_t> certificate_end_s() const;
  // Reads credentials and certificate again, on a worker, and says in the log what came of it. What is good counts for what comes from then on:
  // requests that were begun, and connections with the certificate that they were shown, go on. What is not leaves all as it was. `done` once, unless
  // the server has ended before.
  void reload(std::function<void()> done);
  // Ends every connection at once and stops listening. Calling it again does nothing.
  void close();

  // --- for Request ---
  const Options& options() const { return options_; }
  const Services& services() const { return services_; }
  Authenticator* authenticator() const { return authenticator_.get(); }  // null: no credentials are asked for
  bool tls() const { return certificate_ != nullptr; }
  // A suspended request can go on.
  void go_on(Request& request);
  Request* begun(MHD_Connection* connection);
  void ended(Request* request);
  void suspended(Request& request) { suspended_.insert(&request); }

 private:
  friend struct Callbacks;
  // What a worker has read again.
  struct Fresh;

  Server(Prepared prepared, Services services);
  Result<void> start();
  static Fresh read_again(const Options& options);
  void take(Fresh fresh);
  void accept_ready();
  void shed_one_without_fds();
  void admit(int fd, const Address& from);
  void connection_began(MHD_Connection* connection, void** context);
  void connection_ended(void** context);
  void listen(bool on);
  void run();

  Options options_;
  Address address_;
  Services services_;
  Thread& thread_;
  int listen_fd_;
  bool listening_ = false;
  int spare_fd_ = -1;  // as in rpc/server.h
  MHD_Daemon* daemon_ = nullptr;
  bool running_ = false;
  Deferred run_again_;
  std::shared_ptr<Authenticator> authenticator_;
  std::shared_ptr<const Certificate> certificate_;  // null: no TLS
  std::unordered_set<Peer*> peers_;
  std::unordered_map<std::string, std::uint32_t> peers_of_address_;
  std::unordered_set<Request*> suspended_;
  Address arriving_;                // whose connection libmicrohttpd is taking over
  std::shared_ptr<Server*> alive_;  // for answers of workers: null when it has ended
  LogOnce limit_said_;
};

}  // namespace catnap::web
