// The bdev methods called as the RPC server calls them: decoded parameters in, result or error out.
#include <gtest/gtest.h>

#include <memory>
#include <optional>

#include "tests/unit/bdev/rpc_fixture.h"

namespace catnap::bdev {
namespace {

std::string make_file(std::size_t size_bytes) {
  std::string path = testing::TempDir() + "/catnap_rpc_XXXXXX";
  const int fd = mkstemp(path.data());
  EXPECT_EQ(ftruncate(fd, static_cast<off_t>(size_bytes)), 0);
  close(fd);
  return path;
}

TEST_F(RpcTest, ABdevIsMadeShownCountedAndRemoved) {
  const auto answers = run({{"bdev_malloc_create", R"({"block_size": 512, "num_blocks": 2048, "name": "M9"})"},
                            {"bdev_get_bdevs", R"({"name": "M9"})"},
                            {"bdev_get_iostat", R"({"name": "M9"})"},
                            {"bdev_get_iostat", R"({"names": ["M9"], "per_channel": true})"},
                            {"bdev_malloc_delete", R"({"name": "M9"})"},
                            {"bdev_get_bdevs", "{}"}});
  ASSERT_TRUE(answers[0].has_value());
  EXPECT_EQ(answers[0]->asString(), "M9");
  const Json::Value& bdev = (*answers[1])[0];
  EXPECT_EQ(bdev["num_blocks"].asUInt64(), 2048u);
  EXPECT_EQ(bdev["product_name"].asString(), "Malloc disk");
  EXPECT_EQ(bdev["aliases"][0], bdev["uuid"]);
  EXPECT_FALSE(bdev["claimed"].asBool());
  EXPECT_TRUE(bdev["supported_io_types"]["unmap"].asBool());
  for (const char* key : {"block_size", "assigned_rate_limits", "zoned", "driver_specific", "memory_domains"}) EXPECT_TRUE(bdev.isMember(key)) << key;
  const Json::Value& counters = (*answers[2])["bdevs"][0];
  for (const char* key : {"bytes_read", "num_read_ops", "bytes_written", "num_write_ops", "bytes_unmapped", "num_unmap_ops", "read_latency_ticks",
                          "max_read_latency_ticks", "min_read_latency_ticks", "write_latency_ticks", "unmap_latency_ticks", "copy_latency_ticks"}) {
    EXPECT_TRUE(counters.isMember(key)) << key;
  }
  EXPECT_EQ((*answers[2])["tick_rate"].asUInt64(), 1'000'000'000u);
  EXPECT_EQ((*answers[3])["name"].asString(), "M9");
  EXPECT_TRUE((*answers[3])["channels"].isArray());
  EXPECT_EQ(answers[4]->asBool(), true);
  EXPECT_EQ(answers[5]->size(), 0u);
}

TEST_F(RpcTest, FileBdevsAreMadeRescannedAndShownInTheConfiguration) {
  const std::string path = make_file(1 << 20);
  const std::string params = R"({"name": "F1", "block_size": 4096, "filename": ")" + path + "\"}";
  for (const std::string module : {"aio", "uring"}) {
    ASSERT_EQ(truncate(path.c_str(), 1 << 20), 0);
    auto answers = run({{"bdev_" + module + "_create", params}, {"bdev_get_bdevs", R"({"name": "F1"})"}, {"config", ""}});
    if (!answers[0] && (answers[0].error().code == -EPERM || answers[0].error().code == -ENOSYS)) continue;  // io_uring is not allowed here
    ASSERT_TRUE(answers[0].has_value()) << answers[0].error().message;
    EXPECT_EQ((*answers[1])[0]["driver_specific"][module]["filename"].asString(), path);
    const Json::Value call = (*answers[2])[0];
    EXPECT_EQ(call["method"].asString(), "bdev_" + module + "_create");
    // What the configuration says makes the same bdev again.
    answers = run({{call["method"].asString(), call["params"].toStyledString()},
                   {"config", ""},
                   {"bdev_" + module + "_rescan", R"({"name": "F1"})"},
                   {"bdev_" + module + "_delete", R"({"name": "F1"})"},
                   {"bdev_" + module + "_delete", R"({"name": "F1"})"}});
    ASSERT_TRUE(answers[0].has_value()) << answers[0].error().message;
    EXPECT_EQ((*answers[1])[0], call);
    EXPECT_TRUE(answers[2].has_value());
    EXPECT_TRUE(answers[3].has_value());
    EXPECT_EQ(answers[4].error().code, -ENODEV);
  }
  unlink(path.c_str());
}

TEST_F(RpcTest, RescanTakesTheNewSize) {
  const std::string path = make_file(1 << 20);
  std::vector<Call> calls{{"bdev_aio_create", R"({"name": "F1", "block_size": 4096, "filename": ")" + path + "\"}"}};
  calls.emplace_back("bdev_get_bdevs", "{}");
  const auto first = run(calls);
  EXPECT_EQ((*first[1])[0]["num_blocks"].asUInt64(), 256u);
  // The file grows while nobody looks, between creation and rescan: the config provider is a convenient place to do so.
  rpc::ConfigRegistry& config = config_;
  config = {};
  config.add("bdev", [&path] {
    EXPECT_EQ(truncate(path.c_str(), 2 << 20), 0);
    return Json::Value(Json::arrayValue);
  });
  calls.emplace_back("config", "");
  calls.emplace_back("bdev_aio_rescan", R"({"name": "F1"})");
  calls.emplace_back("bdev_get_bdevs", "{}");
  ASSERT_EQ(truncate(path.c_str(), 1 << 20), 0);
  const auto second = run(calls);
  EXPECT_EQ((*second[1])[0]["num_blocks"].asUInt64(), 256u);
  EXPECT_EQ((*second[4])[0]["num_blocks"].asUInt64(), 512u);
  unlink(path.c_str());
}

struct WrongCall {
  WrongCall(Json::String wrong_method, Json::String wrong_params, int wrong_code, Json::String wrong_word)
      : method(std::move(wrong_method)), params(std::move(wrong_params)), code(wrong_code), word(std::move(wrong_word)) {}
  std::string method;
  std::string params;
  int code;
  std::string word;
};

TEST_F(RpcTest, WrongCallsHaveTheirCodeNameTheValueAndChangeNothing) {
  const std::vector<WrongCall> wrong{
      {"bdev_malloc_create", R"({"block_size": 512})", -32602, "num_blocks"},
      {"bdev_malloc_create", R"({"block_size": 512, "num_blocks": 8, "color": 1})", -32602, "color"},
      {"bdev_malloc_create", R"({"block_size": "x", "num_blocks": 8})", -32602, "block_size"},
      {"bdev_malloc_create", R"({"block_size": 500, "num_blocks": 8})", -EINVAL, "block_size 500"},
      {"bdev_malloc_create", R"({"block_size": 512, "num_blocks": 0})", -EINVAL, "num_blocks 0"},
      {"bdev_malloc_create", R"({"block_size": 512, "num_blocks": 18446744073709551615})", -EINVAL, "18446744073709551615"},
      {"bdev_malloc_create", R"({"block_size": 512, "num_blocks": 8, "md_size": 8})", -ENOTSUP, "md_size 8"},
      {"bdev_malloc_create", R"({"block_size": 512, "num_blocks": 8, "uuid": "zz"})", -EINVAL, "zz"},
      {"bdev_malloc_create", R"({"block_size": 512, "num_blocks": 8, "name": "N1"})", -EEXIST, "N1"},
      {"bdev_malloc_create", R"({"block_size": 512, "num_blocks": 8, "name": ""})", -EINVAL, "name"},
      {"bdev_malloc_delete", R"({"name": "nope"})", -ENODEV, "No such device"},
      {"bdev_malloc_delete", R"({"name": "N1"})", -ENODEV, "N1"},  // another module's
      {"bdev_null_create", R"({"name": "N1", "block_size": 512, "num_blocks": 8})", -EEXIST, "File exists"},
      {"bdev_null_resize", R"({"name": "nope", "new_size": 1})", -ENODEV, "nope"},
      {"bdev_null_resize", R"({"name": "N1", "new_size": 0})", -32602, "new_size"},
      {"bdev_null_resize", R"({"name": "N1", "new_size": 18446744073709551615})", -EINVAL, "new_size"},
      {"bdev_aio_create", R"({"name": "A1", "filename": "/not/there"})", -ENOENT, "No such file or directory"},
      {"bdev_aio_create", R"({"name": "N1", "filename": "/not/there"})", -EEXIST, "N1"},
      {"bdev_aio_create", R"({"name": "A1", "filename": "/dev/null"})", -EINVAL, "/dev/null"},
      {"bdev_aio_rescan", R"({"name": "N1"})", -ENODEV, "N1"},
      {"bdev_uring_create", R"({"name": "U1", "filename": "/not/there"})", -ENOENT, "/not/there"},
      {"bdev_uring_delete", R"({"name": "nope"})", -ENODEV, "nope"},
      {"bdev_uring_rescan", R"({"name": "nope"})", -ENODEV, "nope"},
      {"bdev_get_bdevs", R"({"name": "nope"})", -ENODEV, "No such device"},
      {"bdev_get_bdevs", R"({"name": "nope", "timeout": 1})", -ENODEV, "nope"},
      {"bdev_get_iostat", R"({"name": "nope"})", -ENODEV, "nope"},
      {"bdev_get_iostat", R"({"per_channel": true})", -EINVAL, "per_channel"},
      {"bdev_get_iostat", R"({"reset_mode": "sometimes"})", -32602, "sometimes"},
      {"bdev_reset_iostat", R"({"name": "nope"})", -ENODEV, "nope"},
  };
  std::vector<Call> calls{{"bdev_null_create", R"({"name": "N1", "block_size": 512, "num_blocks": 2048})"}, {"config", ""}};
  for (const auto& call : wrong) calls.emplace_back(call.method, call.params);
  calls.emplace_back("config", "");
  const auto answers = run(calls);
  ASSERT_TRUE(answers[0].has_value());
  for (std::size_t i = 0; i < wrong.size(); ++i) {
    const Answer& answer = answers[i + 2];
    ASSERT_FALSE(answer.has_value()) << wrong[i].method << wrong[i].params;
    if (wrong[i].method == "bdev_uring_create" && (answer.error().code == -EPERM || answer.error().code == -ENOSYS)) continue;
    EXPECT_EQ(answer.error().code, wrong[i].code) << wrong[i].method << wrong[i].params << answer.error().message;
    EXPECT_NE(answer.error().message.find(wrong[i].word), std::string::npos) << wrong[i].method << wrong[i].params << ": " << answer.error().message;
  }
  EXPECT_EQ(*answers.back(), *answers[1]);
}

TEST_F(RpcTest, DefaultNamesCountOn) {
  const auto answers =
      run({{"bdev_malloc_create", R"({"block_size": 512, "num_blocks": 8})"}, {"bdev_malloc_create", R"({"block_size": 512, "num_blocks": 8})"}});
  EXPECT_EQ(answers[0]->asString().rfind("Malloc", 0), 0u);
  EXPECT_NE(answers[0]->asString(), answers[1]->asString());
}

}  // namespace
}  // namespace catnap::bdev
