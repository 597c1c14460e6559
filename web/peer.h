// One HTTP connection as libmicrohttpd has it, and the deadlines that it has not: a request that was begun must end, an answer must be taken, silence
// has a bound. Owner: app_thread. Left out: requests (request.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "reactor/thread.h"

namespace catnap::web {

class Certificate;

class Peer {
 public:
  // `fd` is libmicrohttpd's; it is never closed here.
  Peer(Thread& thread, int fd, std::string address, std::string place);
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  const std::string& address() const { return address_; }  // 127.0.0.1
  const std::string& place() const { return place_; }      // 127.0.0.1:51000
  // What it is shown, and goes on using when others are shown a new one. Null: no TLS.
  void show(std::shared_ptr<const Certificate> certificate) { certificate_ = std::move(certificate); }
  const Certificate* certificate() const { return certificate_.get(); }
  // From now on, `seconds` for what comes next. The deadline is rounded up to whole seconds, so that many connections share a wake-up.
  void expect_within(std::uint32_t seconds);
  // Nothing is expected of it: we work.
  void expect_nothing() { deadline_.disarm(); }
  // Both directions at once; libmicrohttpd finds it closed, and ends it.
  void cut();

 private:
  Thread& thread_;
  int fd_;
  std::string address_;
  std::string place_;
  std::shared_ptr<const Certificate> certificate_;
  Timer deadline_;
};

}  // namespace catnap::web
