// nvmf_subsystem_get_controllers, nvmf_subsystem_get_qpairs and nvmf_get_stats: the keys that SPDK's clients read, and what they say.
#include "server/controllers_rpc.h"

#include <gtest/gtest.h>

#include "server/target.h"
#include "tests/unit/server/controller_bench.h"

namespace catnap::server {
namespace {

class ControllersRpcTest : public testing::Test {
 protected:
  ControllersRpcTest() {
    groups_ = {bench.group.get()};
    register_controllers_methods(table_, *bench.table, groups_);
    bench.on(*bench.app, [this] {
      Target::Hooks hooks;
      hooks.committed = [](const auto&, const auto&) {};
      hooks.has_controllers = [](const std::string&) { return false; };
      hooks.listen = [](const ListenAddress&, std::function<void(int)>) -> Result<std::shared_ptr<void>> { return fail(EACCES, "not here"); };
      target_ = std::make_unique<Target>(*bench.app, std::move(hooks));
      SubsystemOptions options;
      options.nqn = test_nqn;
      EXPECT_TRUE(target_->create_subsystem(options).has_value());
    });
  }
  ~ControllersRpcTest() override {
    bench.on(*bench.app, [this] { target_->shut_down([this] { bench.app->send([this] { target_->clear(); }); }); });
    bench.on(*bench.app, [this] { target_.reset(); });
  }

  rpc::RpcResult<Json::Value> call(const char* method, Json::Value params) {
    rpc::RpcResult<Json::Value> result = Json::Value();
    bench.on(*bench.app, [&] {
      const rpc::Method* found = table_.find(method);
      auto decoded = rpc::MethodTable::decode(*found, params);
      if (!decoded) {
        result = std::unexpected(decoded.error());
      } else {
        result = found->sync(*decoded);
      }
    });
    return result;
  }
  static Json::Value nqn(const char* name) {
    Json::Value params(Json::objectValue);
    params["nqn"] = name;
    return params;
  }

  ControllerBench bench;

 private:
  std::vector<ServerGroup*> groups_;
  rpc::MethodTable table_;
  std::unique_ptr<Target> target_;
};

TEST_F(ControllersRpcTest, ShowsControllersAndTheirQueues) {
  const auto pair = bench.connect_io();
  auto controllers = call("nvmf_subsystem_get_controllers", nqn(test_nqn));
  ASSERT_TRUE(controllers.has_value());
  ASSERT_EQ(controllers->size(), 1U);
  const Json::Value& controller = (*controllers)[0];
  EXPECT_EQ(controller["cntlid"].asUInt(), pair.cntlid);
  EXPECT_EQ(controller["cntrltype"].asString(), "io");
  EXPECT_EQ(controller["hostnqn"].asString(), test_host);
  EXPECT_EQ(controller["hostid"].asString(), "07070707-0707-0707-0707-070707070707");
  EXPECT_EQ(controller["num_io_qpairs"].asUInt(), 1U);

  auto queues = call("nvmf_subsystem_get_qpairs", nqn(test_nqn));
  ASSERT_TRUE(queues.has_value());
  ASSERT_EQ(queues->size(), 2U);
  EXPECT_EQ((*queues)[0]["qid"].asUInt(), 0U);
  const Json::Value& io = (*queues)[1];
  EXPECT_EQ(io["qid"].asUInt(), 1U);
  EXPECT_EQ(io["state"].asString(), "enabled");
  EXPECT_EQ(io["thread"].asString(), bench.thread->name());
  EXPECT_EQ(io["hostnqn"].asString(), test_host);
  EXPECT_EQ(io["listen_address"]["trtype"].asString(), "TCP");
  EXPECT_EQ(io["listen_address"]["traddr"].asString(), "127.0.0.1");
  EXPECT_EQ(io["listen_address"]["trsvcid"].asString(), "4420");
  EXPECT_EQ(io["peer_address"]["trsvcid"].asString(), "50000");

  bench.property_set(*pair.admin, nvme::Property::cc, cc_disable);
  EXPECT_EQ((*call("nvmf_subsystem_get_qpairs", nqn(test_nqn)))[1]["state"].asString(), "deactivating");
}

TEST_F(ControllersRpcTest, NamesASubsystemThatIsNotThere) {
  for (const char* method : {"nvmf_subsystem_get_controllers", "nvmf_subsystem_get_qpairs"}) {
    auto refused = call(method, nqn("nqn.2026-11.io.catnap:none"));
    ASSERT_FALSE(refused.has_value());
    EXPECT_NE(refused.error().message.find("nqn.2026-11.io.catnap:none"), std::string::npos) << refused.error().message;
    EXPECT_EQ(call(method, Json::Value(Json::objectValue)).error().code, rpc::invalid_params);
  }
}

TEST_F(ControllersRpcTest, CountsPerPollGroup) {
  const auto pair = bench.connect_io();
  bench.run(*pair.io, io_sqe(nvme::IoOpcode::read, 0, 8));
  bench.disk->hold = true;
  bench.run(*pair.io, io_sqe(nvme::IoOpcode::read, 0, 8));
  auto stats = call("nvmf_get_stats", Json::Value(Json::objectValue));
  ASSERT_TRUE(stats.has_value());
  EXPECT_EQ((*stats)["tick_rate"].asUInt64(), 1'000'000'000U);
  const Json::Value& group = (*stats)["poll_groups"][0];
  EXPECT_EQ(group["name"].asString(), bench.thread->name());
  EXPECT_EQ(group["admin_qpairs"].asUInt(), 1U);
  EXPECT_EQ(group["io_qpairs"].asUInt(), 1U);
  EXPECT_EQ(group["current_admin_qpairs"].asUInt(), 1U);
  EXPECT_EQ(group["current_io_qpairs"].asUInt(), 1U);
  EXPECT_EQ(group["completed_nvme_io"].asUInt(), 1U);
  EXPECT_EQ(group["pending_bdev_io"].asUInt(), 1U);
  EXPECT_TRUE(group["transports"].isArray());
  bench.on(*bench.thread, [&] { bench.disk->release(); });
}

}  // namespace
}  // namespace catnap::server
