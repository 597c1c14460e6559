// Stacks used from several reactors at once, on real OS threads, with aborts and resets cut in: no block is ever seen half written, every I/O ends
// once.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>

#include "reactor/runtime.h"
#include "tests/unit/bdev/layers.h"

namespace catnap::bdev {
namespace {

constexpr std::uint64_t used_blocks = 48;
constexpr std::uint64_t most_blocks = 40;
constexpr int users_count = 4;

// Writes uniform blocks and looks whether what it reads is uniform; two I/Os at a time, so that there is one to abort.
class Rival {
 public:
  Rival(std::shared_ptr<Bdev> bdev, std::uint32_t seed, int times, std::function<void()> ended)
      : bdev_(std::move(bdev)), random_(seed), left_(times), ended_(std::move(ended)) {
    for (Slot& slot : slots_) {
      slot.owner = this;
      slot.bytes.resize(most_blocks * bdev_->block_size());
    }
  }
  void start() {
    auto channel = bdev_->get_channel();
    ASSERT_TRUE(channel.has_value());
    channel_ = std::move(*channel);
    for (Slot& slot : slots_) next(slot);
  }
  int torn() const { return torn_; }
  int wrong() const { return wrong_; }
  std::uint64_t aborted() const { return aborted_; }

 private:
  struct Slot {
    Rival* owner = nullptr;
    BdevIo io;
    iovec iov{};
    std::vector<std::byte> bytes;
    bool busy = false;
  };

  void next(Slot& slot) {
    if (left_ <= 0) return end_when_idle();
    --left_;
    BdevIo& io = slot.io;
    io = {};
    io.context = &slot;
    io.done = [](BdevIo& over) {
      Slot& done = *static_cast<Slot*>(over.context);
      done.owner->answered(done);
    };
    io.num_blocks = 1 + random_() % most_blocks;
    io.offset_blocks = random_() % (used_blocks - io.num_blocks + 1);
    slot.iov = {slot.bytes.data(), io.num_blocks * bdev_->block_size()};
    const auto roll = random_() % 100;
    if (roll < 45) {
      io.op = Op::write;
      std::memset(slot.bytes.data(), static_cast<int>(random_() % 255 + 1), slot.iov.iov_len);
    } else if (roll < 97) {
      io.op = Op::read;
    } else if (roll < 99) {
      io.op = Op::write_zeroes;
    } else {
      io.op = Op::reset;
      io.offset_blocks = io.num_blocks = 0;
    }
    if (io.op == Op::read || io.op == Op::write) {
      io.iov = &slot.iov;
      io.iov_count = 1;
    }
    slot.busy = true;
    channel_->submit(io);
    Slot& other = slots_[&slot == &slots_[0] ? 1 : 0];
    if (random_() % 20 == 0 && other.busy) (void)channel_->abort(other.io);
  }

  void answered(Slot& slot) {
    if (!slot.busy) ++wrong_;
    slot.busy = false;
    if (slot.io.status == Status::aborted) {
      ++aborted_;
    } else if (slot.io.status != Status::ok) {
      ++wrong_;
    } else if (slot.io.op == Op::read) {
      const std::uint32_t size = bdev_->block_size();
      for (std::uint64_t i = 0; i < slot.io.num_blocks; ++i) {
        const std::byte* block = slot.bytes.data() + i * size;
        if (std::memcmp(block, block + 1, size - 1) != 0) ++torn_;
      }
    }
    next(slot);
  }

  void end_when_idle() {
    if (ended_once_ || slots_[0].busy || slots_[1].busy) return;
    ended_once_ = true;
    channel_ = {};
    ended_();
  }

  std::shared_ptr<Bdev> bdev_;
  std::mt19937 random_;
  int left_;
  std::function<void()> ended_;
  Slot slots_[2];
  ChannelRef channel_;
  int torn_ = 0, wrong_ = 0;
  std::uint64_t aborted_ = 0;
  bool ended_once_ = false;
};

// Malloc keeps blocks whole; what two direct I/Os of the kernel leave is the device's affair.
std::vector<Stack> memory_stacks() {
  std::vector<Stack> chosen;
  for (Stack& stack : all_stacks()) {
    const bool all = std::getenv("CATNAP_SOAK") != nullptr || stack.layers.size() <= 1;
    if (stack.bottom.name == "malloc" && all) chosen.push_back(std::move(stack));
  }
  return chosen;
}

class StackThreads : public testing::TestWithParam<Stack> {
 protected:
  int times() const {
    if (std::getenv("CATNAP_SOAK") != nullptr) return 50'000;
    return GetParam().is_slow() ? 400 : 1500;
  }
};

TEST_P(StackThreads, NoBlockIsEverSeenHalfWritten) {
  RuntimeOptions options;
  options.cpumask = CpuMask::of_process();
  options.mode = ReactorMode::interrupt;
  const auto runtime = std::move(*Runtime::start(options));
  const TestFile file(GetParam().bottom_bytes());
  std::vector<std::unique_ptr<Rival>> rivals;
  std::shared_ptr<Bdev> bottom, top;
  std::atomic<int> running{users_count};
  const auto remove = [&] {
    forget_arrays();
    Registry::instance().remove(bottom->name(), [&](Result<void> removed) {
      EXPECT_TRUE(removed.has_value());
      runtime->request_stop();
    });
  };
  std::vector<Thread*> threads;
  // What nobody has written may be noise, so zeroes first; then all begin.
  BdevIo zeroes;
  ChannelRef zeroing;
  std::function<void()> begin = [&] {
    zeroing = {};
    for (std::size_t i = 0; i < users_count; ++i) threads[i]->send([rival = rivals[i].get()] { rival->start(); });
  };
  const auto clear = [&] {
    zeroing = std::move(*top->get_channel());
    zeroes.op = Op::write_zeroes;
    zeroes.num_blocks = used_blocks;
    zeroes.context = &begin;
    zeroes.done = [](BdevIo& done) { (*static_cast<std::function<void()>*>(done.context))(); };
    zeroing->submit(zeroes);
  };
  const auto begin_rivalry = [&] {
    const auto reactors = runtime->reactors();
    for (std::size_t i = 0; i < users_count; ++i) {
      threads.push_back(&runtime->create_thread(*reactors[i % reactors.size()], "user"));
      rivals.push_back(std::make_unique<Rival>(top, static_cast<std::uint32_t>(i), times(), [&] {
        if (running.fetch_sub(1) == 1) runtime->app_thread().send(remove);
      }));
    }
    threads[0]->send(clear);
  };
  // One layer after the other, each when the one below is there.
  std::shared_ptr<void> coming;
  std::function<void(std::size_t)> build = [&](std::size_t next) {
    if (next == GetParam().layers.size()) return begin_rivalry();
    const std::string name = add_layer(GetParam().layers[next], top);
    ASSERT_NE(name, "");
    coming = Registry::instance().when_added(name, [&, next, name] {
      top = Registry::instance().find(name);
      build(next + 1);
    });
  };
  runtime->run([&] {
    std::string why;
    top = bottom = GetParam().bottom.make(runtime->workers(), file, false, why);
    ASSERT_NE(bottom, nullptr) << why;
    ASSERT_TRUE(Registry::instance().add(bottom).has_value());
    build(0);
  });
  for (const auto& rival : rivals) {
    EXPECT_EQ(rival->torn(), 0);
    EXPECT_EQ(rival->wrong(), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(All, StackThreads, testing::ValuesIn(memory_stacks()), [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace catnap::bdev
