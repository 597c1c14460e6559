// Configuration files: form, order and phases of the calls, and what a failing one says.
// Owner: the test's thread.
#include "server/config_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/foreign_options_rpc.h"
#include "tests/unit/reactor/by_hand.h"

namespace catnap::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(ConfigFileForm, EntriesBatchesNullsAndComments) {
  const auto file = ConfigFile::parse("f", R"({ // made by hand
    "subsystems": [
      {"subsystem": "keyring", "config": null}, {"subsystem": "empty"},
      {"subsystem": "nvmf", "config": [{"method": "a"}, [{"method": "b", "params": {"x": "// no /* comment"}}, {"method": "c", "params": null}]]}
    ] /* the end */ })");
  ASSERT_TRUE(file.has_value()) << file.error().message;
  ASSERT_EQ(file->calls().size(), 3U);
  EXPECT_EQ(file->calls()[0].method, "a");
  EXPECT_EQ(file->calls()[1].params["x"].asString(), "// no /* comment");
  EXPECT_EQ(file->calls()[2].subsystem, "nvmf");
}

TEST(ConfigFileForm, WrongOnesNameFileAndPlace) {
  const std::pair<const char*, const char*> table[] = {
      {"", "etc.json"},
      {"{", "etc.json"},
      {"[]", "\"subsystems\""},
      {R"({"subsystems": 1})", "\"subsystems\""},
      {R"({"subsystems": [1]})", "\"subsystem\""},
      {R"({"subsystems": [{"subsystem": "bdev", "config": 5}]})", "subsystem 'bdev'"},
      {R"({"subsystems": [{"subsystem": "bdev", "config": [{}]}]})", "\"method\""},
      {R"({"subsystems": [{"subsystem": "bdev", "config": [{"method": 5}]}]})", "\"method\""},
      {R"({"subsystems": [{"subsystem": "bdev", "config": [{"method": "m", "params": [1]}]}]})", "method 'm'"},
      {R"({"subsystems": [], "subsystems": []})", "subsystems"},
  };
  for (const auto& [text, what] : table) {
    const auto file = ConfigFile::parse("etc.json", text);
    ASSERT_FALSE(file.has_value()) << text;
    EXPECT_EQ(file.error().err, EINVAL) << text;
    EXPECT_THAT(file.error().message, HasSubstr("etc.json")) << text;
    EXPECT_THAT(file.error().message, HasSubstr(what)) << text;
  }
}

TEST(ConfigFileForm, AMissingFileIsNamed) {
  const auto file = ConfigFile::read("/nonexistent/catnap.json");
  ASSERT_FALSE(file.has_value());
  EXPECT_EQ(file.error().err, ENOENT);
  EXPECT_THAT(file.error().message, HasSubstr("/nonexistent/catnap.json"));
}

TEST(ConfigFileForm, TheDemoIsOne) { EXPECT_EQ(ConfigFile::demo().calls().size(), 5U); }

class Replay : public testing::Test {
 protected:
  Replay() : lifecycle([]() -> Task<Result<void>> { return nothing(); }), dispatcher(methods, lifecycle) {
    for (const char* name : {"one", "two"}) {
      methods.add(rpc::Method(name, "").mutates().handler([this, name](const rpc::Params&) -> rpc::RpcResult<Json::Value> {
        called.emplace_back(name);
        return Json::Value(true);
      }));
    }
    methods.add(rpc::Method("early", "").in_phase(rpc::Phase::startup_only).handler([this](const rpc::Params&) -> rpc::RpcResult<Json::Value> {
      called.emplace_back("early");
      return Json::Value(true);
    }));
    methods.add(rpc::Method("bad", "").handler(
        [](const rpc::Params&) -> rpc::RpcResult<Json::Value> { return std::unexpected(rpc::RpcError(-EEXIST, "it is there already")); }));
  }
  static Task<Result<void>> nothing() { co_return Result<void>(); }

  Result<void> replay(const char* calls, ConfigFile::Which which, bool ignore_errors = false) {
    file.emplace(*ConfigFile::parse("etc.json", std::string(R"({"subsystems": [{"subsystem": "nvmf", "config": [)") + calls + "]}]}"));
    std::optional<Result<void>> outcome;
    hand.on_thread([&] { spawn<Result<void>>(file->replay(&dispatcher, which, ignore_errors), [&](Result<void> result) { outcome = result; }); });
    EXPECT_TRUE(outcome.has_value());
    return *outcome;
  }

  ByHand hand;
  rpc::MethodTable methods;
  rpc::Lifecycle lifecycle;
  rpc::Dispatcher dispatcher;
  std::optional<ConfigFile> file;
  std::vector<std::string> called;
};

constexpr const char* mixed = R"({"method": "one"}, {"method": "early"}, {"method": "two"})";

TEST_F(Replay, StartupCallsComeFirstOthersInOrder) {
  EXPECT_TRUE(replay(mixed, ConfigFile::Which::startup).has_value());
  EXPECT_THAT(called, ElementsAre("early"));
  EXPECT_TRUE(replay(mixed, ConfigFile::Which::runtime).has_value());
  EXPECT_THAT(called, ElementsAre("early", "one", "two"));
}

TEST_F(Replay, AFailingCallStopsItAndSaysWhere) {
  const auto outcome = replay(R"({"method": "one"}, {"method": "bad"}, {"method": "two"})", ConfigFile::Which::runtime);
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().err, EEXIST);
  for (const char* part : {"etc.json", "'nvmf'", "bad", "it is there already"}) EXPECT_THAT(outcome.error().message, HasSubstr(part));
  EXPECT_THAT(called, ElementsAre("one"));
}

TEST_F(Replay, UnknownMethodsAndParametersFail) {
  EXPECT_FALSE(replay(R"({"method": "nope"})", ConfigFile::Which::runtime).has_value());
  const auto outcome = replay(R"({"method": "one", "params": {"surplus": 1}})", ConfigFile::Which::runtime);
  ASSERT_FALSE(outcome.has_value());
  EXPECT_THAT(outcome.error().message, HasSubstr("surplus"));
}

TEST_F(Replay, OptionsOfSpdkWithoutMeaningAreAccepted) {
  register_foreign_options(methods);
  EXPECT_TRUE(replay(R"({"method": "accel_set_options", "params": {"task_count": 8192}}, {"method": "vmd_enable", "params": {}}, {"method": "two"})",
                     ConfigFile::Which::runtime)
                  .has_value());
  EXPECT_THAT(called, ElementsAre("two"));
}

TEST_F(Replay, ErrorsMayBeIgnored) {
  EXPECT_TRUE(replay(R"({"method": "bad"}, {"method": "two"})", ConfigFile::Which::runtime, true).has_value());
  EXPECT_THAT(called, ElementsAre("two"));
}

}  // namespace
}  // namespace catnap::server
