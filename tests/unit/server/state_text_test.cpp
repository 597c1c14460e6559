// What the state file has: which calls are kept and with which values, that the text is what a start reads, and that only what changed is written
// anew. Owner: the test's thread; app_thread is turned by hand.
#include "server/state_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rpc/json.h"
#include "server/config_file.h"
#include "server/pending_calls.h"
#include "tests/unit/reactor/by_hand.h"

namespace catnap::server {
namespace {

using rpc::ConfigRegistry;
using rpc::Method;
using rpc::Param;
using rpc::ParamType;

rpc::RpcResult<Json::Value> yes(const rpc::Params&) { return Json::Value(true); }
Task<Result<void>> initialised_at_once() { co_return Result<void>(); }

Json::Value json(const std::string& text) {
  auto parsed = rpc::parse_json(text);
  EXPECT_TRUE(parsed.has_value()) << text;
  return parsed ? *parsed : Json::Value();
}

// Subsystem "one" with calls in all forms, and "two" with what `two` says.
class StateTextTest : public testing::Test {
 protected:
  StateTextTest() : lifecycle(initialised_at_once), dispatcher(methods, lifecycle) {
    methods.add(Method("plain", "").with({Param("name", ParamType::string, "")}).mutates().handler(yes));
    methods.add(Method("volatile", "").mutates().not_kept().handler(yes));
    methods.add(Method("asked", "").with({rpc::persist_param()}).mutates().handler(yes));
    methods.add(Method("changed", "").with({Param("state", ParamType::string, "").kept_as("unknown")}).mutates().handler(yes));
    methods.add(Method("waits", "").handler(yes));
    registry.add_telling("one", [this](ConfigRegistry::Listener& listener) {
      for (const auto& object : objects) {
        listener.same_for(object, [&object] {
          Json::Value calls(Json::arrayValue);
          calls.append(json(*object));
          calls.append(json(R"({"method": "volatile"})"));
          return calls;
        });
      }
      for (const auto& each : texts) listener.text(each);
    });
    registry.add("two", [this] { return two; });
    app.on_thread([this] {
      pending = std::make_unique<PendingCalls>(*app.thread, dispatcher, [this] { return registry.all(); });
      text = std::make_unique<StateText>(methods, registry, *pending);
    });
  }
  ~StateTextTest() override {
    app.on_thread([this] { pending.reset(); });
  }
  std::string take() { return joined(text->take()); }
  // Subsystem and call, in order, as a start reads them.
  std::vector<std::string> read() {
    const auto file = ConfigFile::parse("state", take());
    EXPECT_TRUE(file.has_value()) << take();
    std::vector<std::string> calls;
    if (!file) return calls;
    for (const auto& call : file->calls()) calls.push_back(call.subsystem + ": " + call.method + " " + rpc::json_to_text(call.params));
    return calls;
  }

  ByHand app;
  rpc::MethodTable methods;
  rpc::Lifecycle lifecycle;
  rpc::Dispatcher dispatcher;
  ConfigRegistry registry;
  std::vector<std::shared_ptr<const std::string>> objects;
  std::vector<std::string> texts;
  Json::Value two{Json::arrayValue};
  std::unique_ptr<PendingCalls> pending;
  std::unique_ptr<StateText> text;
};

std::shared_ptr<const std::string> plain(const std::string& name) {
  return std::make_shared<const std::string>(R"({"method": "plain", "params": {"name": ")" + name + R"("}})");
}

TEST_F(StateTextTest, WithoutAnythingItIsAConfigurationTooAndOneOfNoSubsystems) {
  EXPECT_EQ(json(take()), json(R"({"subsystems": [{"subsystem": "one", "config": []}, {"subsystem": "two", "config": []}]})"));
  const ConfigRegistry none;
  StateText nothing(methods, none, *pending);
  EXPECT_EQ(json(joined(nothing.take())), json(R"({"subsystems": []})"));
}

TEST_F(StateTextTest, FollowsTheDeclarations) {
  two = json(R"([{"method": "plain", "params": {"name": "A\n"}}, {"method": "volatile", "params": {}}, {"method": "asked", "params": {}},
    {"method": "asked", "params": {"persist": true}}, {"method": "changed", "params": {"state": "good"}}, {"method": "changed", "params": {}},
    {"method": "waits"}, {"method": "of another version", "params": {"x": 1}}])");
  EXPECT_THAT(read(), testing::ElementsAre(R"(two: plain {"name":"A\n"})", R"(two: asked {"persist":true})", R"(two: changed {"state":"unknown"})",
                                           "two: changed {}", "two: waits null", R"(two: of another version {"x":1})"));
}

TEST_F(StateTextTest, EveryFormIsTheSameAsInASavedConfiguration) {
  objects = {plain("a"), plain("b")};
  texts = {*plain("c"), R"({"method": "volatile"})", *plain("c")};
  two.append(json(*plain("d")));
  EXPECT_THAT(read(), testing::ElementsAre(R"(one: plain {"name":"a"})", R"(one: plain {"name":"b"})", R"(one: plain {"name":"c"})",
                                           R"(one: plain {"name":"c"})", R"(two: plain {"name":"d"})"));
  EXPECT_EQ(registry.all()["subsystems"][0]["config"].size(), 7u) << "there also what is not kept";
}

TEST_F(StateTextTest, OnlyWhatChangedIsWrittenAnew) {
  for (int i = 0; i < 100; ++i) objects.push_back(plain("o" + std::to_string(i)));
  for (int i = 0; i < 100; ++i) texts.push_back(*plain("t" + std::to_string(i)));
  const std::string first = take();
  EXPECT_EQ(text->made(), 200u);
  EXPECT_EQ(take(), first);
  EXPECT_EQ(text->made(), 200u);
  objects[7] = plain("new");
  texts.erase(texts.begin() + 50);
  const std::string second = take();
  EXPECT_EQ(text->made(), 201u);
  EXPECT_NE(second.find("new"), std::string::npos);
  EXPECT_EQ(second.find("\"o7\""), std::string::npos);
  EXPECT_EQ(second.find("\"t50\""), std::string::npos);
  EXPECT_EQ(StateText(methods, registry, *pending).take().size(), text->take().size());
  EXPECT_EQ(joined(StateText(methods, registry, *pending).take()), take()) << "the same as written at once";
}

TEST_F(StateTextTest, WhatWaitsStandsBehindWhatIsInForce) {
  objects = {plain("a")};
  ConfigCall of_one, of_other;
  of_one.subsystem = "one";
  of_other.subsystem = "of another version";
  of_one.method = of_other.method = "nobody_has_it";
  app.on_thread([&] { pending->add({of_one, of_other, of_other}); });
  EXPECT_THAT(read(), testing::ElementsAre(R"(one: plain {"name":"a"})", "one: nobody_has_it null", "of another version: nobody_has_it null",
                                           "of another version: nobody_has_it null"));
}

}  // namespace
}  // namespace catnap::server
