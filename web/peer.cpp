// A connection's deadlines (peer.h).
// Owner: app_thread.
#include "web/peer.h"

#include <sys/socket.h>

#include <utility>

#include "reactor/base/event_counter.h"
#include "reactor/clock.h"

namespace catnap::web {
namespace {

EventCounter timed_out{"catnap_http_timeouts_total", "HTTP connections ended for being too slow or idle for too long"};

}  // namespace

Peer::Peer(Thread& thread, int fd, std::string address, std::string place)
    : thread_(thread), fd_(fd), address_(std::move(address)), place_(std::move(place)), deadline_([this] {
        timed_out.add();
        cut();
      }) {}

void Peer::expect_within(std::uint32_t seconds) {
  constexpr std::uint64_t second_us = ns_per_s / ns_per_us;
  thread_.arm_coarse(deadline_, seconds * second_us, second_us);
}

void Peer::cut() { static_cast<void>(::shutdown(fd_, SHUT_RDWR)); }

}  // namespace catnap::web
