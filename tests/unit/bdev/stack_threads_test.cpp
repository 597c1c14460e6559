// Stacks used from several reactors at once, on real OS threads, with aborts and resets cut in: no block is ever seen half written, every I/O ends
// once.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <memory>

#include "reactor/runtime.h"
#include "tests/unit/bdev/layers.h"
#include "tests/unit/bdev/rival.h"

namespace catnap::bdev {
namespace {

constexpr int users_count = 4;

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
