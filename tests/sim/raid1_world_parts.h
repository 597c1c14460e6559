// The pieces that the world's files share: its threads, ports, deadlines and users' I/Os.
// Owner: the world (raid1_world.h). Left out: what they do together.
#pragma once

#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "tests/sim/raid1_world.h"

namespace catnap::sim {

// A block whose words are all that number; 0: what zeroing leaves.
inline SimDisk::Block fill(std::uint64_t content) {
  SimDisk::Block block;
  for (std::size_t at = 0; at < block.size(); at += sizeof content) std::memcpy(block.data() + at, &content, sizeof content);
  return block;
}

class Raid1World::Thread final : public bdev::raid1::Executor {
 public:
  Thread(Raid1World& owner, std::uint32_t number) : world(owner), index(number) {}
  bool post(Message message) override;
  std::uint64_t now_ns() const override;
  std::unique_ptr<bdev::raid1::Alarm> make_alarm(std::function<void()> fire) override;
  std::unique_ptr<bdev::raid1::TurnEnd> make_turn_end(std::function<void()> run) override;

  Raid1World& world;
  std::uint32_t index;
  std::deque<Message> messages;

 private:
  // As a message: a turn is one message long here.
  class TurnEnd final : public bdev::raid1::TurnEnd {
   public:
    TurnEnd(Thread& thread, std::function<void()> run) : thread_(thread), state_(std::make_shared<State>()) { state_->run = std::move(run); }
    void request() override {
      if (std::exchange(state_->requested, true)) return;
      thread_.post([weak = std::weak_ptr(state_)] {
        const auto state = weak.lock();
        if (state == nullptr) return;
        state->requested = false;
        state->run();
      });
    }

   private:
    struct State {
      bool requested = false;
      std::function<void()> run;
    };
    Thread& thread_;
    std::shared_ptr<State> state_;
  };
};

class Raid1World::Port final : public bdev::raid1::Port {
 public:
  Port(Raid1World& owner, Thread& on, SimDisk& of) : world(owner), thread(on), disk(of) {}
  void submit(bdev::BdevIo& io) override;
  std::uint64_t association() const override { return disk.association(); }

  Raid1World& world;
  Thread& thread;
  SimDisk& disk;
};

struct Raid1World::InFlight {
  Port* port;
  bdev::BdevIo* io;
  std::uint64_t ticket;
};

struct Raid1World::Deadline final : bdev::raid1::Alarm {
  Deadline(Raid1World& owner, std::function<void()> call) : world(owner), fire(std::move(call)) {}
  ~Deadline() override { disarm(); }
  void arm_in_us(std::uint64_t delay_us) override;
  void disarm() override;
  bool armed() const override;

  Raid1World& world;
  std::function<void()> fire;
  std::uint64_t at_ns = 0;
  std::uint64_t number = 0;
};

struct Raid1World::UserIo {
  bdev::BdevIo io;
  iovec iov{};
  std::vector<std::byte> data;
  std::uint64_t write = 0;  // as the history knows it
  std::uint64_t began = 0;
  std::size_t lane = 0;
};

}  // namespace catnap::sim
