// Reads a status file of procfs. See context_switches.h.
#include "reactor/context_switches.h"

#include <fmt/format.h>

#include <fstream>
#include <string>

namespace catnap {

ContextSwitches context_switches(int os_thread_id) {
  ContextSwitches found;
  std::ifstream status(fmt::format("/proc/self/task/{}/status", os_thread_id));
  for (std::string key; status >> key; status.ignore(4096, '\n')) {
    if (key == "voluntary_ctxt_switches:") status >> found.voluntary;
    if (key == "nonvoluntary_ctxt_switches:") status >> found.involuntary;
  }
  return found;
}

}  // namespace catnap
