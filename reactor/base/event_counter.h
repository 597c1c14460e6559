// Counts of things that happen, named where they happen and shown by /metrics: a module declares one as a global and adds to it.
//   catnap::EventCounter handshakes_failed{"catnap_tls_handshakes_total", "TLS handshakes by result", R"(result="failed")"};
//   handshakes_failed.add();
// Owner: whoever declares it; add() from any OS thread. Left out: the way of an I/O, whose counts belong to its thread (a locked instruction each
// here); labels with names from outside, which nobody could bound.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>
#include <vector>

namespace catnap {

class EventCounter {
 public:
  // All have static storage. `name`: catnap_..._total; counters of one name have one help text, and differ in `labels`
  // (Prometheus text: a="b",c="d"; "": none).
  EventCounter(const char* name, const char* help, const char* labels = "");
  EventCounter(const EventCounter&) = delete;
  EventCounter& operator=(const EventCounter&) = delete;

  void add(std::uint64_t by = 1) { value_.fetch_add(by, std::memory_order_relaxed); }
  std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }
  std::string_view name() const { return name_; }
  std::string_view help() const { return help_; }
  std::string_view labels() const { return labels_; }

  // Every counter of the process, by name and labels. Any OS thread, after main() began.
  static std::vector<const EventCounter*> all();

 private:
  const char* name_;
  const char* help_;
  const char* labels_;
  std::atomic<std::uint64_t> value_{0};
};

}  // namespace catnap
