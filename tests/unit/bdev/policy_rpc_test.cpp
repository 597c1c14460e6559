// Methods about all bdevs that set or show more than what there is: limits, time-outs, statistics, examination, buffers, notifications.
#include <unistd.h>

#include "tests/unit/bdev/rpc_fixture.h"

namespace catnap::bdev {
namespace {

constexpr const char* make_null = R"({"name": "N1", "block_size": 512, "num_blocks": 2048})";

TEST_F(RpcTest, RateLimitsAreShownSavedAndChangedOneByOne) {
  auto answers = run({{"bdev_null_create", make_null},
                      {"bdev_set_qos_limit", R"({"name": "N1", "rw_ios_per_sec": 7, "w_mbytes_per_sec": 1})"},
                      {"bdev_set_qos_limit", R"({"name": "N1", "w_mbytes_per_sec": 0, "r_mbytes_per_sec": 3})"},
                      {"bdev_get_bdevs", R"({"name": "N1"})"},
                      {"config", ""}});
  ASSERT_TRUE(answers[2].has_value()) << answers[2].error().message;
  const Json::Value& limits = (*answers[3])[0]["assigned_rate_limits"];
  EXPECT_EQ(limits["rw_ios_per_sec"].asUInt64(), 7u);
  EXPECT_EQ(limits["rw_mbytes_per_sec"].asUInt64(), 0u);
  EXPECT_EQ(limits["r_mbytes_per_sec"].asUInt64(), 3u);
  EXPECT_EQ(limits["w_mbytes_per_sec"].asUInt64(), 0u);
  // What the configuration says brings it about again.
  const Json::Value config = *answers[4];
  ASSERT_EQ(config.size(), 2u);
  std::vector<Call> again;
  for (const Json::Value& call : config) again.emplace_back(call["method"].asString(), call["params"].toStyledString());
  again.emplace_back("config", "");
  answers = run(again);
  EXPECT_EQ(*answers.back(), config);
}

TEST_F(RpcTest, TimeOutsAndDepthAreShownAndSaved) {
  const auto answers = run({{"bdev_null_create", make_null},
                            {"bdev_set_timeout", R"({"name": "N1", "timeout_us": 5000})"},
                            {"bdev_set_qd_sampling_period", R"({"name": "N1", "period": 100})"},
                            {"bdev_get_timeouts", "{}"},
                            {"bdev_get_iostat", R"({"name": "N1"})"},
                            {"config", ""},
                            {"bdev_set_qd_sampling_period", R"({"name": "N1", "period": 0})"},
                            {"bdev_get_iostat", R"({"name": "N1", "reset_mode": "maxmin"})"}});
  EXPECT_EQ((*answers[3])[0]["timeout_us"].asUInt64(), 5000u);
  EXPECT_EQ((*answers[3])[0]["timed_out_ios"].asUInt64(), 0u);
  const Json::Value& counters = (*answers[4])["bdevs"][0];
  EXPECT_EQ(counters["queue_depth_polling_period"].asUInt64(), 100u);
  for (const char* key : {"queue_depth", "io_time", "weighted_io_time", "bytes_copied", "num_copy_ops"}) EXPECT_TRUE(counters.isMember(key)) << key;
  ASSERT_EQ(answers[5]->size(), 3u);
  EXPECT_EQ((*answers[5])[1]["method"].asString(), "bdev_set_timeout");
  EXPECT_EQ((*answers[5])[2]["method"].asString(), "bdev_set_qd_sampling_period");
  EXPECT_FALSE((*answers[7])["bdevs"][0].isMember("queue_depth"));
}

TEST_F(RpcTest, HistogramsHaveSpdksFormat) {
  const auto answers =
      run({{"bdev_null_create", make_null},
           {"bdev_get_histogram", R"({"name": "N1"})"},
           {"bdev_enable_histogram", R"({"name": "N1", "enable": true, "opc": "read", "granularity": 2, "min_nsec": 0, "max_nsec": 16})"},
           {"bdev_get_histogram", R"({"name": "N1"})"},
           {"bdev_get_histogram_borders", R"({"name": "N1", "borders": [1, 10, 100]})"},
           {"bdev_enable_histogram", R"({"name": "N1", "enable": false})"},
           {"bdev_get_histogram", R"({"name": "N1"})"}});
  EXPECT_EQ(answers[1].error().code, -EFAULT);
  const Json::Value& histogram = *answers[3];
  EXPECT_EQ(histogram["granularity"].asUInt(), 2u);
  EXPECT_EQ(histogram["min_range"].asUInt(), 0u);
  EXPECT_EQ(histogram["max_range"].asUInt(), 2u);
  // 3 ranges of 4 buckets of 8 bytes: 96 bytes are 128 digits.
  EXPECT_EQ(histogram["histogram"].asString(), std::string(128, 'A'));
  EXPECT_EQ(histogram["tsc_rate"].asUInt64(), 1'000'000'000u);
  EXPECT_EQ((*answers[4])["counts"].size(), 4u);
  EXPECT_EQ(answers[6].error().code, -EFAULT);
}

TEST_F(RpcTest, ExaminationIsWaitedForAndOptionsAreKept) {
  static int examined = 0;
  Registry::instance().add_examiner("test", [](const std::shared_ptr<Bdev>&, std::move_only_function<void()> done) {
    ++examined;
    Thread::current()->send(std::move(done));
  });
  auto answers =
      run({{"bdev_null_create", make_null}, {"bdev_wait_for_examine", "{}"}, {"bdev_examine", R"({"name": "N1"})"}, {"bdev_wait_for_examine", "{}"}});
  EXPECT_TRUE(answers[3].has_value());
  EXPECT_EQ(examined, 2);
  answers = run({{"bdev_set_options", R"({"bdev_auto_examine": false})"},
                 {"bdev_null_create", R"({"name": "N2", "block_size": 512, "num_blocks": 2048})"},
                 {"bdev_wait_for_examine", "{}"},
                 {"bdev_examine", R"({"name": "N1"})"},
                 {"config", ""},
                 {"bdev_null_create", make_null},
                 {"bdev_wait_for_examine", "{}"},
                 {"bdev_set_options", R"({"bdev_auto_examine": true})"}});
  EXPECT_EQ(examined, 3);
  EXPECT_EQ((*answers[4])[0]["method"].asString(), "bdev_set_options");
  EXPECT_EQ((*answers[4])[1]["params"]["name"].asString(), "N1");
}

TEST_F(RpcTest, NotificationsTellWhatCameWentAndGrewAndCanBeWaitedFor) {
  const auto answers = run({{"bdev_null_create", make_null},
                            {"notify_get_types", "{}"},
                            {"notify_get_notifications", "{}"},
                            {"bdev_null_resize", R"({"name": "N1", "new_size": 64})"},
                            {"bdev_null_delete", R"({"name": "N1"})"},
                            {"notify_get_notifications", "{}"},
                            {"notify_get_notifications", R"({"id": 1000000, "wait_ms": 1})"},
                            {"notify_get_notifications", R"({"max": 1})"}});
  EXPECT_EQ(answers[1]->size(), 3u);
  const Json::Value& all = *answers[5];
  ASSERT_GE(all.size(), 3u);
  const Json::ArrayIndex last = all.size() - 1;
  EXPECT_EQ(all[last - 2]["type"].asString(), "bdev_register");
  EXPECT_EQ(all[last - 1]["type"].asString(), "bdev_resize");
  EXPECT_EQ(all[last]["type"].asString(), "bdev_unregister");
  EXPECT_EQ(all[last]["ctx"].asString(), "N1");
  EXPECT_EQ(all[last]["id"].asUInt64(), all[last - 1]["id"].asUInt64() + 1);
  EXPECT_EQ(all[last]["time"].asString().size(), std::string("2026-11-22T12:34:56.789Z").size());
  EXPECT_EQ(answers[6]->size(), 0u);
  EXPECT_EQ(answers[7]->size(), 1u);
}

TEST_F(RpcTest, ALongPollAnswersAsSoonAsSomethingHappens) {
  RuntimeOptions options;
  options.mode = ReactorMode::interrupt;
  const auto runtime = std::move(*Runtime::start(options));
  Answer answer = std::unexpected(rpc::RpcError(-1, "not yet"));
  runtime->run([&] {
    auto& notifications = rpc::Notifications::instance();
    notifications.add("bdev_register", "filler");
    const std::uint64_t next = notifications.since(0, rpc::Notifications::max_kept).back().id + 1;
    auto params = rpc::MethodTable::decode(*table_.find("notify_get_notifications"),
                                           parse_json(R"({"id": )" + std::to_string(next) + R"(, "wait_ms": 3600000})"));
    spawn<Answer>(table_.find("notify_get_notifications")->task(*params), [&](Answer got) {
      answer = std::move(got);
      Runtime::instance()->request_stop();
    });
    EXPECT_FALSE(answer.has_value());
    notifications.add("bdev_register", "new");
  });
  ASSERT_TRUE(answer.has_value());
  ASSERT_EQ(answer->size(), 1u);
  EXPECT_EQ((*answer)[0]["ctx"].asString(), "new");
}

TEST_F(RpcTest, BuffersAreShownAndBounded) {
  const auto answers = run({{"iobuf_set_options", R"({"small_pool_count": 0, "large_pool_count": 4096, "large_bufsize": 65536})"},
                            {"iobuf_get_stats", "{}"},
                            {"iobuf_set_options", R"({"small_pool_count": 0, "large_pool_count": 1})"}});
  ASSERT_TRUE(answers[0].has_value()) << answers[0].error().message;
  ASSERT_TRUE(answers[1].has_value()) << answers[1].error().message;
  ASSERT_GE(answers[1]->size(), 1u);
  for (const char* key : {"module", "small_pool", "large_pool", "held_bytes", "cap_bytes"}) EXPECT_TRUE((*answers[1])[0].isMember(key)) << key;
  EXPECT_EQ(answers[2].error().code, -EINVAL);
}

TEST_F(RpcTest, WrongPoliciesHaveTheirCodeAndNameTheValue) {
  struct Wrong {
    Wrong(std::string wrong_method, std::string wrong_params, int wrong_code, std::string wrong_word)
        : method(std::move(wrong_method)), params(std::move(wrong_params)), code(wrong_code), word(std::move(wrong_word)) {}
    std::string method;
    std::string params;
    int code;
    std::string word;
  };
  const std::vector<Wrong> wrong{
      {"bdev_set_qos_limit", R"({"name": "nope", "rw_ios_per_sec": 1})", -ENODEV, "nope"},
      {"bdev_set_qos_limit", R"({"name": "N1"})", -EINVAL, "rw_ios_per_sec"},
      {"bdev_set_qos_limit", R"({"name": "N1", "rw_ios_per_sec": -1})", -32602, "rw_ios_per_sec"},
      {"bdev_set_timeout", R"({"name": "nope", "timeout_us": 1})", -ENODEV, "nope"},
      {"bdev_set_timeout", R"({"name": "N1"})", -32602, "timeout_us"},
      {"bdev_get_timeouts", R"({"name": "nope"})", -ENODEV, "nope"},
      {"bdev_set_qd_sampling_period", R"({"name": "nope", "period": 1})", -ENODEV, "nope"},
      {"bdev_enable_histogram", R"({"name": "nope", "enable": true})", -ENODEV, "nope"},
      {"bdev_enable_histogram", R"({"name": "N1", "enable": true, "opc": "juggle"})", -EINVAL, "juggle"},
      {"bdev_enable_histogram", R"({"name": "N1", "enable": true, "granularity": 12})", -32602, "granularity"},
      {"bdev_enable_histogram", R"({"name": "N1", "enable": true, "min_nsec": 5, "max_nsec": 5})", -EINVAL, "max_nsec 5"},
      {"bdev_get_histogram_borders", R"({"name": "N1", "borders": [3, 2]})", -32602, "borders[1]"},
      {"bdev_get_histogram_borders", R"({"name": "N1", "borders": []})", -32602, "borders"},
      {"bdev_get_histogram_borders", R"({"name": "N1", "borders": "x"})", -32602, "borders"},
      {"bdev_examine", R"({"name": "nope"})", -ENODEV, "nope"},
      {"notify_get_notifications", R"({"wait_ms": 999999999999})", -32602, "wait_ms"},
      {"bdev_malloc_create", R"({"block_size": 512, "num_blocks": 8, "numa_id": 1000})", -EINVAL, "numa_id 1000"},
  };
  std::vector<Call> calls{{"bdev_null_create", make_null}, {"config", ""}};
  for (const auto& call : wrong) calls.emplace_back(call.method, call.params);
  calls.emplace_back("config", "");
  const auto answers = run(calls);
  for (std::size_t i = 0; i < wrong.size(); ++i) {
    const Answer& answer = answers[i + 2];
    ASSERT_FALSE(answer.has_value()) << wrong[i].method << wrong[i].params;
    EXPECT_EQ(answer.error().code, wrong[i].code) << wrong[i].method << wrong[i].params << answer.error().message;
    EXPECT_NE(answer.error().message.find(wrong[i].word), std::string::npos) << wrong[i].method << ": " << answer.error().message;
  }
  EXPECT_EQ(*answers.back(), *answers[1]);
}

TEST_F(RpcTest, AMallocBdevOfANodeSaysSoAgain) {
  const auto answers = run({{"bdev_malloc_create", R"({"block_size": 512, "num_blocks": 8, "name": "M0", "numa_id": 0})"}, {"config", ""}});
  if (access("/sys/devices/system/node/node0", F_OK) != 0) {
    EXPECT_EQ(answers[0].error().code, -EINVAL);
    return;
  }
  ASSERT_TRUE(answers[0].has_value()) << answers[0].error().message;
  EXPECT_EQ((*answers[1])[0]["params"]["numa_id"].asUInt(), 0u);
}

}  // namespace
}  // namespace catnap::bdev
