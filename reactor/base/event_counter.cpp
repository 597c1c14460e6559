// The list of all counters (event_counter.h).
// Owner: static initialisation fills it, before main(); nobody changes it then.
#include "reactor/base/event_counter.h"

#include <algorithm>
#include <utility>

namespace catnap {
namespace {

std::vector<const EventCounter*>& list() {
  static std::vector<const EventCounter*> counters;
  return counters;
}

}  // namespace

EventCounter::EventCounter(const char* name, const char* help, const char* labels) : name_(name), help_(help), labels_(labels) {
  list().push_back(this);
}

std::vector<const EventCounter*> EventCounter::all() {
  std::vector<const EventCounter*> sorted = list();
  std::ranges::sort(sorted, {}, [](const EventCounter* counter) { return std::pair(counter->name(), counter->labels()); });
  return sorted;
}

}  // namespace catnap
