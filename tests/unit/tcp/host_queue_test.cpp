// The host's queue pair against a peer that the test plays, byte by byte, with a virtual clock: connecting, data in both directions, what is known
// about commands whose connection ended, deadlines. What a hostile controller may send as a whole is tests/protocol/hostile_controller_test.cpp.
#include "transport/tcp/host_queue.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "reactor/base/crc32c.h"
#include "tests/unit/reactor/by_hand.h"
#include "transport/tcp/pdu.h"

namespace catnap::tcp {
namespace {

using Outcome = HostRequest::Outcome;
using transport::DataDirection;

class HostQueueTest : public testing::Test, public HostQueueUser {
 protected:
  HostQueueTest() {
    // A Unix socket, whose bytes are there when send() returns: those of loopback come when the kernel finds time.
    listener_ = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un here{};
    here.sun_family = AF_UNIX;
    socklen_t length = sizeof here.sun_family;  // a name of the kernel's choice
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&here), length), 0);
    EXPECT_EQ(listen(listener_, 4), 0);
    length = sizeof here;
    EXPECT_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&here), &length), 0);
    std::memcpy(&options_.address.storage, &here, length);
    options_.address.length = length;
    options_.qid = 1;
    options_.entries = 4;
    options_.in_capsule_bytes = 4096;
  }
  ~HostQueueTest() override {
    close_queue();
    hand_.on_thread([this] { queue_.reset(); });
    if (peer_ >= 0) ::close(peer_);
    ::close(listener_);
  }

  // Before commands go that are outstanding.
  void close_queue() {
    if (queue_ == nullptr || ended_) return;
    hand_.on_thread([this] { queue_->close(Error(ESHUTDOWN, "the test is over")); });
  }

  void queue_ready(HostQueue&, std::uint32_t dw0) override { connected_dw0_ = dw0; }
  void queue_ended(HostQueue&, const Error& why) override {
    ended_ = true;
    why_ = why.message;
  }
  void request_late(HostQueue&, HostRequest& request) override { late_.push_back(&request); }

  void start() {
    hand_.on_thread([this] {
      queue_ = std::make_unique<HostQueue>(*hand_.thread, options_, *this);
      queue_->connect();
    });
  }
  void accept_peer() {
    peer_ = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK);
    ASSERT_GE(peer_, 0);
    hand_.settle();
  }
  void send_bytes(const std::vector<std::byte>& bytes) {
    ASSERT_EQ(::send(peer_, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
    hand_.settle();
  }
  template <typename Pdu>
  static std::vector<std::byte> bytes_of(Pdu pdu, PduType type, std::uint8_t flags = 0) {
    pdu.ch.type = static_cast<std::uint8_t>(type);
    pdu.ch.hlen = sizeof pdu;
    if (pdu.ch.plen == 0U) pdu.ch.plen = static_cast<std::uint32_t>(sizeof pdu);
    pdu.ch.flags = flags;
    std::vector<std::byte> bytes(sizeof pdu);
    std::memcpy(bytes.data(), &pdu, sizeof pdu);
    return bytes;
  }
  // Exactly so many bytes, which must have come.
  std::vector<std::byte> receive(std::size_t size) {
    std::vector<std::byte> bytes(size);
    std::size_t have = 0;
    for (int idle = 0; have < size && idle < 3;) {
      const ssize_t got = recv(peer_, bytes.data() + have, size - have, MSG_DONTWAIT);
      idle = got > 0 ? 0 : idle + 1;
      if (got > 0) have += static_cast<std::size_t>(got);
      hand_.settle();
    }
    EXPECT_EQ(have, size);
    return bytes;
  }
  template <typename Pdu>
  Pdu receive_pdu() {
    Pdu pdu{};
    const auto bytes = receive(sizeof pdu);
    std::memcpy(&pdu, bytes.data(), sizeof pdu);
    return pdu;
  }
  bool nothing_came() {
    std::byte byte{};
    return recv(peer_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
  }

  void shake_hands(std::uint32_t max_h2c = 65536, std::uint8_t cpda = 0) {
    start();
    accept_peer();
    const auto request = receive_pdu<IcReq>();
    EXPECT_EQ(request.ch.type, static_cast<std::uint8_t>(PduType::ic_req));
    IcResp response;
    response.dgst = request.dgst;
    response.cpda = cpda;
    response.maxh2cdata = max_h2c;
    send_bytes(bytes_of(response, PduType::ic_resp));
  }
  void connect(std::uint32_t max_h2c = 65536, std::uint8_t cpda = 0) {
    shake_hands(max_h2c, cpda);
    const auto capsule = receive_pdu<CapsuleCmd>();
    receive(capsule.ch.plen - sizeof capsule);
    EXPECT_EQ(nvme::view_as<nvme::ConnectCommand>(capsule.sqe).qid, options_.qid);
    respond(capsule.sqe.cid, 0, 7);
    ASSERT_EQ(connected_dw0_, 7U);
  }
  void respond(std::uint16_t cid, std::uint16_t status_field = 0, std::uint32_t dw0 = 0) {
    CapsuleResp pdu;
    pdu.cqe.cid = cid;
    pdu.cqe.dw0 = dw0;
    pdu.cqe.set_status_field(status_field);
    send_bytes(bytes_of(pdu, PduType::capsule_resp));
  }
  void send_read_data(std::uint16_t cid, std::uint32_t offset, const std::vector<std::byte>& data, std::uint8_t flags, bool bad_digest = false) {
    C2HData pdu;
    pdu.cccid = cid;
    pdu.datao = offset;
    pdu.datal = static_cast<std::uint32_t>(data.size());
    pdu.ch.pdo = sizeof pdu;
    pdu.ch.plen = static_cast<std::uint32_t>(sizeof pdu + data.size() + (options_.data_digest ? 4 : 0));
    auto bytes = bytes_of(pdu, PduType::c2h_data, static_cast<std::uint8_t>(flags | (options_.data_digest ? flag_ddgst : 0)));
    bytes.insert(bytes.end(), data.begin(), data.end());
    if (options_.data_digest) {
      const le32 digest = crc32c(data.data(), data.size()) + (bad_digest ? 1U : 0U);
      const auto* raw = reinterpret_cast<const std::byte*>(&digest);
      bytes.insert(bytes.end(), raw, raw + sizeof digest);
    }
    send_bytes(bytes);
  }
  void send_r2t(std::uint16_t cid, std::uint32_t offset, std::uint32_t length) {
    R2T pdu;
    pdu.cccid = cid;
    pdu.ttag = 0x77;
    pdu.r2to = offset;
    pdu.r2tl = length;
    send_bytes(bytes_of(pdu, PduType::r2t));
  }

  // A command with its memory, which counts how often it ended.
  struct Command {
    HostRequest request;
    std::vector<std::byte> memory;
    std::vector<iovec> pieces;
    int ended = 0;

    explicit Command(DataDirection direction = DataDirection::none, std::vector<std::size_t> sizes = {}) {
      memory.resize(std::accumulate(sizes.begin(), sizes.end(), std::size_t{0}));
      std::size_t at = 0;
      for (const std::size_t size : sizes) {
        pieces.push_back({memory.data() + at, size});
        at += size;
      }
      for (std::size_t i = 0; i < memory.size() && direction == DataDirection::host_to_controller; ++i) {
        memory[i] = static_cast<std::byte>(i * 31 + i / 256);
      }
      request.sqe.opcode = 0x42;
      request.direction = direction;
      request.iov = pieces.data();
      request.iov_count = static_cast<std::uint32_t>(pieces.size());
      request.data_bytes = static_cast<std::uint32_t>(memory.size());
      request.context = this;
      request.done = [](HostRequest& done) { ++static_cast<Command*>(done.context)->ended; };
    }
  };
  void submit(Command& command) {
    hand_.on_thread([&] { queue_->submit(command.request); });
  }

  ByHand hand_;
  HostQueueOptions options_;
  std::unique_ptr<HostQueue> queue_;
  int listener_ = -1;
  int peer_ = -1;
  std::optional<std::uint32_t> connected_dw0_;
  bool ended_ = false;
  std::string why_;
  std::vector<HostRequest*> late_;
};

TEST_F(HostQueueTest, ASmallWriteGoesWithItsCommandOutOfManyPieces) {
  connect(65536, 31);  // data of capsules begins at a multiple of 128
  Command write(DataDirection::host_to_controller, {1, 511, 1024, 7, 505});
  submit(write);
  const auto capsule = receive_pdu<CapsuleCmd>();
  EXPECT_EQ(capsule.ch.pdo, 128);
  EXPECT_TRUE(capsule.sqe.sgl.is_in_capsule());
  EXPECT_EQ(capsule.sqe.sgl.length, 2048U);
  auto rest = receive(capsule.ch.plen - sizeof capsule);
  rest.erase(rest.begin(), rest.begin() + (128 - sizeof capsule));
  EXPECT_EQ(rest, write.memory);
  EXPECT_EQ(write.ended, 0);
  respond(capsule.sqe.cid);
  EXPECT_EQ(write.ended, 1);
  EXPECT_EQ(write.request.outcome, Outcome::answered);
  EXPECT_TRUE(write.request.status().is_success());
}

TEST_F(HostQueueTest, ALargeWriteIsSentAsAskedForInPiecesOfMaxh2cdata) {
  connect(4096);
  Command write(DataDirection::host_to_controller, {4000, 4000, 4288});
  submit(write);
  const auto capsule = receive_pdu<CapsuleCmd>();
  EXPECT_TRUE(capsule.sqe.sgl.is_transport());
  EXPECT_TRUE(nothing_came());
  std::vector<std::byte> data;
  for (const auto& [offset, length] : {std::pair(0U, 8192U), std::pair(8192U, 4096U)}) {
    send_r2t(capsule.sqe.cid, offset, length);
    for (std::uint32_t at = offset; at < offset + length; at += 4096) {
      const auto pdu = receive_pdu<H2CData>();
      EXPECT_EQ(pdu.ttag, 0x77);
      EXPECT_EQ(pdu.datao, at);
      EXPECT_EQ((pdu.ch.flags & flag_last_pdu) != 0, at + 4096 == offset + length);
      const auto part = receive(pdu.datal);
      data.insert(data.end(), part.begin(), part.end());
    }
    EXPECT_TRUE(nothing_came());
  }
  EXPECT_EQ(data, write.memory);
  respond(capsule.sqe.cid);
  EXPECT_EQ(write.ended, 1);
  EXPECT_TRUE(write.request.status().is_success());
}

TEST_F(HostQueueTest, DataOfReadsComesStraightIntoItsPiecesInAnyCut) {
  options_.data_digest = true;
  connect();
  Command read(DataDirection::controller_to_host, {100, 4000, 4092});
  submit(read);
  const auto capsule = receive_pdu<CapsuleCmd>();
  std::vector<std::byte> data(8192);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 7);
  send_read_data(capsule.sqe.cid, 0, {data.begin(), data.begin() + 5000}, 0);
  EXPECT_EQ(read.ended, 0);
  send_read_data(capsule.sqe.cid, 5000, {data.begin() + 5000, data.end()}, flag_last_pdu | flag_success);
  EXPECT_EQ(read.ended, 1);
  EXPECT_TRUE(read.request.status().is_success());
  EXPECT_EQ(read.memory, data);
}

TEST_F(HostQueueTest, AKnownDigestIsSentForTheWholeDataOnly) {
  options_.data_digest = true;
  connect(8192);
  constexpr std::uint32_t claimed = 0x12345678;  // a computed one would differ
  Command whole(DataDirection::host_to_controller, {8192}), parts(DataDirection::host_to_controller, {16384});
  for (Command* command : {&whole, &parts}) {
    command->request.known_digest = claimed;
    submit(*command);
    const auto capsule = receive_pdu<CapsuleCmd>();
    const std::uint32_t length = command->request.data_bytes;
    send_r2t(capsule.sqe.cid, 0, length);
    for (std::uint32_t at = 0; at < length; at += 8192) {
      const auto pdu = receive_pdu<H2CData>();
      const auto data = receive(pdu.datal);
      le32 digest;
      std::memcpy(&digest, receive(sizeof digest).data(), sizeof digest);
      EXPECT_EQ(digest, command == &whole ? claimed : crc32c(data.data(), data.size()));
    }
    respond(capsule.sqe.cid);
    EXPECT_EQ(command->ended, 1);
  }
}

TEST_F(HostQueueTest, AWrongDataDigestEndsTheCommandAndNotTheConnection) {
  options_.data_digest = true;
  connect();
  Command read(DataDirection::controller_to_host, {512});
  submit(read);
  const auto capsule = receive_pdu<CapsuleCmd>();
  send_read_data(capsule.sqe.cid, 0, std::vector<std::byte>(512), flag_last_pdu | flag_success, true);
  EXPECT_EQ(read.ended, 1);
  EXPECT_TRUE(read.request.status().same_code(nvme::GenericStatus::transient_transport_error));
  EXPECT_FALSE(ended_);
}

TEST_F(HostQueueTest, SuccessWithoutAllOfTheDataIsNotBelieved) {
  connect();
  Command read(DataDirection::controller_to_host, {1024});
  Command write(DataDirection::host_to_controller, {8192});
  submit(read);
  submit(write);
  const auto first = receive_pdu<CapsuleCmd>();
  const auto second = receive_pdu<CapsuleCmd>();
  send_read_data(first.sqe.cid, 0, std::vector<std::byte>(512), flag_last_pdu);
  respond(first.sqe.cid);
  respond(second.sqe.cid);
  for (const Command* command : {&read, &write}) {
    EXPECT_EQ(command->ended, 1);
    EXPECT_TRUE(command->request.status().same_code(nvme::GenericStatus::data_transfer_error));
  }
}

TEST_F(HostQueueTest, WhatIsMoreThanTheQueueHoldsWaitsInLine) {
  connect();  // 3 commands at a time
  std::vector<std::unique_ptr<Command>> all;
  for (int i = 0; i < 6; ++i) {
    all.push_back(std::make_unique<Command>());
    submit(*all.back());
  }
  EXPECT_EQ(queue_->outstanding(), 6U);
  std::vector<std::uint16_t> cids;
  for (int i = 0; i < 3; ++i) cids.push_back(receive_pdu<CapsuleCmd>().sqe.cid);
  EXPECT_TRUE(nothing_came());
  hand_.on_thread([&] { EXPECT_TRUE(queue_->take_back(all[4]->request)); });
  EXPECT_EQ(all[4]->request.outcome, Outcome::not_sent);
  EXPECT_EQ(all[4]->ended, 1);
  respond(cids[1]);
  EXPECT_EQ(all[1]->ended, 1);
  const auto next = receive_pdu<CapsuleCmd>();
  EXPECT_NE(next.sqe.cid, cids[1]) << "the place is used again under another name";
  // An answer to the earlier use of the place is noticed.
  respond(cids[1]);
  EXPECT_TRUE(ended_);
  EXPECT_NE(why_.find("CID"), std::string::npos) << why_;
  for (const int i : {0, 2, 3}) EXPECT_EQ(all[static_cast<std::size_t>(i)]->request.outcome, Outcome::lost);
  EXPECT_EQ(all[5]->request.outcome, Outcome::not_sent);
  EXPECT_EQ(all[5]->ended, 1);
}

TEST_F(HostQueueTest, PairsStandNextToEachOther) {
  connect();
  Command one, compare, write;
  compare.request.second = &write.request;
  Command two;
  submit(one);
  submit(two);
  submit(compare);  // one place is free, two are needed
  EXPECT_EQ(receive_pdu<CapsuleCmd>().ch.type, static_cast<std::uint8_t>(PduType::capsule_cmd));
  const auto second = receive_pdu<CapsuleCmd>();
  EXPECT_TRUE(nothing_came());
  respond(second.sqe.cid);
  const auto first_half = receive_pdu<CapsuleCmd>();
  const auto second_half = receive_pdu<CapsuleCmd>();
  respond(first_half.sqe.cid);
  EXPECT_EQ(compare.ended, 1);
  EXPECT_EQ(write.ended, 0);
  respond(second_half.sqe.cid);
  EXPECT_EQ(write.ended, 1);
  close_queue();
}

TEST_F(HostQueueTest, ADeathIsToldApartByWhatTheControllerCanHaveSeen) {
  connect();
  Command sent;
  submit(sent);
  receive_pdu<CapsuleCmd>();
  Command unsent;
  hand_.on_thread([&] {
    queue_->submit(unsent.request);
    queue_->close(Error(ECONNABORTED, "enough"));
  });
  EXPECT_TRUE(ended_);
  EXPECT_FALSE(queue_->ended_by_controller());
  EXPECT_EQ(sent.request.outcome, Outcome::lost);
  EXPECT_EQ(unsent.request.outcome, Outcome::not_sent);
  Command late;
  submit(late);
  EXPECT_EQ(late.ended, 1);
  EXPECT_EQ(late.request.outcome, Outcome::not_sent);
}

TEST_F(HostQueueTest, AHangUpOfTheControllerIsNoticedAndSaidSo) {
  connect();
  Command sent;
  submit(sent);
  ::close(std::exchange(peer_, -1));
  hand_.settle();
  EXPECT_TRUE(ended_);
  EXPECT_TRUE(queue_->ended_by_controller());
  EXPECT_EQ(sent.request.outcome, Outcome::lost);
}

TEST_F(HostQueueTest, EachStepOfConnectingHasItsDeadline) {
  start();
  accept_peer();
  hand_.advance_us(options_.connect_timeout_us - 1);
  EXPECT_FALSE(ended_);
  hand_.advance_us(2);
  EXPECT_TRUE(ended_);
  EXPECT_NE(why_.find("no ICResp"), std::string::npos) << why_;
}

TEST_F(HostQueueTest, AConnectThatIsNotAnsweredEnds) {
  shake_hands();
  hand_.advance_us(options_.fabrics_timeout_us + 1);
  EXPECT_TRUE(ended_);
  EXPECT_NE(why_.find("no answer to Connect"), std::string::npos) << why_;
}

TEST_F(HostQueueTest, ARefusedConnectSaysWhichFieldIsMeant) {
  shake_hands();
  const auto capsule = receive_pdu<CapsuleCmd>();
  const nvme::Status refused = nvme::FabricsStatus::connect_invalid_parameters;
  respond(capsule.sqe.cid, refused.field(), nvme::ConnectInvalidParameters{256, true}.dw0());
  EXPECT_TRUE(ended_);
  EXPECT_NE(why_.find("byte 256 of the Connect data"), std::string::npos) << why_;
}

TEST_F(HostQueueTest, ALateCommandIsReportedOnceAndNobodyElse) {
  options_.command_timeout_us = 1'000'000;
  connect();
  Command first, second, patient;
  patient.request.late = true;
  submit(patient);
  submit(first);
  hand_.advance_us(600'000);
  submit(second);
  hand_.advance_us(500'000);
  EXPECT_EQ(late_, std::vector<HostRequest*>{&first.request});
  hand_.advance_us(500'000);
  EXPECT_EQ(late_, (std::vector<HostRequest*>{&first.request, &second.request}));
  hand_.advance_us(10'000'000);
  EXPECT_EQ(late_.size(), 2U);
  EXPECT_EQ(hand_.thread->nearest_deadline_ns(), TimerHeap::never_ns);
  close_queue();
}

TEST_F(HostQueueTest, APolledQueueIsNotInTheEpollSet) {
  connect();
  hand_.on_thread([this] { queue_->set_poll_period_us(1000); });
  EXPECT_EQ(hand_.thread->fds().fd_count(), 0U);
  Command command;
  submit(command);
  const auto capsule = receive_pdu<CapsuleCmd>();
  respond(capsule.sqe.cid);
  EXPECT_EQ(command.ended, 0);
  hand_.advance_us(1001);
  EXPECT_EQ(command.ended, 1);
  hand_.on_thread([this] { queue_->set_poll_period_us(0); });
  EXPECT_EQ(hand_.thread->fds().fd_count(), 1U);
  EXPECT_EQ(hand_.thread->nearest_deadline_ns(), TimerHeap::never_ns);
  Command again;
  submit(again);
  respond(receive_pdu<CapsuleCmd>().sqe.cid);
  EXPECT_EQ(again.ended, 1);
}

// The rest of an H2CData is the user's memory: an answer that comes before it is out has to wait for it.
TEST_F(HostQueueTest, AnEarlyAnswerWaitsForDataThatIsHalfSent) {
  connect(1 << 20);
  Command write(DataDirection::host_to_controller, {std::size_t{2} << 20});
  submit(write);
  const auto capsule = receive_pdu<CapsuleCmd>();
  send_r2t(capsule.sqe.cid, 0, 2U << 20);
  respond(capsule.sqe.cid, nvme::Status(nvme::GenericStatus::internal_error).field());
  EXPECT_EQ(write.ended, 0);
  const auto pdu = receive_pdu<H2CData>();
  receive(pdu.datal);
  EXPECT_EQ(write.ended, 1);
  EXPECT_TRUE(write.request.status().same_code(nvme::GenericStatus::internal_error));
}

}  // namespace
}  // namespace catnap::tcp
