// Calls of the state file that wait (server/pending_calls.h), on a virtual clock: when they are tried again and when nothing wakes up, in which
// order, and which calls take them back. Owner: the test's thread turns app_thread by hand.
#include "server/pending_calls.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "rpc/json.h"
#include "tests/unit/reactor/by_hand.h"

namespace catnap::server {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcResult;
using testing::ElementsAre;
using testing::IsEmpty;

Task<Result<void>> initialised_at_once() { co_return Result<void>(); }

ConfigCall call_of(const std::string& method, const std::string& params) {
  ConfigCall call;
  call.subsystem = "bdev";
  call.method = method;
  call.params = *rpc::parse_json(params);
  return call;
}

// "thing_create" needs its name in `there`; "bdev_thing_delete" takes it back; "bad_create" is refused for good until `repaired`.
class PendingTest : public testing::Test {
 protected:
  PendingTest() : lifecycle(initialised_at_once), dispatcher(methods, lifecycle) {
    const auto create = [this](const Params& params) -> RpcResult<Json::Value> {
      const std::string name = params.string("name");
      tried.push_back(name);
      if (made.contains(name)) return std::unexpected<rpc::RpcError>(std::in_place, -EEXIST, name + " is there");
      if (!there.contains(name)) return std::unexpected<rpc::RpcError>(std::in_place, -ENODEV, name + " is not there");
      made.insert(name);
      return Json::Value(true);
    };
    const auto refuse = [this](const Params& params) -> RpcResult<Json::Value> {
      tried.push_back(params.string("name"));
      if (!repaired) return std::unexpected<rpc::RpcError>(std::in_place, -EINVAL, "bad");
      return Json::Value(true);
    };
    const std::vector<Param> named = {Param("name", ParamType::string, "").required()};
    app.on_thread([&] {
      methods.add(Method("bdev_thing_create", "").with(std::vector<Param>(named)).in_phase(rpc::Phase::always).mutates().handler(create));
      methods.add(Method("bdev_bad_create", "").with(std::vector<Param>(named)).in_phase(rpc::Phase::always).mutates().handler(refuse));
      methods.add(Method("bdev_thing_delete", "").with(std::vector<Param>(named)).in_phase(rpc::Phase::always).mutates().handler(create));
      pending.emplace(*app.thread, dispatcher, [this] { return in_force(); });
      pending->when_picked_up([this] { ++picked_up; });
    });
  }
  ~PendingTest() override {
    app.on_thread([&] { pending.reset(); });
  }

  Json::Value in_force() const {
    Json::Value config = *rpc::parse_json(R"({"subsystems": [{"subsystem": "bdev", "config": []}]})");
    for (const auto& name : made) {
      Json::Value call(Json::objectValue);
      call["method"] = "bdev_thing_create";
      call["params"]["name"] = name;
      config["subsystems"][0]["config"].append(call);
    }
    return config;
  }
  void replay(std::vector<ConfigCall> calls) {
    app.on_thread([&] {
      pending->add(calls);
      spawn(pending->replay(ConfigFile::Which::runtime));
    });
  }
  std::vector<std::string> waiting() {
    std::vector<std::string> names;
    for (const Json::Value& each : pending->shown()) names.push_back(each["params"]["name"].asString());
    return names;
  }
  bool sleeps() const { return app.thread->nearest_deadline_ns() == TimerHeap::never_ns; }

  mutable ByHand app;
  rpc::MethodTable methods;
  rpc::Lifecycle lifecycle;
  rpc::Dispatcher dispatcher;
  std::set<std::string> there, made;
  std::vector<std::string> tried;
  bool repaired = false;
  int picked_up = 0;
  std::optional<PendingCalls> pending;
};

TEST_F(PendingTest, NothingWakesUpWhenAllIsThere) {
  there = {"A", "B"};
  replay({call_of("bdev_thing_create", R"({"name": "A"})"), call_of("bdev_thing_create", R"({"name": "B"})")});
  EXPECT_THAT(tried, ElementsAre("A", "B"));
  EXPECT_TRUE(pending->empty());
  EXPECT_TRUE(sleeps());
}

TEST_F(PendingTest, WhatAppearsIsPickedUpWithinTwoSeconds) {
  there = {"A"};
  replay({call_of("bdev_thing_create", R"({"name": "A"})"), call_of("bdev_thing_create", R"({"name": "B"})")});
  EXPECT_THAT(waiting(), ElementsAre("B"));
  app.advance_us(10 * PendingCalls::retry_us);
  EXPECT_THAT(waiting(), ElementsAre("B"));
  there.insert("B");
  app.advance_us(2'000'000);
  EXPECT_THAT(waiting(), IsEmpty());
  EXPECT_TRUE(made.contains("B"));
  EXPECT_EQ(picked_up, 1);
  EXPECT_TRUE(sleeps()) << "nothing is pending";
}

TEST_F(PendingTest, WhatIsRefusedIsShownAndNotTriedAgainUntilSomethingChanges) {
  replay({call_of("bdev_bad_create", R"({"name": "X"})"), call_of("no_such_method", "{}")});
  EXPECT_EQ(pending->shown().size(), 2u);
  EXPECT_EQ(pending->shown()[0]["code"].asInt(), -EINVAL);
  EXPECT_EQ(pending->shown()[1]["code"].asInt(), rpc::method_not_found);
  tried.clear();
  EXPECT_TRUE(sleeps());
  repaired = true;
  app.on_thread([&] { pending->look_again(); });
  app.advance_us(2'000'000);
  EXPECT_THAT(tried, ElementsAre("X"));
  EXPECT_EQ(pending->shown().size(), 1u) << "the unknown method stays";
  EXPECT_TRUE(sleeps());
}

TEST_F(PendingTest, WhatIsThereAlreadyIsNotPendingUnlessItIsSomethingElse) {
  there = made = {"A"};
  replay({call_of("bdev_thing_create", R"({"name": "A"})"), call_of("bdev_thing_create", R"({"name": "A", "uuid": "another"})")});
  ASSERT_EQ(pending->shown().size(), 1u);
  EXPECT_EQ(pending->shown()[0]["params"]["uuid"].asString(), "another");
}

TEST_F(PendingTest, StaysPartOfTheState) {
  replay({call_of("bdev_thing_create", R"({"name": "B"})")});
  ASSERT_EQ(pending->waiting().size(), 1u);
  EXPECT_EQ(pending->waiting()[0].second["params"]["name"].asString(), "B");
}

TEST_F(PendingTest, DeletingTakesItBack) {
  replay({call_of("bdev_thing_create", R"({"name": "A"})"), call_of("bdev_thing_create", R"({"name": "B"})")});
  Json::Value params(Json::objectValue);
  params["name"] = "A";
  app.on_thread([&] { EXPECT_TRUE(pending->take_back(*methods.find("bdev_thing_delete"), Params(params), true)); });
  EXPECT_THAT(waiting(), ElementsAre("B"));
  app.on_thread([&] { EXPECT_FALSE(pending->take_back(*methods.find("bdev_thing_delete"), Params(params), true)); });
  there = {"A", "B"};
  app.advance_us(2'000'000);
  EXPECT_THAT(made, ElementsAre("B"));
}

Task<RpcResult<Json::Value>> wait_for(Promise<bool> gate) {
  const bool open = co_await gate;
  co_return Json::Value(open);
}

TEST_F(PendingTest, ATryThatWaitsInLineIsNotMadeOnceTakenBack) {
  std::optional<Promise<bool>> gate;
  app.on_thread([&] {
    gate.emplace();
    methods.add(Method("slow", "").in_phase(rpc::Phase::always).mutates().coroutine([&gate](const Params&) { return wait_for(*gate); }));
  });
  replay({call_of("bdev_thing_create", R"({"name": "A"})")});
  there = {"A"};
  app.on_thread([&] { dispatcher.submit("slow", Json::Value(), [](const RpcResult<Json::Value>&) {}); });
  app.advance_us(2'000'000);  // the try is in line behind "slow"
  Json::Value params(Json::objectValue);
  params["name"] = "A";
  app.on_thread([&] { pending->take_back(*methods.find("bdev_thing_delete"), Params(params), true); });
  app.on_thread([&] { gate->set(true); });
  EXPECT_THAT(made, IsEmpty());
}

// --- what has gone by itself ---

Json::Value lost_call(const std::string& method, const std::string& params) {
  Json::Value call(Json::objectValue);
  call["method"] = method;
  call["params"] = *rpc::parse_json(params);
  return call;
}

TEST_F(PendingTest, WhatHasGoneByItselfWaitsAndComesBack) {
  app.on_thread([&] {
    pending->add_lost("bdev", lost_call("bdev_thing_create", R"({"name": "A"})"));
    pending->add_lost("bdev", lost_call("bdev_thing_create", R"({"name": "A"})"));
  });
  EXPECT_THAT(waiting(), ElementsAre("A")) << "once";
  EXPECT_EQ(pending->shown()[0]["code"].asInt(), -ENODEV);
  EXPECT_TRUE(pending->shown()[0]["retried"].asBool());
  app.advance_us(5 * PendingCalls::retry_us);
  EXPECT_THAT(waiting(), ElementsAre("A"));
  there = {"A"};
  app.advance_us(2'000'000);
  EXPECT_THAT(made, ElementsAre("A"));
  EXPECT_THAT(waiting(), IsEmpty());
  EXPECT_TRUE(sleeps());
}

TEST_F(PendingTest, WhatIsAnotherThingNowIsNotTried) {
  bool another = true;
  there = {"A"};
  app.on_thread([&] {
    pending->add_lost("bdev", lost_call("bdev_thing_create", R"({"name": "A"})"), [&another]() -> std::optional<rpc::RpcError> {
      if (another) return rpc::RpcError(-ENODEV, "another");
      return std::nullopt;
    });
  });
  app.advance_us(5 * PendingCalls::retry_us);
  EXPECT_THAT(tried, IsEmpty());
  EXPECT_EQ(pending->shown()[0]["message"].asString(), "another");
  another = false;
  app.advance_us(2'000'000);
  EXPECT_THAT(made, ElementsAre("A"));
}

TEST_F(PendingTest, WhatAClientMakesTakesThePlaceOfWhatWaits) {
  methods.add(Method("thing_set", "")
                  .with({Param("name", ParamType::string, ""), Param("port", ParamType::string, "")})
                  .mutates()
                  .supersedes_waiting({"thing_set"}, {{"name", "name"}, {"?port", "port"}})
                  .handler([](const Params&) { return Json::Value(true); }));
  const auto lose = [&] {
    app.on_thread([&] {
      for (const char* port : {"1", "2"}) {
        pending->add_lost("bdev", lost_call("thing_set", fmt::format(R"({{"name": "A", "port": "{}"}})", port)),
                          [] { return rpc::RpcError(-ENODEV, ""); });
      }
    });
  };
  const auto take_back = [&](const char* params, bool made_it) {
    bool any = false;
    app.on_thread([&] { any = pending->take_back(*methods.find("thing_set"), Params(*rpc::parse_json(params)), made_it); });
    return any;
  };
  lose();
  EXPECT_FALSE(take_back(R"({"name": "A", "port": "1"})", false)) << "it has failed";
  EXPECT_FALSE(take_back(R"({"name": "B"})", true));
  EXPECT_TRUE(take_back(R"({"name": "A", "port": "1"})", true));
  EXPECT_EQ(waiting().size(), 1u);
  EXPECT_TRUE(take_back(R"({"name": "A"})", true)) << "whatever its port";
  EXPECT_EQ(waiting().size(), 0u);
}

TEST_F(PendingTest, WhatStandsOnItIsTakenBackWithIt) {
  methods.add(Method("thing_use", "")
                  .with({Param("thing", ParamType::string, ""), Param("number", ParamType::integer, "")})
                  .mutates()
                  .waits_with({"thing_tune*"}, {{"number", "number"}})
                  .handler([](const Params&) { return Json::Value(true); }));
  methods.add(Method("thing_forget", "")
                  .with({Param("thing", ParamType::string, "")})
                  .mutates()
                  .takes_back_waiting({"thing_use"}, {{"thing", "thing"}})
                  .handler([](const Params&) { return Json::Value(true); }));
  replay({call_of("bdev_thing_create", R"({"name": "A"})")});
  app.on_thread([&] {
    const auto unfit = [] { return rpc::RpcError(-ENODEV, ""); };
    pending->add_lost("bdev", lost_call("thing_use", R"({"thing": "T", "number": 7})"), unfit);
    pending->add_lost("bdev", lost_call("thing_tune_up", R"({"number": 7})"), unfit);
    pending->add_lost("bdev", lost_call("thing_tune_up", R"({"number": 8})"), unfit);
    EXPECT_TRUE(pending->take_back(*methods.find("thing_forget"), Params(*rpc::parse_json(R"({"thing": "T"})")), true));
  });
  ASSERT_EQ(pending->shown().size(), 2u);
  EXPECT_EQ(pending->shown()[1]["method"].asString(), "thing_tune_up");
  EXPECT_EQ(pending->waiting()[1].second["params"]["number"].asInt(), 8);
}

TEST_F(PendingTest, ANamespaceThatWaitsHasItsNumber) {
  app.on_thread([&] {
    pending->add_lost("nvmf", lost_call("nvmf_subsystem_add_ns", R"({"nqn": "N", "namespace": {"bdev_name": "B", "nsid": 5}})"));
    EXPECT_TRUE(pending->awaits_namespace("N", 5));
    EXPECT_FALSE(pending->awaits_namespace("N", 6));
    EXPECT_FALSE(pending->awaits_namespace("M", 5));
  });
}

}  // namespace
}  // namespace catnap::server
