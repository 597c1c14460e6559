// A work bench for bdev tests: a reactor turned by hand with the real clock (disks do not follow a virtual one) that may leap over waits, one thread,
// workers, files.
// Owner: the test's OS thread. Left out: several reactors (threads_test.cpp).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bdev/bdev.h"
#include "reactor/clock.h"
#include "reactor/reactor.h"
#include "reactor/worker_pool.h"

namespace catnap::bdev {

// A file of the test's own, gone with it.
class TestFile {
 public:
  explicit TestFile(std::uint64_t size_bytes);
  ~TestFile();
  TestFile(const TestFile&) = delete;
  TestFile& operator=(const TestFile&) = delete;
  const std::string& path() const { return path_; }
  std::uint64_t size_bytes() const { return size_bytes_; }  // at first
  void resize(std::uint64_t size_bytes) const;

 private:
  std::string path_;
  std::uint64_t size_bytes_;
};

// The real time, plus what was leapt over.
class LeapingClock final : public Clock {
 public:
  std::uint64_t now_ns() const override { return system_clock().now_ns() + leapt_ns_; }
  void leap_to(std::uint64_t when_ns) { leapt_ns_ += when_ns > now_ns() ? when_ns - now_ns() : 0; }

 private:
  std::uint64_t leapt_ns_ = 0;
};

class Bench {
 public:
  Bench();
  ~Bench();
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  // Runs `call` as a message of the thread, and turns until it has run.
  void on_thread(std::function<void()> call);
  // Turns, asleep where the sleep contract allows, until `done()`; fails the test when nothing happens for long (a lost wake-up).
  void until(const std::function<bool()>& done);
  void settle();
  // Nothing ready, nothing that polls, no deadline: the reactor would sleep for ever.
  bool idle() const;
  // until() does not sleep towards a deadline but leaps to it: for bdevs in memory, where nothing else could come meanwhile.
  void leap_over_waits() { leaps_ = true; }

  LeapingClock clock;
  Reactor reactor;
  Thread* thread;
  WorkerPool workers{2};

 private:
  bool leaps_ = false;
};

// One module in one manner, as the conformance suite takes it.
struct Module {
  std::string name;
  bool keeps_data = true;
  bool unmaps = true;
  bool is_file = false;
  // Of the file's size, also where it does not use the file; `small`: with few request slots. Null: cannot be had here, `why` says so.
  std::function<std::shared_ptr<Bdev>(WorkerPool& workers, const TestFile& file, bool small, std::string& why)> make;
};
inline constexpr std::uint64_t module_size_bytes = 4 << 20;
std::vector<Module> all_modules();

}  // namespace catnap::bdev
