// See bench.h.
#include "tests/unit/bdev/bench.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "bdev/aio/aio.h"
#include "bdev/malloc/malloc.h"
#include "bdev/null/null.h"
#include "bdev/uring/uring.h"

namespace catnap::bdev {

TestFile::TestFile(std::uint64_t size_bytes) : path_(testing::TempDir() + "/catnap_bdev_XXXXXX"), size_bytes_(size_bytes) {
  const int fd = mkstemp(path_.data());
  EXPECT_GE(fd, 0);
  EXPECT_EQ(ftruncate(fd, static_cast<off_t>(size_bytes)), 0);
  close(fd);
}
TestFile::~TestFile() { unlink(path_.c_str()); }
void TestFile::resize(std::uint64_t size_bytes) const { EXPECT_EQ(truncate(path_.c_str(), static_cast<off_t>(size_bytes)), 0); }

namespace {
ReactorOptions bench_options() {
  ReactorOptions options;
  options.name = "bench";
  options.mode = ReactorMode::interrupt;
  return options;
}
}  // namespace

Bench::Bench() : reactor(bench_options(), clock) {
  auto made = std::make_unique<Thread>("bench", CpuMask::of_cpu(0));
  thread = made.get();
  reactor.adopt(std::move(made));
  settle();
}

Bench::~Bench() { settle(); }

void Bench::settle() {
  while (reactor.turn(0) > 0) {
  }
}

void Bench::on_thread(std::function<void()> call) {
  bool ran = false;
  thread->send([&ran, call = std::move(call)] {
    call();
    ran = true;
  });
  until([&ran] { return ran; });
}

void Bench::until(const std::function<bool()>& done) {
  // A turn waits up to 10 s and comes back with each event: three empty ones in a row mean that nothing will ever come.
  constexpr std::int64_t patience_ns = 10'000'000'000;
  for (int empty_turns = 0; !done();) {
    if (leaps_ && reactor.turn(0) > 0) continue;
    if (leaps_ && thread->nearest_deadline_ns() != TimerHeap::never_ns) clock.leap_to(thread->nearest_deadline_ns());
    empty_turns = reactor.turn(patience_ns) == 0 ? empty_turns + 1 : 0;
    if (empty_turns > 100) {
      ADD_FAILURE() << "nothing happens any more";
      return;
    }
  }
}

bool Bench::idle() const { return !thread->has_ready_work() && !thread->has_busy_poller() && thread->nearest_deadline_ns() == TimerHeap::never_ns; }

namespace {

constexpr unsigned small_slots = 4;

template <typename Made>
std::shared_ptr<Bdev> take(Made made, std::string& why) {
  if (made) return std::move(*made);
  why = made.error().message;
  return nullptr;
}

Module uring_module(std::string name, bool direct) {
  Module module;
  module.name = std::move(name);
  module.is_file = true;
  module.make = [direct](WorkerPool& workers, const TestFile& file, bool small, std::string& why) {
    UringOptions options;
    options.name = "U0";
    options.filename = file.path();
    options.block_size = direct ? 4096 : 512;
    options.direct = direct;
    if (small) options.ring_entries = small_slots;
    return take(UringBdev::create(options, workers), why);
  };
  return module;
}

Module aio_module(std::string name, bool direct, bool fallocate) {
  Module module;
  module.name = std::move(name);
  module.is_file = true;
  module.unmaps = fallocate;
  module.make = [direct, fallocate](WorkerPool& workers, const TestFile& file, bool small, std::string& why) {
    AioOptions options;
    options.name = "A0";
    options.filename = file.path();
    options.block_size = direct ? 4096 : 512;
    options.direct = direct;
    options.fallocate = fallocate;
    if (small) options.context_entries = small_slots;
    return take(AioBdev::create(options, workers), why);
  };
  return module;
}

}  // namespace

std::vector<Module> all_modules() {
  Module null;
  null.name = "null";
  null.keeps_data = false;
  null.make = [](WorkerPool&, const TestFile& file, bool, std::string& why) {
    NullOptions options;
    options.name = "N0";
    options.num_blocks = file.size_bytes() / options.block_size;
    return take(NullBdev::create(options), why);
  };
  Module malloc;
  malloc.name = "malloc";
  malloc.make = [](WorkerPool& workers, const TestFile& file, bool, std::string& why) {
    MallocOptions options;
    options.name = "M0";
    options.num_blocks = file.size_bytes() / options.block_size;
    return take(MallocBdev::create(options, &workers), why);
  };
  return {null,
          malloc,
          uring_module("uring", true),
          uring_module("uring_buffered", false),
          aio_module("aio", true, true),
          aio_module("aio_buffered", false, true),
          aio_module("aio_without_fallocate", true, false)};
}

}  // namespace catnap::bdev
