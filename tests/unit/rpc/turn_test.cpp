// Calls that change state: one after another, and one that gives its turn up lets the next begin while it waits.
// Owner: the test's thread; app_thread is turned by hand.
#include "rpc/turn.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rpc/dispatcher.h"
#include "tests/unit/reactor/by_hand.h"

namespace catnap::rpc {
namespace {

using testing::ElementsAre;

Task<Result<void>> initialised_at_once() { co_return Result<void>(); }

Task<RpcResult<Json::Value>> wait_for(Promise<bool> gate, std::vector<std::string>* log, std::string name, bool give_up) {
  Turn turn = Turn::current();
  log->push_back("begin " + name);
  if (give_up) turn.give_up();
  const bool opened = co_await gate;
  static_cast<void>(opened);
  if (give_up) turn.give_up();  // a second time: harmless
  log->push_back("end " + name);
  co_return RpcResult<Json::Value>(Json::Value(name));
}

class TurnTest : public testing::Test {
 protected:
  TurnTest() : lifecycle(initialised_at_once), dispatcher(methods, lifecycle) {
    app.on_thread([this] {
      for (const char* name : {"patient", "generous"}) {
        auto gate = std::make_shared<Promise<bool>>();
        gates.push_back(gate);
        const bool give_up = std::string(name) == "generous";
        methods.add(Method(name, "waits").in_phase(Phase::always).mutates().coroutine([this, gate, give_up, name](Params) {
          return wait_for(*gate, &log, name, give_up);
        }));
      }
      methods.add(Method("quick", "does not").in_phase(Phase::always).mutates().handler([this](const Params&) -> RpcResult<Json::Value> {
        log.push_back("quick");
        return Json::Value(true);
      }));
    });
  }
  void call(const std::string& name) {
    app.on_thread([&] { dispatcher.submit(name, Json::Value(), [this, name](RpcResult<Json::Value>) { log.push_back("reply " + name); }); });
    app.settle();
  }
  void open(std::size_t gate) {
    app.on_thread([&] { gates[gate]->set(true); });
    app.settle();
  }

  ByHand app;
  MethodTable methods;
  Lifecycle lifecycle;
  Dispatcher dispatcher;
  std::vector<std::shared_ptr<Promise<bool>>> gates;
  std::vector<std::string> log;
};

TEST_F(TurnTest, WithoutGivingItUpTheNextWaits) {
  call("patient");
  call("quick");
  EXPECT_THAT(log, ElementsAre("begin patient"));
  open(0);
  EXPECT_THAT(log, ElementsAre("begin patient", "end patient", "reply patient", "quick", "reply quick"));
}

TEST_F(TurnTest, GivenUpTheNextBeginsAndTheEndOfTheFirstTakesNobodysTurn) {
  call("generous");
  call("quick");
  call("patient");
  call("quick");
  EXPECT_THAT(log, ElementsAre("begin generous", "quick", "reply quick", "begin patient"));
  open(1);
  EXPECT_THAT(log, ElementsAre("begin generous", "quick", "reply quick", "begin patient", "end generous", "reply generous"))
      << "patient still has its turn: the second quick waits";
  open(0);
  EXPECT_EQ(log.back(), "reply quick");
  EXPECT_THAT(log, testing::Contains("quick").Times(2));
}

}  // namespace
}  // namespace catnap::rpc
