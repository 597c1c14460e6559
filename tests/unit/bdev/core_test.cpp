// The core's half of an I/O, with a module that does as it is told: out of resources, late, choosy about memory.
#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <memory>

#include "bdev/bdev.h"
#include "tests/unit/reactor/by_hand.h"

namespace catnap::bdev {
namespace {

// A disk in a vector that executes what it is told to, when it is told to.
class ToyBdev final : public Bdev {
 public:
  explicit ToyBdev(BdevInfo info) : Bdev(std::move(info)), bytes(num_blocks() * block_size()) {}
  bool supports(Op op) const override { return op != Op::unmap; }
  std::string config_json() const override { return "{}"; }

  std::vector<std::byte> bytes;
  std::size_t slots = 1000;       // I/Os it takes at once
  bool inline_completion = true;  // else finish_one()
  Status answer = Status::ok;
  bool refuses_zeroes = false;
  std::vector<std::uint64_t> seen;  // offsets, in order of execution
  std::deque<BdevIo*> held;
  class ToyChannel* channel = nullptr;
  void finish_one();

 private:
  Result<std::unique_ptr<Channel>> create_channel(Thread& thread) override;
};

class ToyChannel final : public Channel {
 public:
  ToyChannel(ToyBdev& bdev, Thread& thread) : Channel(bdev, thread), toy_(bdev) {}
  void carry_out(BdevIo& io) {
    std::byte* at = toy_.bytes.data() + io.offset_blocks * toy_.block_size();
    for (std::uint32_t i = 0; i < io.iov_count; ++i) {
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(io.iov[i].iov_base) % toy_.info().buffer_alignment, 0u);
      if (io.op == Op::read) std::memcpy(io.iov[i].iov_base, at, io.iov[i].iov_len);
      if (io.op == Op::write) std::memcpy(at, io.iov[i].iov_base, io.iov[i].iov_len);
      at += io.iov[i].iov_len;
    }
    complete(io, toy_.answer);
  }

 private:
  void execute(BdevIo& io) override {
    if (toy_.held.size() >= toy_.slots) return complete(io, Status::no_memory);
    toy_.seen.push_back(io.offset_blocks);
    if (io.op == Op::write_zeroes && toy_.refuses_zeroes) return execute_by_writing_zeroes(io);
    if (toy_.inline_completion) return carry_out(io);
    toy_.held.push_back(&io);
  }
  ToyBdev& toy_;
};

void ToyBdev::finish_one() {
  ASSERT_FALSE(held.empty());
  BdevIo* io = held.front();
  held.pop_front();
  channel->carry_out(*io);
}

Result<std::unique_ptr<Channel>> ToyBdev::create_channel(Thread& thread) {
  auto made = std::make_unique<ToyChannel>(*this, thread);
  channel = made.get();
  return made;
}

class Core : public testing::Test {
 protected:
  void make(BdevInfo info = {}) {
    info.name = "toy";
    info.num_blocks = 4096;
    bdev_ = std::make_shared<ToyBdev>(std::move(info));
    hand_.on_thread([&] { channel_ = std::move(*bdev_->get_channel()); });
  }
  void TearDown() override {
    hand_.on_thread([&] { channel_ = {}; });
    hand_.settle();
  }

  struct Request {
    BdevIo io;
    iovec iov{};
    int ended = 0;
    std::vector<std::uint64_t>* order = nullptr;
  };
  Request& submit(Op op, std::uint64_t offset, std::uint64_t blocks, void* memory = nullptr) {
    Request& request = *requests_.emplace_back(std::make_unique<Request>());
    request.io.op = op;
    request.io.offset_blocks = offset;
    request.io.num_blocks = blocks;
    request.iov = {memory != nullptr ? memory : scratch_.data(), blocks * bdev_->block_size()};
    request.io.iov = &request.iov;
    request.io.iov_count = op == Op::write_zeroes ? 0 : 1;
    request.io.context = &request;
    request.order = &order_;
    request.io.done = [](BdevIo& io) {
      auto& ended = *static_cast<Request*>(io.context);
      ++ended.ended;
      ended.order->push_back(io.offset_blocks);
    };
    hand_.on_thread([&] { channel_->submit(request.io); });
    return request;
  }

  ByHand hand_;
  std::shared_ptr<ToyBdev> bdev_;
  ChannelRef channel_;
  std::vector<std::byte> scratch_ = std::vector<std::byte>(4096 * 512);
  std::vector<std::unique_ptr<Request>> requests_;
  std::vector<std::uint64_t> order_;
};

TEST_F(Core, IosWithoutResourcesWaitInOrderAndGoOnWithEachCompletion) {
  make();
  bdev_->inline_completion = false;
  bdev_->slots = 2;
  for (std::uint64_t i = 0; i < 6; ++i) submit(Op::write, i, 1);
  EXPECT_EQ(bdev_->seen, (std::vector<std::uint64_t>{0, 1}));
  EXPECT_EQ(channel_->in_flight(), 6u);
  hand_.on_thread([&] { bdev_->finish_one(); });
  EXPECT_EQ(bdev_->seen, (std::vector<std::uint64_t>{0, 1, 2}));
  // A newcomer does not overtake those that wait.
  bdev_->slots = 3;
  submit(Op::write, 9, 1);
  EXPECT_EQ(bdev_->seen, (std::vector<std::uint64_t>{0, 1, 2}));
  for (int i = 0; i < 6; ++i) hand_.on_thread([&] { bdev_->finish_one(); });
  EXPECT_EQ(order_, (std::vector<std::uint64_t>{0, 1, 2, 3, 4, 5, 9}));
}

TEST_F(Core, AModuleWithNothingUnderWayIsAskedAgainByADeadline) {
  make();
  bdev_->slots = 0;
  const Request& request = submit(Op::read, 5, 1);
  EXPECT_EQ(request.ended, 0);
  EXPECT_NE(hand_.thread->nearest_deadline_ns(), TimerHeap::never_ns);
  hand_.advance_us(starved_retry_us);
  EXPECT_EQ(request.ended, 0);
  bdev_->slots = 1;
  hand_.advance_us(starved_retry_us);
  EXPECT_EQ(request.ended, 1);
  EXPECT_EQ(request.io.status, Status::ok);
  EXPECT_EQ(hand_.thread->nearest_deadline_ns(), TimerHeap::never_ns);
}

TEST_F(Core, UnalignedMemoryGoesThroughABufferInParts) {
  BdevInfo info;
  info.buffer_alignment = 4096;
  make(std::move(info));
  constexpr std::uint64_t blocks = 2000;  // several parts
  std::vector<std::byte> source(blocks * 512 + 1);
  for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 7);
  EXPECT_EQ(submit(Op::write, 3, blocks, source.data() + 1).io.status, Status::ok);
  EXPECT_EQ(std::memcmp(bdev_->bytes.data() + 3 * 512, source.data() + 1, blocks * 512), 0);
  EXPECT_GT(bdev_->seen.size(), 1u);
  std::vector<std::byte> target(blocks * 512 + 1);
  EXPECT_EQ(submit(Op::read, 3, blocks, target.data() + 1).io.status, Status::ok);
  EXPECT_EQ(std::memcmp(target.data() + 1, source.data() + 1, blocks * 512), 0);
  EXPECT_EQ(bdev_->stats().ops[static_cast<std::size_t>(Op::write)], 1u);  // parts are no operations of the user
}

TEST_F(Core, StagedIoSharesTheChannelsReserveWhenThePoolIsAtItsCap) {
  BdevInfo info;
  info.buffer_alignment = 4096;
  make(std::move(info));
  bdev_->inline_completion = false;
  std::vector<Buffer> hoard;
  hand_.on_thread([&] {
    for (;;) {
      Buffer buffer = hand_.reactor.buffers().try_get(BufferPool::max_size_bytes);
      if (!buffer) break;
      hoard.push_back(std::move(buffer));
    }
  });
  std::vector<std::byte> memory(3 * 512 + 1);
  for (std::uint64_t i = 0; i < 3; ++i) submit(Op::write, i, 1, memory.data() + 1);
  while (!bdev_->held.empty()) hand_.on_thread([&] { bdev_->finish_one(); });
  EXPECT_EQ(order_, (std::vector<std::uint64_t>{0, 1, 2}));
  hand_.on_thread([&] { hoard.clear(); });
}

TEST_F(Core, APartThatFailsEndsTheWhole) {
  BdevInfo info;
  info.core_compares = true;
  make(std::move(info));
  bdev_->answer = Status::read_error;
  const Request& request = submit(Op::compare, 0, 2000);
  EXPECT_EQ(request.io.status, Status::read_error);
  EXPECT_EQ(request.ended, 1);
  EXPECT_EQ(bdev_->seen.size(), 1u);
}

TEST_F(Core, WritesZeroesWhereTheModuleCannot) {
  make();
  bdev_->refuses_zeroes = true;
  std::memset(bdev_->bytes.data(), 0x55, bdev_->bytes.size());
  EXPECT_EQ(submit(Op::write_zeroes, 1, 3000).io.status, Status::ok);
  EXPECT_EQ(bdev_->bytes[511], std::byte{0x55});
  EXPECT_EQ(bdev_->bytes[512], std::byte{0});
  EXPECT_EQ(bdev_->bytes[3001 * 512 - 1], std::byte{0});
  EXPECT_EQ(bdev_->bytes[3001 * 512], std::byte{0x55});
}

TEST_F(Core, RefusesWhatTheModuleDoesNotSupport) {
  make();
  EXPECT_EQ(submit(Op::unmap, 0, 1).io.status, Status::not_supported);
  EXPECT_TRUE(bdev_->seen.empty());
}

TEST_F(Core, LatencyIsTimeFromSubmitToDone) {
  make();
  bdev_->inline_completion = false;
  for (const std::uint64_t wait_us : {30u, 10u, 20u}) {
    submit(Op::read, 0, 1);
    hand_.clock.advance_us(wait_us);
    hand_.on_thread([&] { bdev_->finish_one(); });
  }
  const IoStats stats = bdev_->stats();
  const auto read = static_cast<std::size_t>(Op::read);
  EXPECT_EQ(stats.latency_ns[read], 60 * ns_per_us);
  EXPECT_EQ(stats.max_latency_ns[read], 30 * ns_per_us);
  EXPECT_EQ(stats.min_latency_ns[read], 10 * ns_per_us);
}

TEST(Status, ErrnosBecomeWhatTheServerCanTell) {
  EXPECT_EQ(status_from_errno(ENOSPC, Op::write), Status::no_space);
  EXPECT_EQ(status_from_errno(EIO, Op::write), Status::write_error);
  EXPECT_EQ(status_from_errno(EIO, Op::read), Status::read_error);
  EXPECT_EQ(status_from_errno(EIO, Op::flush), Status::write_error);
  EXPECT_EQ(status_from_errno(ENODEV, Op::read), Status::removed);
  EXPECT_EQ(status_from_errno(0, Op::read), Status::ok);
}

}  // namespace
}  // namespace catnap::bdev
