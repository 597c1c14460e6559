// A queue pair over a socket pair, turned by hand with a virtual clock, with a sink that the test scripts: what plan/execute/abandon see.
// Owner: the test's OS thread. Left out: the wire rules as a whole (tests/protocol).
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "reactor/base/crc32c.h"
#include "reactor/buffer_pool.h"
#include "tests/unit/reactor/by_hand.h"
#include "transport/tcp/pdu.h"
#include "transport/tcp/poll_group.h"

namespace catnap::tcp {

using transport::DataDirection;
using transport::PlanAction;
using transport::Request;

class ScriptedSink final : public transport::CommandSink {
 public:
  PlanAction plan(Request& request) override {
    planned.push_back(&request);
    return on_plan(request);
  }
  void expect(const nvme::SubmissionEntry& sqe) override { expected.push_back(sqe.cid); }
  void execute(Request& request) override {
    executed.push_back(&request);
    on_execute(request);
  }
  void abandon(Request& request) override { abandoned.push_back(&request); }
  void unwanted(Request& request) override {
    unwanted_ones.push_back(&request);
    on_unwanted(request);
  }
  void queue_closed(transport::CommandQueue&) override { closed = true; }

  std::function<PlanAction(Request&)> on_plan = [](Request&) { return PlanAction::complete; };
  std::function<void(Request&)> on_execute = [](Request& request) { request.queue->complete(request); };
  std::function<void(Request&)> on_unwanted = [](Request&) {};
  std::vector<Request*> planned, executed, abandoned, unwanted_ones;
  std::vector<std::uint16_t> expected;
  bool closed = false;
};

class QueuePairTest : public testing::Test {
 protected:
  QueuePairTest() {
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    hand.on_thread([this] {
      group = std::make_unique<PollGroup>(*hand.thread, options, sink);
      group->add_connection(fds[0]);
    });
  }
  ~QueuePairTest() override {
    hang_up();
    hand.on_thread([this] { group.reset(); });
  }

  void hang_up() {
    if (fds[1] >= 0) close(std::exchange(fds[1], -1));
    hand.settle();
  }
  void send_bytes(const void* bytes, std::size_t size) {
    ASSERT_EQ(::send(fds[1], bytes, size, MSG_NOSIGNAL), static_cast<ssize_t>(size));
    hand.settle();
  }
  std::vector<std::byte> receive(std::size_t size) {
    std::vector<std::byte> bytes(size);
    std::size_t have = 0;
    while (have < size) {
      const ssize_t got = recv(fds[1], bytes.data() + have, size - have, MSG_DONTWAIT);
      if (got <= 0) break;
      have += static_cast<std::size_t>(got);
      hand.settle();
    }
    bytes.resize(have);
    return bytes;
  }
  template <typename Pdu>
  Pdu receive_pdu() {
    Pdu pdu{};
    const auto bytes = receive(sizeof pdu);
    EXPECT_EQ(bytes.size(), sizeof pdu);
    std::memcpy(&pdu, bytes.data(), bytes.size());
    return pdu;
  }

  void shake_hands(std::uint8_t dgst = 0, std::uint32_t maxr2t = 0) {
    IcReq request;
    request.ch.type = static_cast<std::uint8_t>(PduType::ic_req);
    request.ch.hlen = sizeof request;
    request.ch.plen = sizeof request;
    request.dgst = dgst;
    request.maxr2t = maxr2t;
    send_bytes(&request, sizeof request);
    EXPECT_EQ(receive_pdu<IcResp>().ch.type, static_cast<std::uint8_t>(PduType::ic_resp));
  }
  static CapsuleCmd capsule(std::uint16_t cid, std::uint32_t length, bool in_capsule) {
    CapsuleCmd pdu;
    pdu.ch.type = static_cast<std::uint8_t>(PduType::capsule_cmd);
    pdu.ch.hlen = sizeof pdu;
    pdu.ch.plen = static_cast<std::uint32_t>(sizeof pdu) + (in_capsule ? length : 0);
    pdu.ch.pdo = in_capsule ? sizeof pdu : 0;
    pdu.sqe.cid = cid;
    pdu.sqe.sgl.length = length;
    if (in_capsule) {
      pdu.sqe.sgl.set_type(nvme::SglType::data_block, nvme::SglSubtype::offset);
    } else {
      pdu.sqe.sgl.set_type(nvme::SglType::transport_data_block, nvme::SglSubtype::transport);
    }
    return pdu;
  }
  void send_capsule(std::uint16_t cid, std::uint32_t length = 0, const std::string& data = {}) {
    const CapsuleCmd pdu = capsule(cid, length, !data.empty());
    std::string bytes(sizeof pdu, 0);
    std::memcpy(bytes.data(), &pdu, sizeof pdu);
    bytes += data;
    send_bytes(bytes.data(), bytes.size());
  }
  void send_data(const R2T& r2t, const std::string& data, bool last = true) {
    const std::string bytes = data_pdu(r2t, data, last);
    send_bytes(bytes.data(), bytes.size());
  }
  static std::string data_pdu(const R2T& r2t, const std::string& data, bool last = true) {
    H2CData pdu;
    pdu.ch.type = static_cast<std::uint8_t>(PduType::h2c_data);
    pdu.ch.hlen = sizeof pdu;
    pdu.ch.pdo = sizeof pdu;
    pdu.ch.plen = static_cast<std::uint32_t>(sizeof pdu + data.size());
    pdu.ch.flags = last ? flag_last_pdu : 0;
    pdu.cccid = r2t.cccid;
    pdu.ttag = r2t.ttag;
    pdu.datao = r2t.r2to;
    pdu.datal = static_cast<std::uint32_t>(data.size());
    std::string bytes(sizeof pdu, 0);
    std::memcpy(bytes.data(), &pdu, sizeof pdu);
    bytes += data;
    return bytes;
  }
  void plan_write(std::uint32_t length, bool consumes_inline = false) {
    sink.on_plan = [length, consumes_inline](Request& request) {
      request.direction = DataDirection::host_to_controller;
      request.data_length = length;
      request.consumes_inline = consumes_inline;
      return PlanAction::transfer;
    };
  }
  void plan_read(std::uint32_t length) {
    sink.on_plan = [length](Request& request) {
      request.direction = DataDirection::controller_to_host;
      request.data_length = length;
      return PlanAction::transfer;
    };
  }
  void connected(std::uint16_t entries = 128) {
    sink.on_execute = [entries](Request& request) {
      request.queue->set_connected(1, entries, false);
      request.queue->complete(request);
    };
    sink.on_plan = [](Request&) { return PlanAction::execute; };
    shake_hands(dgst_, maxr2t_);
    send_capsule(0xFFF0);
    receive(sizeof(CapsuleResp) + (dgst_ & dgst_header_enable ? digest_bytes : 0U));
    sink.executed.clear();
    sink.on_execute = [](Request& request) { request.queue->complete(request); };
  }

  // Another connection, to a group with the options as they are now.
  void begin_anew() {
    hang_up();
    sink.closed = false;
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    hand.on_thread([this] {
      group.reset();
      group = std::make_unique<PollGroup>(*hand.thread, options, sink);
      group->add_connection(fds[0]);
    });
  }
  void connected_with_r2ts_of(std::uint32_t r2t_bytes, std::uint32_t outstanding) {
    options.max_r2t_bytes = r2t_bytes;
    maxr2t_ = outstanding - 1;
    begin_anew();
    connected();
  }

  // --- PDUs with the digests of dgst_ ---

  std::uint32_t header_digest() const { return (dgst_ & dgst_header_enable) != 0 ? digest_bytes : 0; }
  std::uint32_t data_digest() const { return (dgst_ & dgst_data_enable) != 0 ? digest_bytes : 0; }
  template <typename Pdu>
  std::string pdu(Pdu header, const std::string& data = {}) const {
    if (header_digest() > 0) header.ch.flags |= flag_hdgst;
    if (data_digest() > 0 && !data.empty()) header.ch.flags |= flag_ddgst;
    const auto bare = static_cast<std::uint32_t>(sizeof header + header_digest());
    header.ch.pdo = data.empty() ? 0 : static_cast<std::uint8_t>(bare);
    header.ch.plen = static_cast<std::uint32_t>(bare + data.size() + (data.empty() ? 0 : data_digest()));
    std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
    if (header_digest() > 0) append_digest(bytes, bytes);
    bytes += data;
    if (data_digest() > 0 && !data.empty()) append_digest(bytes, data);
    return bytes;
  }
  static void append_digest(std::string& to, const std::string& of) {
    const le32 digest = crc32c(of.data(), of.size());
    to.append(reinterpret_cast<const char*>(&digest), sizeof digest);
  }
  std::string h2c(std::uint16_t cid, std::uint16_t ttag, std::uint32_t offset, const std::string& data, bool last) const {
    H2CData header;
    header.ch.type = static_cast<std::uint8_t>(PduType::h2c_data);
    header.ch.hlen = sizeof header;
    header.ch.flags = last ? flag_last_pdu : 0;
    header.cccid = cid;
    header.ttag = ttag;
    header.datao = offset;
    header.datal = static_cast<std::uint32_t>(data.size());
    return pdu(header, data);
  }
  static std::string bytes_of(const CapsuleCmd& pdu) { return std::string(reinterpret_cast<const char*>(&pdu), sizeof pdu); }

  // Takes what the pool has left in its largest class, but for the last `leave` buffers.
  std::vector<Buffer> take_buffers(std::size_t leave = 0) {
    std::vector<Buffer> all;
    for (Buffer buffer = hand.reactor.buffers().try_get(1 << 20); buffer; buffer = hand.reactor.buffers().try_get(1 << 20))
      all.push_back(std::move(buffer));
    all.resize(all.size() - leave);
    return all;
  }

  ByHand hand;
  ScriptedSink sink;
  TcpOptions options;
  std::unique_ptr<PollGroup> group;
  int fds[2] = {-1, -1};
  std::uint8_t dgst_ = 0;
  std::uint32_t maxr2t_ = 0;
};

}  // namespace catnap::tcp
