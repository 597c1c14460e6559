// The watchdog's timer. See watchdog.h.
// Owner: app_thread.
#include "server/service/watchdog.h"

#include "reactor/base/log.h"

namespace catnap::server {

Watchdog::Watchdog(Runtime& runtime, const Notifier& notifier) : runtime_(runtime), notifier_(notifier), timer_([this] { look(); }) {}

void Watchdog::start() {
  if (notifier_.watchdog_us() == 0 || timer_.armed()) return;
  log_notice("the service manager's watchdog is fed every {} ms while all reactors are alive", notifier_.watchdog_us() / 2000);
  look();
}

void Watchdog::look() {
  runtime_.app_thread().arm_in_us(timer_, notifier_.watchdog_us() / 2);
  const std::string complaint = liveness_.look(runtime_.reactors());
  if (complaint.empty()) {
    if (complained_) log_notice("watchdog: all reactors are alive again");
    complained_ = false;
    notifier_.alive();
    return;
  }
  if (complained_) return;
  complained_ = true;
  log_error("watchdog: {}: the service manager is not told that catnapd is alive", complaint);
  notifier_.status(complaint);
}

}  // namespace catnap::server
