// What a layer costs: I/Os per second through null, and through other bdevs over it, on one thread without a network. Prints nanoseconds per I/O and
// the ratio to null; asserts nothing about speed. Owner: the main thread. Left out: devices, networks, several threads (catnap-perf).
//
//   bdev-layer-bench [MILLIONS]        millions of I/Os per measurement and round (default 2)
#include <fmt/core.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "bdev/crypto/crypto.h"
#include "bdev/crypto/xts.h"
#include "bdev/delay/delay.h"
#include "bdev/error/error.h"
#include "bdev/null/null.h"
#include "bdev/passthru/passthru.h"
#include "bdev/split/split.h"
#include "reactor/clock.h"
#include "reactor/reactor.h"

namespace catnap::bdev {
namespace {

constexpr int rounds = 7;  // the median of them is printed
constexpr std::uint64_t ios_per_turn = 1000;

// CPU time of this thread: what others do on the machine is no cost of a layer.
std::uint64_t cpu_ns() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * ns_per_s + static_cast<std::uint64_t>(now.tv_nsec);
}

struct Load {
  explicit Load(Channel& to) : channel(&to) {
    io.op = Op::write;
    io.num_blocks = 8;
    iov = {memory.data(), memory.size()};
    io.iov = &iov;
    io.iov_count = 1;
    io.done = [](BdevIo&) {};
  }
  void run(std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
      io.offset_blocks = (i & 1023) * 8;
      channel->submit(io);
    }
  }
  Channel* channel;
  BdevIo io;
  iovec iov{};
  std::vector<std::byte> memory = std::vector<std::byte>(4096);
};

class LayerBench {
 public:
  explicit LayerBench(std::uint64_t ios) : ios_(ios), reactor_(options()) {
    auto made = std::make_unique<Thread>("bench", CpuMask::of_cpu(0));
    thread_ = made.get();
    reactor_.adopt(std::move(made));
  }

  // Over one another, from the bottom; all but the first by `over`.
  void add(const std::string& name, const std::shared_ptr<Bdev>& bdev) {
    on_thread([&] {
      if (!Registry::instance().add(bdev)) std::abort();
      auto channel = bdev->get_channel();
      if (!channel) std::abort();
      subjects_.push_back({name, bdev, std::move(*channel), {}});
    });
  }
  std::shared_ptr<Bdev> make_null(const std::string& name) {
    NullOptions options;
    options.name = name;
    options.num_blocks = 1 << 20;
    return *NullBdev::create(options);
  }
  template <typename Make>
  auto on_thread_make(Make make) {
    decltype(make()) made;
    on_thread([&] { made = make(); });
    return made;
  }
  void on_thread(const std::function<void()>& call) {
    bool ran = false;
    thread_->send([&] {
      call();
      ran = true;
    });
    while (!ran) reactor_.turn(0);
  }

  void measure() {
    for (int round = 0; round < rounds; ++round) {
      for (Subject& subject : subjects_) subject.ns.push_back(measure(*subject.channel.get()));
    }
    const double base_ns = median(subjects_.front().ns);
    fmt::print("{:<24} {:>8} {:>8} {:>8}\n", "", "ns/IO", "+ ns", "ratio");
    for (Subject& subject : subjects_) {
      const double ns = median(subject.ns);
      fmt::print("{:<24} {:>8.1f} {:>8.1f} {:>8.2f}\n", subject.name, ns, ns - base_ns, ns / base_ns);
    }
  }
  // Everything goes, from the bottoms up.
  void clear() {
    on_thread([this] {
      for (Subject& subject : subjects_) subject.channel = {};
    });
    on_thread([this] {
      subjects_.clear();
      for (const auto& bdev : Registry::instance().all()) Registry::instance().remove(bdev->name(), [](Result<void>) {});
    });
    while (reactor_.turn(0) > 0) {
    }
  }

 private:
  struct Subject {
    std::string name;
    std::shared_ptr<Bdev> bdev;
    ChannelRef channel;
    std::vector<double> ns;
  };
  static ReactorOptions options() {
    ReactorOptions made;
    made.name = "bench";
    made.mode = ReactorMode::interrupt;
    return made;
  }
  double measure(Channel& channel) {
    Load load(channel);
    const std::uint64_t before_ns = cpu_ns();
    for (std::uint64_t done = 0; done < ios_; done += ios_per_turn) on_thread([&load] { load.run(ios_per_turn); });
    return static_cast<double>(cpu_ns() - before_ns) / static_cast<double>(ios_);
  }
  static double median(std::vector<double>& values) {
    std::ranges::sort(values);
    return values[values.size() / 2];
  }

  std::uint64_t ios_;
  Reactor reactor_;
  Thread* thread_;
  std::vector<Subject> subjects_;
};

template <typename Made>
std::shared_ptr<Bdev> taken(Made made) {
  if (!made) {
    fmt::print(stderr, "{}\n", made.error().message);
    std::exit(1);
  }
  return *made;
}

void run(std::uint64_t ios) {
  LayerBench bench(ios);
  bench.add("null", bench.make_null("N0"));
  for (const std::string layer : {"passthru", "delay", "error", "split"}) {
    const auto base = bench.make_null("N_" + layer);
    bench.on_thread([&] {
      if (!Registry::instance().add(base)) std::abort();
    });
    bench.add(layer + " over null", bench.on_thread_make([&]() -> std::shared_ptr<Bdev> {
      if (layer == "passthru") {
        PassthruOptions options;
        options.name = layer;
        return taken(PassthruBdev::create(options, base));
      }
      if (layer == "delay") {
        DelayOptions options;
        options.name = layer;
        return taken(DelayBdev::create(options, base));
      }
      if (layer == "error") {
        ErrorOptions options;
        options.base_name = base->name();
        return taken(ErrorBdev::create(options, base));
      }
      SplitOptions options;
      options.count = 2;
      auto parts = SplitBdev::create(options, base);
      if (!parts) std::abort();
      return parts->back();
    }));
  }
  bench.measure();
  bench.clear();
}

// How long the crypto bdev keeps its reactor at a stretch: one step of an I/O of any size.
void run_crypto_step() {
  auto key = CryptoKey::create("bench", std::string(64, '1'), std::string(64, '2'));
  if (!key) std::abort();
  std::vector<std::byte> plain(CryptoBdev::step_bytes), cipher_text(CryptoBdev::step_bytes);
  const iovec iov{plain.data(), plain.size()};
  for (const std::uint32_t block_size : {512u, 4096u}) {
    auto cipher = XtsCipher::create(**key, block_size);
    if (!cipher) std::abort();
    std::vector<double> us;
    for (int i = 0; i < 1000; ++i) {
      const std::uint64_t before_ns = cpu_ns();
      cipher->encrypt(&iov, 1, 0, cipher_text.data(), 0, plain.size() / block_size);
      us.push_back(static_cast<double>(cpu_ns() - before_ns) / 1000);
    }
    std::ranges::sort(us);
    fmt::print("crypto step of {} KiB in blocks of {:>4}: {:.1f} us (AES-256; 99th percentile {:.1f} us)\n", plain.size() >> 10, block_size,
               us[us.size() / 2], us[us.size() * 99 / 100]);
  }
}

}  // namespace
}  // namespace catnap::bdev

int main(int argc, char** argv) {
  const long millions = argc > 1 ? std::strtol(argv[1], nullptr, 10) : 2;
  if (millions < 1 || millions > 1000) {
    fmt::print(stderr, "MILLIONS is '{}', it must be a number from 1 to 1000\n", argv[1]);
    return 2;
  }
  catnap::bdev::run(static_cast<std::uint64_t>(millions) * 1'000'000);
  catnap::bdev::run_crypto_step();
  return 0;
}
