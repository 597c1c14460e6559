// What raid1's write-intent bitmap costs: 4 KiB writes through raid1 over two members, with the bitmap on and off, at several queue depths, on one
// thread without a network. Prints nanoseconds of CPU per write, the ratio, and how many flushes of members a write takes, on unmarked and on marked
// regions; asserts nothing about speed. Owner: the main thread. Left out: devices, networks, several threads (catnap-perf); delta rebuilds
// (raid_delta.py).
//
//   raid-bench [THOUSANDS]        thousands of writes per measurement and round (default 200)
#include <fmt/core.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "bdev/malloc/malloc.h"
#include "bdev/null/null.h"
#include "bdev/raid/raid_arrays.h"
#include "bdev/raid/raid_bdev.h"
#include "reactor/base/log.h"
#include "reactor/clock.h"
#include "reactor/reactor.h"

namespace catnap::bdev {
namespace {

constexpr int rounds = 5;  // the median of them is printed
constexpr std::uint32_t blocks_per_write = 8;
constexpr std::uint64_t member_blocks = (256 << 20) / 512;

// CPU time of this thread: what others do on the machine is no cost of an array.
std::uint64_t cpu_ns() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * ns_per_s + static_cast<std::uint64_t>(now.tv_nsec);
}

[[noreturn]] void give_up(const std::string& text) {
  fmt::print(stderr, "{}\n", text);
  std::exit(1);
}

// Keeps `depth` writes under way until `count` are done.
class Load {
 public:
  Load(Channel& channel, std::uint32_t depth, std::uint64_t count, bool random) : channel_(channel), left_(count), random_(random), ios_(depth) {
    memory_.resize(blocks_per_write * channel.bdev().block_size());
    iov_ = {memory_.data(), memory_.size()};
    places_ = channel.bdev().num_blocks() / blocks_per_write;
  }
  void begin() {
    for (BdevIo& io : ios_) {
      io.op = Op::write;
      io.num_blocks = blocks_per_write;
      io.iov = &iov_;
      io.iov_count = 1;
      io.context = this;
      io.done = [](BdevIo& ended) { static_cast<Load*>(ended.context)->next(ended); };
      ++under_way_;
    }
    for (BdevIo& io : ios_) next(io);
  }
  bool over() const { return under_way_ == 0; }

 private:
  void next(BdevIo& io) {
    if (io.status != Status::ok) give_up(fmt::format("a write ended with {}", status_name(io.status)));
    if (left_ == 0) {
      --under_way_;
      return;
    }
    --left_;
    const std::uint64_t place = random_ ? generator_() % places_ : (at_++ % places_);
    io.offset_blocks = place * blocks_per_write;
    channel_.submit(io);
  }

  Channel& channel_;
  std::uint64_t left_;
  bool random_;
  std::vector<BdevIo> ios_;
  std::size_t under_way_ = 0;
  std::vector<std::byte> memory_;
  iovec iov_{};
  std::uint64_t places_ = 0;
  std::uint64_t at_ = 0;
  std::minstd_rand generator_{7};
};

class RaidBench {
 public:
  RaidBench() : reactor_(options()) {
    auto made = std::make_unique<Thread>("bench", CpuMask::of_cpu(0));
    thread_ = made.get();
    reactor_.adopt(std::move(made));
  }

  void on_thread(const std::function<void()>& call) {
    bool ran = false;
    thread_->send([&] {
      call();
      ran = true;
    });
    until([&ran] { return ran; });
  }
  void until(const std::function<bool()>& done) {
    while (!done()) reactor_.turn(0);
  }
  void wait_for(const std::function<Task<Result<void>>()>& begin) {
    std::optional<Result<void>> outcome;
    on_thread([&] { spawn<Result<void>>(begin(), [&outcome](Result<void> ended) { outcome = std::move(ended); }); });
    until([&outcome] { return outcome.has_value(); });
    if (!*outcome) give_up(outcome->error().message);
  }

  void add_member(const std::string& kind, const std::string& name) {
    on_thread([&] {
      std::shared_ptr<Bdev> made;
      if (kind == "null") {
        NullOptions wanted;
        wanted.name = name;
        wanted.num_blocks = member_blocks;
        made = *NullBdev::create(wanted);
      } else {
        MallocOptions wanted;
        wanted.name = name;
        wanted.num_blocks = member_blocks;
        made = *MallocBdev::create(wanted, nullptr);
      }
      if (!Registry::instance().add(made)) give_up("no member");
    });
  }
  // Over two new members. Nothing keeps what null is told, so its bitmap stands on a bdev of its own.
  void build(const std::string& kind, bool bitmap) {
    RaidOptions wanted;
    wanted.name = "R";
    wanted.kind = RaidKind::raid1;
    wanted.members = {"A", "B"};
    wanted.assume_clean = true;
    for (const std::string& member : wanted.members) add_member(kind, member);
    if (bitmap && kind == "null") {
      add_member("malloc", "Bitmap");
      wanted.bitmap_bdev = "Bitmap";
    }
    wanted.superblock = bitmap && kind != "null";
    wait_for([&wanted] { return RaidArrays::instance().create(wanted); });
    on_thread([this] { channel_ = std::move(*Registry::instance().find("R")->get_channel()); });
  }
  void clear() {
    on_thread([this] { channel_ = {}; });
    wait_for([] { return RaidArrays::instance().remove("R", false); });
    on_thread([] {
      for (const auto& bdev : Registry::instance().all()) Registry::instance().remove(bdev->name(), [](Result<void>) {});
    });
    until([] { return Registry::instance().all().empty(); });
    while (reactor_.turn(0) > 0) {
    }
  }
  // Nanoseconds per write.
  double run(std::uint32_t depth, std::uint64_t count, bool random) {
    Load load(*channel_.get(), depth, count, random);
    const std::uint64_t before_ns = cpu_ns();
    on_thread([&load] { load.begin(); });
    until([&load] { return load.over(); });
    return static_cast<double>(cpu_ns() - before_ns) / static_cast<double>(count);
  }
  // Commits of marks so far: one write and one flush (or a FUA write) per member each. Malloc and null have no cache to flush, so these are counted.
  static std::uint64_t commits() {
    const auto bitmap = RaidArrays::instance().find("R")->level().bitmap_json(false);
    if (!bitmap) give_up(bitmap.error().message);
    constexpr std::string_view key = "\"commits\":";
    const std::size_t at = bitmap->find(key);
    return at == std::string::npos ? 0 : std::strtoull(bitmap->c_str() + at + key.size(), nullptr, 10);
  }

 private:
  static ReactorOptions options() {
    ReactorOptions made;
    made.name = "bench";
    made.mode = ReactorMode::interrupt;
    return made;
  }
  Reactor reactor_;
  Thread* thread_;
  ChannelRef channel_;
};

struct Cost {
  Cost() = default;
  double ns = 0;              // per write, on marked regions and unmarked ones as they come
  double commits_fresh = 0;   // per write, from an array without marks on
  double commits_marked = 0;  // per write, once all regions are marked
};

Cost measure(const std::string& kind, bool bitmap, std::uint32_t depth, bool random, std::uint64_t count) {
  std::vector<double> ns;
  Cost cost;
  for (int round = 0; round < rounds; ++round) {
    RaidBench bench;
    bench.build(kind, bitmap);
    std::uint64_t before = RaidBench::commits();
    ns.push_back(bench.run(depth, count, random));
    cost.commits_fresh = static_cast<double>(RaidBench::commits() - before) / static_cast<double>(count);
    before = RaidBench::commits();
    ns.back() = (ns.back() + bench.run(depth, count, random)) / 2;
    cost.commits_marked = static_cast<double>(RaidBench::commits() - before) / static_cast<double>(count);
    bench.clear();
  }
  std::ranges::sort(ns);
  cost.ns = ns[ns.size() / 2];
  return cost;
}

void run(std::uint64_t count) {
  fmt::print("{:<8} {:<10} {:>6} {:>9} {:>9} {:>7} {:>14} {:>15}\n", "members", "writes", "depth", "off ns", "on ns", "ratio", "commits fresh",
             "commits marked");
  for (const std::string kind : {"null", "malloc"}) {
    for (const bool random : {false, true}) {
      for (const std::uint32_t depth : {1u, 32u, 128u}) {
        const Cost off = measure(kind, false, depth, random, count);
        const Cost on = measure(kind, true, depth, random, count);
        fmt::print("{:<8} {:<10} {:>6} {:>9.1f} {:>9.1f} {:>7.3f} {:>14.5f} {:>15.5f}\n", kind, random ? "random" : "sequential", depth, off.ns,
                   on.ns, on.ns / off.ns, on.commits_fresh, on.commits_marked);
      }
    }
  }
}

}  // namespace
}  // namespace catnap::bdev

int main(int argc, char** argv) {
  const long thousands = argc > 1 ? std::strtol(argv[1], nullptr, 10) : 200;
  if (thousands < 1 || thousands > 1'000'000) {
    fmt::print(stderr, "THOUSANDS is '{}', it must be a number from 1 to 1000000\n", argv[1]);
    return 2;
  }
  catnap::log_set_print_level(catnap::LogLevel::error);  // each measurement makes arrays and takes them away
  catnap::bdev::run(static_cast<std::uint64_t>(thousands) * 1000);
  return 0;
}
