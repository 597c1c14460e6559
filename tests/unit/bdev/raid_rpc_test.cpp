// The bdev_raid methods called as the RPC server calls them: parameters (older spellings too), answers, errors that name field and value,
// notifications, the configuration.
#include "bdev/raid/raid_rpc.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "bdev/raid/raid_arrays.h"
#include "tests/unit/bdev/rpc_fixture.h"

namespace catnap::bdev {
namespace {

class RaidRpcTest : public RpcTest {
 protected:
  RaidRpcTest() {
    register_bdev_raid_methods(table_);
    register_bdev_raid_config(config_);
    register_bdev_raid_notifications();
  }
  ~RaidRpcTest() override {
    RaidArray::set_listener(nullptr);
    raid_settings() = RaidSettings();
  }
  static Call malloc_bdev(const std::string& name, int blocks = 64, int block_size = 512) {
    return Call("bdev_malloc_create",
                R"({"name":")" + name + R"(","num_blocks":)" + std::to_string(blocks) + R"(,"block_size":)" + std::to_string(block_size) + "}");
  }
  static Call get_all() { return Call("bdev_raid_get_bdevs", R"({"category":"all"})"); }
  static Call remove() { return Call("bdev_raid_delete", R"({"name":"R"})"); }
};

TEST_F(RaidRpcTest, CreateShowDelete) {
  const auto answers = run({malloc_bdev("A"),
                            malloc_bdev("B"),
                            {"bdev_raid_create", R"({"name":"R","raid_level":"0","strip_size_kb":4,"base_bdevs":["A","B"],"io_unmap_limit":7})"},
                            {"bdev_raid_get_bdevs", R"({"category":"online"})"},
                            {"bdev_raid_get_bdevs", R"({"category":"configuring"})"},
                            {"bdev_get_bdevs", R"({"name":"R"})"},
                            {"bdev_raid_create", R"({"name":"R","raid_level":"concat","strip_size_kb":4,"base_bdevs":["C"]})"},
                            remove(),
                            get_all(),
                            remove(),
                            {"notify_get_notifications", R"({"id":0})"}});
  ASSERT_EQ(answers.size(), 11u);
  ASSERT_TRUE(answers[2].has_value()) << answers[2].error().message;
  EXPECT_EQ(*answers[2], Json::Value(true));  // as SPDK answers
  ASSERT_EQ(answers[3]->size(), 1u);
  const Json::Value& array = (*answers[3])[0];
  EXPECT_EQ(array["name"], "R");
  EXPECT_EQ(array["raid_level"], "raid0");
  EXPECT_EQ(array["state"], "online");
  EXPECT_EQ(array["num_base_bdevs_operational"], 2);
  EXPECT_TRUE(answers[4]->empty());
  EXPECT_EQ((*answers[5])[0]["product_name"], "Raid Volume");
  EXPECT_EQ((*answers[5])[0]["driver_specific"]["raid"], array);
  EXPECT_EQ((*answers[5])[0]["num_blocks"].asUInt64(), 128u);
  EXPECT_EQ(answers[6].error().code, -EEXIST);
  EXPECT_TRUE(answers[7].has_value());
  EXPECT_TRUE(answers[8]->empty());
  EXPECT_EQ(answers[9].error().code, -ENODEV);
  EXPECT_EQ(answers[9].error().message, "raid bdev R not found");
  int changes = 0;
  for (const Json::Value& event : *answers[10]) changes += event["type"] == "bdev_raid_state" && event["ctx"] == "R" ? 1 : 0;
  EXPECT_GE(changes, 2);
}

TEST_F(RaidRpcTest, ErrorsNameFieldAndValue) {
  const auto refused = [this](const std::string& params) {
    const auto answers = run({malloc_bdev("A"), malloc_bdev("B", 64, 4096), {"bdev_raid_create", params}, get_all()});
    EXPECT_FALSE(answers[2].has_value()) << params;
    EXPECT_TRUE(answers[3]->empty()) << params;
    return answers[2].has_value() ? std::string() : answers[2].error().message;
  };
  EXPECT_NE(refused(R"({"name":"R","raid_level":"raid0","strip_size_kb":4,"base_bdevs":["A","B"]})").find("'B' has blocks of 4096"),
            std::string::npos);
  EXPECT_NE(refused(R"({"name":"R","raid_level":"raid0","strip_size_kb":5,"base_bdevs":["A"]})").find("strip_size_kb 5"), std::string::npos);
  EXPECT_NE(refused(R"({"name":"R","raid_level":"raid0","base_bdevs":["A"]})").find("strip_size_kb 0"), std::string::npos);
  EXPECT_NE(refused(R"({"name":"R","raid_level":"raid1","strip_size_kb":4,"base_bdevs":["A"]})").find("strip_size_kb 4"), std::string::npos);
  EXPECT_NE(refused(R"({"name":"R","raid_level":"5f","strip_size_kb":4,"base_bdevs":["A"]})").find("5f"), std::string::npos);
  EXPECT_NE(refused(R"({"name":"R","raid_level":"raid7","strip_size_kb":4,"base_bdevs":["A"]})").find("raid7"), std::string::npos);
  EXPECT_NE(refused(R"({"name":"R","raid_level":"raid0","strip_size_kb":4,"base_bdevs":[]})").find("base_bdevs"), std::string::npos);
  EXPECT_NE(refused(R"({"name":"R","raid_level":"raid0","strip_size_kb":4,"base_bdevs":["A"],"uuid":"x"})").find("uuid 'x'"), std::string::npos);
  EXPECT_NE(refused(R"({"name":"R","raid_level":"raid1","base_bdevs":["A"],"superblock":true,"bitmap_file":"f"})").find("bitmap_file"),
            std::string::npos);
}

TEST_F(RaidRpcTest, MembersByCall) {
  const auto answers = run({malloc_bdev("A"),
                            {"bdev_raid_create", R"({"name":"R","raid_level":"concat","strip_size_kb":4,"base_bdevs":["A","B"]})"},
                            {"bdev_raid_get_bdevs", R"({"category":"configuring"})"},
                            {"bdev_raid_remove_base_bdev", R"({"name":"B"})"},
                            malloc_bdev("C"),
                            {"bdev_raid_add_base_bdev", R"({"raid_bdev":"R","base_bdev":"C"})"},
                            {"bdev_raid_add_base_bdev", R"({"raid_bdev":"R","base_bdev":"C"})"},
                            {"bdev_raid_remove_base_bdev", R"({"raid_bdev":"R","base_bdev":"C"})"},  // a fork's spelling
                            {"bdev_raid_remove_base_bdev", R"({"name":"nope"})"},
                            {"bdev_raid_add_base_bdev", R"({"raid_bdev":"nope","base_bdev":"C"})"},
                            {"bdev_raid_add_base_bdev", R"({"raid_bdev":"R","base_bdev":"nope"})"},
                            {"bdev_raid_grow_base_bdev", R"({"raid_name":"R","base_name":"C"})"},
                            {"bdev_raid_get_bitmap", R"({"name":"R"})"},
                            {"bdev_raid_start_scrub", R"({"name":"R"})"},
                            {"bdev_raid_start", R"({"name":"R"})"},
                            get_all(),
                            remove()});
  ASSERT_EQ(answers.size(), 17u);
  EXPECT_EQ((*answers[2])[0]["waits_for"], "base bdev 'B'");
  EXPECT_TRUE(answers[3].has_value());
  EXPECT_TRUE(answers[5].has_value()) << answers[5].error().message;
  EXPECT_EQ(answers[6].error().code, -EEXIST);
  EXPECT_EQ(answers[7].error().code, -EBUSY);
  EXPECT_EQ(answers[8].error().code, -ENODEV);
  EXPECT_EQ(answers[9].error().code, -ENODEV);
  EXPECT_EQ(answers[10].error().code, -ENODEV);
  EXPECT_TRUE(answers[11].has_value());
  EXPECT_EQ(answers[12].error().code, -ENOTSUP);
  EXPECT_EQ(answers[13].error().code, -ENOTSUP);
  EXPECT_EQ(answers[14].error().code, -EEXIST);
  EXPECT_EQ((*answers[15])[0]["base_bdevs_list"][1]["name"], "C");
}

// What the configuration says makes the same arrays, whatever the order of the calls.
TEST_F(RaidRpcTest, ConfigurationSavedAndLoaded) {
  auto answers = run({malloc_bdev("A"),
                      malloc_bdev("B"),
                      {"bdev_raid_set_options", R"({"process_window_size_kb":512,"process_max_bandwidth_mb_sec":30})"},
                      {"bdev_raid_create",
                       R"({"name":"R","raid_level":"0","strip_size_kb":8,"base_bdevs":["A","B"],"uuid":"11111111-2222-4333-8444-555555555555"})"},
                      {"bdev_raid_create", R"({"name":"W","raid_level":"concat","strip_size_kb":8,"base_bdevs":["later"]})"},
                      {"config", ""},
                      get_all(),
                      remove(),
                      {"bdev_raid_delete", R"({"name":"W"})"}});
  const Json::Value config = *answers[5];
  const Json::Value arrays = *answers[6];
  std::vector<Call> calls;
  for (const Json::Value& call : config) calls.emplace_back(call["method"].asString(), call["params"].toStyledString());
  std::vector<std::string> methods;
  for (const Call& call : calls) methods.push_back(call.method);
  EXPECT_EQ(std::ranges::count(methods, "bdev_raid_create"), 2);
  EXPECT_EQ(std::ranges::count(methods, "bdev_raid_set_options"), 1);
  EXPECT_EQ(methods.back(), "bdev_wait_for_examine");
  raid_settings() = RaidSettings();
  std::ranges::reverse(calls);  // the arrays first
  const std::size_t count = calls.size();
  calls.emplace_back("bdev_wait_for_examine", "{}");
  calls.push_back(get_all());
  calls.push_back(remove());
  calls.emplace_back("bdev_raid_delete", R"({"name":"W"})");
  answers = run(calls);
  for (std::size_t i = 0; i < count; ++i) EXPECT_TRUE(answers[i].has_value()) << answers[i].error().message;
  EXPECT_EQ(raid_settings().process_window_size_kib, 512u);
  EXPECT_EQ(raid_settings().process_max_bandwidth_mib_sec, 30u);
  const Json::Value& again = *answers[count + 1];
  ASSERT_EQ(again.size(), 2u);
  EXPECT_EQ(again[1]["uuid"], arrays[0]["uuid"]);
  EXPECT_EQ(again[1]["state"], "online");
  EXPECT_EQ(again[0]["state"], "configuring");
}

}  // namespace
}  // namespace catnap::bdev
