// Two streams over a socket pair: handshakes, data in every cut, sockets that are full, the end, and what must not pass.
// Owner: one thread. Left out: the kernel's TLS (this machine may have none; the guests of tests/e2e show it).
#include "transport/tls/stream.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "transport/tls/psk.h"

namespace catnap::tls {
namespace {

constexpr const char* identity_text[] = {"", "NVMe0R01 nqn.a nqn.b", "NVMe0R02 nqn.a nqn.b"};

SecretBytes psk_of(Hash hash, std::byte fill = std::byte{7}) {
  auto psk = SecretBytes::create(hash_bytes(hash));
  for (std::byte& byte : psk->bytes()) byte = fill;
  return std::move(*psk);
}

TlsKey key_of(Hash hash) {
  TlsKey key;
  key.identity.version = 0;
  key.identity.hash = hash;
  key.identity.hostnqn = "nqn.a";
  key.identity.subnqn = "nqn.b";
  key.psk = psk_of(hash);
  return key;
}

StreamOptions in_this_process(std::uint64_t key_update_records = 0) {
  StreamOptions options;
  options.use_kernel = false;
  options.key_update_records = key_update_records;
  return options;
}

// A client and a server that have shaken hands in memory, each with an end of a socket pair.
struct Pair {
  explicit Pair(Hash hash, StreamOptions options = in_this_process(), SecretBytes server_psk = {}, Hash server_hash = {}) {
    if (server_psk.empty()) server_psk = psk_of(hash), server_hash = hash;
    client = std::move(*Stream::connect(key_of(hash), options));
    server = std::move(*Stream::accept(identity_text[static_cast<std::size_t>(hash)], server_hash, std::move(server_psk), options));
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
  }
  ~Pair() {
    close(fds[0]);
    close(fds[1]);
  }
  // True: both are done.
  bool shake() {
    std::vector<std::byte> to_server, to_client;
    auto client_step = client->shake({}, to_server);
    auto server_step = Stream::Step::more;
    for (int turn = 0; turn < 4 && (client_step == Stream::Step::more || server_step == Stream::Step::more); ++turn) {
      if (server_step == Stream::Step::more) server_step = server->shake(std::exchange(to_server, {}), to_client);
      if (client_step == Stream::Step::more) client_step = client->shake(std::exchange(to_client, {}), to_server);
    }
    return client_step == Stream::Step::done && server_step == Stream::Step::done;
  }
  int client_fd() const { return fds[0]; }
  int server_fd() const { return fds[1]; }

  std::unique_ptr<Stream> client, server;
  int fds[2] = {-1, -1};
};

std::vector<std::byte> pattern(std::size_t size, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(size);
  for (auto& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

// Reads what there is, in pieces of at most `piece` bytes, as long as the stream says that there is more or the socket does.
void drain(Stream& stream, int fd, std::vector<std::byte>& to, std::size_t piece) {
  std::vector<std::byte> room(piece);
  for (;;) {
    const iovec iov{room.data(), room.size()};
    const ssize_t got = stream.receive(fd, &iov, 1);
    if (got <= 0) {
      EXPECT_TRUE(got < 0 && errno == EAGAIN) << errno << " " << stream.why();
      EXPECT_FALSE(stream.has_pending());
      return;
    }
    to.insert(to.end(), room.begin(), room.begin() + got);
  }
}

class StreamOfEachHash : public testing::TestWithParam<Hash> {};
INSTANTIATE_TEST_SUITE_P(Stream, StreamOfEachHash, testing::Values(Hash::sha256, Hash::sha384));

TEST_P(StreamOfEachHash, DataArrivesInEveryCut) {
  Pair pair(GetParam());
  ASSERT_TRUE(pair.shake());
  for (const std::size_t size :
       {std::size_t{1}, std::size_t{128}, std::size_t{16383}, std::size_t{16384}, std::size_t{16385}, std::size_t{300'000}}) {
    for (const std::size_t piece : {std::size_t{1}, std::size_t{100}, std::size_t{16384}, std::size_t{262'144}}) {
      if (size / piece > 1'000) continue;
      const auto data = pattern(size);
      std::vector<std::byte> got;
      std::size_t sent = 0;
      while (sent < size || pair.client->has_unsent()) {
        // A header, and data in two pieces behind it.
        const std::size_t left = size - sent, first = std::min<std::size_t>(left, 24), second = (left - first) / 3;
        auto* bytes = const_cast<std::byte*>(data.data()) + sent;
        const iovec pieces[] = {{bytes, first}, {bytes + first, second}, {bytes + first + second, left - first - second}};
        const ssize_t taken = left == 0 ? pair.client->flush(pair.client_fd()) : pair.client->send(pair.client_fd(), pieces, 3);
        if (taken > 0 && left > 0) sent += static_cast<std::size_t>(taken);
        drain(*pair.server, pair.server_fd(), got, piece);
      }
      drain(*pair.server, pair.server_fd(), got, piece);
      ASSERT_EQ(got, data) << size << " bytes in pieces of " << piece;
    }
  }
}

TEST_P(StreamOfEachHash, SmallPiecesShareARecord) {
  Pair pair(GetParam());
  ASSERT_TRUE(pair.shake());
  auto data = pattern(4096);
  std::vector<iovec> pieces;
  for (std::size_t i = 0; i < data.size(); i += 64) pieces.push_back({data.data() + i, 64});
  ASSERT_EQ(pair.client->send(pair.client_fd(), pieces.data(), pieces.size()), 4096);
  std::byte wire[8192];
  EXPECT_EQ(recv(pair.server_fd(), wire, sizeof wire, MSG_PEEK), 4096 + 22);
}

// What the socket did not take is sent later, in order, and counts as unsent meanwhile.
TEST_P(StreamOfEachHash, AFullSocketLosesNothing) {
  Pair pair(GetParam());
  ASSERT_TRUE(pair.shake());
  const int small = 4096;
  setsockopt(pair.client_fd(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
  auto data = pattern(3 << 20);
  std::vector<std::byte> got;
  std::size_t sent = 0;
  bool was_full = false;
  while (sent < data.size() || pair.client->has_unsent()) {
    const iovec iov{data.data() + sent, data.size() - sent};
    const ssize_t taken = iov.iov_len == 0 ? pair.client->flush(pair.client_fd()) : pair.client->send(pair.client_fd(), &iov, 1);
    if (taken > 0 && iov.iov_len > 0) {
      EXPECT_LE(static_cast<std::size_t>(taken), Stream::max_send_bytes);
      sent += static_cast<std::size_t>(taken);
    }
    was_full = was_full || pair.client->has_unsent();
    if (pair.client->has_unsent() || taken < 0) drain(*pair.server, pair.server_fd(), got, 65536);
  }
  drain(*pair.server, pair.server_fd(), got, 65536);
  EXPECT_TRUE(was_full);
  EXPECT_EQ(got, data);
}

TEST_P(StreamOfEachHash, KeysAreRenewedUnderWay) {
  Pair pair(GetParam(), in_this_process(8));
  ASSERT_TRUE(pair.shake());
  auto data = pattern(1 << 20);
  std::vector<std::byte> got;
  for (std::size_t sent = 0; sent < data.size();) {
    const iovec iov{data.data() + sent, std::min<std::size_t>(data.size() - sent, 65536)};
    const ssize_t taken = pair.client->send(pair.client_fd(), &iov, 1);
    if (taken > 0) sent += static_cast<std::size_t>(taken);
    drain(*pair.server, pair.server_fd(), got, 262'144);
  }
  while (pair.client->has_unsent()) {
    (void)pair.client->flush(pair.client_fd());
    drain(*pair.server, pair.server_fd(), got, 262'144);
  }
  EXPECT_EQ(got, data);
}

// Each costs its receiver a thousand times what it costs the sender.
TEST_P(StreamOfEachHash, NewKeysWithoutEndAreTheEnd) {
  Pair pair(GetParam(), in_this_process(1));
  ASSERT_TRUE(pair.shake());
  std::byte byte{};
  const iovec iov{&byte, 1};
  std::size_t received = 0;
  ssize_t got = 1;
  for (int i = 0; i < 1000 && (got > 0 || errno == EAGAIN); ++i) {
    ASSERT_EQ(pair.client->send(pair.client_fd(), &iov, 1), 1);
    got = pair.server->receive(pair.server_fd(), &iov, 1);
    if (got > 0) ++received;
  }
  EXPECT_LT(got, 0);
  EXPECT_EQ(errno, EBADMSG);
  EXPECT_NE(pair.server->why().find("KeyUpdate"), std::string::npos) << pair.server->why();
  EXPECT_GT(received, 30U) << "so many are nobody's fault";
}

TEST_P(StreamOfEachHash, TheEndIsToldBehindTheData) {
  Pair pair(GetParam());
  ASSERT_TRUE(pair.shake());
  auto data = pattern(100);
  const iovec iov{data.data(), data.size()};
  ASSERT_EQ(pair.client->send(pair.client_fd(), &iov, 1), 100);
  pair.client->finish(pair.client_fd());
  std::byte room[200];
  const iovec to{room, sizeof room};
  EXPECT_EQ(pair.server->receive(pair.server_fd(), &to, 1), 100);
  EXPECT_TRUE(pair.server->has_pending());  // nobody would come back otherwise
  EXPECT_EQ(pair.server->receive(pair.server_fd(), &to, 1), 0);
  EXPECT_LT(pair.client->send(pair.client_fd(), &iov, 1), 0);
}

// Data that came with the last record of the handshake is there without an event of the socket (with RecordReader it stays in the socket).
TEST_P(StreamOfEachHash, FinishedAndDataInOneSegment) {
  Pair pair(GetParam());
  std::vector<std::byte> to_server, to_client;
  ASSERT_EQ(pair.client->shake({}, to_server), Stream::Step::more);
  ASSERT_EQ(pair.server->shake(std::exchange(to_server, {}), to_client), Stream::Step::more);
  ASSERT_EQ(pair.client->shake(to_client, to_server), Stream::Step::done);
  auto data = pattern(128);
  const iovec iov{data.data(), data.size()};
  ASSERT_EQ(pair.client->send(pair.client_fd(), &iov, 1), 128);
  std::vector<std::byte> record(1024);
  record.resize(static_cast<std::size_t>(recv(pair.server_fd(), record.data(), record.size(), 0)));
  to_server.insert(to_server.end(), record.begin(), record.end());
  ASSERT_EQ(pair.server->shake(to_server, to_client), Stream::Step::done);
  EXPECT_TRUE(pair.server->has_pending());
  std::byte room[200];
  const iovec to{room, sizeof room};
  EXPECT_EQ(pair.server->receive(pair.server_fd(), &to, 1), 128);
  EXPECT_FALSE(pair.server->has_pending());
}

TEST_P(StreamOfEachHash, ASpoiledOrRepeatedRecordEndsTheConnection) {
  for (const bool repeat : {false, true}) {
    Pair pair(GetParam());
    ASSERT_TRUE(pair.shake());
    auto data = pattern(100);
    const iovec iov{data.data(), data.size()};
    ASSERT_EQ(pair.client->send(pair.client_fd(), &iov, 1), 100);
    std::vector<std::byte> record(1024);
    record.resize(static_cast<std::size_t>(recv(pair.server_fd(), record.data(), record.size(), 0)));
    if (!repeat) record[50] ^= std::byte{1};
    for (int i = 0; i < (repeat ? 2 : 1); ++i) ASSERT_GT(::send(pair.client_fd(), record.data(), record.size(), 0), 0);
    std::byte room[400];
    const iovec to{room, sizeof room};
    if (repeat) {
      EXPECT_EQ(pair.server->receive(pair.server_fd(), &to, 1), 100);
    }
    EXPECT_EQ(pair.server->receive(pair.server_fd(), &to, 1), -1);
    EXPECT_EQ(errno, EBADMSG);
    EXPECT_THAT(pair.server->why(), testing::HasSubstr("mac"));
  }
}

TEST_P(StreamOfEachHash, EveryMessageOfTheHandshakeTruncatedOrSpoiledFails) {
  for (int message = 0; message < 3; ++message) {
    for (const bool spoil : {false, true}) {
      Pair pair(GetParam());
      std::vector<std::byte> to_server, to_client;
      const auto hurt = [&](std::vector<std::byte>& bytes, int which) {
        if (which != message) return;
        if (spoil) bytes[bytes.size() - 3] ^= std::byte{1};
        if (!spoil) bytes.resize(bytes.size() - 3);
      };
      ASSERT_EQ(pair.client->shake({}, to_server), Stream::Step::more);
      hurt(to_server, 0);
      auto server = pair.server->shake(std::exchange(to_server, {}), to_client);
      if (message == 0) {
        EXPECT_EQ(server, spoil ? Stream::Step::failed : Stream::Step::more);
        continue;
      }
      hurt(to_client, 1);
      const auto client = pair.client->shake(to_client, to_server);
      if (message == 1) {
        EXPECT_EQ(client, spoil ? Stream::Step::failed : Stream::Step::more);
        continue;
      }
      hurt(to_server, 2);
      server = pair.server->shake(to_server, to_client);
      EXPECT_EQ(server, spoil ? Stream::Step::failed : Stream::Step::more);
    }
  }
}

TEST(Stream, AWrongKeyFailsOnBothSides) {
  Pair pair(Hash::sha256, in_this_process(), psk_of(Hash::sha256, std::byte{9}), Hash::sha256);
  EXPECT_FALSE(pair.shake());
}

TEST(Stream, ASuiteOfTheOtherHashFails) {
  Pair pair(Hash::sha256, in_this_process(), psk_of(Hash::sha384), Hash::sha384);
  EXPECT_FALSE(pair.shake());
}

TEST(Stream, AServerThatDoesNotTakeThePskIsRefused) {
  auto client = std::move(*Stream::connect(key_of(Hash::sha256), in_this_process()));
  auto server = std::move(*Stream::accept("NVMe0R01 nqn.somebody nqn.else", Hash::sha256, psk_of(Hash::sha256), in_this_process()));
  std::vector<std::byte> to_server, to_client;
  ASSERT_EQ(client->shake({}, to_server), Stream::Step::more);
  EXPECT_EQ(server->shake(to_server, to_client), Stream::Step::failed);  // it has no certificate, either
  EXPECT_EQ(client->shake(to_client, to_server), Stream::Step::failed);
}

}  // namespace
}  // namespace catnap::tls
