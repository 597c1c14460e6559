// The conformance suite (tests/unit/bdev/conformance_test.cpp) over namespaces of a real target: a catnapd on loopback exports a malloc disk, and
// each test has a controller of its own on the bench's thread. Without digests, with both, and with a depth of few commands. Owner: the test's OS
// thread. Left out: layers over it (they stand on any bdev alike).
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>

#include "bdev/nvme/module.h"
#include "tests/protocol/client/server_process.h"
#include "tests/unit/bdev/layers.h"

namespace catnap::bdev {
namespace {

constexpr const char* nqn = "nqn.2026-11.io.catnap:conformance";

// One for all tests of the program.
class Exporter {
 public:
  static Exporter& instance() {
    static Exporter exporter;
    return exporter;
  }
  bool ready() const { return server_ != nullptr; }
  std::uint16_t port() const { return port_; }

  // A disk without anything on it, as namespace 1.
  bool fresh_disk(std::uint64_t size_bytes) {
    if (has_disk_) {
      call("nvmf_subsystem_remove_ns", std::string(R"({"nqn": ")") + nqn + R"(", "nsid": 1})");
      call("bdev_malloc_delete", R"({"name": "Disk"})");
    }
    has_disk_ = call("bdev_malloc_create", R"({"name": "Disk", "block_size": 512, "num_blocks": )" + std::to_string(size_bytes / 512) + "}") &&
                call("nvmf_subsystem_add_ns", std::string(R"({"nqn": ")") + nqn + R"(", "namespace": {"nsid": 1, "bdev_name": "Disk"}})");
    return has_disk_;
  }

 private:
  Exporter() {
    auto started = protocol::ServerProcess::start(CATNAP_SERVER);
    if (!started) return;
    server_ = std::move(*started);
    port_ = protocol::free_port();
    const std::string subsystem = std::string(R"({"nqn": ")") + nqn + "\"";
    call("nvmf_create_transport", R"({"trtype": "TCP"})");
    call("nvmf_create_subsystem", subsystem + R"(, "allow_any_host": true})");
    call("nvmf_subsystem_add_listener", subsystem + R"(, "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" +
                                            std::to_string(port_) + R"("}})");
  }
  bool call(const std::string& method, const std::string& params) {
    auto answer = server_->rpc().call(method, protocol::json(params));
    EXPECT_TRUE(answer.has_value()) << method << ": " << (answer ? "" : answer.error().message);
    return answer.has_value();
  }

  std::unique_ptr<protocol::ServerProcess> server_;
  std::uint16_t port_ = 0;
  bool has_disk_ = false;
};

// A controller on the bench's thread; it ends with its bdev.
struct Session : std::enable_shared_from_this<Session> {
  explicit Session(Thread& home) : thread(home), module(home, Topology()) {}

  void start(bool digests, bool small) {
    NvmeOptions options;
    options.keep_alive_timeout_ms = 0;  // the bench looks whether anything is left that would wake it up
    options.io_queue_requests = small ? 4 : 0;
    EXPECT_TRUE(module.set_options(options).has_value());
    TransportId id;
    id.traddr = "127.0.0.1";
    id.trsvcid = std::to_string(Exporter::instance().port());
    id.subnqn = nqn;
    EXPECT_TRUE(complete_transport_id(id).has_value());
    ControllerOptions chosen;
    chosen.hdgst = chosen.ddgst = digests;
    controller = NvmeController::create(module, "Nvme0", id, chosen);
    auto attached = [](Result<void> result) { EXPECT_TRUE(result || result.error().err == ECANCELED) << result.error().message; };
    spawn<Result<void>>(controller->attach(), attached);
  }
  void end() {
    thread.send([self = shared_from_this()] {
      auto over = [self](Result<void>) {
        self->controller.reset();
        self->thread.send([self] {});  // the sequence itself still has the controller, which needs the module
      };
      spawn<Result<void>>(self->controller->disable(), over);
    });
  }

  Thread& thread;
  NvmeModule module;
  std::shared_ptr<NvmeController> controller;
};

// What the exporter's Identify data say; the bdev is there before they were read, and its I/O waits for the controller.
NamespaceShape shape(std::uint64_t size_bytes) {
  NamespaceShape made;
  made.oncs = nvme::oncs_compare | nvme::oncs_write_zeroes | nvme::oncs_dataset_management | nvme::oncs_copy;
  made.limits.compare_and_write_blocks = 256;
  made.limits.copy_range_blocks = 64;  // less than the exporter takes: copies in many ranges and parts
  made.limits.copy_blocks = 256;
  made.info.native_copy = true;
  made.info.name = "Nvme0n1";
  made.info.product_name = "NVMe disk";
  made.info.num_blocks = size_bytes / 512;
  made.info.write_cache = true;
  made.info.max_io_blocks = 256;
  made.info.max_segments = tcp::HostQueue::max_segments;
  made.info.max_unmap_blocks = 0xFFFFFFFF;
  made.info.max_write_zeroes_blocks = 65536;
  made.info.native_compare_and_write = true;
  return made;
}

std::shared_ptr<Bdev> make(const TestFile& file, bool digests, bool small, std::string& why) {
  Exporter& exporter = Exporter::instance();
  if (!exporter.ready() || !exporter.fresh_disk(file.size_bytes())) {
    why = "no catnapd could be started";
    return nullptr;
  }
  auto session = std::make_shared<Session>(*Thread::current());
  session->start(digests, small);
  NamespaceData data;
  data.nsid = 1;
  data.data.nsze = file.size_bytes() / 512;
  data.data.lbaf[0].lbads = 9;
  std::shared_ptr<NvmeBdev> bdev(new NvmeBdev(shape(file.size_bytes()), data, nqn), [session](NvmeBdev* gone) {
    delete gone;
    session->end();
  });
  PathSet paths;
  PathEntry path;
  path.hub = session->controller->hub();
  path.nsid = 1;
  paths.paths.push_back(path);
  bdev->publish(std::move(paths));
  return bdev;
}

Stack stack(std::string name, bool digests) {
  Stack made;
  made.name = made.bottom.name = std::move(name);
  made.bottom.is_file = true;  // it waits for somebody else in real time
  made.bottom.make = [digests](WorkerPool&, const TestFile& file, bool small, std::string& why) { return make(file, digests, small, why); };
  return made;
}

}  // namespace

bool Stack::scrambles() const { return false; }
bool Stack::is_slow() const { return true; }
bool Stack::has(std::string_view) const { return false; }
bool Stack::keeps_its_size() const { return true; }
std::uint64_t Stack::bottom_bytes() const { return module_size_bytes; }
std::string add_layer(const Layer&, const std::shared_ptr<Bdev>&) { return ""; }
void forget_arrays() {}

std::vector<Stack> all_stacks() { return {stack("nvme", false), stack("nvme_digests", true)}; }

}  // namespace catnap::bdev
