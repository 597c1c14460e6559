// Bdevs used from several reactors at once, on real OS threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <random>

#include "bdev/aio/aio.h"
#include "bdev/malloc/malloc.h"
#include "bdev/uring/uring.h"
#include "reactor/runtime.h"
#include "tests/unit/bdev/bench.h"

namespace catnap::bdev {
namespace {

std::unique_ptr<Runtime> start() {
  RuntimeOptions options;
  options.cpumask = CpuMask::of_process();
  options.mode = ReactorMode::interrupt;
  auto runtime = Runtime::start(options);
  EXPECT_TRUE(runtime.has_value());
  return std::move(*runtime);
}

// One user of the disk on one thread: writes blocks that are uniform, and looks whether what it reads, copied or lent, is.
class BlockUser {
 public:
  BlockUser(std::shared_ptr<Bdev> bdev, std::uint32_t seed, int times, std::function<void()> ended)
      : bdev_(std::move(bdev)), random_(seed), left_(times), ended_(std::move(ended)), bytes_(max_blocks * bdev_->block_size()) {
    io_.context = this;
    io_.done = [](BdevIo& io) { static_cast<BlockUser*>(io.context)->done(); };
  }
  void start() {
    auto channel = bdev_->get_channel();
    ASSERT_TRUE(channel.has_value());
    channel_ = std::move(*channel);
    next();
  }
  int torn() const { return torn_; }

 private:
  static constexpr std::uint64_t max_blocks = 40;  // more than one stripe of 4096-byte blocks
  static constexpr std::uint64_t used_blocks = 48;

  void next() {
    if (left_-- == 0) {
      channel_ = {};
      ended_();
      return;
    }
    io_.num_blocks = 1 + random_() % max_blocks;
    io_.offset_blocks = random_() % (used_blocks - io_.num_blocks + 1);
    iov_ = {bytes_.data(), io_.num_blocks * bdev_->block_size()};
    io_.iov = &iov_;
    io_.iov_count = 1;
    io_.accepts_lease = false;
    switch (random_() % 8) {
      case 0:
      case 1:
      case 2:
        io_.op = Op::write;
        std::memset(bytes_.data(), static_cast<int>(random_() % 255 + 1), iov_.iov_len);
        break;
      case 3:
        io_.op = random_() % 2 == 0 ? Op::unmap : Op::write_zeroes;
        break;
      case 4:
        io_.op = Op::read;
        break;
      default:
        io_.op = Op::read;
        io_.accepts_lease = bdev_->info().lends_reads;
        if (io_.accepts_lease) io_.iov = nullptr;
        break;
    }
    channel_->submit(io_);
  }

  void done() {
    ASSERT_EQ(io_.status, Status::ok);
    if (io_.op == Op::read) {
      if (io_.lease.base != nullptr) {
        const std::uint64_t length = io_.num_blocks * bdev_->block_size();
        io_.lease.lender->lock_for_send(io_.lease.offset_bytes, length);
        std::memcpy(bytes_.data(), io_.lease.base, length);
        io_.lease.lender->unlock_after_send(io_.lease.offset_bytes, length);
      }
      for (std::uint64_t i = 0; i < io_.num_blocks; ++i) {
        const std::byte* block = bytes_.data() + i * bdev_->block_size();
        if (std::memcmp(block, block + 1, bdev_->block_size() - 1) != 0) ++torn_;
      }
    }
    next();
  }

  std::shared_ptr<Bdev> bdev_;
  std::mt19937 random_;
  int left_;
  std::function<void()> ended_;
  std::vector<std::byte> bytes_;
  iovec iov_{};
  BdevIo io_;
  ChannelRef channel_;
  int torn_ = 0;
};

void run_users(const std::function<std::shared_ptr<Bdev>(WorkerPool&)>& make, int times, bool blocks_are_whole) {
  const auto runtime = start();
  std::vector<std::unique_ptr<BlockUser>> users;
  std::atomic<int> running{0};
  std::shared_ptr<Bdev> bdev;
  const auto remove = [&] {
    Registry::instance().remove(bdev->name(), [&](Result<void> removed) {
      EXPECT_TRUE(removed.has_value());
      bdev.reset();
      runtime->request_stop();
    });
  };
  runtime->run([&] {
    bdev = make(runtime->workers());
    ASSERT_NE(bdev, nullptr);
    ASSERT_TRUE(Registry::instance().add(bdev).has_value());
    const auto reactors = runtime->reactors();
    running = 4;
    for (int i = 0; i < 4; ++i) {
      Thread& thread = runtime->create_thread(*reactors[static_cast<std::size_t>(i) % reactors.size()], "user");
      users.push_back(std::make_unique<BlockUser>(bdev, static_cast<std::uint32_t>(i), times, [&] {
        if (running.fetch_sub(1) == 1) runtime->app_thread().send(remove);
      }));
      thread.send([user = users.back().get()] { user->start(); });
    }
  });
  for (const auto& user : users) {
    if (blocks_are_whole) {
      EXPECT_EQ(user->torn(), 0);
    }
  }
}

#ifdef __SANITIZE_THREAD__
constexpr int malloc_times = 5'000;  // it follows every byte of them
#else
constexpr int malloc_times = 30'000;
#endif

TEST(Threads, NoBlockOfAMallocBdevIsEverSeenHalfWritten) {
  run_users(
      [](WorkerPool& workers) -> std::shared_ptr<Bdev> {
        MallocOptions options;
        options.name = "M0";
        options.block_size = 4096;
        options.num_blocks = 64;
        return std::move(*MallocBdev::create(options, &workers));
      },
      malloc_times, true);
}

class FileModules : public testing::TestWithParam<Module> {};

TEST_P(FileModules, ServeSeveralThreadsAndEndCleanly) {
  const TestFile file(module_size_bytes);
  std::string why;
  {
    WorkerPool probe(1);
    if (GetParam().make(probe, file, false, why) == nullptr) GTEST_SKIP() << why;
  }
  run_users([&](WorkerPool& workers) { return GetParam().make(workers, file, false, why); }, 300,
            false);  // what two direct I/Os to one block leave is the device's affair
}

std::vector<Module> direct_file_modules() {
  std::vector<Module> chosen;
  for (auto& module : all_modules()) {
    if (module.name == "uring" || module.name == "aio") chosen.push_back(module);
  }
  return chosen;
}
INSTANTIATE_TEST_SUITE_P(All, FileModules, testing::ValuesIn(direct_file_modules()), [](const auto& module) { return module.param.name; });

// The kernel copies such blocks page by page, so without taking turns (bdev/file/block_turns.h) many reads find halves.
constexpr std::uint32_t large_block_bytes = 65536;
constexpr std::uint64_t large_blocks = 64;

TEST(Threads, NoBlockOfABufferedUringFileIsEverSeenHalfWritten) {
  if (!UringRing::probe()) GTEST_SKIP() << UringRing::probe().error().message;
  const TestFile file(large_blocks * large_block_bytes);
  const auto make = [&file](WorkerPool& workers) -> std::shared_ptr<Bdev> {
    UringOptions options;
    options.name = "U0";
    options.filename = file.path();
    options.block_size = large_block_bytes;
    options.direct = false;
    return std::move(*UringBdev::create(options, workers));
  };
  run_users(make, 300, true);
}

TEST(Threads, NoBlockOfABufferedAioFileIsEverSeenHalfWritten) {
  const TestFile file(large_blocks * large_block_bytes);
  const auto make = [&file](WorkerPool& workers) -> std::shared_ptr<Bdev> {
    AioOptions options;
    options.name = "A0";
    options.filename = file.path();
    options.block_size = large_block_bytes;
    options.direct = false;
    return std::move(*AioBdev::create(options, workers));
  };
  run_users(make, 300, true);
}

}  // namespace
}  // namespace catnap::bdev
