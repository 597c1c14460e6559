// Who may call what: roles, --rpcs-allowed, and what observers are told of each call.
// Owner: the test's thread; app_thread is turned by hand.
#include "rpc/caller.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rpc/dispatcher.h"
#include "rpc/exchange.h"
#include "rpc/introspection_rpc.h"
#include "rpc/json.h"
#include "tests/unit/reactor/by_hand.h"

namespace catnap::rpc {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Task<Result<void>> initialised_at_once() { co_return Result<void>(); }

// One line per call.
class Diary final : public CallObserver {
 public:
  void answered(const CallRecord& record) override {
    lines.push_back(printable(record.name) +
                    (record.method == nullptr ? " unknown"
                     : record.acts            ? " acts " + json_to_text(record.params)
                                              : " reads") +
                    " by " + record.caller.text() + ": " + std::to_string(record.outcome ? 0 : record.outcome.error().code));
  }
  std::vector<std::string> lines;
};

class CallerTest : public testing::Test {
 protected:
  CallerTest() : lifecycle(initialised_at_once), dispatcher(methods, lifecycle) {
    const SyncHandler done = [](const Params&) -> RpcResult<Json::Value> { return Json::Value(true); };
    methods.add(Method("disk_create", "changes")
                    .with({Param("key", ParamType::string, "a secret").secret(), Param("size", ParamType::integer, "a size")})
                    .in_phase(Phase::always)
                    .mutates()
                    .alias("construct_disk")
                    .handler(done));
    methods.add(Method("disk_reset", "acts").in_phase(Phase::always).acts().handler(done));
    methods.add(Method("disk_get", "reads")
                    .with({Param("reset_mode", ParamType::string, "acts").one_of({"none", "all"}).or_default("none").acts(),
                           Param("name", ParamType::string, "does not")})
                    .in_phase(Phase::always)
                    .handler(done));
    register_introspection_methods(methods, lifecycle);
    auto operator_of_http = std::make_shared<Caller>(CallerKind::http);
    operator_of_http->role = Role::read_only;
    operator_of_http->user = "guest";
    operator_of_http->address = "127.0.0.1:9";
    reader = operator_of_http;
    auto of_socket = std::make_shared<Caller>(CallerKind::unix_socket);
    of_socket->uid = 7;
    of_socket->gid = 8;
    of_socket->pid = 9;
    local = of_socket;
  }
  RpcResult<Json::Value> call(const CallerPtr& caller, const std::string& method, const std::string& params = "{}") {
    RpcResult<Json::Value> got = std::unexpected<RpcError>(std::in_place, 1, "no answer");
    app.on_thread(
        [&] { dispatcher.submit_from(caller, method, *parse_json(params), [&](RpcResult<Json::Value> outcome) { got = std::move(outcome); }); });
    app.settle();
    return got;
  }
  int code(const CallerPtr& caller, const std::string& method, const std::string& params = "{}") {
    const auto got = call(caller, method, params);
    return got ? 0 : got.error().code;
  }

  ByHand app;
  MethodTable methods;
  Lifecycle lifecycle;
  Dispatcher dispatcher;
  CallerPtr reader, local;
};

TEST_F(CallerTest, ReadOnlyMayCallWhatOnlyAnswers) {
  EXPECT_EQ(code(reader, "disk_get"), 0);
  EXPECT_EQ(code(reader, "disk_get", R"({"name": "a"})"), 0);
  EXPECT_EQ(code(reader, "disk_get", R"({"reset_mode": "none"})"), 0);
  EXPECT_EQ(code(reader, "disk_get", R"({"reset_mode": "all"})"), -EACCES);
  EXPECT_EQ(code(reader, "disk_reset"), -EACCES);
  EXPECT_EQ(code(reader, "disk_create"), -EACCES);
  EXPECT_EQ(code(reader, "construct_disk"), -EACCES);
  EXPECT_EQ(code(reader, "spdk_kill_instance", R"({"sig_name": "SIGTERM"})"), -EACCES);
  EXPECT_EQ(code(reader, "nobody_has_it"), method_not_found);
  EXPECT_THAT(call(reader, "disk_reset").error().message, HasSubstr("disk_reset"));
  for (const char* method : {"disk_get", "disk_reset", "disk_create"}) EXPECT_EQ(code(local, method), 0) << method;
}

TEST_F(CallerTest, OnlyWhatIsListedMayBeCalledExceptByConfigurationFiles) {
  EXPECT_THAT(methods.allow_only({"construct_disk", "rpc_get_*", "bdev_lvol_create", "none_such*"}), ElementsAre("bdev_lvol_create", "none_such*"));
  EXPECT_EQ(code(local, "disk_create"), 0) << "an alias allows the method";
  EXPECT_EQ(code(local, "disk_get"), -EACCES);
  EXPECT_THAT(call(local, "disk_get").error().message, HasSubstr("--rpcs-allowed does not list disk_get"));
  EXPECT_EQ(code(Caller::process(), "disk_get"), -EACCES);
  EXPECT_EQ(code(Caller::config_file(), "disk_get"), 0);
  EXPECT_EQ(code(reader, "disk_create"), -EACCES) << "the role still counts";
  const auto names = call(local, "rpc_get_methods");
  ASSERT_TRUE(names);
  EXPECT_EQ(json_to_text(*names), R"(["disk_create","rpc_get_methods","rpc_get_schema"])");
}

TEST_F(CallerTest, ObserversAreToldOfEachCallWithoutSecrets) {
  Diary diary;
  dispatcher.observe(diary);
  static_cast<void>(call(local, "disk_create", R"({"key": "hunter2", "size": 5})"));
  static_cast<void>(call(local, "disk_create", R"({"size": "five"})"));
  static_cast<void>(call(reader, "disk_reset"));
  static_cast<void>(call(reader, "disk_get", R"({"name": "a"})"));
  static_cast<void>(call(local, "disk_get", R"({"reset_mode": "all"})"));
  static_cast<void>(call(Caller::config_file(), "no\nsuch"));
  EXPECT_THAT(diary.lines,
              ElementsAre(R"(disk_create acts {"key":"secret","size":5} by uid 7 gid 8 pid 9 (unix): 0)",
                          R"(disk_create acts {"size":"five"} by uid 7 gid 8 pid 9 (unix): -32602)",
                          R"(disk_reset acts {} by 'guest' at 127.0.0.1:9 (http): -13)", "disk_get reads by 'guest' at 127.0.0.1:9 (http): 0",
                          R"(disk_get acts {"reset_mode":"all"} by uid 7 gid 8 pid 9 (unix): 0)", "no?such unknown by config-file: -32601"));
}

TEST_F(CallerTest, AMessageOfAnyTransportBecomesOneReply) {
  const auto reply = [this](const std::string& text) {
    std::string got = "none";
    app.on_thread([&] { answer(dispatcher, read_message(text, 3), reader, [&](std::string sent) { got = std::move(sent); }); });
    app.settle();
    return got;
  };
  EXPECT_EQ(reply(R"({"method": "disk_get", "id": 1})"), R"({"jsonrpc":"2.0","id":1,"result":true})"
                                                         "\n");
  EXPECT_EQ(reply(R"({"method": "disk_get"})"), "") << "a notification";
  EXPECT_EQ(reply(R"([{"method": "disk_get"}])"), "");
  EXPECT_EQ(reply(R"([{"method": "disk_get", "id": 1}, {"method": "disk_get"}, {"method": "disk_get", "id": "b"}])"),
            R"([{"jsonrpc":"2.0","id":1,"result":true},{"jsonrpc":"2.0","id":"b","result":true}])"
            "\n");
  EXPECT_THAT(reply(R"({"method": "disk_create", "id": 1})"), HasSubstr(R"("code":-13)"));
  EXPECT_THAT(reply("{"), HasSubstr("-32700"));
  EXPECT_THAT(reply("[]"), HasSubstr("-32600"));
  EXPECT_THAT(reply("[1,2,3,4]"), HasSubstr("-32600")) << "longer than allowed here";
}

}  // namespace
}  // namespace catnap::rpc
