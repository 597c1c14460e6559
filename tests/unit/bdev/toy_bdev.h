// A disk in a vector that executes what it is told to, when it is told to: out of resources, late, choosy about memory; and a bench to drive it by
// hand. Owner: the test's OS thread. Left out: real modules (conformance_test.cpp has those).
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "bdev/bdev.h"
#include "tests/unit/reactor/by_hand.h"

namespace catnap::bdev {

class ToyChannel;

class ToyBdev final : public Bdev {
 public:
  explicit ToyBdev(BdevInfo info) : Bdev(std::move(info)), bytes(num_blocks() * block_size()) {}
  bool supports(Op op) const override { return op != Op::unmap || unmaps; }
  std::string config_json() const override { return "{}"; }
  void resize(std::uint64_t blocks) { set_num_blocks(blocks); }

  // One I/O that the module has, on its channel.
  struct Held {
    Held(ToyChannel* its_channel, BdevIo* its_io) : channel(its_channel), io(its_io) {}
    ToyChannel* channel;
    BdevIo* io;
  };

  std::vector<std::byte> bytes;
  std::size_t slots = 1000;        // I/Os it takes at once
  std::uint32_t refuse_every = 0;  // n > 0: every n-th execution is out of resources
  bool inline_completion = true;   // else finish_one()
  bool gives_back = true;          // held I/Os can be aborted
  bool unmaps = false;
  Status answer = Status::ok;
  bool refuses_zeroes = false;
  std::uint64_t executions = 0;
  // What reached the module, in order: offsets, operations, sizes.
  std::vector<std::uint64_t> seen;
  std::vector<Op> ops;
  std::vector<std::uint64_t> sizes;
  std::vector<std::uint32_t> segments;
  std::deque<Held> held;
  // Carries out what it has had for longest.
  void finish_one();
  void finish_all() {
    while (!held.empty()) finish_one();
  }

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
    ++toy_.executions;
    if (toy_.held.size() >= toy_.slots || (toy_.refuse_every > 0 && toy_.executions % toy_.refuse_every == 0)) return complete(io, Status::no_memory);
    toy_.seen.push_back(io.offset_blocks);
    toy_.ops.push_back(io.op);
    toy_.sizes.push_back(io.num_blocks);
    toy_.segments.push_back(io.iov_count);
    if (io.op == Op::write_zeroes && toy_.refuses_zeroes) return execute_by_writing_zeroes(io);
    if (toy_.inline_completion) return carry_out(io);
    toy_.held.emplace_back(this, &io);
  }
  bool abort_in_module(BdevIo& io) override {
    const auto mine = std::ranges::find_if(toy_.held, [&io](const ToyBdev::Held& one) { return one.io == &io; });
    if (!toy_.gives_back || mine == toy_.held.end()) return false;
    toy_.held.erase(mine);
    complete(io, Status::aborted);
    return true;
  }
  ToyBdev& toy_;
};

inline void ToyBdev::finish_one() {
  ASSERT_FALSE(held.empty());
  const Held one = held.front();
  held.pop_front();
  one.channel->carry_out(*one.io);
}

inline Result<std::unique_ptr<Channel>> ToyBdev::create_channel(Thread& thread) { return std::make_unique<ToyChannel>(*this, thread); }

// A toy with one channel on the first thread, and more on demand.
class ToyTest : public testing::Test {
 protected:
  struct Request {
    BdevIo io;
    std::vector<iovec> iov;
    int ended = 0;
    std::vector<std::uint64_t>* order = nullptr;
    std::function<void(Request&)> then;
  };
  struct User {
    User(Thread* its_thread, ChannelRef its_channel) : thread(its_thread), channel(std::move(its_channel)) {}
    Thread* thread;
    ChannelRef channel;
  };

  void make(BdevInfo info = {}) {
    info.name = "toy";
    info.num_blocks = 4096;
    bdev_ = std::make_shared<ToyBdev>(std::move(info));
    hand_.on_thread([&] { channel_ = std::move(*bdev_->get_channel()); });
  }
  // A channel on a thread of its own.
  User& add_user() {
    Thread& thread = hand_.add_thread("user" + std::to_string(users_.size()));
    on(thread, [&] { users_.push_back(std::make_unique<User>(&thread, std::move(*bdev_->get_channel()))); });
    return *users_.back();
  }
  template <typename Call>
  void on(Thread& thread, Call call) {
    thread.send(std::move(call));
    hand_.settle();
  }
  void TearDown() override { release(); }
  // Lets all channels go, so that another toy can be made.
  void release() {
    hand_.on_thread([&] { channel_ = {}; });
    for (const auto& user : users_) on(*user->thread, [&] { user->channel = {}; });
    users_.clear();
    hand_.settle();
    EXPECT_TRUE(bdev_ == nullptr || bdev_->channel_stats().empty());
  }

  Request& prepare(Op op, std::uint64_t offset, std::uint64_t blocks, void* memory = nullptr) {
    Request& request = *requests_.emplace_back(std::make_unique<Request>());
    request.io.op = op;
    request.io.offset_blocks = offset;
    request.io.num_blocks = blocks;
    if (op == Op::read || op == Op::write || op == Op::compare || op == Op::compare_and_write) {
      request.iov.push_back({memory != nullptr ? memory : scratch_.data(), blocks * bdev_->block_size() * (op == Op::compare_and_write ? 2 : 1)});
      request.io.iov = request.iov.data();
      request.io.iov_count = 1;
    }
    request.io.context = &request;
    request.order = &order_;
    request.io.done = [](BdevIo& io) {
      auto& ended = *static_cast<Request*>(io.context);
      ++ended.ended;
      ended.order->push_back(io.offset_blocks);
      if (ended.then) ended.then(ended);
    };
    return request;
  }
  Request& start(Request& request) {
    hand_.on_thread([&] { channel_->submit(request.io); });
    return request;
  }
  Request& start(Request& request, User& user) {
    on(*user.thread, [&] { user.channel->submit(request.io); });
    return request;
  }
  Request& submit(Op op, std::uint64_t offset, std::uint64_t blocks, void* memory = nullptr) { return start(prepare(op, offset, blocks, memory)); }
  Request& submit(User& user, Op op, std::uint64_t offset, std::uint64_t blocks, void* memory = nullptr) {
    return start(prepare(op, offset, blocks, memory), user);
  }
  bool abort(Request& request) {
    bool answer = false;
    hand_.on_thread([&] { answer = channel_->abort(request.io); });
    return answer;
  }
  // On the thread of the channel whose turn it is.
  void finish_one() {
    ASSERT_FALSE(bdev_->held.empty());
    on(bdev_->held.front().channel->thread(), [&] { bdev_->finish_one(); });
  }
  void finish_all() {
    while (!bdev_->held.empty()) finish_one();
  }
  bool any_deadline() {
    bool armed = hand_.thread->nearest_deadline_ns() != TimerHeap::never_ns;
    for (const auto& user : users_) armed = armed || user->thread->nearest_deadline_ns() != TimerHeap::never_ns;
    return armed;
  }
  std::byte* block(std::uint64_t number) { return bdev_->bytes.data() + number * bdev_->block_size(); }

  ByHand hand_;
  std::shared_ptr<ToyBdev> bdev_;
  ChannelRef channel_;
  std::vector<std::unique_ptr<User>> users_;
  std::vector<std::byte> scratch_ = std::vector<std::byte>(2 * 4096 * 512);
  std::vector<std::unique_ptr<Request>> requests_;
  std::vector<std::uint64_t> order_;
};

}  // namespace catnap::bdev
