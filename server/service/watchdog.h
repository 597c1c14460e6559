// Feeds the service manager's watchdog, as long as all reactors are alive.
// Owner: app_thread. Left out: judging (liveness.h); acting, which is the manager's part (it ends the process and starts it anew).
#pragma once

#include <cstdint>

#include "reactor/runtime.h"
#include "reactor/timer.h"
#include "server/service/liveness.h"
#include "server/service/notify.h"

namespace catnap::server {

class Watchdog {
 public:
  // Looks every half of notifier.watchdog_us(), which must outlive it; without a watchdog it arms nothing, and nothing wakes up for it. A reactor
  // that hangs is so found out after half to one and a half of that time, and the manager acts as long after the last feed as it was told to.
  Watchdog(Runtime& runtime, const Notifier& notifier);
  void start();
  // The threads are about to end, and so is what it looks at.
  void stop() { timer_.disarm(); }

 private:
  void look();

  Runtime& runtime_;
  const Notifier& notifier_;
  Liveness liveness_;
  Timer timer_;
  bool complained_ = false;
};

}  // namespace catnap::server
