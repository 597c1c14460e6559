// Is each reactor alive? Judged from two looks at it, some time apart: one that has turned meanwhile is alive, and so is one that sleeps with nothing
// due; one that has come out of no callback is not, nor is one that sleeps although there is work for it.
// Owner: app_thread, which looks at other OS threads' reactors through what they publish (Reactor::wait_state()).
// Left out: the control thread's own reactor (it is the one that looks), and the worker pool: its calls wait for disks, and starting anew does not
// mend a disk.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "reactor/reactor.h"

namespace catnap::server {

// One look at one reactor.
struct LifeSign {
  std::uint64_t turns = 0;  // that have ended
  std::uint64_t waits = 0;  // that have ended: the same number twice means the same wait
  bool waiting = false;     // inside the wait
  std::string work;         // what it should have woken up for; "": nothing
};

LifeSign look_at(const Reactor& reactor);

// What is wrong, for a sentence that begins with the reactor's name; nothing: it is alive, or may be.
std::optional<std::string> why_not_alive(const LifeSign& before, const LifeSign& now);

class Liveness {
 public:
  // Compares with the look before. The first names of "reactor_0: does not ..." sentences, "" when all are alive. The first look finds nothing.
  std::string look(const std::vector<Reactor*>& reactors);

 private:
  std::map<const Reactor*, LifeSign> before_;
};

}  // namespace catnap::server
