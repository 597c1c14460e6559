// What callers have asked of reactors and threads, by names that a restart keeps: thread ids are new each time, and a mode or a place in force may be
// anybody's doing.
// Owner: app_thread. Left out: what is in force (Reactor, Thread, Scheduler).
#pragma once

#include <map>
#include <string>

#include "reactor/cpumask.h"
#include "reactor/reactor.h"
#include "reactor/thread.h"

namespace catnap {

struct KeptSettings {
  std::map<unsigned, ReactorMode> reactor_modes;   // by CPU; with "persist"
  std::map<std::string, ThreadMode> thread_modes;  // by thread name; with "persist"
  std::map<std::string, CpuMask> cpumasks;         // by thread name; thread_set_cpumask
  std::map<std::string, unsigned> homes;           // by thread name; CPU of the reactor that "mappings" of the static scheduler names
};

}  // namespace catnap
