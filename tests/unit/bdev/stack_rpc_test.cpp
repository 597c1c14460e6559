// Methods of the virtual bdevs called as the RPC server calls them: parameters, answers, errors that name field and value, the configuration.
#include "bdev/stack/stack_rpc.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "bdev/bdev_rpc.h"
#include "bdev/crypto/crypto_rpc.h"
#include "bdev/crypto/keys.h"
#include "bdev/delay/delay_rpc.h"
#include "bdev/error/error_rpc.h"
#include "bdev/malloc/malloc_rpc.h"
#include "bdev/passthru/passthru_rpc.h"
#include "bdev/rpc_common.h"
#include "bdev/split/split_rpc.h"
#include "reactor/runtime.h"
#include "reactor/task.h"

namespace catnap::bdev {
namespace {

using Answer = rpc::RpcResult<Json::Value>;

struct Call {
  Call(std::string call_method, std::string call_params) : method(std::move(call_method)), params(std::move(call_params)) {}
  std::string method;
  std::string params;
};

class StackRpcTest : public testing::Test {
 protected:
  StackRpcTest() {
    register_bdev_methods(table_);
    register_bdev_malloc_methods(table_);
    register_bdev_passthru_methods(table_);
    register_bdev_delay_methods(table_);
    register_bdev_error_methods(table_);
    register_bdev_split_methods(table_);
    register_bdev_crypto_methods(table_);
    register_crypto_key_config(config_);
    register_bdev_config(config_);
    register_virtual_bdev_config(config_);
  }

  // Calls one after another on app_thread, then gives the answers. "config" asks for a subsystem's calls.
  std::vector<Answer> run(std::vector<Call> calls) {
    RuntimeOptions options;
    options.mode = ReactorMode::interrupt;
    const auto runtime = std::move(*Runtime::start(options));
    calls_ = std::move(calls);
    answers_.clear();
    runtime->run([&] { next(); });
    return std::move(answers_);
  }

  void next() {
    if (answers_.size() == calls_.size()) return clean_up();
    const Call call = calls_[answers_.size()];
    if (call.method == "config") return answered(config_.config(call.params).value_or(Json::Value()));
    const rpc::Method* method = table_.find(call.method);
    ASSERT_NE(method, nullptr) << call.method;
    auto params = rpc::MethodTable::decode(*method, parse_json(call.params));
    if (!params) return answered(std::unexpected(params.error()));
    if (method->sync) return answered(method->sync(*params));
    spawn<Answer>(method->task(*params), [this](Answer answer) { answered(std::move(answer)); });
  }
  void answered(Answer answer) {
    answers_.push_back(std::move(answer));
    Thread::current()->send([this] { next(); });
  }
  void clean_up() {
    const auto left = Registry::instance().all();
    if (!left.empty()) {
      Registry::instance().remove(left.front()->name(), [this](Result<void>) { Thread::current()->send([this] { clean_up(); }); });
      return;
    }
    (void)CryptoKeys::instance().remove("k1");
    Runtime::instance()->request_stop();
  }

  rpc::MethodTable table_;
  rpc::ConfigRegistry config_;
  std::vector<Call> calls_;
  std::vector<Answer> answers_;
};

void expect_error(const Answer& answer, int code, const std::string& says) {
  ASSERT_FALSE(answer.has_value()) << says;
  EXPECT_EQ(answer.error().code, code) << answer.error().message;
  EXPECT_NE(answer.error().message.find(says), std::string::npos) << answer.error().message;
}

const Call malloc_call("bdev_malloc_create", R"({"name": "M0", "block_size": 512, "num_blocks": 16384})");

TEST_F(StackRpcTest, EachModuleIsMadeShownAndRemovedByItsName) {
  const auto answers = run({malloc_call,
                            {"bdev_passthru_create", R"({"name": "P0", "base_bdev_name": "M0"})"},
                            {"bdev_delay_create", R"({"name": "D0", "base_bdev_name": "P0", "avg_read_latency": 1, "p99_read_latency": 2,
                                                      "avg_write_latency": 3, "p99_write_latency": 4})"},
                            {"bdev_error_create", R"({"base_name": "D0"})"},
                            {"bdev_split_create", R"({"base_bdev": "EE_D0", "split_count": 2})"},
                            {"bdev_get_bdevs", "{}"},
                            {"bdev_split_delete", R"({"base_bdev": "EE_D0"})"},
                            {"bdev_error_delete", R"({"name": "EE_D0"})"},
                            {"bdev_delay_delete", R"({"name": "D0"})"},
                            {"bdev_passthru_delete", R"({"name": "P0"})"},
                            {"bdev_get_bdevs", "{}"}});
  for (const auto& answer : answers) ASSERT_TRUE(answer.has_value()) << answer.error().message;
  EXPECT_EQ(answers[1]->asString(), "P0");
  EXPECT_EQ(answers[3]->asBool(), true);
  ASSERT_EQ(answers[4]->size(), 2u);
  EXPECT_EQ((*answers[4])[1].asString(), "EE_D0p1");
  const Json::Value& all = *answers[5];
  ASSERT_EQ(all.size(), 6u);
  EXPECT_EQ(all[1]["driver_specific"]["passthru"]["base_bdev_name"].asString(), "M0");
  EXPECT_EQ(all[2]["driver_specific"]["delay"]["p99_write_latency"].asUInt(), 4u);
  EXPECT_EQ(all[3]["driver_specific"]["error_disk"]["base_bdev"].asString(), "D0");
  EXPECT_EQ(all[5]["driver_specific"]["split"]["offset_blocks"].asUInt(), 8192u);
  EXPECT_TRUE(all[0]["claimed"].asBool());
  EXPECT_EQ(answers[10]->size(), 1u);
}

TEST_F(StackRpcTest, WhatWaitsForItsBaseIsInTheConfigurationAndCanBeTakenBack) {
  const auto answers = run({{"bdev_passthru_create", R"({"name": "P0", "base_bdev_name": "M0"})"},
                            {"bdev_get_bdevs", R"({"name": "P0"})"},
                            {"config", "bdev"},
                            {"bdev_passthru_create", R"({"name": "P0", "base_bdev_name": "M1"})"},
                            malloc_call,
                            {"bdev_get_bdevs", R"({"name": "P0", "timeout": 5000})"},
                            {"config", "bdev"},
                            {"bdev_passthru_delete", R"({"name": "P0"})"},
                            {"bdev_passthru_create", R"({"name": "P1", "base_bdev_name": "nowhere"})"},
                            {"bdev_passthru_delete", R"({"name": "P1"})"},
                            {"config", "bdev"}});
  ASSERT_TRUE(answers[0].has_value());
  expect_error(answers[1], -ENODEV, "P0");
  ASSERT_EQ(answers[2]->size(), 2u);
  EXPECT_EQ((*answers[2])[0]["method"].asString(), "bdev_passthru_create");
  EXPECT_EQ((*answers[2])[1]["method"].asString(), "bdev_wait_for_examine");
  expect_error(answers[3], -EEXIST, "'P0'");
  ASSERT_TRUE(answers[5].has_value());
  EXPECT_EQ((*answers[6])[0]["method"].asString(), "bdev_malloc_create");
  EXPECT_EQ((*answers[6])[1]["params"]["base_bdev_name"].asString(), "M0");
  EXPECT_TRUE(answers[7].has_value() && answers[9].has_value());
  EXPECT_EQ(answers[10]->size(), 1u);
}

TEST_F(StackRpcTest, ErrorsNameTheFieldAndTheValue) {
  const auto answers =
      run({malloc_call,
           {"bdev_delay_create", R"({"name": "D0", "base_bdev_name": "M0", "avg_read_latency": 20, "p99_read_latency": 10, "avg_write_latency": 0,
                                 "p99_write_latency": 0})"},
           {"bdev_delay_update_latency", R"({"delay_bdev_name": "M0", "latency_type": "avg_read", "latency_us": 5})"},
           {"bdev_delay_update_latency", R"({"delay_bdev_name": "D9", "latency_type": "avg_read", "latency_us": 5})"},
           {"bdev_passthru_create", R"({"name": "P0", "base_bdev_name": "M0", "uuid": "nonsense"})"},
           {"bdev_passthru_delete", R"({"name": "M0"})"},
           {"bdev_split_create", R"({"base_bdev": "M0", "split_count": 9, "split_size_mb": 1})"},
           {"bdev_split_delete", R"({"base_bdev": "M0"})"},
           {"bdev_error_create", R"({"base_name": "M0"})"},
           {"bdev_error_inject_error", R"({"name": "EE_M0", "io_type": "flush", "error_type": "corrupt_data", "corrupt_value": 1})"},
           {"bdev_error_inject_error", R"({"name": "EE_M0", "io_type": "read", "error_type": "corrupt_data"})"},
           {"bdev_error_inject_error", R"({"name": "EE_M0", "io_type": "read", "error_type": "nvme_failure", "nvme_sct": 2, "nvme_sc": 1})"},
           {"bdev_error_inject_error", R"({"name": "EE_M0", "io_type": "read", "error_type": "failure", "nvme_sc": 1})"},
           {"bdev_error_inject_error", R"({"name": "EE_M0", "io_type": "read", "error_type": "failure", "offset_blocks": 1})"},
           {"bdev_error_inject_error", R"({"name": "M0", "io_type": "read", "error_type": "failure"})"},
           {"bdev_error_inject_error", R"({"name": "EE_M0", "io_type": "all", "error_type": "nvme_failure", "nvme_sct": 2, "nvme_sc": 129})"},
           {"bdev_error_resume_pending", R"({"name": "EE_M0"})"},
           {"bdev_error_delete", R"({"name": "EE_M0"})"}});
  expect_error(answers[1], -EINVAL, "p99_read_latency 10 is less than avg_read_latency 20");
  expect_error(answers[2], -ENODEV, "'M0' is a Malloc disk");
  expect_error(answers[3], -ENODEV, "'D9'");
  expect_error(answers[4], -EINVAL, "'nonsense'");
  expect_error(answers[5], -ENODEV, "'M0' is a Malloc disk");
  expect_error(answers[6], -EINVAL, "9 parts of split_size_mb 1");
  expect_error(answers[7], -ENODEV, "'M0'");
  expect_error(answers[9], -EINVAL, "io_type flush");
  expect_error(answers[10], -EINVAL, "corrupt_value 0");
  expect_error(answers[11], -EINVAL, "nvme_sct 2 with nvme_sc 0x01");
  expect_error(answers[12], -EINVAL, "not failure");
  expect_error(answers[13], -EINVAL, "offset_blocks");
  expect_error(answers[14], -ENODEV, "'M0' is a Malloc disk");
  for (const std::size_t fine : {0u, 8u, 15u, 16u, 17u}) EXPECT_TRUE(answers[fine].has_value()) << fine << " " << answers[fine].error().message;
}

TEST_F(StackRpcTest, LatenciesThatWereChangedAreSaved) {
  const auto answers = run({malloc_call,
                            {"bdev_delay_create", R"({"name": "D0", "base_bdev_name": "M0", "avg_read_latency": 1, "p99_read_latency": 2,
                                                      "avg_write_latency": 3, "p99_write_latency": 4})"},
                            {"bdev_delay_update_latency", R"({"delay_bdev_name": "D0", "latency_type": "avg_write", "latency_us": 77})"},
                            {"config", "bdev"},
                            {"bdev_delay_delete", R"({"name": "D0"})"}});
  const Json::Value& params = (*answers[3])[1]["params"];
  EXPECT_EQ(params["avg_write_latency"].asUInt(), 77u);
  EXPECT_EQ(params["p99_write_latency"].asUInt(), 77u);  // the call that is saved must be one that is taken
  EXPECT_EQ(params["avg_read_latency"].asUInt(), 1u);
}

const std::string half = "0123456789abcdef0123456789abcdef";
const std::string other_half = "fedcba9876543210fedcba9876543210";
const std::string key_params = R"({"name": "k1", "cipher": "AES_XTS", "key": ")" + half + R"(", "key2": ")" + other_half + R"("})";

TEST_F(StackRpcTest, KeysAreUsedButNeverShown) {
  const auto answers = run({malloc_call,
                            {"bdev_crypto_create", R"({"name": "C0", "base_bdev_name": "M0", "key_name": "k1"})"},
                            {"bdev_get_bdevs", R"({"name": "C0"})"},  // the key is not there yet
                            {"accel_crypto_key_create", key_params},
                            {"bdev_get_bdevs", R"({"name": "C0"})"},
                            {"accel_crypto_keys_get", "{}"},
                            {"accel_crypto_key_create", key_params},
                            {"accel_crypto_key_destroy", R"({"key_name": "k1"})"},
                            {"config", "accel"},
                            {"config", "bdev"},
                            {"bdev_crypto_delete", R"({"name": "C0"})"},
                            {"accel_crypto_key_destroy", R"({"key_name": "k1"})"},
                            {"accel_crypto_keys_get", R"({"key_name": "k1"})"}});
  ASSERT_TRUE(answers[1].has_value());
  expect_error(answers[2], -ENODEV, "C0");
  ASSERT_TRUE(answers[4].has_value()) << answers[4].error().message;
  EXPECT_EQ((*answers[4])[0]["driver_specific"]["crypto"]["key_name"].asString(), "k1");
  EXPECT_EQ((*answers[5])[0]["key_bits"].asUInt(), 128u);
  expect_error(answers[6], -EEXIST, "'k1'");
  expect_error(answers[7], -EBUSY, "'k1'");
  EXPECT_EQ(answers[8]->size(), 0u);
  EXPECT_EQ((*answers[9])[1]["params"]["key_name"].asString(), "k1");
  EXPECT_TRUE(answers[10].has_value() && answers[11].has_value());
  expect_error(answers[12], -ENOENT, "'k1'");
  for (const auto& answer : answers) {
    const std::string text = answer.has_value() ? answer->toStyledString() : answer.error().message;
    EXPECT_EQ(text.find(half.substr(0, 8)), std::string::npos) << text;
    EXPECT_EQ(text.find(other_half.substr(0, 8)), std::string::npos) << text;
  }
}

TEST_F(StackRpcTest, WrongKeysAreRefusedWithoutBeingShown) {
  const std::string secret = "00112233445566778899aabbccddeeff";
  const auto answers = run({{"accel_crypto_key_create", R"({"name": "k1", "cipher": "AES_CBC", "key": ")" + secret + R"("})"},
                            {"accel_crypto_key_create", R"({"name": "k1", "cipher": "AES_XTS", "key": ")" + secret + R"("})"},
                            {"accel_crypto_key_create", R"({"name": "k1", "cipher": "AES_XTS", "key": ["00112233445566"], "key2": "x"})"},
                            {"accel_crypto_key_create", R"({"name": "k1", "cipher": "AES_XTS", "key": "00112233445566", "key2": "x"})"},
                            {"accel_crypto_key_create", R"({"name": "k1", "cipher": "AES_XTS", "tweak_mode": "INCR_512_FULL_LBA", "key": "1"})"},
                            {"accel_crypto_key_create", R"({"name": "k1", "cipher": "AES_XTS", "key_file": "/nonexistent/key"})"},
                            {"accel_crypto_key_create", R"({"name": "k1", "cipher": "AES_XTS"})"},
                            {"bdev_crypto_create", R"({"name": "C0", "base_bdev_name": "M0", "key": ")" + secret + R"("})"},
                            {"bdev_crypto_create", R"({"name": "C0", "base_bdev_name": "M0"})"}});
  expect_error(answers[0], -ENOTSUP, "AES_CBC");
  expect_error(answers[1], -EINVAL, "key2 is missing");
  expect_error(answers[2], rpc::invalid_params, "'key' is secret");
  expect_error(answers[3], -EINVAL, "key has 14 digits");
  expect_error(answers[4], -ENOTSUP, "INCR_512_FULL_LBA");
  expect_error(answers[5], -ENOENT, "/nonexistent/key");
  expect_error(answers[6], -EINVAL, "key_file");
  expect_error(answers[7], -EINVAL, "key belongs to accel_crypto_key_create");
  expect_error(answers[8], -EINVAL, "key_name");
  for (const auto& answer : answers) EXPECT_EQ(answer.error().message.find("0011"), std::string::npos) << answer.error().message;
}

TEST(SecretParams, AreNotLogged) {
  rpc::MethodTable table;
  register_bdev_crypto_methods(table);
  const Json::Value shown = rpc::MethodTable::without_secrets(*table.find("accel_crypto_key_create"), parse_json(key_params));
  EXPECT_EQ(shown["key"].asString(), "secret");
  EXPECT_EQ(shown["key2"].asString(), "secret");
  EXPECT_EQ(shown["name"].asString(), "k1");
}

}  // namespace
}  // namespace catnap::bdev
