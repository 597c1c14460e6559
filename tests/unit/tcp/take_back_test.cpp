// Commands that are aborted before they began, and requests held back with their data (transport/command_sink.h).
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/unit/tcp/queue_pair_bench.h"
#include "transport/nvme/status.h"

namespace catnap::tcp {
namespace {

using Outcome = transport::CommandQueue::AbortOutcome;

class TakeBackTest : public QueuePairTest {
 protected:
  Outcome abort(std::uint16_t cid) {
    Outcome outcome{};
    hand.on_thread([&] { outcome = sink.planned.front()->queue->abort(cid).outcome; });
    return outcome;
  }
  void expect_aborted(std::uint16_t cid) {
    const auto answer = receive_pdu<CapsuleResp>();
    EXPECT_EQ(answer.ch.type, static_cast<std::uint8_t>(PduType::capsule_resp));
    EXPECT_EQ(std::uint16_t{answer.cqe.cid}, cid);
    EXPECT_EQ(nvme::status_of(answer.cqe), nvme::Status(nvme::GenericStatus::abort_requested));
  }
  // The connection still takes commands.
  void expect_alive(std::uint16_t cid) {
    sink.on_plan = [](Request&) { return PlanAction::complete; };
    send_capsule(cid);
    const auto answer = receive_pdu<CapsuleResp>();
    EXPECT_EQ(answer.ch.type, static_cast<std::uint8_t>(PduType::capsule_resp));
    EXPECT_EQ(std::uint16_t{answer.cqe.cid}, cid);
  }
};

// Proves: admin | Abort | Base 5.1
TEST_F(TakeBackTest, ACommandThatWaitsInTheSinkIsAbandonedAndAnswered) {
  connected();
  sink.on_plan = [](Request&) { return PlanAction::wait; };
  send_capsule(5);
  EXPECT_EQ(abort(5), Outcome::taken_back);
  EXPECT_EQ(sink.abandoned.size(), 1u);
  expect_aborted(5);
  EXPECT_EQ(abort(5), Outcome::not_found);
  expect_alive(5);
}

// Proves: admin | Abort | Base 5.1
TEST_F(TakeBackTest, ACommandThatWaitsForABufferLeavesTheLine) {
  connected();
  auto others = take_buffers();
  plan_read(1 << 20);
  send_capsule(3, 1 << 20);
  ASSERT_EQ(hand.reactor.buffers().stats().waiting, 1u);
  EXPECT_EQ(abort(3), Outcome::taken_back);
  EXPECT_EQ(hand.reactor.buffers().stats().waiting, 0u);
  expect_aborted(3);
  others.clear();
  EXPECT_TRUE(sink.executed.empty());
  expect_alive(4);
}

TEST_F(TakeBackTest, WhatIsInExecutionIsNamedAndLeftAlone) {
  connected();
  Request* running = nullptr;
  sink.on_plan = [](Request&) { return PlanAction::execute; };
  sink.on_execute = [&](Request& request) { running = &request; };
  send_capsule(4);
  transport::CommandQueue::Aborted aborted;
  hand.on_thread([&] { aborted = running->queue->abort(4); });
  EXPECT_EQ(aborted.outcome, Outcome::executing);
  EXPECT_EQ(aborted.request, running);
  EXPECT_EQ(abort(5), Outcome::not_found);
  hand.on_thread([&] { running->queue->complete(*running); });
  EXPECT_EQ(std::uint16_t{receive_pdu<CapsuleResp>().cqe.cid}, 4);
}

// The data that the host sends all the same is thrown away, whether it comes whole, or part of it came before, cut anywhere.
TEST_F(TakeBackTest, DataForAnAbortedCommandIsThrownAway) {
  connected();
  const std::string data(4096, 'd');
  for (const std::size_t before : {0, 1, 23, 24, 25, 2000, 4119}) {
    plan_write(4096);
    send_capsule(7, 4096);
    const R2T r2t = receive_pdu<R2T>();
    const std::string bytes = data_pdu(r2t, data);
    if (before > 0) send_bytes(bytes.data(), before);
    const std::size_t held = hand.reactor.buffers().stats().held_bytes - hand.reactor.buffers().stats().free_bytes;
    EXPECT_GT(held, 0u);
    EXPECT_EQ(abort(7), Outcome::taken_back);
    EXPECT_EQ(hand.reactor.buffers().stats().held_bytes, hand.reactor.buffers().stats().free_bytes) << "the buffer is free at once";
    expect_aborted(7);
    // The CID may be used again at once; the transfer tag is another until the old data has come.
    send_bytes(bytes.data() + before, bytes.size() - before);
    send_capsule(7, 4096);
    const R2T again = receive_pdu<R2T>();
    std::string seen;
    sink.on_execute = [&](Request& request) {
      seen.assign(reinterpret_cast<const char*>(request.data), request.data_length);
      request.queue->complete(request);
    };
    send_data(again, std::string(4096, 'n'));
    EXPECT_EQ(seen, std::string(4096, 'n')) << before;
    EXPECT_EQ(std::uint16_t{receive_pdu<CapsuleResp>().cqe.cid}, 7);
  }
}

TEST_F(TakeBackTest, ATransferTagIsNotUsedAgainWhileDataForItMayCome) {
  connected();
  plan_write(4096);
  send_capsule(7, 4096);
  const R2T old = receive_pdu<R2T>();
  EXPECT_EQ(abort(7), Outcome::taken_back);
  expect_aborted(7);
  send_capsule(7, 4096);
  const R2T fresh = receive_pdu<R2T>();
  EXPECT_NE(std::uint16_t{fresh.ttag}, std::uint16_t{old.ttag});
  send_data(old, std::string(4096, 'o'));
  EXPECT_TRUE(sink.executed.empty());
  send_data(fresh, std::string(4096, 'f'));
  EXPECT_EQ(sink.executed.size(), 1u);
  EXPECT_EQ(std::uint16_t{receive_pdu<CapsuleResp>().cqe.cid}, 7);
}

TEST_F(TakeBackTest, ATransferTagWhoseDataNeverComesIsFreedInTheEnd) {
  connected();
  plan_write(4096);
  send_capsule(7, 4096);
  const R2T old = receive_pdu<R2T>();
  EXPECT_EQ(abort(7), Outcome::taken_back);
  expect_aborted(7);
  hand.advance_us(options.r2t_timeout_us);
  EXPECT_FALSE(sink.closed);
  EXPECT_EQ(hand.thread->nearest_deadline_ns(), TimerHeap::never_ns) << "nothing is left to wait for";
  send_data(old, std::string(4096, 'o'));
  EXPECT_EQ(receive_pdu<TermReq>().ch.type, static_cast<std::uint8_t>(PduType::c2h_term_req)) << "then the tag means nothing any more";
}

TEST_F(TakeBackTest, AnR2tThatWasNotSentIsNotSent) {
  connected();
  plan_read(1 << 20);
  for (std::uint16_t cid = 1; cid <= 4; ++cid) send_capsule(cid, 1 << 20);  // more than the socket takes
  plan_write(4096);
  send_capsule(9, 4096);  // its R2T is queued behind the reads
  EXPECT_EQ(abort(9), Outcome::taken_back);
  receive(4 * (sizeof(C2HData) + (1 << 20) + sizeof(CapsuleResp)));
  expect_aborted(9);
  EXPECT_EQ(hand.thread->nearest_deadline_ns(), TimerHeap::never_ns) << "the host owes nothing";
  expect_alive(9);
}

TEST_F(TakeBackTest, OnlySoManyTransferTagsAreKept) {
  connected();
  plan_write(512);
  std::uint32_t taken = 0;
  for (std::uint16_t cid = 1; cid <= 100; ++cid) {
    send_capsule(cid, 512);
    receive_pdu<R2T>();
    if (abort(cid) != Outcome::taken_back) break;
    ++taken;
    expect_aborted(cid);
  }
  EXPECT_EQ(taken, 64u);
  // The last is as it was; another host's Preempt and Abort takes it all the same.
  Outcome preempted{};
  hand.on_thread([&] { preempted = sink.planned.front()->queue->abort_as(65, nvme::GenericStatus::aborted_preempt).outcome; });
  EXPECT_EQ(preempted, Outcome::taken_back);
  EXPECT_EQ(nvme::status_of(receive_pdu<CapsuleResp>().cqe), nvme::Status(nvme::GenericStatus::aborted_preempt));
  hang_up();
  EXPECT_TRUE(sink.closed);
}

TEST_F(TakeBackTest, ARequestIsHeldBackWithItsDataAndGoesOn) {
  connected();
  plan_write(4096);
  Request* held = nullptr;
  sink.on_execute = [&](Request& request) {
    held = &request;
    request.queue->hold(request);
  };
  send_capsule(1, 4096);
  send_data(receive_pdu<R2T>(), std::string(4096, 'h'));
  ASSERT_NE(held, nullptr);
  expect_alive(2);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(held->data), 4096), std::string(4096, 'h'));
  hand.on_thread([&] {
    held->queue->resume(*held);
    held->queue->complete(*held);
  });
  EXPECT_EQ(std::uint16_t{receive_pdu<CapsuleResp>().cqe.cid}, 1);
}

TEST_F(TakeBackTest, AHeldRequestIsAbandonedWhenTheHostGoesOrAborts) {
  connected();
  plan_write(512);
  sink.on_execute = [](Request& request) { request.queue->hold(request); };
  send_capsule(1, 512, std::string(512, 'h'));
  EXPECT_EQ(abort(1), Outcome::taken_back);
  EXPECT_EQ(sink.abandoned.size(), 1u);
  expect_aborted(1);
  send_capsule(2, 512, std::string(512, 'h'));
  hang_up();
  EXPECT_EQ(sink.abandoned.size(), 2u);
  EXPECT_TRUE(sink.closed);
}

TEST_F(TakeBackTest, AHostThatKeepsARequestHeldMustGoWhenOthersWaitForBuffers) {
  connected();
  plan_write(1 << 20);
  sink.on_execute = [](Request& request) { request.queue->hold(request); };
  send_capsule(1, 1 << 20);
  const std::string bytes = data_pdu(receive_pdu<R2T>(), std::string(100 << 10, 'h'), false);
  std::uint32_t sent = 0;
  while (sent < (1U << 20)) {
    R2T part;
    part.cccid = 1;
    part.r2to = sent;
    part.ttag = sink.planned.back() == sink.planned.front() ? 0 : 1;
    const std::uint32_t now = std::min(64U << 10, (1U << 20) - sent);
    send_data(part, std::string(now, 'h'), sent + now == (1U << 20));
    sent += now;
  }
  ASSERT_EQ(sink.executed.size(), 1u);
  hand.advance_us(3 * options.send_stall_us);
  EXPECT_FALSE(sink.closed) << "it harms nobody";
  auto others = take_buffers();
  Buffer served;
  BufferWaiter waiter([&](Buffer buffer) { served = std::move(buffer); });
  hand.on_thread([&] { hand.reactor.buffers().wait(waiter, 1 << 20); });
  hand.advance_us(2 * options.send_stall_us);
  EXPECT_TRUE(sink.closed);
  EXPECT_TRUE(served);
}

TEST_F(TakeBackTest, ASecondHalfTakesItsMemoryBesideThePool) {
  connected();
  auto others = take_buffers();
  sink.on_plan = [](Request& request) {
    request.direction = DataDirection::host_to_controller;
    request.data_length = 8192;
    request.never_waits = true;
    return PlanAction::transfer;
  };
  std::string seen;
  sink.on_execute = [&](Request& request) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(request.data) % 4096, 0u);
    seen.assign(reinterpret_cast<const char*>(request.data), request.data_length);
    request.queue->complete(request);
  };
  send_capsule(1, 8192);
  send_data(receive_pdu<R2T>(), std::string(8192, 's'));
  EXPECT_EQ(seen, std::string(8192, 's'));
  EXPECT_EQ(std::uint16_t{receive_pdu<CapsuleResp>().cqe.cid}, 1);
}

}  // namespace
}  // namespace catnap::tcp
