// A seeded host that does anything to a live server: right, nearly right and wrong PDUs on several connections, while RPCs change what they use.
// Afterwards the server must be there, serve a new host, hold no fds, and exit with 0 (under a sanitizer: without a report).
// Owner: the test, which starts a server of its own. CATNAP_SEED repeats a run (as far as timing allows), CATNAP_SOAK=1 sends a million PDUs with a
// new seed. Left out: bytes that are no PDUs at all (tests/fuzz/framing_fuzz.cpp).
#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <random>

#include "tests/protocol/client/host.h"
#include "tests/protocol/client/server_process.h"

namespace catnap::protocol {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* fuzzed_nqn = "nqn.2026-11.io.catnap:fuzzed";
constexpr const char* quiet_nqn = "nqn.2026-11.io.catnap:quiet";
constexpr const char* discovery_nqn = "nqn.2014-08.org.nvmexpress.discovery";
constexpr std::uint64_t blocks = 32768;
constexpr std::size_t peer_count = 8;
constexpr std::uint64_t ci_steps = 20'000;
constexpr std::chrono::seconds ci_time{20};
constexpr std::uint64_t soak_steps = 1'000'000;
constexpr std::chrono::minutes soak_time{60};
// A peer that does not read makes the server stop reading: then it hangs up.
constexpr Milliseconds send_patience{50};
// Under AddressSanitizer freed memory is kept for a while (the server here is told to keep 16 MiB of it): pages that the second quarter did not
// touch.
constexpr std::uint64_t allowed_growth_kib = 48 << 10;
#if defined(__SANITIZE_ADDRESS__)
constexpr bool address_sanitizer = true;
#elif defined(__has_feature)
constexpr bool address_sanitizer = __has_feature(address_sanitizer);
#else
constexpr bool address_sanitizer = false;
#endif
// A limited line costs some 200 bytes; an hour has 360 intervals of a handful of causes for the one address there is.
constexpr std::size_t max_log_bytes = std::size_t{4} << 20;
constexpr std::uint16_t connect_cid = 0xC0DE;

class Dice {
 public:
  explicit Dice(std::uint64_t seed) : engine_(seed) {}
  std::uint64_t below(std::uint64_t end) { return end == 0 ? 0 : engine_() % end; }
  bool percent(unsigned chance) { return below(100) < chance; }
  template <typename T, std::size_t n>
  const T& of(const std::array<T, n>& values) {
    return values[below(n)];
  }
  // Values at which fields go wrong.
  std::uint64_t odd() {
    static constexpr std::array<std::uint64_t, 14> edges{0, 1, 2, 3, 7, 8, 0x7F, 0xFF, 511, 4096, 0xFFFF, 0x10000, 0xFFFFFFFF, ~std::uint64_t{0}};
    return percent(60) ? of(edges) : engine_() >> below(64);
  }
  Bytes bytes(std::size_t count) { return pattern(count, static_cast<std::uint32_t>(engine_())); }

 private:
  std::mt19937_64 engine_;
};

// One connection of the fuzzer.
struct Peer {
  enum class Stage { closed, fresh, admin, io };
  Stage stage = Stage::closed;
  Connection connection;
  ConnectionOptions options;
  bool honest = true;  // its handshake was right: what comes back must be well formed
  std::uint16_t cntlid = 0;
  std::deque<tcp::R2T> r2ts;
};

class LiveFuzzTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* seed = std::getenv("CATNAP_SEED");
    soak_ = std::getenv("CATNAP_SOAK") != nullptr;
    seed_ = seed != nullptr ? std::strtoull(seed, nullptr, 0) : soak_ ? std::random_device{}() : 1;
    dice_ = Dice(seed_);
    printf("CATNAP_SEED=%llu\n", static_cast<unsigned long long>(seed_));
    port_ = free_port();
    ::setenv("ASAN_OPTIONS", "quarantine_size_mb=16", 0);
    auto started = ServerProcess::start(CATNAP_SERVER, {"-m", two_cpus()});
    ASSERT_TRUE(started.has_value()) << started.error().message;
    server_ = std::move(*started);
    must("nvmf_create_transport", R"({"trtype": "TCP", "in_capsule_data_size": 8192})");
    must("bdev_malloc_create", R"({"name": "Malloc0", "num_blocks": 32768, "block_size": 512})");
    must("bdev_malloc_create", R"({"name": "Quiet0", "num_blocks": 2048, "block_size": 512})");
    must("bdev_null_create", R"({"name": "Null0", "num_blocks": 32768, "block_size": 4096})");
    must("nvmf_create_subsystem", subsystem(fuzzed_nqn, R"("allow_any_host": true, "ana_reporting": true)"));
    must("nvmf_create_subsystem", subsystem(quiet_nqn, R"("allow_any_host": true)"));
    must("nvmf_subsystem_add_ns", subsystem(fuzzed_nqn, R"("namespace": {"bdev_name": "Malloc0", "nsid": 1})"));
    must("nvmf_subsystem_add_ns", subsystem(quiet_nqn, R"("namespace": {"bdev_name": "Quiet0", "nsid": 1})"));
    must("nvmf_subsystem_add_listener", subsystem(fuzzed_nqn, address()));
    must("nvmf_subsystem_add_listener", subsystem(quiet_nqn, address()));
    must("nvmf_subsystem_add_listener", subsystem(discovery_nqn, address()));
  }

  void TearDown() override {
    if (!HasFailure() || server_ == nullptr) return;
    const std::string log = server_->log();
    printf("---- server log ----\n%s\n", log.substr(log.size() - std::min<std::size_t>(log.size(), 20'000)).c_str());
  }

  static std::string subsystem(const std::string& nqn, const std::string& more) { return R"({"nqn": ")" + nqn + "\", " + more + "}"; }
  std::string address() const {
    return R"("listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" + std::to_string(port_) + "\"}";
  }
  void must(const std::string& method, const std::string& params) {
    const auto answer = server_->rpc().call(method, json(params));
    ASSERT_TRUE(answer.has_value()) << method << " " << params << ": " << answer.error().message;
  }

  // --- bytes out ---

  void hang_up(Peer& peer) { peer = Peer(); }

  void send(Peer& peer, Bytes bytes) {
    ++pdus_;
    if (dice_.percent(2) && !bytes.empty()) bytes[dice_.below(std::min<std::size_t>(bytes.size(), 128))] ^= std::byte{1} << dice_.below(8);
    bool whole = !dice_.percent(1);
    std::span<const std::byte> left(bytes);
    if (!whole) left = left.first(dice_.below(left.size() + 1));
    while (!left.empty()) {
      const std::size_t piece = dice_.percent(90) ? left.size() : 1 + dice_.below(left.size());
      if (!peer.connection.socket().send_all(left.first(piece), send_patience)) return hang_up(peer);
      left = left.subspan(piece);
    }
    if (!whole) hang_up(peer);
  }

  void send_command(Peer& peer, nvme::SubmissionEntry sqe, std::uint32_t length, Bytes in_capsule) {
    sqe.cid = static_cast<std::uint16_t>(dice_.percent(97) ? peer.connection.next_cid() & 0x7FFF : dice_.below(64));
    sqe.set_psdt(nvme::Psdt::sgl);
    sqe.sgl.length = in_capsule.empty() ? length : static_cast<std::uint32_t>(in_capsule.size());
    if (in_capsule.empty()) {
      sqe.sgl.set_type(nvme::SglType::transport_data_block, nvme::SglSubtype::transport);
    } else {
      sqe.sgl.set_type(nvme::SglType::data_block, nvme::SglSubtype::offset);
    }
    if (dice_.percent(2)) sqe.sgl.type_and_subtype = static_cast<std::uint8_t>(dice_.odd());
    if (dice_.percent(2)) sqe.sgl.length = static_cast<std::uint32_t>(dice_.odd());
    if (dice_.percent(1)) sqe.flags = static_cast<std::uint8_t>(dice_.odd());
    send(peer, peer.connection.capsule(sqe, in_capsule));
  }

  // --- bytes in ---

  // Takes what is there. False: the connection is over.
  bool drain(Peer& peer, Milliseconds limit = Milliseconds(0)) {
    while (peer.stage != Peer::Stage::closed) {
      const ReceivedPdu pdu = peer.connection.receive_pdu(limit);
      if (pdu.outcome == Outcome::timed_out) return true;
      if (pdu.outcome == Outcome::malformed) {
        if (peer.honest) ADD_FAILURE() << "the server sent a malformed PDU: " << pdu.note;
      }
      if (pdu.outcome != Outcome::pdu || pdu.type() == tcp::PduType::c2h_term_req) {
        hang_up(peer);
        return false;
      }
      if (pdu.type() == tcp::PduType::r2t) peer.r2ts.push_back(pdu.as<tcp::R2T>());
      if (pdu.type() == tcp::PduType::capsule_resp && take_connect(peer, pdu.as<tcp::CapsuleResp>().cqe)) return true;
    }
    return false;
  }

  bool take_connect(Peer& peer, const nvme::CompletionEntry& cqe) {
    if (peer.stage != Peer::Stage::fresh || cqe.cid != connect_cid) return false;
    if (cqe.status_field() != 0) return true;
    peer.cntlid = static_cast<std::uint16_t>(std::uint32_t{cqe.dw0});
    peer.stage = asked_qid_ == 0 ? Peer::Stage::admin : Peer::Stage::io;
    return true;
  }

  // --- actions ---

  void open(Peer& peer) {
    peer.options.digests = {dice_.percent(30), dice_.percent(30)};
    peer.options.hpda = static_cast<std::uint8_t>(dice_.percent(80) ? 0 : dice_.below(32));
    peer.options.max_r2t = static_cast<std::uint32_t>(1 + dice_.below(4));
    peer.options.receive_buffer_bytes = dice_.percent(10) ? 4096 : 0;
    auto opened = Connection::open_bare(port_, peer.options);
    if (!opened) return;  // no listener at this moment
    peer.connection = std::move(*opened);
    peer.stage = Peer::Stage::fresh;
    auto request = header_of_type<tcp::IcReq>(tcp::PduType::ic_req);
    request.hpda = peer.options.hpda;
    request.maxr2t = peer.options.max_r2t - 1;
    request.dgst = static_cast<std::uint8_t>((peer.options.digests.header ? tcp::dgst_header_enable : 0) |
                                             (peer.options.digests.data ? tcp::dgst_data_enable : 0));
    Bytes bytes = build_pdu(request);
    if (dice_.percent(5)) {
      peer.honest = false;
      bytes[dice_.below(16)] = static_cast<std::byte>(dice_.odd());
    }
    if (!peer.connection.socket().send_all(bytes, send_patience)) return hang_up(peer);
    if (!peer.honest) return;
    const ReceivedPdu answer = peer.connection.receive_pdu();
    if (answer.outcome != Outcome::pdu || answer.type() != tcp::PduType::ic_resp) hang_up(peer);
  }

  void connect(Peer& peer) {
    ConnectParameters parameters;
    parameters.subnqn = dice_.percent(85) ? fuzzed_nqn : dice_.percent(50) ? discovery_nqn : "nqn.2026-11.io.catnap:nobody";
    parameters.hostnqn = dice_.percent(95) ? default_host_nqn : "nqn.2014-08.org.nvmexpress:uuid:99999999-2222-3333-4444-555555555555";
    const auto admin = std::ranges::find_if(peers_, [](const Peer& each) { return each.stage == Peer::Stage::admin; });
    asked_qid_ = 0;
    if (admin != peers_.end() && dice_.percent(75)) {
      parameters.cntlid = admin->cntlid;
      parameters.qid = asked_qid_ = static_cast<std::uint16_t>(1 + dice_.below(6));
    }
    parameters.entries = static_cast<std::uint16_t>(2 + dice_.below(126));
    parameters.cattr = dice_.percent(50) ? nvme::cattr_disable_sq_flow_control : 0;
    parameters.kato_ms = static_cast<std::uint32_t>(dice_.percent(90) ? 0 : dice_.odd());
    auto command = connect_command(parameters);
    Bytes data = bytes_of(connect_data(parameters));
    if (dice_.percent(5)) data[dice_.below(data.size())] = static_cast<std::byte>(dice_.odd());
    if (dice_.percent(3)) command.sqsize = static_cast<std::uint16_t>(dice_.odd());
    auto sqe = nvme::view_as<nvme::SubmissionEntry>(command);
    sqe.cid = connect_cid;
    sqe.set_psdt(nvme::Psdt::sgl);
    sqe.sgl.length = static_cast<std::uint32_t>(data.size());
    sqe.sgl.set_type(nvme::SglType::data_block, nvme::SglSubtype::offset);
    send(peer, peer.connection.capsule(sqe, data));
    if (peer.stage == Peer::Stage::closed || dice_.percent(3)) return;  // the answer is left for later, or for nobody
    drain(peer, Milliseconds(1000));
    if (peer.stage == Peer::Stage::admin && dice_.percent(90)) set_cc(peer, 0x00460001);
  }

  void set_cc(Peer& peer, std::uint64_t value) {
    nvme::PropertyCommand command;
    command.opcode = static_cast<std::uint8_t>(nvme::AdminOpcode::fabrics);
    command.fctype = static_cast<std::uint8_t>(nvme::FabricsType::property_set);
    command.attrib = static_cast<std::uint8_t>(dice_.percent(97) ? 0 : dice_.odd());
    command.offset = static_cast<std::uint32_t>(dice_.percent(95) ? 0x14 : dice_.odd());
    command.value = value;
    send_command(peer, nvme::view_as<nvme::SubmissionEntry>(command), 0, {});
  }

  void admin(Peer& peer) {
    static constexpr std::array<std::uint8_t, 12> opcodes{0x02, 0x02, 0x06, 0x06, 0x08, 0x09, 0x0A, 0x0A, 0x0C, 0x0C, 0x18, 0x7F};
    static constexpr std::array<std::uint64_t, 8> cc_values{0x00460001, 0x00460001, 0x00460001, 0x00460000, 0x00464001, 0x00468001, 0, 0x00460061};
    nvme::SubmissionEntry sqe;
    sqe.opcode = dice_.percent(97) ? dice_.of(opcodes) : static_cast<std::uint8_t>(dice_.odd());
    if (sqe.opcode == 0x7F && dice_.percent(60)) return set_cc(peer, dice_.percent(90) ? dice_.of(cc_values) : dice_.odd());
    sqe.nsid = static_cast<std::uint32_t>(dice_.percent(60) ? dice_.below(4) : dice_.odd());
    std::uint32_t length = dice_.percent(80) ? 4096 : static_cast<std::uint32_t>(dice_.odd());
    sqe.cdw11 = static_cast<std::uint32_t>(dice_.percent(60) ? dice_.below(4) : dice_.odd());
    sqe.cdw12 = static_cast<std::uint32_t>(dice_.percent(70) ? dice_.below(16) * 4 : dice_.odd());
    sqe.cdw13 = static_cast<std::uint32_t>(dice_.percent(90) ? 0 : dice_.odd());
    sqe.cdw14 = static_cast<std::uint32_t>(dice_.percent(90) ? 0 : dice_.odd());
    sqe.cdw10 = static_cast<std::uint32_t>(dice_.percent(70) ? dice_.below(0x20) : dice_.odd());
    if (sqe.opcode == 0x02) {  // Get Log Page: LID in 7:0, NUMDL in 31:16
      sqe.cdw10 = static_cast<std::uint32_t>(dice_.below(0x16) | (dice_.percent(10) ? 0x70 : 0) | dice_.below(2048) << 16);
      length = dice_.percent(80) ? ((std::uint32_t{sqe.cdw10} >> 16) + 1) * 4 : length;
      if (dice_.percent(90)) sqe.cdw11 = 0;
    }
    if (sqe.opcode == 0x08) sqe.cdw10 = static_cast<std::uint32_t>(dice_.below(64) << 16 | dice_.below(3));
    if (sqe.opcode == 0x0C || sqe.opcode == 0x18 || sqe.opcode == 0x08) length = 0;
    send_command(peer, sqe, length, dice_.percent(3) ? dice_.bytes(1 + dice_.below(4096)) : Bytes());
  }

  void io(Peer& peer) {
    static constexpr std::array<std::uint8_t, 21> opcodes{0x00, 0x01, 0x01, 0x01, 0x01, 0x01, 0x02, 0x02, 0x02, 0x02, 0x04,
                                                          0x05, 0x08, 0x09, 0x0C, 0x0D, 0x0E, 0x11, 0x15, 0x19, 0x7F};
    nvme::SubmissionEntry sqe;
    sqe.opcode = dice_.percent(97) ? dice_.of(opcodes) : static_cast<std::uint8_t>(dice_.odd());
    if (sqe.opcode == 0x7F && dice_.percent(90)) return;  // Disconnect, now and then
    sqe.nsid = static_cast<std::uint32_t>(dice_.percent(90) ? 1 + dice_.below(2) : dice_.odd());
    std::uint64_t slba = dice_.percent(95) ? dice_.below(blocks) : dice_.odd();
    std::uint32_t count = static_cast<std::uint32_t>(dice_.percent(70)   ? 1 + dice_.below(16)
                                                     : dice_.percent(90) ? 1 + dice_.below(256)
                                                                         : dice_.odd());
    sqe.cdw10 = static_cast<std::uint32_t>(slba);
    sqe.cdw11 = static_cast<std::uint32_t>(slba >> 32);
    sqe.cdw12 = (count - 1) & 0xFFFF;
    if (dice_.percent(5)) sqe.cdw12 = sqe.cdw12 | 1U << 30;  // FUA
    if (dice_.percent(2)) sqe.cdw12 = static_cast<std::uint32_t>(dice_.odd());
    const std::uint32_t block_bytes = sqe.nsid == 2 ? 4096 : 512;
    std::uint32_t length = ((std::uint32_t{sqe.cdw12} & 0xFFFF) + 1) * block_bytes;
    if (sqe.opcode == 0x00 || sqe.opcode == 0x08 || sqe.opcode == 0x04 || sqe.opcode == 0x0C) length = 0;
    if (dice_.percent(8) && (sqe.opcode == 0x05 || sqe.opcode == 0x01)) {  // halves of fused pairs, whole or not
      sqe.cdw10 = 64, sqe.cdw11 = 0, sqe.cdw12 = 0;
      sqe.flags = sqe.opcode == 0x05 ? 1 : 2;
      length = block_bytes;
    }
    if (sqe.opcode == 0x7F) {
      sqe = nvme::SubmissionEntry();
      sqe.opcode = 0x7F;
      sqe.nsid = static_cast<std::uint32_t>(dice_.percent(80) ? 8 : dice_.odd());
      length = 0;
    }
    Bytes in_capsule;
    if (sqe.opcode == 0x09) {
      sqe.cdw10 = static_cast<std::uint32_t>(dice_.percent(80) ? dice_.below(8) : dice_.below(256));
      sqe.cdw11 = static_cast<std::uint32_t>(dice_.percent(90) ? 4 : dice_.odd());
      in_capsule = ranges(std::uint32_t{sqe.cdw10} + 1);
      length = static_cast<std::uint32_t>(in_capsule.size());
      if (dice_.percent(20)) in_capsule.clear();
    } else if (sqe.opcode == 0x0D || sqe.opcode == 0x0E || sqe.opcode == 0x11 || sqe.opcode == 0x15) {
      sqe.cdw10 = static_cast<std::uint32_t>(dice_.percent(90) ? dice_.below(6) << 8 | dice_.below(16) : dice_.odd());
      in_capsule = reservation_keys(sqe.opcode == 0x15 ? 8 : 16);
      length = static_cast<std::uint32_t>(in_capsule.size());
      if (sqe.opcode == 0x0E) {
        in_capsule.clear();
        length = static_cast<std::uint32_t>(4 * (1 + dice_.below(256)));
        sqe.cdw10 = length / 4 - 1;
        sqe.cdw11 = static_cast<std::uint32_t>(dice_.below(2));
      }
    } else if (sqe.opcode == 0x19) {
      sqe.cdw12 = static_cast<std::uint32_t>(dice_.percent(90) ? dice_.below(4) : dice_.odd());
      in_capsule = copy_ranges((std::uint32_t{sqe.cdw12} & 0xFF) + 1);
      length = static_cast<std::uint32_t>(in_capsule.size());
    } else if ((sqe.opcode == 0x01 || sqe.opcode == 0x05) && length <= 8192 && dice_.percent(70)) {
      in_capsule = dice_.bytes(length);
    }
    send_command(peer, sqe, length, std::move(in_capsule));
  }

  // A few keys, so that hosts meet: current and new key of reservation commands.
  Bytes reservation_keys(std::size_t bytes) {
    Bytes keys(bytes);
    for (std::size_t at = 0; at < bytes; at += 8) keys[at] = static_cast<std::byte>(dice_.below(4));
    return keys;
  }

  // Source ranges of Copy, descriptor format 0: 32 bytes each, SLBA at 8, NLB at 16.
  Bytes copy_ranges(std::uint32_t count) {
    Bytes all(std::size_t{count} * 32);
    for (std::uint32_t i = 0; i < count; ++i) {
      const le64 slba = dice_.percent(97) ? dice_.below(blocks - 64) : dice_.odd();
      const le16 length = static_cast<std::uint16_t>(dice_.percent(97) ? dice_.below(64) : dice_.odd());
      std::memcpy(all.data() + i * 32 + 8, &slba, sizeof slba);
      std::memcpy(all.data() + i * 32 + 16, &length, sizeof length);
    }
    return all;
  }

  Bytes ranges(std::uint32_t count) {
    Bytes all;
    for (std::uint32_t i = 0; i < count; ++i) {
      nvme::DsmRange range;
      range.slba = dice_.percent(98) ? dice_.below(blocks - 64) : dice_.odd();
      range.blocks = static_cast<std::uint32_t>(dice_.percent(98) ? dice_.below(64) : dice_.odd());
      const Bytes bytes = bytes_of(range);
      all.insert(all.end(), bytes.begin(), bytes.end());
    }
    return all;
  }

  void answer_r2t(Peer& peer) {
    tcp::R2T r2t = peer.r2ts.front();
    peer.r2ts.pop_front();
    if (dice_.percent(3)) return;  // never answered
    const std::uint32_t end = r2t.r2to + r2t.r2tl;
    for (std::uint32_t at = r2t.r2to; at < end && peer.stage != Peer::Stage::closed;) {
      std::uint32_t length = std::min<std::uint32_t>(end - at, 131072);
      if (dice_.percent(30)) length = static_cast<std::uint32_t>(1 + dice_.below(length));
      std::uint16_t cid = r2t.cccid, ttag = r2t.ttag;
      std::uint32_t offset = at;
      bool last = at + length == end;
      if (dice_.percent(1)) cid = static_cast<std::uint16_t>(dice_.odd());
      if (dice_.percent(1)) ttag = static_cast<std::uint16_t>(dice_.odd());
      if (dice_.percent(1)) offset = static_cast<std::uint32_t>(dice_.odd());
      if (dice_.percent(1)) last = !last;
      Bytes bytes = peer.connection.h2c_data(cid, ttag, offset, dice_.bytes(length), last);
      if (dice_.percent(2) && peer.options.digests.data) bytes.back() ^= std::byte{1};
      send(peer, std::move(bytes));
      at += length;
      if (dice_.percent(2)) return;  // left half done
    }
  }

  void configure() {
    static constexpr std::array<const char*, 4> reads{"nvmf_get_subsystems", "nvmf_get_stats", "bdev_get_iostat", "thread_get_stats"};
    const std::array<std::pair<std::string, std::string>, 17> changes{{
        {"nvmf_subsystem_add_ns", subsystem(fuzzed_nqn, R"("namespace": {"bdev_name": "Malloc0", "nsid": 1})")},
        {"nvmf_subsystem_add_ns", subsystem(fuzzed_nqn, R"("namespace": {"bdev_name": "Malloc0", "nsid": 1})")},
        {"nvmf_subsystem_remove_ns", subsystem(fuzzed_nqn, R"("nsid": 1)")},
        {"nvmf_subsystem_add_ns", subsystem(fuzzed_nqn, R"("namespace": {"bdev_name": "Null0", "nsid": 2})")},
        {"nvmf_subsystem_remove_ns", subsystem(fuzzed_nqn, R"("nsid": 2)")},
        {"nvmf_subsystem_add_host", subsystem(fuzzed_nqn, R"("host": ")" + std::string(default_host_nqn) + "\"")},
        {"nvmf_subsystem_remove_host", subsystem(fuzzed_nqn, R"("host": ")" + std::string(default_host_nqn) + "\"")},
        {"nvmf_subsystem_allow_any_host", subsystem(fuzzed_nqn, R"("allow_any_host": false)")},
        {"nvmf_subsystem_allow_any_host", subsystem(fuzzed_nqn, R"("allow_any_host": true)")},
        {"nvmf_subsystem_allow_any_host", subsystem(fuzzed_nqn, R"("allow_any_host": true)")},
        {"nvmf_subsystem_add_listener", subsystem(fuzzed_nqn, address())},
        {"nvmf_subsystem_add_listener", subsystem(fuzzed_nqn, address())},
        {"nvmf_subsystem_remove_listener", subsystem(fuzzed_nqn, address())},
        {"nvmf_subsystem_listener_set_ana_state", subsystem(fuzzed_nqn, address() + R"(, "ana_state": "inaccessible")")},
        {"nvmf_subsystem_listener_set_ana_state", subsystem(fuzzed_nqn, address() + R"(, "ana_state": "optimized")")},
        {"bdev_null_resize", R"({"name": "Null0", "new_size": )" + std::to_string(32 + dice_.below(200)) + "}"},
        {"nvmf_subsystem_get_controllers", subsystem(fuzzed_nqn, R"("tgt_name": "nvmf_tgt")")},
    }};
    std::string method = dice_.of(reads), params = "{}";
    if (dice_.percent(80)) std::tie(method, params) = dice_.of(changes);
    const auto answer = server_->rpc().call(method, json(params));
    if (answer) return;
    // Refusals are right (EEXIST and the like); a socket that says nothing is not.
    ASSERT_LT(answer.error().err, 0) << method << ": " << answer.error().message;
  }

  void step() {
    Peer& peer = peers_[dice_.below(peers_.size())];
    switch (peer.stage) {
      case Peer::Stage::closed:
        open(peer);
        break;
      case Peer::Stage::fresh:
        dice_.percent(90) ? connect(peer) : io(peer);
        break;
      case Peer::Stage::admin:
        if (dice_.percent(40)) break;  // controllers that live give the I/O queues a chance
        admin(peer);
        break;
      case Peer::Stage::io:
        for (auto burst = 1 + dice_.below(12); burst > 0 && peer.stage != Peer::Stage::closed; --burst) io(peer);
        break;
    }
    while (!peer.r2ts.empty() && dice_.percent(80)) answer_r2t(peer);
    if (peer.stage != Peer::Stage::closed && dice_.percent(60)) drain(peer);
    if (dice_.percent(1) && dice_.percent(50)) hang_up(peer);
  }

  // A host that has nothing to do with all this must be served all the time.
  void open_bystander() {
    auto admin_queue = Connection::open(port_);
    ASSERT_TRUE(admin_queue.has_value());
    bystander_admin_ = std::move(*admin_queue);
    const CommandResult connected = connect_queue(bystander_admin_, {.subnqn = quiet_nqn});
    ASSERT_TRUE(connected.ok());
    ASSERT_TRUE(enable(bystander_admin_));
    auto io_queue = Connection::open(port_, {.digests = {true, true}});
    ASSERT_TRUE(io_queue.has_value());
    bystander_ = std::move(*io_queue);
    ASSERT_TRUE(
        connect_queue(bystander_, {.subnqn = quiet_nqn, .cntlid = static_cast<std::uint16_t>(std::uint32_t{connected.cqe.dw0}), .qid = 1}).ok());
  }
  void check_bystander() {
    ASSERT_TRUE(server_->is_running());
    const Bytes expected = dice_.bytes(16384);
    ASSERT_TRUE(write(bystander_, 8, expected).ok()) << "the bystander was disturbed";
    const CommandResult back = read(bystander_, 8, 16384);
    ASSERT_TRUE(back.ok()) << "the bystander was disturbed";
    ASSERT_EQ(back.data, expected);
  }
  void close_bystander() {
    bystander_ = Connection();
    bystander_admin_ = Connection();
  }

  std::size_t open_fds() const {
    std::error_code error;
    const std::filesystem::directory_iterator entries("/proc/" + std::to_string(server_->pid()) + "/fd", error);
    return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
  }
  // Connections end a moment after their hosts; there is nothing to wait on but the count itself.
  std::size_t wait_for_fds(std::size_t wanted) const {
    const auto deadline = Clock::now() + patience;
    while (open_fds() > wanted && Clock::now() < deadline) ::poll(nullptr, 0, 10);
    return open_fds();
  }

  std::uint64_t seed_ = 0;
  bool soak_ = false;
  Dice dice_{0};
  std::uint16_t port_ = 0;
  std::unique_ptr<ServerProcess> server_;
  std::array<Peer, peer_count> peers_;
  Connection bystander_, bystander_admin_;
  std::uint16_t asked_qid_ = 0;
  std::uint64_t pdus_ = 0;
};

TEST_F(LiveFuzzTest, NothingAHostDoesHarmsTheServer) {
  const std::size_t fds_before = open_fds();
  ASSERT_NO_FATAL_FAILURE(open_bystander());
  const auto end = Clock::now() + (soak_ ? std::chrono::duration_cast<std::chrono::seconds>(soak_time) : ci_time);
  const std::uint64_t wanted = soak_ ? soak_steps : ci_steps;
  std::uint64_t resident_early_kib = 0;  // when everything has been used: what comes on top later is a leak
  for (std::uint64_t steps = 0; Clock::now() < end && pdus_ < wanted; ++steps) {
    ASSERT_NO_FATAL_FAILURE(step());
    if (steps % 16 == 0) {
      ASSERT_NO_FATAL_FAILURE(configure());
    }
    if (steps % 256 == 0) {
      ASSERT_NO_FATAL_FAILURE(check_bystander());
    }
    if (resident_early_kib == 0 && pdus_ >= wanted / 4) resident_early_kib = server_->resident_kib();
  }
  ASSERT_NO_FATAL_FAILURE(check_bystander());

  for (Peer& peer : peers_) hang_up(peer);
  close_bystander();
  // Listeners may have come or gone: one fd each, shared with the quiet subsystem, so none here.
  const std::size_t fds_after = wait_for_fds(fds_before);
  EXPECT_LE(fds_after, fds_before) << "connections that ended hold fds";
  const std::uint64_t resident_kib = server_->resident_kib();
  printf("%llu PDUs sent; resident %llu KiB after a quarter, %llu KiB at the end; fds %zu, %zu\n", static_cast<unsigned long long>(pdus_),
         static_cast<unsigned long long>(resident_early_kib), static_cast<unsigned long long>(resident_kib), fds_before, fds_after);
  // AddressSanitizer keeps up to 256 MiB of freed memory from being used again; it finds leaks itself.
  if (resident_early_kib != 0 && !address_sanitizer) {
    EXPECT_LT(resident_kib, resident_early_kib + allowed_growth_kib);
  }
  const std::size_t log_bytes = server_->log().size();
  EXPECT_LT(log_bytes, max_log_bytes) << "hosts fill the log";
  ASSERT_NO_FATAL_FAILURE(open_bystander());
  ASSERT_NO_FATAL_FAILURE(check_bystander());
  EXPECT_EQ(server_->stop(), 0);
}

}  // namespace
}  // namespace catnap::protocol
