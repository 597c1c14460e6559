// A queue pair with a sink that the test scripts: what plan/execute/abandon see, whatever the host or the sink does.
// The wire rules as a whole are tested against the real server (tests/protocol); here are the corners that need a scripted sink.
#include "transport/tcp/queue_pair.h"

#include <gtest/gtest.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "reactor/base/crc32c.h"
#include "reactor/buffer_pool.h"
#include "tests/unit/tcp/queue_pair_bench.h"

namespace catnap::tcp {
namespace {

TEST_F(QueuePairTest, ASmallWriteIsExecutedWhereItWasReceived) {
  connected();
  plan_write(512, true);
  std::string seen;
  sink.on_execute = [&](Request& request) {
    seen.assign(reinterpret_cast<const char*>(request.data), request.data_length);
    request.queue->complete(request);
  };
  const std::string data(512, 'w');
  send_capsule(7, 512, data);
  EXPECT_EQ(seen, data);
  EXPECT_EQ(std::uint16_t{receive_pdu<CapsuleResp>().cqe.cid}, 7);
  EXPECT_EQ(hand.reactor.buffers().stats().gets, 0u);
}

TEST_F(QueuePairTest, ACapsuleMayBeCutAnywhereAlsoRightBeforeItsData) {
  connected();
  std::string seen;
  sink.on_execute = [&](Request& request) {
    seen.assign(reinterpret_cast<const char*>(request.data), request.data_length);
    request.queue->complete(request);
  };
  const CapsuleCmd pdu = capsule(7, 512, true);
  std::string bytes(sizeof pdu, 0);
  std::memcpy(bytes.data(), &pdu, sizeof pdu);
  bytes += std::string(256, 'a') + std::string(256, 'b');
  for (const bool consumes_inline : {false, true}) {
    plan_write(512, consumes_inline);
    for (std::size_t cut = 1; cut < bytes.size(); ++cut) {
      seen.clear();
      send_bytes(bytes.data(), cut);
      send_bytes(bytes.data() + cut, bytes.size() - cut);
      ASSERT_EQ(seen, bytes.substr(sizeof pdu)) << "cut at " << cut;
      ASSERT_EQ(std::uint16_t{receive_pdu<CapsuleResp>().cqe.cid}, 7);
    }
  }
}

TEST_F(QueuePairTest, AnExecutionThatLastsKeepsItsOwnBytes) {
  connected();
  plan_write(512, false);
  Request* held = nullptr;
  sink.on_execute = [&](Request& request) { held = &request; };
  send_capsule(1, 512, std::string(512, 'a'));
  ASSERT_NE(held, nullptr);
  plan_write(512, true);
  sink.on_execute = [](Request& request) { request.queue->complete(request); };
  send_capsule(2, 512, std::string(512, 'b'));  // overwrites the receive buffer
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(held->data), 512), std::string(512, 'a'));
  hand.on_thread([&] { held->queue->complete(*held); });
  EXPECT_EQ(std::uint16_t{receive_pdu<CapsuleResp>().cqe.cid}, 2);
  EXPECT_EQ(std::uint16_t{receive_pdu<CapsuleResp>().cqe.cid}, 1);
}

TEST_F(QueuePairTest, AReadAtTheBufferCapWaitsAndIsThenServed) {
  connected();
  std::vector<Buffer> all;
  for (Buffer buffer = hand.reactor.buffers().try_get(1 << 20); buffer; buffer = hand.reactor.buffers().try_get(1 << 20))
    all.push_back(std::move(buffer));
  plan_read(1 << 20);
  send_capsule(3, 1 << 20);
  EXPECT_TRUE(sink.executed.empty());
  EXPECT_EQ(hand.reactor.buffers().stats().waiting, 1u);
  all.clear();
  hand.settle();
  EXPECT_EQ(sink.executed.size(), 1u);
  EXPECT_EQ(receive(sizeof(C2HData) + (1 << 20) + sizeof(CapsuleResp)).size(), sizeof(C2HData) + (1 << 20) + sizeof(CapsuleResp));
}

TEST_F(QueuePairTest, InCapsuleDataAtTheBufferCapDoesNotBlockTheConnection) {
  connected();
  std::vector<Buffer> all;
  for (Buffer buffer = hand.reactor.buffers().try_get(1 << 20); buffer; buffer = hand.reactor.buffers().try_get(1 << 20))
    all.push_back(std::move(buffer));
  plan_write(512, false);
  std::string seen;
  sink.on_execute = [&](Request& request) {
    seen.assign(reinterpret_cast<const char*>(request.data), request.data_length);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(request.data) % 4096, 0u);
    request.queue->complete(request);
  };
  send_capsule(3, 512, std::string(512, 'c'));
  EXPECT_EQ(seen, std::string(512, 'c'));
}

TEST_F(QueuePairTest, AWriteIsAskedForInPiecesWhenTheHostAllowsSeveralR2ts) {
  connected_with_r2ts_of(4096, 2);
  plan_write(10'000);
  std::string seen;
  sink.on_execute = [&](Request& request) {
    seen.assign(reinterpret_cast<const char*>(request.data), request.data_length);
    request.queue->complete(request);
  };
  send_capsule(9, 10'000);
  const R2T first = receive_pdu<R2T>(), second = receive_pdu<R2T>();
  EXPECT_EQ(std::uint32_t{first.r2to}, 0u);
  EXPECT_EQ(std::uint32_t{first.r2tl}, 4096u);
  EXPECT_EQ(std::uint32_t{second.r2to}, 4096u);
  EXPECT_TRUE(receive(1).empty()) << "a third before data came would be one too many";
  send_data(first, std::string(4096, '1'));
  const R2T third = receive_pdu<R2T>();
  EXPECT_EQ(std::uint32_t{third.r2to}, 8192u);
  EXPECT_EQ(std::uint32_t{third.r2tl}, 10'000u - 8192u);
  send_data(second, std::string(4096, '2'));
  send_data(third, std::string(10'000 - 8192, '3'));
  EXPECT_EQ(seen, std::string(4096, '1') + std::string(4096, '2') + std::string(10'000 - 8192, '3'));
}

TEST_F(QueuePairTest, DataForSeveralR2tsMayComeAtOnce) {
  connected_with_r2ts_of(4096, 2);
  plan_write(12'288);
  send_capsule(9, 12'288);
  const R2T first = receive_pdu<R2T>(), second = receive_pdu<R2T>();
  // With the first data the third R2T is queued, and not sent before all that was received is dealt with.
  const std::string both = data_pdu(first, std::string(4096, '1')) + data_pdu(second, std::string(4096, '2'));
  send_bytes(both.data(), both.size());
  const R2T third = receive_pdu<R2T>();
  EXPECT_EQ(third.ch.type, static_cast<std::uint8_t>(PduType::r2t));
  EXPECT_EQ(std::uint32_t{third.r2to}, 8192u);
  send_data(third, std::string(4096, '3'));
  EXPECT_EQ(sink.executed.size(), 1u);
  EXPECT_EQ(std::uint16_t{receive_pdu<CapsuleResp>().cqe.cid}, 9);
}

TEST_F(QueuePairTest, ADisconnectWhileAnR2tIsQueuedSendsItWhole) {
  connected();
  sink.on_plan = [](Request& request) {
    if (request.sqe.cid == 2) return PlanAction::execute;
    request.direction = DataDirection::host_to_controller;
    request.data_length = 4096;
    return PlanAction::transfer;
  };
  sink.on_execute = [](Request& request) {
    transport::CommandQueue& queue = *request.queue;
    queue.complete(request);
    queue.disconnect("test");
  };
  const std::string both = bytes_of(capsule(1, 4096, false)) + bytes_of(capsule(2, 0, false));
  send_bytes(both.data(), both.size());
  EXPECT_EQ(std::uint16_t{receive_pdu<R2T>().cccid}, 1);
  EXPECT_EQ(std::uint16_t{receive_pdu<CapsuleResp>().cqe.cid}, 2);
  EXPECT_EQ(sink.abandoned.size(), 1u);
  EXPECT_TRUE(sink.closed);
}

TEST_F(QueuePairTest, ABufferFreedByAHostThatGoesAwayStartsNoOtherCommandOfItsOwn) {
  connected();
  std::vector<Buffer> others;
  for (Buffer buffer = hand.reactor.buffers().try_get(1 << 20); buffer; buffer = hand.reactor.buffers().try_get(1 << 20))
    others.push_back(std::move(buffer));
  others.pop_back();
  plan_read(1 << 20);
  send_capsule(1, 1 << 20);  // answered, but more than the socket takes
  ASSERT_EQ(sink.executed.size(), 1u);
  plan_write(1 << 20);
  send_capsule(2, 1 << 20);
  ASSERT_EQ(hand.reactor.buffers().stats().waiting, 1u);
  hang_up();
  EXPECT_TRUE(sink.closed);
  EXPECT_EQ(sink.abandoned.size(), 1u);
  EXPECT_EQ(hand.reactor.buffers().stats().waiting, 0u);
}

TEST_F(QueuePairTest, AHostThatStopsReadingMustGoOnlyWhenOthersWaitForBuffers) {
  connected();
  plan_read(1 << 20);
  send_capsule(1, 1 << 20);  // more than the socket takes
  ASSERT_EQ(sink.executed.size(), 1u);
  hand.advance_us(10 * options.send_stall_us);
  EXPECT_FALSE(sink.closed) << "it harms nobody";
  std::vector<Buffer> others;
  for (Buffer buffer = hand.reactor.buffers().try_get(1 << 20); buffer; buffer = hand.reactor.buffers().try_get(1 << 20))
    others.push_back(std::move(buffer));
  Buffer served;
  BufferWaiter waiter([&](Buffer buffer) { served = std::move(buffer); });
  hand.on_thread([&] { hand.reactor.buffers().wait(waiter, 1 << 20); });
  EXPECT_FALSE(receive(4 << 10).empty()) << "it reads a little";
  hand.advance_us(options.send_stall_us - 1);
  EXPECT_FALSE(sink.closed);
  hand.advance_us(options.send_stall_us);
  EXPECT_TRUE(sink.closed);
  EXPECT_TRUE(served) << "what it held serves others";
}

TEST_F(QueuePairTest, AHostThatOwesDataKeepsItsBufferOnlyWhileNobodyWaits) {
  connected();
  plan_write(1 << 20);
  send_capsule(1, 1 << 20);
  const R2T r2t = receive_pdu<R2T>();
  hand.advance_us(3 * options.send_stall_us);
  EXPECT_FALSE(sink.closed) << "it harms nobody";
  std::vector<Buffer> others;
  for (Buffer buffer = hand.reactor.buffers().try_get(1 << 20); buffer; buffer = hand.reactor.buffers().try_get(1 << 20))
    others.push_back(std::move(buffer));
  Buffer served;
  BufferWaiter waiter([&](Buffer buffer) { served = std::move(buffer); });
  hand.on_thread([&] { hand.reactor.buffers().wait(waiter, 1 << 20); });
  send_data(r2t, std::string(4096, 'x'), false);
  hand.advance_us(options.send_stall_us - 1);
  EXPECT_FALSE(sink.closed) << "some of it came";
  hand.advance_us(options.send_stall_us);
  EXPECT_TRUE(sink.closed);
  EXPECT_TRUE(served) << "what it held serves others";
}

TEST_F(QueuePairTest, AHostThatGoesAwayAbandonsWhatWaitsAndWaitsForWhatRuns) {
  connected();
  Request* running = nullptr;
  sink.on_plan = [](Request&) { return PlanAction::execute; };
  sink.on_execute = [&](Request& request) { running = &request; };
  send_capsule(1);
  sink.on_plan = [](Request&) { return PlanAction::wait; };
  send_capsule(2);
  plan_write(4096);
  send_capsule(3, 4096);
  hang_up();
  EXPECT_EQ(sink.abandoned.size(), 2u);
  EXPECT_FALSE(sink.closed);
  ASSERT_NE(running, nullptr);
  hand.on_thread([&] { running->queue->complete(*running); });
  EXPECT_TRUE(sink.closed);
  EXPECT_EQ(group->queue_count(), 0u);
}

TEST_F(QueuePairTest, AnR2tStuckBehindAFullSocketSurvivesTheEndOfItsConnection) {
  connected();
  plan_read(1 << 20);
  for (std::uint16_t cid = 1; cid <= 4; ++cid) send_capsule(cid, 1 << 20);  // more than the socket takes
  plan_write(4096);
  send_capsule(9, 4096);  // its R2T is queued behind the reads
  hand.on_thread([&] { sink.planned.back()->queue->disconnect("test"); });
  EXPECT_EQ(sink.abandoned.size(), 1u);
  const std::size_t size = 4 * (sizeof(C2HData) + (1 << 20) + sizeof(CapsuleResp)) + sizeof(R2T);
  EXPECT_EQ(receive(size).size(), size) << "what was queued goes out whole";
  hand.settle();
  EXPECT_TRUE(sink.closed);
}

TEST_F(QueuePairTest, ClosingWithCommandsInLineForBuffersStartsNoneOfThem) {
  connected();
  std::vector<Buffer> all;
  for (Buffer buffer = hand.reactor.buffers().try_get(1 << 20); buffer; buffer = hand.reactor.buffers().try_get(1 << 20))
    all.push_back(std::move(buffer));
  all.pop_back();
  plan_write(1 << 20);
  send_capsule(1, 1 << 20);  // has the last buffer and waits for its data
  send_capsule(2, 1 << 20);  // waits for a buffer
  EXPECT_EQ(hand.reactor.buffers().stats().waiting, 1u);
  hang_up();
  EXPECT_EQ(sink.abandoned.size(), 2u);
  EXPECT_TRUE(sink.executed.empty());
  EXPECT_TRUE(sink.closed);
  EXPECT_EQ(hand.reactor.buffers().stats().waiting, 0u);
}

TEST_F(QueuePairTest, AHeldCommandIsPlannedAgain) {
  connected();
  Request* held = nullptr;
  sink.on_plan = [&](Request& request) {
    held = &request;
    return PlanAction::wait;
  };
  send_capsule(5, 512, std::string(512, 'h'));
  ASSERT_NE(held, nullptr);
  std::string seen;
  plan_write(512);
  sink.on_execute = [&](Request& request) {
    seen.assign(reinterpret_cast<const char*>(request.data), request.data_length);
    request.queue->complete(request);
  };
  hand.on_thread([&] { held->queue->replan(*held); });
  EXPECT_EQ(seen, std::string(512, 'h'));
}

TEST_F(QueuePairTest, DisconnectLetsWhatRunsFinishFirst) {
  connected();
  Request* running = nullptr;
  sink.on_plan = [](Request&) { return PlanAction::execute; };
  sink.on_execute = [&](Request& request) { running = &request; };
  send_capsule(4);
  ASSERT_NE(running, nullptr);
  hand.on_thread([&] { running->queue->disconnect("test"); });
  EXPECT_FALSE(sink.closed);
  hand.on_thread([&] { running->queue->complete(*running); });
  EXPECT_EQ(std::uint16_t{receive_pdu<CapsuleResp>().cqe.cid}, 4) << "the answer goes out before the connection";
  EXPECT_TRUE(sink.closed);
}

TEST_F(QueuePairTest, ADisconnectMayGiveWhatRunsATimeOfItsOwnAndTheFirstWord) {
  connected();
  Request* running = nullptr;
  sink.on_plan = [](Request&) { return PlanAction::execute; };
  sink.on_execute = [&](Request& request) { running = &request; };
  send_capsule(4);
  ASSERT_NE(running, nullptr);
  hand.on_thread([&] { running->queue->disconnect_within("test", 60'000'000); });
  hand.on_thread([&] { running->queue->disconnect_within("another", 1'000'000); });
  hand.advance_us(59'000'000);
  hand.on_thread([&] { running->queue->complete(*running); });
  EXPECT_EQ(std::uint16_t{receive_pdu<CapsuleResp>().cqe.cid}, 4) << "within its minute, whatever others were given later";
  EXPECT_TRUE(sink.closed);
}

TEST_F(QueuePairTest, AfterItsTimeADisconnectClosesTheSocketAndWaitsForWhatRuns) {
  connected();
  Request* running = nullptr;
  sink.on_plan = [](Request&) { return PlanAction::execute; };
  sink.on_execute = [&](Request& request) { running = &request; };
  send_capsule(4);
  ASSERT_NE(running, nullptr);
  hand.on_thread([&] { running->queue->disconnect_within("test", 60'000'000); });
  hand.advance_us(61'000'000);
  EXPECT_FALSE(sink.closed) << "its request is in execution";
  EXPECT_TRUE(receive(1).empty());
  hand.on_thread([&] { running->queue->complete(*running); });
  EXPECT_TRUE(sink.closed);
}

// Proves: transport | Hosts that stall or vanish
TEST_F(QueuePairTest, ALostConnectionTellsWhatRunsThatNobodyWantsIt) {
  connected();
  std::vector<Request*> running;
  sink.on_plan = [](Request&) { return PlanAction::execute; };
  sink.on_execute = [&](Request& request) { running.push_back(&request); };
  for (std::uint16_t cid = 1; cid <= 3; ++cid) send_capsule(cid);
  ASSERT_EQ(running.size(), 3u);
  // The first one's end brings the second one's along; the third one cannot be ended early.
  sink.on_unwanted = [&](Request& request) {
    if (&request != running[0]) return;
    request.queue->complete(*running[0]);
    request.queue->complete(*running[1]);
  };
  hang_up();
  EXPECT_EQ(sink.unwanted_ones, (std::vector<Request*>{running[0], running[2]}));
  EXPECT_FALSE(sink.closed);
  hand.on_thread([&] { running[2]->queue->complete(*running[2]); });
  EXPECT_TRUE(sink.closed);
}

TEST_F(QueuePairTest, TheEndOfTheTargetShortensATimeThatWasGiven) {
  connected();
  Request* running = nullptr;
  sink.on_plan = [](Request&) { return PlanAction::execute; };
  sink.on_execute = [&](Request& request) { running = &request; };
  send_capsule(4);
  ASSERT_NE(running, nullptr);
  hand.on_thread([&] { running->queue->disconnect_within("test", 3'600'000'000); });
  bool over = false;
  hand.on_thread([&] { group->shut_down([&] { over = true; }); });
  hand.advance_us(3'000'000);
  char byte = 0;
  EXPECT_EQ(recv(fds[1], &byte, 1, MSG_DONTWAIT), 0) << "the socket is closed by then";
  hand.on_thread([&] { running->queue->complete(*running); });
  EXPECT_TRUE(over);
}

TEST_F(QueuePairTest, NoConnectInTimeEndsTheConnection) {
  shake_hands();
  hand.advance_us(options.handshake_timeout_us - 1);
  EXPECT_FALSE(sink.closed);
  hand.advance_us(1);
  EXPECT_TRUE(sink.closed);
}

TEST_F(QueuePairTest, AnUnansweredR2tEndsTheConnection) {
  connected();
  plan_write(4096);
  send_capsule(1, 4096);
  hand.advance_us(options.r2t_timeout_us);
  EXPECT_TRUE(sink.closed);
  EXPECT_EQ(sink.abandoned.size(), 1u);
}

TEST_F(QueuePairTest, AnIdleConnectionHasNoTimerAndNoReadyWork) {
  connected();
  plan_read(4096);
  send_capsule(1, 4096);
  receive(sizeof(C2HData) + 4096 + sizeof(CapsuleResp));
  hand.settle();
  EXPECT_EQ(hand.thread->nearest_deadline_ns(), TimerHeap::never_ns);
  EXPECT_FALSE(hand.thread->has_ready_work());
}

TEST_F(QueuePairTest, MoreCommandsThanEntriesEndTheConnection) {
  connected(2);
  sink.on_plan = [](Request&) { return PlanAction::wait; };
  for (std::uint16_t cid = 1; cid <= 3; ++cid) send_capsule(cid);
  EXPECT_TRUE(receive(1).empty());
  send_capsule(4);
  const auto term = receive_pdu<TermReq>();
  EXPECT_EQ(term.ch.type, static_cast<std::uint8_t>(PduType::c2h_term_req));
  EXPECT_EQ(std::uint16_t{term.fes}, static_cast<std::uint16_t>(FatalError::pdu_sequence_error));
}

class StillLender final : public transport::Lender {
 public:
  void lock_for_send(std::uint64_t, std::uint64_t) override { ++locked; }
  void unlock_after_send(std::uint64_t, std::uint64_t) override { --locked; }
  int locked = 0;
};

TEST_F(QueuePairTest, LentMemoryHasItsDataDigest) {
  dgst_ = dgst_data_enable;
  connected();
  const std::string device = "what the device lends";
  StillLender lender;
  sink.on_plan = [&](Request& request) {
    EXPECT_TRUE(request.may_lend);
    request.direction = DataDirection::controller_to_host;
    request.data_length = static_cast<std::uint32_t>(device.size());
    return PlanAction::execute;
  };
  sink.on_execute = [&](Request& request) {
    request.lease = {reinterpret_cast<const std::byte*>(device.data()), &lender, 0};
    request.queue->complete(request);
  };
  send_capsule(1, static_cast<std::uint32_t>(device.size()));
  const auto header = receive_pdu<C2HData>();
  EXPECT_EQ(header.ch.flags & flag_ddgst, flag_ddgst);
  const auto data = receive(device.size());
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(data.data()), data.size()), device);
  EXPECT_EQ(std::uint32_t{receive_pdu<le32>()}, crc32c(data.data(), data.size()));
  EXPECT_EQ(std::uint16_t{receive_pdu<CapsuleResp>().cqe.cid}, 1);
  EXPECT_EQ(lender.locked, 0);
}

TEST_F(QueuePairTest, TheNextCommandIsAnnouncedBeforeThisOneIsPlanned) {
  connected();
  sink.expected.clear();
  std::vector<std::vector<std::uint16_t>> expected_at_plan;
  sink.on_plan = [&](Request&) {
    expected_at_plan.push_back(sink.expected);
    return PlanAction::complete;
  };
  std::string capsules;
  for (std::uint16_t cid = 1; cid <= 3; ++cid) capsules += bytes_of(capsule(cid, 0, false));
  const std::string half = bytes_of(capsule(4, 0, false)).substr(0, sizeof(CapsuleCmd) - 1);
  send_bytes((capsules + half).data(), capsules.size() + half.size());
  EXPECT_EQ(expected_at_plan, (std::vector<std::vector<std::uint16_t>>{{2}, {2, 3}, {2, 3}})) << "half a command is none";
}

// 128 KiB each: the host gets to work while the target still looks at commands, but small answers are not sent one by one.
TEST_F(QueuePairTest, LargeAnswersAreSentBetweenCommands) {
  constexpr std::uint32_t length = 128U << 10;
  constexpr std::uint16_t commands = 10, waiting_before_a_send = 6;
  connected();
  plan_read(length);
  std::vector<int> host_has;
  sink.on_execute = [&](Request& request) {
    int available = 0;
    EXPECT_EQ(ioctl(fds[1], FIONREAD, &available), 0);
    host_has.push_back(available);
    std::memset(request.data, static_cast<int>(host_has.size()), length);
    request.queue->complete(request);
  };
  std::string capsules;
  for (std::uint16_t cid = 1; cid <= commands; ++cid) capsules += bytes_of(capsule(cid, length, false));
  send_bytes(capsules.data(), capsules.size());
  ASSERT_EQ(host_has.size(), commands);
  for (std::size_t i = 0; i < commands; ++i) EXPECT_EQ(host_has[i] > 0, i >= waiting_before_a_send) << i;
  for (std::uint16_t i = 1; i <= commands; ++i) {
    const auto bytes = receive(sizeof(C2HData) + length + sizeof(CapsuleResp));
    ASSERT_EQ(bytes.size(), sizeof(C2HData) + length + sizeof(CapsuleResp));
    EXPECT_TRUE(std::all_of(bytes.begin() + sizeof(C2HData), bytes.begin() + sizeof(C2HData) + length, [i](std::byte byte) {
      return byte == static_cast<std::byte>(i);
    })) << i;
  }
}

TEST_F(QueuePairTest, AHostThatIsGoneIsNoticedBetweenCommands) {
  constexpr std::uint32_t length = 128U << 10;
  connected();
  plan_read(length);
  std::string capsules;
  for (std::uint16_t cid = 1; cid <= 10; ++cid) capsules += bytes_of(capsule(cid, length, false));
  ASSERT_EQ(::send(fds[1], capsules.data(), capsules.size(), MSG_NOSIGNAL), static_cast<ssize_t>(capsules.size()));
  hang_up();
  EXPECT_TRUE(sink.closed);
  EXPECT_LT(sink.executed.size(), 10u) << "nobody is left to answer";
}

}  // namespace
}  // namespace catnap::tcp
