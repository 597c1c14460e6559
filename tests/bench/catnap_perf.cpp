// catnap-perf: a load generator for NVMe/TCP namespaces, light enough to show the target's limit rather than its own.
// Owner: one OS thread that never sleeps while it measures. Left out: verification (tests do that), digests, TLS, reconnecting.
//
// Usage: catnap-perf --traddr 127.0.0.1 --trsvcid 4420 --nqn NQN --pattern randread --size 4096 --depth 32 --seconds 3 [--pid TARGET]
// Prints one line of JSON: IOPS, MB/s, latency percentiles, and the target's CPU per I/O when its pid is given.
#include <arpa/inet.h>
#include <fmt/core.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "reactor/base/check.h"
#include "reactor/clock.h"
#include "transport/nvme/command.h"
#include "transport/nvme/fabrics.h"
#include "transport/tcp/pdu.h"

namespace catnap::bench {
namespace {

struct Options {
  std::string traddr = "127.0.0.1";
  int trsvcid = 4420;
  std::string nqn = "nqn.2026-11.io.catnap:demo";
  std::string pattern = "randread";
  std::uint32_t size = 4096;
  unsigned depth = 32;
  unsigned connections = 1;
  double seconds = 3;
  std::uint64_t blocks = 131072;
  std::uint32_t block_size = 512;
  std::uint32_t in_capsule = 4096;
  int cpu = -1;
  int pid = 0;
};

[[noreturn]] void die(const std::string& message) {
  fmt::print(stderr, "catnap-perf: {}\n", message);
  std::exit(1);
}

// Log-linear latency histogram: 16 steps per power of two, so within 6 %.
class Histogram {
 public:
  void add(std::uint64_t ns) { ++counts_[bucket(ns)]; }
  std::uint64_t percentile(double fraction) const {
    std::uint64_t total = 0;
    for (const auto count : counts_) total += count;
    auto left = static_cast<std::uint64_t>(static_cast<double>(total) * fraction);
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      if (counts_[i] > left) return upper(i);
      left -= counts_[i];
    }
    return 0;
  }

 private:
  static std::size_t bucket(std::uint64_t ns) {
    if (ns < 16) return ns;
    const int shift = 63 - __builtin_clzll(ns) - 4;
    return static_cast<std::size_t>(shift + 1) * 16 + ((ns >> shift) & 15);
  }
  static std::uint64_t upper(std::size_t index) {
    if (index < 16) return index;
    const std::size_t shift = index / 16 - 1;
    return (16 + index % 16 + 1) << shift;
  }
  std::array<std::uint64_t, 16 * 62> counts_{};
};

// The host's side of one connection; blocking until connected, then driven by poll().
class Connection {
 public:
  Connection(const Options& options, std::uint16_t qid, std::uint16_t cntlid) : options_(options), receive_(1 << 20) {
    fd_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(options.trsvcid));
    if (inet_pton(AF_INET, options.traddr.c_str(), &address.sin_addr) != 1) die(fmt::format("--traddr '{}' is not an IPv4 address", options.traddr));
    if (connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      die(fmt::format("connecting to {}:{}: {}", options.traddr, options.trsvcid, std::strerror(errno)));
    const int one = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    shake_hands();
    connect_queue(qid, cntlid);
  }
  ~Connection() { close(fd_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  std::uint16_t cntlid() const { return cntlid_; }

  std::uint64_t property(std::uint32_t offset, std::uint8_t size_code) {
    nvme::SubmissionEntry sqe;
    sqe.opcode = 0x7F;
    sqe.nsid = 0x04;
    sqe.set_psdt(nvme::Psdt::sgl);
    sqe.cdw10 = size_code;
    sqe.cdw11 = offset;
    return command(sqe).dw0_dw1();
  }
  void set_property(std::uint32_t offset, std::uint64_t value) {
    nvme::SubmissionEntry sqe;
    sqe.opcode = 0x7F;
    sqe.set_psdt(nvme::Psdt::sgl);
    sqe.cdw11 = offset;
    sqe.cdw12 = static_cast<std::uint32_t>(value);
    sqe.cdw13 = static_cast<std::uint32_t>(value >> 32);
    (void)command(sqe);
  }

  // --- measuring ---
  void begin(std::uint64_t seed) {
    random_.seed(seed);
    started_ns_.resize(options_.depth);
    write_.resize(options_.depth);
    payload_.assign(options_.size, std::byte{0x5A});
    for (unsigned cid = 0; cid < options_.depth; ++cid) submit(static_cast<std::uint16_t>(cid));
    send_all();
  }
  // Takes what is there, answers every completion with a new command.
  void poll_once(std::uint64_t now_ns, Histogram& latencies, std::uint64_t& done, bool submit_more) {
    const ssize_t got = recv(fd_, receive_.data() + have_, receive_.size() - have_, MSG_DONTWAIT);
    if (got == 0) die("the target closed the connection");
    if (got < 0) {
      if (errno == EAGAIN) return;
      die(fmt::format("recv: {}", std::strerror(errno)));
    }
    have_ += static_cast<std::size_t>(got);
    std::size_t at = 0;
    while (have_ - at >= sizeof(tcp::CommonHeader)) {
      tcp::CommonHeader common;
      std::memcpy(&common, receive_.data() + at, sizeof common);
      const std::uint32_t plen = common.plen;
      if (have_ - at < plen) break;
      handle(static_cast<tcp::PduType>(common.type), receive_.data() + at, now_ns, latencies, done, submit_more);
      at += plen;
    }
    std::memmove(receive_.data(), receive_.data() + at, have_ - at);
    have_ -= at;
    send_all();
  }

 private:
  template <typename Pdu>
  static Pdu read_as(const std::byte* bytes) {
    Pdu pdu;
    std::memcpy(&pdu, bytes, sizeof pdu);
    return pdu;
  }
  template <typename Pdu>
  void append(const Pdu& pdu) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&pdu);
    out_.insert(out_.end(), bytes, bytes + sizeof pdu);
  }

  void read_exactly(void* to, std::size_t size) {
    if (recv(fd_, to, size, MSG_WAITALL) != static_cast<ssize_t>(size)) die("the target closed the connection while connecting");
  }

  void shake_hands() {
    tcp::IcReq request;
    request.ch.type = static_cast<std::uint8_t>(tcp::PduType::ic_req);
    request.ch.hlen = sizeof request;
    request.ch.plen = sizeof request;
    append(request);
    send_all();
    tcp::IcResp response;
    read_exactly(&response, sizeof response);
    max_h2c_ = response.maxh2cdata;
  }

  void connect_queue(std::uint16_t qid, std::uint16_t cntlid) {
    nvme::SubmissionEntry sqe;
    sqe.opcode = 0x7F;
    sqe.nsid = 0x01;
    sqe.set_psdt(nvme::Psdt::sgl);
    sqe.cdw10 = static_cast<std::uint32_t>(qid) << 16;
    sqe.cdw11 = qid == 0 ? 31 : 127;  // SQSIZE, 0's based
    sqe.sgl.length = 1024;
    sqe.sgl.set_type(nvme::SglType::data_block, nvme::SglSubtype::offset);
    std::array<char, 1024> data{};
    std::memcpy(data.data(), "catnap-perf-host", 16);  // HOSTID
    std::memcpy(data.data() + 16, &cntlid, sizeof cntlid);
    std::strncpy(data.data() + 256, options_.nqn.c_str(), 255);
    std::strncpy(data.data() + 512, "nqn.2014-08.org.nvmexpress:uuid:7065726f-0000-4000-8000-000000000001", 255);
    const nvme::CompletionEntry cqe = command(sqe, data.data(), data.size());
    cntlid_ = static_cast<std::uint16_t>(std::uint32_t{cqe.dw0} & 0xFFFF);
  }

  nvme::CompletionEntry command(nvme::SubmissionEntry sqe, const void* data = nullptr, std::size_t size = 0) {
    tcp::CapsuleCmd pdu;
    pdu.ch.type = static_cast<std::uint8_t>(tcp::PduType::capsule_cmd);
    pdu.ch.hlen = sizeof pdu;
    pdu.ch.pdo = size > 0 ? sizeof pdu : 0;
    pdu.ch.plen = static_cast<std::uint32_t>(sizeof pdu + size);
    pdu.sqe = sqe;
    append(pdu);
    const auto* bytes = static_cast<const std::byte*>(data);
    out_.insert(out_.end(), bytes, bytes + size);
    send_all();
    tcp::CapsuleResp response;
    read_exactly(&response, sizeof response);
    if (response.cqe.status_field() != 0)
      die(fmt::format("opcode {:#x} type {:#x} refused: status {:#x}, dw0 {:#x}", sqe.opcode, sqe.fctype(), response.cqe.status_field(),
                      std::uint32_t{response.cqe.dw0}));
    return response.cqe;
  }

  bool next_is_write() {
    if (options_.pattern == "randwrite" || options_.pattern == "write") return true;
    return options_.pattern == "randrw" && (random_() & 1) != 0;
  }

  void submit(std::uint16_t cid) {
    const std::uint32_t blocks = options_.size / options_.block_size;
    const std::uint64_t places = options_.blocks / blocks;
    const bool random = options_.pattern.starts_with("rand");
    const std::uint64_t place = random ? random_() % places : next_place_++ % places;
    const bool write = next_is_write();
    write_[cid] = write;
    tcp::CapsuleCmd pdu;
    pdu.ch.type = static_cast<std::uint8_t>(tcp::PduType::capsule_cmd);
    pdu.ch.hlen = sizeof pdu;
    pdu.sqe.opcode = static_cast<std::uint8_t>(write ? nvme::IoOpcode::write : nvme::IoOpcode::read);
    pdu.sqe.set_psdt(nvme::Psdt::sgl);
    pdu.sqe.cid = cid;
    pdu.sqe.nsid = 1;
    pdu.sqe.set_slba(place * blocks);
    pdu.sqe.cdw12 = blocks - 1;
    pdu.sqe.sgl.length = options_.size;
    const bool in_capsule = write && options_.size <= options_.in_capsule;
    if (in_capsule) {
      pdu.sqe.sgl.set_type(nvme::SglType::data_block, nvme::SglSubtype::offset);
      pdu.ch.pdo = sizeof pdu;
    } else {
      pdu.sqe.sgl.set_type(nvme::SglType::transport_data_block, nvme::SglSubtype::transport);
    }
    pdu.ch.plen = static_cast<std::uint32_t>(sizeof pdu) + (in_capsule ? options_.size : 0);
    append(pdu);
    if (in_capsule) out_.insert(out_.end(), payload_.begin(), payload_.end());
    started_ns_[cid] = system_clock().now_ns();
  }

  void answer_r2t(const tcp::R2T& r2t) {
    std::uint32_t offset = r2t.r2to, left = r2t.r2tl;
    while (left > 0) {
      const std::uint32_t part = std::min(left, max_h2c_);
      tcp::H2CData pdu;
      pdu.ch.type = static_cast<std::uint8_t>(tcp::PduType::h2c_data);
      pdu.ch.hlen = sizeof pdu;
      pdu.ch.pdo = sizeof pdu;
      pdu.ch.plen = static_cast<std::uint32_t>(sizeof pdu) + part;
      pdu.ch.flags = part == left ? tcp::flag_last_pdu : 0;
      pdu.cccid = r2t.cccid;
      pdu.ttag = r2t.ttag;
      pdu.datao = offset;
      pdu.datal = part;
      append(pdu);
      out_.insert(out_.end(), payload_.begin(), payload_.begin() + part);
      offset += part;
      left -= part;
    }
  }

  void handle(tcp::PduType type, const std::byte* bytes, std::uint64_t now_ns, Histogram& latencies, std::uint64_t& done, bool submit_more) {
    if (type == tcp::PduType::r2t) return answer_r2t(read_as<tcp::R2T>(bytes));
    if (type == tcp::PduType::c2h_data) return;
    if (type != tcp::PduType::capsule_resp) die(fmt::format("unexpected PDU type {:#x}", static_cast<unsigned>(type)));
    const auto pdu = read_as<tcp::CapsuleResp>(bytes);
    if (pdu.cqe.status_field() != 0) die(fmt::format("I/O failed: status {:#x}", pdu.cqe.status_field()));
    const std::uint16_t cid = pdu.cqe.cid;
    CATNAP_CHECK(cid < options_.depth);
    latencies.add(now_ns - started_ns_[cid]);
    ++done;
    if (submit_more) submit(cid);
  }

  void send_all() {
    std::size_t at = 0;
    while (at < out_.size()) {
      const ssize_t sent = send(fd_, out_.data() + at, out_.size() - at, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent > 0) {
        at += static_cast<std::size_t>(sent);
      } else if (errno == EAGAIN) {
        pollfd waiting{fd_, POLLOUT | POLLIN, 0};
        poll(&waiting, 1, 1000);
        if ((waiting.revents & POLLOUT) == 0) break;  // the target wants its answers taken first
      } else {
        die(fmt::format("send: {}", std::strerror(errno)));
      }
    }
    out_.erase(out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(at));
  }

  const Options& options_;
  int fd_ = -1;
  std::uint16_t cntlid_ = 0;
  std::uint32_t max_h2c_ = 4096;
  std::vector<std::byte> receive_;
  std::size_t have_ = 0;
  std::vector<std::byte> out_;
  std::vector<std::byte> payload_;
  std::vector<std::uint64_t> started_ns_;
  std::vector<char> write_;
  std::mt19937_64 random_;
  std::uint64_t next_place_ = 0;
};

// User and system time of a process in seconds (/proc/PID/stat fields 14 and 15).
double cpu_seconds_of(int pid) {
  std::ifstream stat(fmt::format("/proc/{}/stat", pid));
  std::string text((std::istreambuf_iterator<char>(stat)), {});
  const auto after_name = text.rfind(')');
  if (after_name == std::string::npos) die(fmt::format("--pid {}: no such process", pid));
  std::istringstream fields(text.substr(after_name + 2));
  std::string field;
  double ticks = 0;
  for (int i = 3; i <= 15 && fields >> field; ++i) {
    if (i >= 14) ticks += std::stod(field);
  }
  return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

int run(const Options& options) {
  if (options.cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(options.cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) die(fmt::format("--cpu {}: {}", options.cpu, std::strerror(errno)));
  }
  Connection admin(options, 0, 0xFFFF);
  admin.set_property(0x14, 0x00460001);
  while ((admin.property(0x1C, 0) & 1) == 0) {
  }
  std::vector<std::unique_ptr<Connection>> queues;
  for (unsigned i = 0; i < options.connections; ++i)
    queues.push_back(std::make_unique<Connection>(options, static_cast<std::uint16_t>(i + 1), admin.cntlid()));

  Histogram warm_up, latencies;
  std::uint64_t done = 0;
  for (std::size_t i = 0; i < queues.size(); ++i) queues[i]->begin(i + 1);
  const Clock& clock = system_clock();
  const auto drive = [&](std::uint64_t until_ns, Histogram& histogram) {
    for (std::uint64_t now = clock.now_ns(); now < until_ns; now = clock.now_ns()) {
      for (const auto& queue : queues) queue->poll_once(now, histogram, done, true);
    }
  };
  drive(clock.now_ns() + ns_per_s / 5, warm_up);
  done = 0;
  const double cpu_before = options.pid != 0 ? cpu_seconds_of(options.pid) : 0;
  const std::uint64_t began = clock.now_ns();
  drive(began + static_cast<std::uint64_t>(options.seconds * static_cast<double>(ns_per_s)), latencies);
  const double elapsed = static_cast<double>(clock.now_ns() - began) / static_cast<double>(ns_per_s);
  const double cpu = options.pid != 0 ? cpu_seconds_of(options.pid) - cpu_before : 0;
  const double iops = static_cast<double>(done) / elapsed;
  fmt::print(
      "{{\"pattern\": \"{}\", \"size\": {}, \"depth\": {}, \"connections\": {}, \"iops\": {:.0f}, \"mb_per_s\": {:.1f}, \"p50_us\": {:.1f}, "
      "\"p99_us\": {:.1f}",
      options.pattern, options.size, options.depth, options.connections, iops, iops * options.size / 1e6,
      static_cast<double>(latencies.percentile(0.5)) / 1e3, static_cast<double>(latencies.percentile(0.99)) / 1e3);
  if (options.pid != 0) fmt::print(", \"target_cpu_us_per_io\": {:.3f}", cpu * 1e6 / static_cast<double>(std::max<std::uint64_t>(done, 1)));
  fmt::print("}}\n");
  return 0;
}

}  // namespace
}  // namespace catnap::bench

int main(int argc, char** argv) {
  catnap::bench::Options options;
  CLI::App app("Measures an NVMe/TCP target");
  app.add_option("--traddr", options.traddr, "IPv4 address of the target");
  app.add_option("--trsvcid", options.trsvcid, "its port")->check(CLI::Range(1, 65535));
  app.add_option("--nqn", options.nqn, "NQN of the subsystem; its namespace 1 is used");
  app.add_option("--pattern", options.pattern, "read, write, randread, randwrite, randrw")
      ->check(CLI::IsMember({"read", "write", "randread", "randwrite", "randrw"}));
  app.add_option("--size", options.size, "bytes per I/O")->check(CLI::Range(512, 1048576));
  app.add_option("--depth", options.depth, "commands outstanding per connection")->check(CLI::Range(1, 127));
  app.add_option("--connections", options.connections, "I/O queues")->check(CLI::Range(1, 120));
  app.add_option("--seconds", options.seconds, "how long to measure")->check(CLI::Range(0.1, 3600.0));
  app.add_option("--blocks", options.blocks, "blocks of the namespace to use");
  app.add_option("--block-size", options.block_size, "bytes per block");
  app.add_option("--in-capsule", options.in_capsule, "writes up to this size go in the capsule");
  app.add_option("--cpu", options.cpu, "run on this CPU");
  app.add_option("--pid", options.pid, "the target's process id, for its CPU per I/O");
  CLI11_PARSE(app, argc, argv);
  return catnap::bench::run(options);
}
