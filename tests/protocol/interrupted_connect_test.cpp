// Controllers that cannot be reached: attach, detach and reconnect wait for nobody, and nobody waits for them.
// Owner: the test's thread. Left out: controllers that answer wrongly (hostile_controller_test.cpp).
#include <cstdio>
#include <cstdlib>

#include "tests/protocol/fake/fake_controller.h"
#include "tests/protocol/full_listener.h"
#include "tests/protocol/initiator_fixture.h"

namespace catnap::protocol {
namespace {

class InterruptedConnect : public InitiatorTest {
 protected:
  // The steps of connecting get far more time than a test takes to notice that something waited for them.
  static constexpr int connect_timeout_ms = 60'000;
  static constexpr Milliseconds too_long{30'000};

  void SetUp() override {
    InitiatorTest::SetUp();
    must("bdev_nvme_set_options", R"({"tcp_connect_timeout_ms": )" + std::to_string(connect_timeout_ms) + "}");
  }
  // Over a socket of its own, since an answer may take long.
  std::thread call_aside(const std::string& method, const Json::Value& params, Result<Json::Value>& answer) {
    return std::thread([this, method, params, &answer] {
      auto client = RpcClient::open(server_->rpc_socket());
      answer = client ? client->call(method, params) : std::unexpected(client.error());
    });
  }
  // Runs `what`, and says how long it took.
  template <typename What>
  static Milliseconds timed(const char* name, What what) {
    const auto begun = Clock::now();
    what();
    const auto took = std::chrono::duration_cast<Milliseconds>(Clock::now() - begun);
    printf("%s: %lld ms\n", name, static_cast<long long>(took.count()));
    return took;
  }
  std::uint64_t stalls() {
    std::uint64_t all = 0;
    const Json::Value answer = must("framework_get_reactors", "{}");
    for (const auto& reactor : answer["reactors"]) all += reactor["stalls"].asUInt64();
    return all;
  }
};

TEST_F(InterruptedConnect, AnAttachIntoTheVoidHoldsUpNobodyAndEndsWithItsDetach) {
  const FullListener nowhere;
  FakeController other;
  must("bdev_nvme_attach_controller", path_to(other.port(), other.options().subnqn, "{}", "Other"));
  Host host = connect_host(serve("Othern1"));
  ASSERT_TRUE(host.io.socket().is_open());

  Result<Json::Value> attached = fail(EINPROGRESS, "");
  std::thread attach = call_aside("bdev_nvme_attach_controller", path_to(nowhere.port(), "nqn.2026-11.io.catnap:void", "{}", "Void"), attached);
  // Others are served meanwhile: a change of configuration, I/O, another attach.
  EXPECT_LT(timed("others meanwhile",
                  [&] {
                    must("bdev_null_create", R"({"name": "Null0", "num_blocks": 1024, "block_size": 512})");
                    EXPECT_TRUE(read(host.io, 0, 4096).ok());
                    must("bdev_nvme_attach_controller", path_to(other.port(), other.options().subnqn, "{}", "Third"));
                    must("bdev_nvme_detach_controller", R"({"name": "Third"})");
                  }),
            too_long);
  EXPECT_LT(
      timed("detach", [&] { EXPECT_TRUE(eventually([&] { return call("bdev_nvme_detach_controller", json(R"({"name": "Void"})")).has_value(); })); }),
      too_long);
  EXPECT_LT(timed("end of the attach", [&] { attach.join(); }), too_long);
  ASSERT_FALSE(attached.has_value());
  EXPECT_NE(attached.error().message.find("controller Void was detached while it was being attached"), std::string::npos) << attached.error().message;
  EXPECT_EQ(must("bdev_nvme_get_controllers", "{}").size(), 1U);
}

TEST_F(InterruptedConnect, ADetachDuringEachPhaseOfAReconnectWaitsForNothing) {
  // Accepted and silent, refused, silent after ICReq.
  for (const char* step : {"accept", "ICReq", "Connect admin", "Identify CNS 01h"}) {
    SCOPED_TRACE(step);
    FakeController controller;
    must("bdev_nvme_attach_controller",
         path_to(controller.port(), controller.options().subnqn,
                 R"({"ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1, "fabrics_connect_timeout_us": 60000000})"));
    controller.forget();
    controller.misbehave(step, 0, Deed::silence);
    controller.drop_connections();
    ASSERT_TRUE(eventually([&] { return controller.misbehaved(); }));
    EXPECT_LT(timed("detach", [&] { must("bdev_nvme_detach_controller", R"({"name": "Nvme0"})"); }), too_long);
    EXPECT_TRUE(must("bdev_nvme_get_controllers", "{}").empty());
  }
}

TEST_F(InterruptedConnect, AHundredControllersThatReconnectDelayNobody) {
  constexpr int count = 100;
  FakeController gone, other;
  must("bdev_nvme_attach_controller", path_to(other.port(), other.options().subnqn, "{}", "Other"));
  Host host = connect_host(serve("Othern1"));
  ASSERT_TRUE(host.io.socket().is_open());
  for (int number = 0; number < count; ++number) {
    must("bdev_nvme_attach_controller",
         path_to(gone.port(), gone.options().subnqn, R"({"ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1})", "Gone" + std::to_string(number)));
  }
  gone.forget();
  gone.misbehave("accept", 0, Deed::close);  // each attempt fails, and each makes another a second later
  gone.drop_connections();
  const std::uint64_t stalls_before = stalls();
  Milliseconds worst_rpc{0}, worst_io{0};
  std::size_t ios = 0;
  const auto deadline = Clock::now() + patience;
  while (gone.seen().size() < 2 * count && Clock::now() < deadline) {
    const auto begun = Clock::now();
    ASSERT_TRUE(read(host.io, 0, 4096).ok());
    const auto between = Clock::now();
    must("bdev_get_iostat", R"({"name": "Othern1"})");
    worst_io = std::max(worst_io, std::chrono::duration_cast<Milliseconds>(between - begun));
    worst_rpc = std::max(worst_rpc, std::chrono::duration_cast<Milliseconds>(Clock::now() - between));
    ++ios;
  }
  const std::size_t attempts = gone.seen().size();
  // Stalls are printed only: a machine that takes the CPU away makes some as well.
  printf("%zu attempts of %d controllers meanwhile; %zu I/Os, the longest %lld ms; the longest RPC %lld ms; %llu stalls of reactors\n", attempts,
         count, ios, static_cast<long long>(worst_io.count()), static_cast<long long>(worst_rpc.count()),
         static_cast<unsigned long long>(stalls() - stalls_before));
  EXPECT_GE(attempts, static_cast<std::size_t>(2 * count));
  EXPECT_LT(std::max(worst_io, worst_rpc), Milliseconds(10'000)) << "far less than one attempt after the other would take";
  // And they go as they are.
  for (int number = 0; number < count; ++number) must("bdev_nvme_detach_controller", R"({"name": "Gone)" + std::to_string(number) + "\"}");
}

}  // namespace
}  // namespace catnap::protocol
