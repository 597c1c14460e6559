// The engine's ports and executors made of channels and lightweight threads.
// Owner: each belongs to the thread that it stands for. Left out: the engine (raid1_core.h, raid1_lane.h).
#pragma once

#include <memory>
#include <utility>

#include "bdev/bdev.h"
#include "bdev/raid/member_facts.h"
#include "bdev/raid/raid1_ports.h"

namespace catnap::bdev::raid1 {

class ThreadExecutor final : public Executor {
 public:
  explicit ThreadExecutor(catnap::Thread& thread) : thread_(thread) {}
  bool post(Message message) override { return thread_.send(std::move(message)); }
  std::uint64_t now_ns() const override { return thread_.now_ns(); }
  std::unique_ptr<Alarm> make_alarm(std::function<void()> fire) override { return std::make_unique<ThreadAlarm>(thread_, std::move(fire)); }
  std::unique_ptr<TurnEnd> make_turn_end(std::function<void()> run) override { return std::make_unique<ThreadTurnEnd>(thread_, std::move(run)); }

 private:
  class ThreadAlarm final : public Alarm {
   public:
    ThreadAlarm(catnap::Thread& thread, std::function<void()> fire) : thread_(thread), timer_(std::move(fire)) {}
    void arm_in_us(std::uint64_t delay_us) override { thread_.arm_in_us(timer_, delay_us); }
    void disarm() override { timer_.disarm(); }
    bool armed() const override { return timer_.armed(); }

   private:
    catnap::Thread& thread_;
    Timer timer_;
  };
  class ThreadTurnEnd final : public TurnEnd {
   public:
    ThreadTurnEnd(catnap::Thread& thread, std::function<void()> run) : thread_(thread), entry_(std::move(run)) {}
    void request() override { thread_.at_turn_end(entry_); }

   private:
    catnap::Thread& thread_;
    Deferred entry_;
  };

  catnap::Thread& thread_;
};

// A member's channel. After close() its I/Os end with Status::removed; those under way end by themselves.
class ChannelPort final : public Port {
 public:
  ChannelPort() = default;
  void open(ChannelRef channel) {
    channel_ = std::move(channel);
    associations_ = Associations(channel_->bdev());
  }
  void borrow(Channel& channel) {
    borrowed_ = &channel;
    associations_ = Associations(channel.bdev());
  }
  void close() {
    channel_ = {};
    borrowed_ = nullptr;
    associations_ = {};
  }
  void submit(BdevIo& io) override {
    Channel* channel = borrowed_ != nullptr ? borrowed_ : channel_.get();
    if (channel != nullptr) [[likely]]
      return channel->submit(io);
    io.status = Status::removed;
    io.done(io);
  }
  std::uint64_t association() const override { return associations_.count(); }

 private:
  ChannelRef channel_;
  Channel* borrowed_ = nullptr;
  Associations associations_;
};

}  // namespace catnap::bdev::raid1
