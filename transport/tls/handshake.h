// The handshake of one connection, on its socket: records are read and sent on a lightweight thread, which is cheap, and every step of the library is
// taken on the worker pool, which is not (a key exchange with ffdhe3072 takes milliseconds). Client and server alike.
// Owner: the thread it was made on. Left out: the server's look at the ClientHello (transport/tcp/secure_acceptor.h), deadlines (the owner destroys
// it).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "reactor/base/error.h"
#include "reactor/thread.h"
#include "transport/tls/record_reader.h"
#include "transport/tls/stream.h"

namespace catnap::tls {

// Runs calls on other OS threads, in any order.
using Executor = std::function<void(std::move_only_function<void()> work)>;
// The worker pool of the process; without one (a tool that has none) at once, here.
Executor worker_pool();

class Handshake {
 public:
  // What a step on a worker leaves behind.
  struct Turn {
    Turn() = default;
    std::unique_ptr<Stream> stream;
    Stream::Step step = Stream::Step::failed;
    std::vector<std::byte> out;
    std::string why;  // when it failed
    bool by_peer = false;
  };
  struct User {
    // The server's only: a record in front of the stream's birth. It calls begin() sooner or later, or stop().
    std::function<void(std::vector<std::byte> record)> first_record;
    // The first bytes of a connection that speaks no TLS.
    std::function<void(Bytes bytes)> no_tls;
    // Over; the socket is free again. One of the two, once; the handshake may be stopped within, and destroyed later.
    std::function<void(std::unique_ptr<Stream> stream)> done;
    std::function<void(Error why)> failed;
  };

  // `fd` stays the owner's.
  Handshake(Thread& thread, int fd, std::string name, Executor executor, User user);
  // A step under way ends by itself, and its stream with it.
  ~Handshake();
  Handshake(const Handshake&) = delete;
  Handshake& operator=(const Handshake&) = delete;

  // Waits for records: the server's beginning.
  void listen();
  // `make` runs on a worker: makes the stream and takes its first step.
  void begin(std::move_only_function<Turn()> make);
  // Nobody is told anything any more, and the socket is free.
  void stop();
  // Says `bytes` (an alert) as far as the socket takes it.
  void say(Bytes bytes);

  // One step, for `make`.
  static Turn step(std::unique_ptr<Stream> stream, Bytes records);

 private:
  void watch(std::uint32_t events);
  void on_event();
  void run(std::move_only_function<Turn()> work);
  void stepped(Turn turn);
  void go_on();
  bool send_out();
  void offload();
  void finish(std::unique_ptr<Stream> stream);
  void give_up(Error why);

  Thread& thread_;
  int fd_;
  std::string name_;
  Executor executor_;
  User user_;
  RecordReader reader_;
  std::unique_ptr<Stream> stream_;
  Stream::Step step_ = Stream::Step::more;
  std::vector<std::byte> out_;
  std::size_t out_at_ = 0;
  std::uint32_t watched_ = 0;         // events; 0: not in the fd group
  bool shaking_ = false;              // there is a stream, or it is being made
  std::shared_ptr<Handshake*> self_;  // null inside when this is gone
};

}  // namespace catnap::tls
