// Gathered sends through a socket pair with a small buffer: order, partial sends, lent memory.
#include "transport/tcp/send_queue.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "reactor/base/crc32c.h"
#include "reactor/base/le.h"

namespace catnap::tcp {
namespace {

class CountingLender final : public transport::Lender {
 public:
  void lock_for_send(std::uint64_t offset_bytes, std::uint64_t) override {
    before_lock(offset_bytes);
    ++locked;
    ++calls;
  }
  void unlock_after_send(std::uint64_t, std::uint64_t) override { --locked; }
  std::function<void(std::uint64_t)> before_lock = [](std::uint64_t) {};
  int locked = 0;
  int calls = 0;
};

class SendQueueTest : public testing::Test {
 protected:
  SendQueueTest() : queue([this](SendItem& item) { sent.push_back(&item); }) {
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    const int small = 4096;
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
  }
  ~SendQueueTest() override {
    queue.drop_all();
    close(fds[0]);
    close(fds[1]);
  }

  static void fill(SendItem& item, char head, const std::string& data, char tail) {
    item.clear();
    item.head[0] = static_cast<std::byte>(head);
    item.head_bytes = 1;
    item.data = reinterpret_cast<const std::byte*>(data.data());
    item.data_bytes = static_cast<std::uint32_t>(data.size());
    item.tail[0] = static_cast<std::byte>(tail);
    item.tail_bytes = 1;
  }
  // Reads at most `most` bytes.
  std::string take(std::size_t most) {
    std::string bytes(most, 0);
    const ssize_t got = recv(fds[1], bytes.data(), most, MSG_DONTWAIT);
    bytes.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return bytes;
  }

  int fds[2] = {-1, -1};
  std::vector<SendItem*> sent;
  SendQueue queue;
};

TEST_F(SendQueueTest, OneCallForManyItemsInOrder) {
  SendItem one, two;
  const std::string a = "aaa", b = "bb";
  fill(one, '(', a, ')');
  fill(two, '<', b, '>');
  two.pad_bytes = 2;
  queue.push(one);
  queue.push(two);
  const auto flushed = queue.flush(fds[0]);
  EXPECT_EQ(flushed.outcome, SendQueue::Outcome::drained);
  EXPECT_EQ(flushed.calls, 1u);
  EXPECT_EQ(take(100), std::string("(aaa)<\0\0bb>", 11));
  EXPECT_EQ(sent, (std::vector<SendItem*>{&one, &two}));
}

TEST_F(SendQueueTest, ResumesAtTheByteWhereItStopped) {
  std::string data(100'000, 0);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 31 >> 3);
  SendItem item;
  fill(item, '(', data, ')');
  queue.push(item);
  std::string received;
  int blocked = 0;
  while (!queue.empty()) {
    if (queue.flush(fds[0]).outcome == SendQueue::Outcome::blocked) ++blocked;
    received += take(777);
  }
  for (std::string more = take(5000); !more.empty(); more = take(5000)) received += more;
  EXPECT_GT(blocked, 0);
  EXPECT_EQ(received, "(" + data + ")");
  EXPECT_EQ(sent.size(), 1u);
}

TEST_F(SendQueueTest, WhatASendLeftOfLentMemoryIsCopiedAndTheLockGoes) {
  std::string device(100'000, 'x');
  CountingLender lender;
  SendItem item;
  fill(item, '(', device, ')');
  item.lease = {item.data, &lender, 0};
  queue.push(item);
  EXPECT_EQ(queue.lent_bytes(), device.size());
  EXPECT_EQ(queue.flush(fds[0]).outcome, SendQueue::Outcome::blocked);
  EXPECT_EQ(lender.locked, 0);
  EXPECT_EQ(queue.lent_bytes(), 0u);
  const std::string before = device;
  std::memset(device.data(), 'y', device.size());  // a write comes while the host does not read
  std::string received;
  while (!queue.empty()) {
    received += take(5000);
    queue.flush(fds[0]);
  }
  for (std::string more = take(5000); !more.empty(); more = take(5000)) received += more;
  EXPECT_EQ(received, "(" + before + ")") << "old and new bytes must not mix";
  EXPECT_EQ(lender.calls, 1);
}

// Whether the socket takes it whole, in part, or not at all in this flush.
TEST_F(SendQueueTest, TheDigestOfLentMemoryIsOfTheBytesThatGoOut) {
  std::string devices[3] = {std::string(100, 'x'), std::string(100'000, 'x'), std::string(100'000, 'x')};
  char next = 'a';
  CountingLender lender;
  lender.before_lock = [&](std::uint64_t which) { devices[which].assign(devices[which].size(), next++); };  // a write comes as late as it can
  SendItem items[3];
  for (std::size_t i = 0; i < 3; ++i) {
    fill(items[i], '(', devices[i], 0);
    items[i].tail_bytes = 5;
    items[i].tail[4] = std::byte{')'};
    items[i].lease = {items[i].data, &lender, i};
    items[i].owes_digest = true;
    queue.push(items[i]);
  }
  EXPECT_EQ(queue.flush(fds[0]).outcome, SendQueue::Outcome::blocked);
  for (std::string& device : devices) device.assign(device.size(), '!');
  std::string received;
  while (!queue.empty()) {
    received += take(5000);
    queue.flush(fds[0]);
  }
  for (std::string more = take(5000); !more.empty(); more = take(5000)) received += more;
  std::string expected;
  for (const SendItem& item : items) {
    const std::string data = received.substr(expected.size() + 1, item.data_bytes);
    EXPECT_EQ(data.find_first_not_of(data.front()), std::string::npos) << "one moment's bytes";
    EXPECT_NE(data.front(), '!');
    const le32 digest = crc32c(reinterpret_cast<const std::byte*>(data.data()), data.size());
    expected += "(" + data + std::string(reinterpret_cast<const char*>(&digest), sizeof digest) + ")";
  }
  EXPECT_TRUE(received == expected);
  EXPECT_EQ(lender.locked, 0);
}

TEST_F(SendQueueTest, NoLentMemoryStaysQueuedBehindAFullSocket) {
  const std::string device(100'000, 'x');
  CountingLender lender;
  SendItem full, behind[100];
  fill(full, '(', device, ')');
  queue.push(full);
  for (SendItem& item : behind) {
    fill(item, '<', device, '>');
    item.lease = {item.data, &lender, 0};
    queue.push(item);
  }
  EXPECT_EQ(queue.flush(fds[0]).outcome, SendQueue::Outcome::blocked);
  EXPECT_EQ(queue.lent_bytes(), 0u) << "the device may be gone when the host reads on";
  EXPECT_EQ(lender.locked, 0);
  for (const SendItem& item : behind) EXPECT_EQ(item.lease.base, nullptr);
  queue.drop_all();
}

TEST_F(SendQueueTest, DroppingKeepsAPduThatIsPartlyOut) {
  const std::string large(100'000, 'l'), small = "s";
  SendItem one, two;
  fill(one, '(', large, ')');
  fill(two, '<', small, '>');
  queue.push(one);
  queue.push(two);
  queue.flush(fds[0]);
  queue.drop_unstarted();
  EXPECT_TRUE(one.queued);
  EXPECT_FALSE(two.queued);
  queue.drop_all();
}

TEST_F(SendQueueTest, AClosedPeerIsAFailureNotASignal) {
  close(std::exchange(fds[1], -1));
  SendItem item;
  const std::string data = "x";
  fill(item, '(', data, ')');
  queue.push(item);
  const auto flushed = queue.flush(fds[0]);
  EXPECT_EQ(flushed.outcome, SendQueue::Outcome::failed);
  EXPECT_EQ(flushed.err, EPIPE);
  queue.drop_all();
}

}  // namespace
}  // namespace catnap::tcp
