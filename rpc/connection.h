// One client of the RPC socket: bytes to requests, replies to bytes, and the limits between them.
// Owner: app_thread. Left out: accepting (server.cpp), calling (dispatcher.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "reactor/base/error.h"
#include "reactor/deferred.h"
#include "rpc/caller.h"
#include "rpc/json.h"

namespace catnap::rpc {

class Server;

// Lives until close(), and as an empty shell until the last call under way has answered into it.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Server& server, int fd, CallerPtr caller);  // takes the fd over
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  Result<void> open();
  // Sends what the socket takes now; arms EPOLLOUT exactly while something is left.
  void flush();
  // Gives up at once: unsent replies are lost, calls under way run on. The server forgets it.
  void close();

 private:
  void on_events(std::uint32_t events);
  void read_some();
  void process_input();
  void handle(std::string_view text);
  void finish(std::size_t requests, std::string reply);
  void send(std::string text);
  void fail_stream(RpcError error);
  bool paused() const;
  std::size_t unsent_bytes() const { return output_.size() - output_start_; }
  void settle();

  Server& server_;  // not touched once closed
  int fd_;
  const CallerPtr caller_;
  bool closed_ = false;
  bool ended_ = false;    // nothing more is read: the client ended its side, or sent what is no request
  bool stalled_ = false;  // input_ may hold whole requests that wait for room
  bool blocked_ = false;  // the socket took less than there was
  std::uint32_t events_ = 0;
  std::size_t in_flight_ = 0;
  std::string input_;
  ValueScanner scanner_;
  std::string output_;
  std::size_t output_start_ = 0;
  Deferred send_at_turn_end_;
  Deferred go_on_;
};

}  // namespace catnap::rpc
