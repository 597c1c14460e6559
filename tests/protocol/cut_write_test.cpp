// Connections cut at every byte of a write, with every combination of digests, while another host reads the blocks: a write of which one byte is
// missing has not happened, one that is whole has, and nobody ever sees half a block or a wrong digest. Owner: the test, which starts a server of its
// own; one more thread reads. Under sanitizers only at every header byte and each 29th of the rest, unless CATNAP_SOAK=1. Left out: power cuts
// (tests/e2e), several writers (data_safety_test.cpp).
#include <sys/socket.h>

#include <atomic>
#include <thread>

#include "tests/protocol/own_server.h"

namespace catnap::protocol {
namespace {

constexpr std::uint32_t write_blocks = 2;
constexpr std::uint32_t write_bytes = write_blocks * test_block_bytes;
constexpr std::uint64_t place = 40;
constexpr unsigned queue_ids = 48;  // one after another, so that a cut queue has time to be gone before its id comes again; one more for the judge
constexpr std::size_t sanitized_step = 29;  // each connection costs milliseconds there

Bytes filled(std::uint32_t number) {
  Bytes data(write_bytes);
  for (std::size_t at = 0; at < data.size(); at += sizeof number) std::memcpy(data.data() + at, &number, sizeof number);
  return data;
}

class CutWriteTest : public OwnServerTest, public testing::WithParamInterface<Digests> {
 protected:
  void SetUp() override {
    start(CATNAP_SERVER);
    reader_ = connect(1);
    writer_ = connect(queue_ids + 1);
    ASSERT_EQ(reader_.io.size(), 1u);
    ASSERT_EQ(writer_.io.size(), queue_ids + 1);
    writer_.io.clear();
    const ConnectionOptions options{.digests = {.header = true, .data = true}};
    reader_.io.clear();
    reader_.io.push_back(open_queue(reader_, 1, options));
  }

  Connection open_queue(const Host& host, unsigned qid, const ConnectionOptions& options) const {
    Connection made;
    const bool connected = wait_for([&] {  // until the server has noticed that the last one with this id is gone
      auto io = Connection::open(port_, options);
      if (!io) return false;
      made = std::move(*io);
      return connect_queue(made, {.subnqn = own_nqn, .cntlid = host.cntlid, .qid = static_cast<std::uint16_t>(qid)}).ok();
    });
    EXPECT_TRUE(connected);
    return made;
  }
  Connection next_queue() { return open_queue(writer_, 1 + queues_++ % queue_ids, {.digests = GetParam()}); }

  static nvme::SubmissionEntry command(bool in_capsule) {
    auto sqe = io_command(nvme::IoOpcode::write, place, write_blocks);
    sqe.cid = 7;
    sqe.set_psdt(nvme::Psdt::sgl);
    sqe.sgl.length = write_bytes;
    if (in_capsule) {
      sqe.sgl.set_type(nvme::SglType::data_block, nvme::SglSubtype::offset);
    } else {
      sqe.sgl.set_type(nvme::SglType::transport_data_block, nvme::SglSubtype::transport);
    }
    return sqe;
  }
  // What is sent at once: a capsule with its data; or, when the R2T is there, the data in two PDUs.
  static Bytes data_pdus(Connection& io, const Bytes& data) {
    const auto r2t = io.receive_pdu();
    EXPECT_EQ(r2t.type(), tcp::PduType::r2t) << r2t.note;
    const std::uint16_t ttag = r2t.as<tcp::R2T>().ttag;
    const std::span<const std::byte> all(data);
    Bytes bytes = io.h2c_data(7, ttag, 0, all.first(test_block_bytes), false);
    const Bytes last = io.h2c_data(7, ttag, test_block_bytes, all.subspan(test_block_bytes), true);
    bytes.insert(bytes.end(), last.begin(), last.end());
    return bytes;
  }

  // Sends `cut` bytes of the write and ends the connection, by FIN and by reset in turn. False: that was all of it, and it was answered.
  bool cut_write(bool in_capsule, std::size_t cut, const Bytes& data) {
    Connection io = next_queue();
    Bytes bytes = io.capsule(command(in_capsule), in_capsule ? std::span<const std::byte>(data) : std::span<const std::byte>());
    if (!in_capsule) {
      const std::size_t capsule = bytes.size();
      if (cut >= capsule) {
        io.send(bytes);
        bytes = data_pdus(io, data);
        cut -= capsule;
      }
    }
    const bool whole = cut >= bytes.size();
    io.send(std::span(bytes).first(std::min(cut, bytes.size())));
    if (whole) {
      const auto answer = io.receive_pdu();
      EXPECT_EQ(answer.type(), tcp::PduType::capsule_resp) << answer.note;
    }
    if (cut % 2 == 1) {
      const linger now{1, 0};
      ::setsockopt(io.socket().fd(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    return !whole;
  }

  // Reads until told to stop; every block must be one write's.
  void keep_reading() {
    while (!stop_) {
      const CommandResult result = read(reader_.io[0], place, write_bytes);
      if (!result.ok()) {
        note_ = "a read ended: " + result.note;
        return;
      }
      ++reads_;
      for (std::size_t block = 0; block < write_blocks; ++block) {
        const std::byte* begin = result.data.data() + block * test_block_bytes;
        if (std::memcmp(begin, begin + sizeof(std::uint32_t), test_block_bytes - sizeof(std::uint32_t)) != 0) note_ = "half a block";
      }
    }
  }

  void cut_everywhere(bool in_capsule) {
    const std::size_t step = soak() || !is_sanitized ? 1 : sanitized_step;
    std::uint32_t number = in_capsule ? 1 : 1'000'000;
    Connection judge = open_queue(writer_, queue_ids + 1, {.digests = GetParam()});
    ASSERT_TRUE(write(judge, place, filled(number)).ok());
    std::size_t cuts = 0;
    for (std::size_t cut = 0;; cut += cut < sizeof(tcp::CapsuleCmd) ? 1 : step, ++cuts) {
      const Bytes before = filled(number);
      const bool was_cut = cut_write(in_capsule, cut, filled(number + 1));
      ASSERT_FALSE(HasFailure()) << "cut after " << cut << " bytes";
      // What a late end of the cut write would leave is seen by the next round's read.
      ASSERT_EQ(read(judge, place, write_bytes).data, was_cut ? before : filled(number + 1)) << "cut after " << cut << " bytes";
      if (!was_cut) break;
    }
    EXPECT_GT(cuts, write_bytes / sanitized_step);
    cuts_ += cuts;
  }

  Host reader_, writer_;
  unsigned queues_ = 0;
  std::size_t cuts_ = 0;
  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> reads_{0};
  std::string note_;  // the reader's
};

// Proves: command | Atomicity | NVM 2.1.4
TEST_P(CutWriteTest, AWriteHappensWhollyOrNotAtAll) {
  std::thread reader([this] { keep_reading(); });
  cut_everywhere(true);
  cut_everywhere(false);
  stop_ = true;
  reader.join();
  EXPECT_EQ(note_, "");
  EXPECT_GT(reads_.load(), 0u);
  printf("%zu cuts, %llu reads meanwhile\n", cuts_, static_cast<unsigned long long>(reads_.load()));
  EXPECT_EQ(server_->stop(), 0);
}

INSTANTIATE_TEST_SUITE_P(Digests, CutWriteTest,
                         testing::Values(Digests{false, false}, Digests{true, false}, Digests{false, true}, Digests{true, true}),
                         [](const auto& param) {
                           return std::string(param.param.header ? "header" : "no_header") + (param.param.data ? "_and_data" : "_and_no_data");
                         });

}  // namespace
}  // namespace catnap::protocol
