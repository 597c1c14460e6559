// Data of R2Ts received where it belongs: as expected, and when a host does all that it may do instead. recvmsg() is replaced in this program by one
// that notes where bytes were to go, and brings as few as the test says.
// Owner: the test's OS thread. Left out: the wire rules as a whole (queue_pair_test.cpp, tests/protocol).
#include <dlfcn.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/tcp/less_of.h"
#include "tests/unit/tcp/queue_pair_bench.h"
#include "transport/nvme/status.h"
#include "transport/tcp/foreseen.h"

namespace {

std::size_t receive_cap = 0;         // bytes one recvmsg() brings; 0: as many as the kernel
std::set<const void*> places_given;  // where the calls so far were to put bytes
unsigned questions = 0;              // to epoll, that waited for nothing

}  // namespace

// Before the C library's: what the queue pair calls.
extern "C" ssize_t recvmsg(int fd, msghdr* message, int flags) {
  using Call = ssize_t (*)(int, msghdr*, int);
  static const Call real = reinterpret_cast<Call>(dlsym(RTLD_NEXT, "recvmsg"));
  for (std::size_t i = 0; i < message->msg_iovlen; ++i) places_given.insert(message->msg_iov[i].iov_base);
  if (receive_cap == 0) return real(fd, message, flags);
  return real(fd, catnap::tcp::LessOf(*message, receive_cap).get(), flags);
}

extern "C" int epoll_wait(int fd, epoll_event* events, int most, int timeout_ms) {
  using Call = int (*)(int, epoll_event*, int, int);
  static const Call real = reinterpret_cast<Call>(dlsym(RTLD_NEXT, "epoll_wait"));
  ++questions;
  return real(fd, events, most, timeout_ms);
}

namespace catnap::tcp {
namespace {

// What a write's data are: to be known again, different at each offset and for each command.
std::string content(std::uint16_t cid, std::uint32_t from, std::uint32_t length) {
  std::string bytes(length, 0);
  for (std::uint32_t i = 0; i < length; ++i) bytes[i] = static_cast<char>((cid * 31U + (from + i) * 7U + ((from + i) >> 8) * 13U) & 0xFF);
  return bytes;
}

class ForeseeTest : public QueuePairTest {
 protected:
  ~ForeseeTest() override {
    receive_cap = 0;
    places_given.clear();
  }

  void connect_anew(std::uint8_t dgst, std::uint32_t r2t_bytes, std::uint32_t r2ts, std::uint32_t max_h2c_data_bytes) {
    dgst_ = dgst;
    options.max_h2c_data_bytes = max_h2c_data_bytes;
    options.max_r2t_bytes = r2t_bytes;
    maxr2t_ = r2ts - 1;
    sink.planned.clear();
    begin_anew();
    sink.on_execute = [](Request& request) {
      request.queue->set_connected(1, 128, false);
      request.queue->complete(request);
    };
    sink.on_plan = [](Request&) { return PlanAction::execute; };
    shake_hands(dgst_, maxr2t_);
    const std::string connect = command(0xFFF0, 0, false);
    send_bytes(connect.data(), connect.size());
    ASSERT_EQ(receive(sizeof(CapsuleResp) + header_digest()).size(), sizeof(CapsuleResp) + header_digest());
    queue = sink.planned.front()->queue;
    sink.on_plan = [](Request& request) {
      request.data_length = std::uint32_t{request.sqe.sgl.length};
      if (request.data_length == 0) return PlanAction::complete;
      request.direction = DataDirection::host_to_controller;
      request.consumes_inline = request.data_length % 1024 == 0;
      return PlanAction::transfer;
    };
    sink.on_execute = [this](Request& request) {
      const std::uint16_t cid = request.sqe.cid;
      ++executed[cid];
      memory[cid] = request.data;
      if (std::string(reinterpret_cast<const char*>(request.data), request.data_length) != content(cid, 0, request.data_length)) wrong.push_back(cid);
      request.queue->complete(request);
    };
    executed.clear();
    wrong.clear();
    memory.clear();
    heard.clear();
  }

  std::string command(std::uint16_t cid, std::uint32_t length, bool in_capsule) const {
    return pdu(capsule(cid, length, in_capsule), in_capsule ? content(cid, 0, length) : std::string());
  }
  std::string data_of(std::uint16_t cid, std::uint16_t ttag, std::uint32_t from, std::uint32_t length, bool last) const {
    return h2c(cid, ttag, from, content(cid, from, length), last);
  }
  void send_all(const std::string& bytes) { send_bytes(bytes.data(), bytes.size()); }

  // The R2Ts and answers that have come since the last call.
  struct Heard {
    std::vector<R2T> r2ts;
    std::vector<nvme::CompletionEntry> answers;
  };
  Heard listen() {
    const auto more = receive(1U << 20);
    heard.append(reinterpret_cast<const char*>(more.data()), more.size());
    Heard found;
    while (heard.size() >= sizeof(CommonHeader)) {
      CommonHeader common;
      std::memcpy(&common, heard.data(), sizeof common);
      if (heard.size() < std::uint32_t{common.plen}) break;
      if (common.type == static_cast<std::uint8_t>(PduType::r2t)) {
        std::memcpy(&found.r2ts.emplace_back(), heard.data(), sizeof(R2T));
      } else {
        EXPECT_EQ(common.type, static_cast<std::uint8_t>(PduType::capsule_resp));
        CapsuleResp answer;
        std::memcpy(&answer, heard.data(), sizeof answer);
        found.answers.push_back(answer.cqe);
      }
      heard.erase(0, std::uint32_t{common.plen});
    }
    return found;
  }
  // Writes, asked for: their transfer tags by CID.
  std::map<std::uint16_t, std::uint16_t> ask_for(std::initializer_list<std::uint16_t> cids, std::uint32_t length) {
    std::string commands;
    for (const std::uint16_t cid : cids) commands += command(cid, length, false);
    send_all(commands);
    std::map<std::uint16_t, std::uint16_t> tags;
    const Heard news = listen();
    for (const R2T& r2t : news.r2ts) tags[r2t.cccid] = r2t.ttag;
    EXPECT_EQ(tags.size(), cids.size());
    return tags;
  }

  transport::CommandQueue* queue = nullptr;
  std::map<std::uint16_t, int> executed;
  std::map<std::uint16_t, const void*> memory;
  std::vector<std::uint16_t> wrong;
  std::string heard;
};

TEST_F(ForeseeTest, DataInTheOrderOfItsR2tsIsReceivedWhereItBelongs) {
  for (const std::uint8_t dgst : {0, 1, 2, 3}) {
    connect_anew(dgst, 0, 1, 131072);
    auto tags = ask_for({1, 2, 3}, 8192);
    places_given.clear();
    send_all(data_of(1, tags[1], 0, 8192, true) + data_of(2, tags[2], 0, 8192, true) + data_of(3, tags[3], 0, 8192, true));
    EXPECT_TRUE(wrong.empty());
    for (const std::uint16_t cid : {1, 2, 3}) {
      EXPECT_EQ(executed[cid], 1);
      EXPECT_TRUE(places_given.contains(memory[cid])) << "the data of command " << cid << " were copied, digests " << int{dgst};
    }
    EXPECT_EQ(listen().answers.size(), 3u);
  }
}

TEST_F(ForeseeTest, LongDataInSeveralPdusIsReceivedWhereItBelongs) {
  connect_anew(dgst_data_enable, 0, 1, 4096);
  auto tags = ask_for({1, 2}, 10'000);
  places_given.clear();
  std::string bytes;
  for (const std::uint16_t cid : {1, 2}) {
    bytes +=
        data_of(cid, tags[cid], 0, 4096, false) + data_of(cid, tags[cid], 4096, 4096, false) + data_of(cid, tags[cid], 8192, 10'000 - 8192, true);
  }
  send_all(bytes);
  EXPECT_TRUE(wrong.empty());
  for (const std::uint16_t cid : {1, 2}) {
    EXPECT_EQ(executed[cid], 1);
    EXPECT_TRUE(places_given.contains(memory[cid]));
    EXPECT_TRUE(places_given.contains(static_cast<const std::byte*>(memory[cid]) + 8192));
  }
}

TEST_F(ForeseeTest, DataInAnotherOrderAndCommandsBetweenAreReadAsTheyAre) {
  connect_anew(dgst_header_enable | dgst_data_enable, 0, 1, 131072);
  auto tags = ask_for({1, 2, 3, 4}, 6000);
  send_all(data_of(1, tags[1], 0, 6000, true) + data_of(3, tags[3], 0, 6000, true) + command(9, 512, true) + command(10, 0, false) +
           data_of(2, tags[2], 0, 6000, true) + data_of(4, tags[4], 0, 6000, true));
  EXPECT_TRUE(wrong.empty());
  for (const std::uint16_t cid : {1, 2, 3, 4, 9}) EXPECT_EQ(executed[cid], 1) << cid;
  EXPECT_EQ(listen().answers.size(), 6u);
}

// A host whose commands and data take turns is not guessed at again and again; when data follow data it is.
TEST_F(ForeseeTest, WhatWasNotAsExpectedIsNotExpectedAgainUntilDataFollowData) {
  connect_anew(0, 0, 1, 131072);
  auto tags = ask_for({1, 2, 3, 4, 5, 6}, 4096);
  send_all(command(20, 0, false) + data_of(1, tags[1], 0, 4096, true));
  places_given.clear();
  send_all(command(21, 0, false) + data_of(2, tags[2], 0, 4096, true));
  EXPECT_FALSE(places_given.contains(memory[2]));
  send_all(data_of(3, tags[3], 0, 4096, true) + data_of(4, tags[4], 0, 4096, true));
  places_given.clear();
  send_all(data_of(5, tags[5], 0, 4096, true) + data_of(6, tags[6], 0, 4096, true));
  EXPECT_TRUE(places_given.contains(memory[6]));
  EXPECT_TRUE(wrong.empty());
  EXPECT_EQ(executed.size(), 6u);
}

TEST_F(ForeseeTest, AWrongDigestOfExpectedDataEndsItsCommandAlone) {
  connect_anew(dgst_data_enable, 0, 1, 131072);
  auto tags = ask_for({1, 2, 3}, 4096);
  std::string second = data_of(2, tags[2], 0, 4096, true);
  second.back() ^= 1;
  send_all(data_of(1, tags[1], 0, 4096, true) + second + data_of(3, tags[3], 0, 4096, true));
  EXPECT_EQ(executed[1], 1);
  EXPECT_EQ(executed[2], 0);
  EXPECT_EQ(executed[3], 1);
  EXPECT_TRUE(wrong.empty());
  const auto answers = listen().answers;
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(nvme::status_of(answers[1]), nvme::Status(nvme::GenericStatus::transient_transport_error));
}

TEST_F(ForeseeTest, ACommandThatIsAbortedByTheOneBeforeItLeavesTheRestInPlace) {
  connect_anew(0, 0, 1, 131072);
  auto tags = ask_for({1, 2, 3}, 4096);
  const auto execute = sink.on_execute;
  sink.on_execute = [&](Request& request) {
    if (request.sqe.cid == 1) {
      EXPECT_EQ(queue->abort(2).outcome, transport::CommandQueue::AbortOutcome::taken_back);
    }
    execute(request);
  };
  send_all(data_of(1, tags[1], 0, 4096, true) + data_of(2, tags[2], 0, 4096, true) + data_of(3, tags[3], 0, 4096, true));
  EXPECT_EQ(executed[1], 1);
  EXPECT_EQ(executed[2], 0);
  EXPECT_EQ(executed[3], 1);
  EXPECT_TRUE(wrong.empty());
}

TEST_F(ForeseeTest, AConnectionThatEndsAmidExpectedDataTakesNothingMore) {
  connect_anew(dgst_header_enable, 0, 1, 131072);
  auto tags = ask_for({1, 2, 3}, 4096);
  std::string second = data_of(2, tags[2], 0, 4096, true);
  second[sizeof(H2CData)] ^= 1;  // its header digest
  send_all(data_of(1, tags[1], 0, 4096, true) + second + data_of(3, tags[3], 0, 4096, true));
  EXPECT_EQ(executed[1], 1);
  EXPECT_EQ(executed[2] + executed[3], 0);
  hang_up();
  EXPECT_TRUE(sink.closed);
}

// A reactor that keeps looking asks the connection that was alone with its event, and epoll only now and then.
TEST_F(ForeseeTest, ABusyConnectionIsAskedItself) {
  connect_anew(dgst_header_enable, 0, 1, 131072);
  hand.reactor.set_mode(ReactorMode::poll);
  const auto send_quietly = [&](const std::string& bytes) {
    ASSERT_EQ(::send(fds[1], bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  };
  send_quietly(command(1, 512, true));
  while (executed[1] == 0) hand.reactor.turn(-1);
  hand.reactor.turn(-1);  // what is ready elsewhere comes first
  send_quietly(command(2, 512, true));
  questions = 0;
  hand.reactor.turn(-1);
  EXPECT_EQ(executed[2], 1) << "found in one look";
  EXPECT_EQ(questions, 0u);
  // And the rest of a header that came cut.
  const std::string third = command(3, 512, true);
  for (const auto& [from, to] : {std::pair<std::size_t, std::size_t>(0, 50), std::pair<std::size_t, std::size_t>(50, third.size())}) {
    hand.reactor.turn(-1);
    send_quietly(third.substr(from, to - from));
    hand.reactor.turn(-1);
  }
  EXPECT_EQ(executed[3], 1);
  EXPECT_EQ(questions, 2u) << "one after each event";
  EXPECT_TRUE(wrong.empty());
  EXPECT_EQ(listen().answers.size(), 3u);
  for (unsigned i = 0; i < 16; ++i) hand.reactor.turn(-1);
  EXPECT_EQ(questions, 5u) << "one look of eight, and the one after the last event";
  close(std::exchange(fds[1], -1));
  hand.reactor.turn(-1);
  hand.settle();
  EXPECT_TRUE(sink.closed);
  hand.reactor.set_mode(ReactorMode::interrupt);
}

// A host that does what it may, in any order and in pieces of any size.
class AnyHost : public ForeseeTest {
 protected:
  struct Grant {
    std::uint16_t cid, ttag;
    std::uint32_t at, end;
  };

  void note() {
    const Heard news = listen();
    for (const R2T& r2t : news.r2ts) grants.push_back({r2t.cccid, r2t.ttag, r2t.r2to, std::uint32_t{r2t.r2to} + std::uint32_t{r2t.r2tl}});
    for (const auto& answer : news.answers) {
      EXPECT_TRUE(answered.insert(answer.cid).second) << "answered twice";
    }
  }
  // Of each command the oldest first: their data must come in order.
  std::deque<Grant>::iterator pick(std::mt19937& random) {
    const auto any = grants.begin() + (random() % 4 == 0 ? static_cast<std::ptrdiff_t>(random() % grants.size()) : 0);
    return std::find_if(grants.begin(), grants.end(), [&](const Grant& each) { return each.cid == any->cid; });
  }
  std::string next_data(std::mt19937& random) {
    const auto grant = pick(random);
    const std::uint32_t most = std::min(options.max_h2c_data_bytes, grant->end - grant->at);
    const std::uint32_t length = random() % 8 == 0 ? 1 + static_cast<std::uint32_t>(random() % most) : most;
    const bool last = grant->at + length == grant->end;
    const std::string bytes = data_of(grant->cid, grant->ttag, grant->at, length, last);
    grant->at += length;
    if (last) grants.erase(grant);
    return bytes;
  }
  std::string next(std::mt19937& random) {
    const unsigned what = random() % 16;
    if (what < 9 && !grants.empty()) return next_data(random);
    const auto cid = next_cid++;
    sent.insert(cid);
    if (what == 15) return command(cid, 0, false);
    if (what == 14) return command(cid, 512U << random() % 2, true);
    return command(cid, 1 + static_cast<std::uint32_t>(random() % 20'000), false);
  }
  void abort_one(std::mt19937& random) {
    std::vector<std::uint16_t> open;
    for (const std::uint16_t cid : sent) {
      if (!answered.contains(cid)) open.push_back(cid);
    }
    if (open.empty()) return;
    const std::uint16_t cid = open[random() % open.size()];
    hand.on_thread([&] {
      if (queue->abort(cid).outcome == transport::CommandQueue::AbortOutcome::taken_back) aborted.insert(cid);
    });
  }
  void talk(std::uint32_t seed) {
    std::mt19937 random(seed);
    const std::uint32_t pieces = random() % 3;
    connect_anew(random() % 4, pieces == 0 ? 0 : 4096U * pieces, 1 + (pieces == 0 ? 0 : static_cast<std::uint32_t>(random() % 3)),
                 4096U << random() % 3);
    grants.clear();
    answered.clear();
    sent.clear();
    aborted.clear();
    next_cid = 1;
    for (unsigned step = 0; step < 40; ++step) {
      receive_cap = random() % 2 == 0 ? 0 : 1 + random() % 9000;
      std::string bytes;
      for (unsigned i = 0, count = 1 + random() % 6; i < count && sent.size() < 60; ++i) bytes += next(random);
      const std::size_t cut = bytes.empty() ? 0 : random() % bytes.size();
      send_all(bytes.substr(0, cut));
      if (random() % 4 == 0) abort_one(random);
      send_all(bytes.substr(cut));
      note();
    }
    while (!grants.empty()) {
      send_all(next_data(random));
      note();
    }
    EXPECT_TRUE(wrong.empty()) << "seed " << seed << ": command " << wrong.front() << " saw other bytes";
    for (const std::uint16_t cid : sent) EXPECT_TRUE(answered.contains(cid)) << "seed " << seed << ": command " << cid << " was not answered";
    for (const auto& [cid, times] : executed) EXPECT_EQ(times, aborted.contains(cid) ? 0 : 1) << "seed " << seed << ": command " << cid;
    EXPECT_FALSE(sink.closed) << "seed " << seed;
  }

  std::deque<Grant> grants;
  std::set<std::uint16_t> answered, sent, aborted;
  std::uint16_t next_cid = 1;
};

TEST_F(AnyHost, WhateverTheOrderEachWriteSeesItsOwnBytes) {
  const char* const one = std::getenv("CATNAP_SEED");
  if (one != nullptr) return talk(static_cast<std::uint32_t>(std::strtoul(one, nullptr, 10)));
  const std::uint32_t seeds = std::getenv("CATNAP_SOAK") != nullptr ? 20'000 : 200;
  for (std::uint32_t seed = 1; seed <= seeds; ++seed) {
    talk(seed);
    if (HasFailure()) return;
  }
}

TEST(AskedOrderTest, GrowsKeepsTheOrderAndForgetsTheOldest) {
  AskedOrder order;
  EXPECT_TRUE(order.empty());
  for (std::uint16_t i = 0; i < 40; ++i) order.push({i, 0}, 100);
  for (std::uint16_t i = 0; i < 30; ++i) order.pop_front();
  for (std::uint16_t i = 40; i < 140; ++i) order.push({i, 0}, 100);
  ASSERT_EQ(order.size(), 100u);
  for (std::uint16_t i = 0; i < 100; ++i) EXPECT_EQ(order.at(i).slot, 40 + i);
}

}  // namespace
}  // namespace catnap::tcp
