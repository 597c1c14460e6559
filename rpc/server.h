// JSON-RPC 2.0 over a Unix socket, wire-compatible with SPDK's: a stream of JSON values without framing in both directions.
// Owner: app_thread. Left out: HTTP, TLS, authentication (the socket's mode is the permission).
//
// Use in main():
//   rpc::MethodTable methods;                       register_X_methods(methods) of every module
//   rpc::ConfigRegistry registry;                   modules add their dumps
//   rpc::Lifecycle lifecycle(initialise);           std::function<Task<Result<void>>()>: what framework_start_init does
//   rpc::Dispatcher dispatcher(methods, lifecycle);
//   rpc::register_framework_methods(methods, lifecycle, registry);  register_introspection_methods(methods, lifecycle);
//   auto server = rpc::Server::listen(options, dispatcher);         on app_thread; an Error names the path
//   calls of a configuration file:  auto reply = co_await dispatcher.call(method, params, rpc::Origin::config_file);
//   without --wait-for-rpc:         spawn(lifecycle.start(), …);
//   at the end: (*server)->close() on app_thread (sends what the sockets take, removes socket and lock file), or destroy it there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "reactor/base/error.h"
#include "reactor/base/log.h"
#include "reactor/thread.h"
#include "rpc/dispatcher.h"
#include "rpc/unix_listener.h"

namespace catnap::rpc {

class Connection;

struct ServerOptions {
  std::string path = "/var/tmp/spdk.sock";
  // One request or batch, in bytes. The longest real ones are configuration batches of some hundred KiB.
  std::size_t max_request_bytes = std::size_t{4} << 20;
  // Reply bytes a connection may have unsent before its further requests wait unread. One reply may be longer; it is sent whole.
  std::size_t max_unsent_bytes = std::size_t{1} << 20;
  // Requests of one connection that may be under way; more wait unread. Longhorn sends up to 1024 at once.
  std::size_t max_requests_in_flight = 1024;
  // Requests in one batch; a longer batch is refused whole.
  std::size_t max_batch_requests = 1024;
  // Open connections; a further one gets an error and is closed. Control planes keep a handful, monitors one each.
  std::size_t max_connections = 128;
  // What those who connect may do; that they can connect at all is the socket file's permissions.
  Role role = Role::admin;
};

class Server {
 public:
  // Listens and serves on the current thread (app_thread). `dispatcher` must outlive the server.
  static Result<std::unique_ptr<Server>> listen(ServerOptions options, Dispatcher& dispatcher);
  // The same at a socket bound before, whose connections have waited unserved: a process claims its socket first, and serves when it is configured.
  // options.path is the listener's.
  static Result<std::unique_ptr<Server>> serve(ServerOptions options, Dispatcher& dispatcher, UnixListener listener);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Takes no further requests, sends what the sockets take without waiting, closes everything and removes the socket's file.
  // Calls under way run on; their replies are dropped. Calling it again does nothing.
  void close();

  const ServerOptions& options() const { return options_; }
  std::size_t connection_count() const { return connections_.size(); }

 private:
  friend class Connection;

  Server(ServerOptions options, Dispatcher& dispatcher, UnixListener listener);
  Result<void> start();
  CallerPtr caller_of(int fd) const;
  void accept_ready();
  void admit(int fd);
  void shed_one_without_fds();
  void forget(int fd);

  ServerOptions options_;
  Dispatcher& dispatcher_;
  Thread& thread_;
  std::unique_ptr<UnixListener> listener_;
  std::unordered_map<int, std::shared_ptr<Connection>> connections_;
  // Held in reserve: when the process is out of fds, giving it up lets us accept a connection in order to close it, instead of spinning.
  int spare_fd_ = -1;
  LogOnce limit_said_;
};

}  // namespace catnap::rpc
