// A conversation of every kind of PDU, cut at every byte in both directions: what the socket takes or brings at a time must make no difference, and a
// reset after any byte must leave nothing. sendmsg() is replaced in this program by one that takes as little as the test says.
// Owner: the test's OS thread. Left out: what the PDUs say (queue_pair_test.cpp).
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <vector>

#include "tests/unit/tcp/less_of.h"
#include "tests/unit/tcp/queue_pair_bench.h"

namespace {

std::size_t send_cap = 0;   // bytes one sendmsg() takes; 0: as many as the kernel
unsigned refuse_every = 0;  // each n-th call says EAGAIN
unsigned send_calls_made = 0;
bool swallow = false;  // each call takes all, and the host gets nothing of it
std::size_t swallowed_bytes = 0;

}  // namespace

// Before the C library's: what the queue pair calls.
extern "C" ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  using Call = ssize_t (*)(int, const msghdr*, int);
  static const Call real = reinterpret_cast<Call>(dlsym(RTLD_NEXT, "sendmsg"));
  if (swallow) {
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < message->msg_iovlen; ++i) bytes += message->msg_iov[i].iov_len;
    swallowed_bytes += bytes;
    return static_cast<ssize_t>(bytes);
  }
  if (send_cap == 0) return real(fd, message, flags);
  if (refuse_every != 0 && ++send_calls_made % refuse_every == 0) {
    errno = EAGAIN;
    return -1;
  }
  return real(fd, catnap::tcp::LessOf(*message, send_cap).get(), flags);
}

namespace catnap::tcp {
namespace {

constexpr std::uint32_t io_bytes = 96;

// What the host sends, and how much it then waits for.
struct Step {
  std::string bytes;
  std::size_t answer_bytes;
};

class PiecesTest : public QueuePairTest, public testing::WithParamInterface<bool> {
 protected:
  PiecesTest() {
    if (GetParam()) dgst_ = dgst_header_enable | dgst_data_enable;
    script_sink();
  }
  ~PiecesTest() override { send_cap = refuse_every = send_calls_made = 0; }

  std::size_t digest_size() const { return GetParam() ? digest_bytes : 0; }

  // CID says what the command does: 1 Connect, 2 nothing, 3 a write, 4 a read.
  void script_sink() {
    sink.on_plan = [](Request& request) {
      const unsigned kind = request.sqe.cid % 8;
      if (kind == 2) return PlanAction::complete;
      if (kind == 1) return PlanAction::execute;
      request.direction = kind == 4 ? DataDirection::controller_to_host : DataDirection::host_to_controller;
      request.data_length = io_bytes;
      return PlanAction::transfer;
    };
    sink.on_execute = [this](Request& request) {
      const unsigned kind = request.sqe.cid % 8;
      if (kind == 1) request.queue->set_connected(1, 16, false);
      if (kind == 3) written += std::string(reinterpret_cast<const char*>(request.data), io_bytes);
      if (kind == 4) std::fill_n(request.data, io_bytes, std::byte{'r'});
      request.queue->complete(request);
    };
  }

  std::string command(std::uint16_t cid, const std::string& in_capsule = {}) const {
    return pdu(capsule(cid, cid % 8 < 3 ? 0 : io_bytes, !in_capsule.empty()), in_capsule);
  }
  std::vector<Step> conversation() const {
    IcReq hello;
    hello.ch.type = static_cast<std::uint8_t>(PduType::ic_req);
    hello.ch.hlen = sizeof hello;
    hello.ch.plen = sizeof hello;
    hello.dgst = dgst_;
    const std::size_t response = sizeof(CapsuleResp) + digest_size(), r2t = sizeof(R2T) + digest_size();
    const std::size_t read = sizeof(C2HData) + digest_size() + io_bytes + digest_size() + response;
    std::vector<Step> steps;
    steps.push_back({std::string(reinterpret_cast<const char*>(&hello), sizeof hello), sizeof(IcResp)});
    steps.push_back({command(1), response});
    steps.push_back({command(3, std::string(io_bytes, 'c')), response});
    steps.push_back({command(4), read});
    steps.push_back({command(11), r2t});
    steps.push_back({h2c(11, 0, 0, std::string(40, 'x'), false) + h2c(11, 0, 40, std::string(io_bytes - 40, 'y'), true), response});
    steps.push_back({command(2) + command(12), response + read});
    return steps;
  }
  static std::string expected_writes() { return std::string(io_bytes, 'c') + std::string(40, 'x') + std::string(io_bytes - 40, 'y'); }

  void connect_anew() {
    hang_up();
    sink.closed = false;
    written.clear();
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    hand.on_thread([this] { group->add_connection(fds[0]); });
  }
  std::string hear(std::size_t size) {
    const auto bytes = receive(size);
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  // The whole conversation, its bytes sent in one go or cut once at `cut` (counted over all steps). What the target said.
  std::string talk(std::size_t cut = ~std::size_t{0}) {
    std::string heard;
    std::size_t at = 0;
    for (const Step& step : conversation()) {
      const std::size_t inside = cut - at;
      if (cut > at && inside < step.bytes.size()) {
        send_bytes(step.bytes.data(), inside);
        send_bytes(step.bytes.data() + inside, step.bytes.size() - inside);
      } else {
        send_bytes(step.bytes.data(), step.bytes.size());
      }
      heard += hear(step.answer_bytes);
      at += step.bytes.size();
    }
    return heard;
  }
  std::size_t total_bytes() const {
    std::size_t total = 0;
    for (const Step& step : conversation()) total += step.bytes.size();
    return total;
  }
  void expect_nothing_left() {
    EXPECT_TRUE(sink.closed);
    EXPECT_EQ(group->queue_count(), 0u);
    const auto pool = hand.reactor.buffers().stats();
    EXPECT_EQ(pool.held_bytes, pool.free_bytes) << "a buffer is still lent";
    EXPECT_EQ(pool.waiting, 0u);
  }

  std::string written;
};

class StillLender final : public transport::Lender {
 public:
  void lock_for_send(std::uint64_t, std::uint64_t) override {}
  void unlock_after_send(std::uint64_t, std::uint64_t) override {}
};

// A host that takes all of it at once must not keep the group from its other connections.
TEST_F(QueuePairTest, AnswersSentBetweenCommandsAreBoundedInATurn) {
  constexpr std::uint32_t length = 1U << 20;
  constexpr std::uint16_t commands = 20;
  constexpr std::size_t early_sends = 8;
  connected();
  StillLender lender;
  const std::vector<std::byte> device(length);
  std::vector<std::size_t> swallowed_before;
  sink.on_plan = [](Request& request) {
    request.direction = DataDirection::controller_to_host;
    request.data_length = length;
    return PlanAction::execute;
  };
  sink.on_execute = [&](Request& request) {
    swallowed_before.push_back(swallowed_bytes);
    request.lease = {device.data(), &lender, 0};
    request.queue->complete(request);
  };
  std::string capsules;
  for (std::uint16_t cid = 1; cid <= commands; ++cid) capsules += bytes_of(capsule(cid, length, false));
  swallowed_bytes = 0;
  swallow = true;
  send_bytes(capsules.data(), capsules.size());
  swallow = false;
  constexpr std::size_t answer_bytes = sizeof(C2HData) + length + sizeof(CapsuleResp);
  ASSERT_EQ(swallowed_before.size(), commands);
  for (std::size_t i = 0; i < commands; ++i) EXPECT_EQ(swallowed_before[i], std::min(i, early_sends) * answer_bytes) << i;
  EXPECT_EQ(swallowed_bytes, commands * answer_bytes) << "the rest goes in later turns";
}

// Proves: transport | Framing at every split | TCP 3.3
TEST_P(PiecesTest, WhereverTheHostsBytesAreCutTheAnswersAreTheSame) {
  connect_anew();
  const std::string whole = talk();
  EXPECT_EQ(written, expected_writes());
  for (std::size_t cut = 1; cut < total_bytes(); ++cut) {
    connect_anew();
    ASSERT_EQ(talk(cut), whole) << "cut before byte " << cut;
    ASSERT_EQ(written, expected_writes()) << "cut before byte " << cut;
  }
}

TEST_P(PiecesTest, ByteByByteTheAnswersAreTheSame) {
  connect_anew();
  const std::string whole = talk();
  connect_anew();
  std::string heard;
  for (const Step& step : conversation()) {
    for (const char byte : step.bytes) send_bytes(&byte, 1);
    heard += hear(step.answer_bytes);
  }
  EXPECT_EQ(heard, whole);
  EXPECT_EQ(written, expected_writes());
}

// Proves: transport | Framing at every split | TCP 3.3
TEST_P(PiecesTest, HoweverLittleTheSocketTakesTheAnswersAreTheSame) {
  connect_anew();
  const std::string whole = talk();
  for (std::size_t cap = 1; cap <= 300; ++cap) {
    for (const unsigned refusals : {0U, 2U, 3U}) {
      send_cap = cap;
      refuse_every = refusals;
      connect_anew();
      ASSERT_EQ(talk(), whole) << "sends of " << cap << " bytes, every " << refusals << ". refused";
    }
  }
}

TEST_P(PiecesTest, AHostThatGoesAfterAnyByteLeavesNothing) {
  for (std::size_t count = 0; count <= total_bytes(); ++count) {
    connect_anew();
    std::size_t left = count;
    for (const Step& step : conversation()) {
      const std::size_t now = std::min(left, step.bytes.size());
      send_bytes(step.bytes.data(), now);
      left -= now;
      if (now < step.bytes.size()) break;
      hear(step.answer_bytes);
    }
    hang_up();
    ASSERT_NO_FATAL_FAILURE(expect_nothing_left());
    ASSERT_FALSE(HasFailure()) << "after " << count << " bytes";
  }
}

// The host goes while the target is in the middle of an answer: at each byte of each.
TEST_P(PiecesTest, AHostThatGoesWithinAnyAnswerLeavesNothing) {
  const auto steps = conversation();
  for (std::size_t stop = 0; stop < steps.size(); ++stop) {
    for (std::size_t heard = 0; heard < steps[stop].answer_bytes; ++heard) {
      send_cap = 0;
      connect_anew();
      for (std::size_t i = 0; i < stop; ++i) {
        send_bytes(steps[i].bytes.data(), steps[i].bytes.size());
        hear(steps[i].answer_bytes);
      }
      // One send of `heard` bytes, and then the socket takes no more.
      send_cap = heard + 1;
      refuse_every = 1;
      send_calls_made = 0;
      ASSERT_EQ(::send(fds[1], steps[stop].bytes.data(), steps[stop].bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(steps[stop].bytes.size()));
      for (int turns = 0; turns < 4; ++turns) hand.reactor.turn(0);
      refuse_every = 0;
      for (int turns = 0; turns < 1; ++turns) hand.reactor.turn(0);
      refuse_every = 1;
      hang_up();
      refuse_every = 0;
      ASSERT_NO_FATAL_FAILURE(expect_nothing_left());
      ASSERT_FALSE(HasFailure()) << "step " << stop << ", after " << heard << " bytes of the answer";
    }
  }
}

// Proves: admin | Abort | Base 5.1
TEST_P(PiecesTest, AnAbortWhileAnR2tIsHalfSentIsAnsweredBehindIt) {
  connect_anew();
  const auto steps = conversation();
  for (std::size_t i = 0; i < 2; ++i) {
    send_bytes(steps[i].bytes.data(), steps[i].bytes.size());
    hear(steps[i].answer_bytes);
  }
  send_cap = 10;
  const std::string asking = command(11);
  ASSERT_EQ(::send(fds[1], asking.data(), asking.size(), MSG_NOSIGNAL), static_cast<ssize_t>(asking.size()));
  char byte = 0;
  for (int turns = 0; turns < 8 && recv(fds[1], &byte, 1, MSG_DONTWAIT | MSG_PEEK) != 1; ++turns) hand.reactor.turn(0);
  refuse_every = 1;
  transport::CommandQueue::Aborted aborted;
  hand.thread->send([&] { aborted = sink.planned.back()->queue->abort(11); });
  for (int turns = 0; turns < 3; ++turns) hand.reactor.turn(0);
  EXPECT_EQ(aborted.outcome, transport::CommandQueue::AbortOutcome::taken_back);
  EXPECT_EQ(sink.abandoned.size(), 1u);
  send_cap = refuse_every = 0;
  hand.settle();
  const std::size_t r2t_bytes = sizeof(R2T) + digest_size();
  const std::string heard = hear(r2t_bytes + sizeof(CapsuleResp) + digest_size());
  ASSERT_EQ(heard.size(), r2t_bytes + sizeof(CapsuleResp) + digest_size());
  EXPECT_EQ(heard[0], static_cast<char>(PduType::r2t)) << "it goes out whole";
  EXPECT_EQ(heard[r2t_bytes], static_cast<char>(PduType::capsule_resp));
  R2T r2t;
  std::memcpy(static_cast<void*>(&r2t), heard.data(), sizeof r2t);
  const std::string data = h2c(11, r2t.ttag, 0, std::string(io_bytes, 'z'), true);
  send_bytes(data.data(), data.size());
  const std::string after = command(2);
  send_bytes(after.data(), after.size());
  EXPECT_EQ(hear(sizeof(CapsuleResp) + digest_size()).size(), sizeof(CapsuleResp) + digest_size()) << "the connection goes on";
  EXPECT_TRUE(written.empty());
}

INSTANTIATE_TEST_SUITE_P(Digests, PiecesTest, testing::Bool(), [](const auto& one) { return one.param ? std::string("On") : std::string("Off"); });

}  // namespace
}  // namespace catnap::tcp
