// The RPC socket with a reactor driven by hand: framing, order, limits and back-pressure. Client and server take turns on one OS thread.
#include "rpc/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "reactor/reactor.h"
#include "rpc/framework_rpc.h"
#include "rpc/introspection_rpc.h"
#include "rpc/json.h"

namespace catnap::rpc {
namespace {

using testing::HasSubstr;

Task<Result<void>> initialised_at_once() { co_return Result<void>(); }

Task<RpcResult<Json::Value>> await_gate(Promise<bool> gate, std::vector<std::string>* log, std::string name) {
  log->push_back("begin " + name);
  const bool opened = co_await gate;
  static_cast<void>(opened);
  log->push_back("end " + name);
  co_return RpcResult<Json::Value>(Json::Value(name));
}

class Client {
 public:
  explicit Client(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::copy(path.begin(), path.end(), address.sun_path);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0) << errno_text(errno);
  }
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  void end_writing() const { ::shutdown(fd_, SHUT_WR); }
  std::size_t write(std::string_view text) const {
    const ssize_t sent = ::send(fd_, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? 0 : static_cast<std::size_t>(sent);
  }
  // What is there now; sets ended() at the end of the stream.
  std::string read(std::size_t most = 1 << 20) {
    std::string text;
    std::array<char, 16384> chunk{};
    while (text.size() < most) {
      const ssize_t got = ::recv(fd_, chunk.data(), std::min(chunk.size(), most - text.size()), MSG_DONTWAIT);
      if (got > 0) {
        text.append(chunk.data(), static_cast<std::size_t>(got));
        continue;
      }
      ended_ = ended_ || got == 0 || (errno != EAGAIN && errno != EINTR);
      break;
    }
    return text;
  }
  bool ended() const { return ended_; }

 private:
  int fd_;
  bool ended_ = false;
};

class ServerTest : public testing::Test {
 protected:
  ServerTest() : reactor_(quiet()), lifecycle_(initialised_at_once), dispatcher_(methods_, lifecycle_) {
    auto thread = std::make_unique<Thread>("app_thread", CpuMask());
    thread_ = thread.get();
    reactor_.adopt(std::move(thread));
    char folder[] = "/tmp/catnap_rpc_test_XXXXXX";
    folder_ = ::mkdtemp(folder);
    options_.path = folder_ + "/rpc.sock";
    declare();
    run();
  }
  ~ServerTest() override {
    stop();
    std::filesystem::remove_all(folder_);
  }

  static ReactorOptions quiet() {
    ReactorOptions options;
    options.mode = ReactorMode::interrupt;
    return options;
  }

  void declare() {
    methods_.add(Method("echo", "Gives its parameter back")
                     .with({Param("value", ParamType::any, "Anything")})
                     .in_phase(Phase::always)
                     .handler([this](const Params& params) -> RpcResult<Json::Value> {
                       ++echoes_;
                       return params.json("value");
                     }));
    methods_.add(Method("change", "Waits until the test opens its gate")
                     .with({Param("name", ParamType::string, "Which").required()})
                     .in_phase(Phase::always)
                     .mutates()
                     .coroutine([this](const Params& params) { return await_gate(new_gate(), &log_, params.string("name")); }));
    methods_.add(Method("change_now", "A change that needs no waiting")
                     .in_phase(Phase::always)
                     .mutates()
                     .handler([this](const Params&) -> RpcResult<Json::Value> {
                       log_.emplace_back("now");
                       return Json::Value(true);
                     }));
    methods_.add(Method("early", "Before start only").in_phase(Phase::startup_only).handler([](const Params&) -> RpcResult<Json::Value> {
      return Json::Value(1);
    }));
    methods_.add(Method("late", "After start only").handler([](const Params&) -> RpcResult<Json::Value> { return Json::Value(2); }));
    register_introspection_methods(methods_, lifecycle_);
    registry_.add("nvmf", [] { return Json::Value(Json::arrayValue); }, {"bdev", "missing"});
    registry_.add("bdev", [] { return (*parse_json(R"([{"method":"bdev_null_create","params":{"name":"n"}}])")); });
    register_framework_methods(methods_, lifecycle_, registry_);
  }

  Promise<bool> new_gate() {
    gates_.emplace_back();
    return gates_.back();
  }

  void start() {
    const Thread::Scope scope(thread_);
    auto server = Server::listen(options_, dispatcher_);
    ASSERT_TRUE(server.has_value()) << server.error().message;
    server_ = std::move(*server);
  }
  void stop() {
    const Thread::Scope scope(thread_);
    server_.reset();
  }
  // Turns until nothing happens any more; bounded, so that a server that spins fails the test.
  void run() {
    int idle = 0;
    for (int turns = 0; idle < 3; ++turns) {
      ASSERT_LT(turns, 100'000) << "the loop does not come to rest";
      idle = reactor_.turn(0) == 0 ? idle + 1 : 0;
    }
  }
  Json::Value ask(Client& client, std::string_view text) {
    EXPECT_EQ(client.write(text), text.size());
    run();
    const std::string reply = client.read();
    const auto value = parse_json(reply);
    EXPECT_TRUE(value.has_value()) << reply;
    return value ? *value : Json::Value();
  }

  std::string folder_;
  ServerOptions options_;
  Reactor reactor_;
  Thread* thread_ = nullptr;
  MethodTable methods_;
  Lifecycle lifecycle_;
  Dispatcher dispatcher_;
  ConfigRegistry registry_;
  std::unique_ptr<Server> server_;
  std::vector<Promise<bool>> gates_;
  std::vector<std::string> log_;
  int echoes_ = 0;
};

TEST_F(ServerTest, AnswersARequestSplitAtEveryByte) {
  start();
  Client client(options_.path);
  const std::string request = "{\n\t\"jsonrpc\": \"2.0\",\n\t\"method\": \"echo\",\n\t\"params\": {\"value\": \"a}\\\"{\"},\n\t\"id\": 7\n}\n";
  for (std::size_t cut = 1; cut < request.size(); ++cut) {
    client.write(request.substr(0, cut));
    run();
    client.write(request.substr(cut));
    run();
    EXPECT_EQ(client.read(), "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":\"a}\\\"{\"}\n") << "cut at " << cut;
  }
  for (const char byte : request) {
    client.write(std::string_view(&byte, 1));
    run();
  }
  EXPECT_THAT(client.read(), HasSubstr("\"id\":7"));
}

TEST_F(ServerTest, AnswersManyRequestsOfOneWriteInTurn) {
  start();
  Client client(options_.path);
  std::string requests, expected;
  for (int id = 0; id < 300; ++id) {
    requests += "{\"method\":\"echo\",\"params\":{\"value\":" + std::to_string(id) + "},\"id\":" + std::to_string(id) + "}";
    expected += "{\"jsonrpc\":\"2.0\",\"id\":" + std::to_string(id) + ",\"result\":" + std::to_string(id) + "}\n";
  }
  ASSERT_EQ(client.write(requests), requests.size());
  run();
  EXPECT_EQ(client.read(), expected);
}

TEST_F(ServerTest, TakesAbsentNullAndEmptyParams) {
  start();
  Client client(options_.path);
  for (const char* params : {"", ",\"params\":null", ",\"params\":{}"}) {
    const Json::Value reply = ask(client, std::string("{\"id\":1,\"method\":\"spdk_get_version\"") + params + "}");
    EXPECT_EQ(reply["result"]["fields"]["minor"].asInt(), 1) << params;
    EXPECT_THAT(reply["result"]["version"].asString(), testing::StartsWith("catnap 0.1.0")) << params;
  }
}

TEST_F(ServerTest, KeepsIdsOfEveryKind) {
  start();
  Client client(options_.path);
  EXPECT_EQ(ask(client, R"({"method":"echo","id":"a\u00e4"})")["id"].asString(), "a\xc3\xa4");
  EXPECT_EQ(ask(client, R"({"method":"echo","id":18446744073709551615})")["id"].asUInt64(), 18446744073709551615u);
  EXPECT_TRUE(ask(client, R"({"method":"echo","id":null})")["id"].isNull());
  EXPECT_DOUBLE_EQ(ask(client, R"({"method":"echo","id":1.5})")["id"].asDouble(), 1.5);
}

TEST_F(ServerTest, AnswersBatchesAsOneArrayAndNotificationsNotAtAll) {
  start();
  Client client(options_.path);
  const Json::Value reply = ask(client, R"([{"method":"echo","params":{"value":1},"id":1},{"method":"echo"},{"method":"nope","id":2},5])");
  ASSERT_TRUE(reply.isArray());
  ASSERT_EQ(reply.size(), 3u);
  EXPECT_EQ(reply[0]["result"].asInt(), 1);
  EXPECT_EQ(reply[1]["error"]["code"].asInt(), method_not_found);
  EXPECT_EQ(reply[2]["error"]["code"].asInt(), invalid_request);
  EXPECT_EQ(echoes_, 2);
  client.write(R"([{"method":"echo"},{"method":"echo"}]{"method":"echo"}{"method":"echo","params":{"x":1}})");
  run();
  EXPECT_EQ(client.read(), "");
  EXPECT_EQ(echoes_, 5);
}

TEST_F(ServerTest, RefusesOneRequestAndServesTheNext) {
  start();
  Client client(options_.path);
  EXPECT_EQ(ask(client, R"({"jsonrpc":"1.1","method":"echo","id":3})")["error"]["code"].asInt(), invalid_request);
  EXPECT_EQ(ask(client, R"([])")["error"]["code"].asInt(), invalid_request);
  const Json::Value twice = ask(client, R"({"method":"echo","params":{"value":1,"value":2},"id":4})");
  EXPECT_EQ(twice["error"]["code"].asInt(), invalid_params);
  EXPECT_EQ(twice["id"].asInt(), 4);
  EXPECT_THAT(twice["error"]["message"].asString(), HasSubstr("duplicate parameter 'value'"));
  const Json::Value unknown = ask(client, R"({"method":"no\u0000\nsuch","id":5})");
  EXPECT_EQ(unknown["error"]["code"].asInt(), method_not_found);
  EXPECT_THAT(unknown["error"]["message"].asString(), HasSubstr("Method not found"));
  EXPECT_EQ(echoes_, 0);
  EXPECT_EQ(ask(client, R"({"method":"echo","params":{"value":6},"id":6})")["result"].asInt(), 6);
}

TEST_F(ServerTest, AnswersAParseErrorAndCloses) {
  start();
  for (const std::string& text :
       {std::string("GET / HTTP/1.1\r\n\r\n"), std::string("{\"method\":}"), std::string(1000, '['), std::string("{\"a\":\"\xff\"}")}) {
    Client client(options_.path);
    client.write(R"({"method":"echo","params":{"value":1},"id":1})" + text);
    run();
    const std::string replies = client.read();
    EXPECT_THAT(replies, testing::StartsWith(R"({"jsonrpc":"2.0","id":1,"result":1})")) << text;
    EXPECT_THAT(replies, HasSubstr("-32700")) << text;
    EXPECT_TRUE(client.ended()) << text;
  }
  EXPECT_EQ(server_->connection_count(), 0u);
}

TEST_F(ServerTest, BoundsTheLengthOfARequest) {
  options_.max_request_bytes = 1000;
  start();
  const auto request = [](std::size_t padding) { return R"({"method":"echo","id":1,"params":{"value":")" + std::string(padding, 'x') + "\"}}"; };
  const std::size_t overhead = request(0).size();
  {
    Client client(options_.path);
    EXPECT_EQ(ask(client, request(1000 - overhead))["id"].asInt(), 1);
  }
  for (const std::string& text : {request(1001 - overhead), request(100'000).substr(0, 90'000)}) {
    Client client(options_.path);
    client.write(text);
    run();
    EXPECT_THAT(client.read(), HasSubstr("longer than 1000 bytes"));
    EXPECT_TRUE(client.ended());
  }
  Client patient(options_.path);  // white space is no request
  for (int times = 0; times < 100; ++times) {
    patient.write(std::string(500, ' '));
    run();
  }
  EXPECT_EQ(ask(patient, request(1))["id"].asInt(), 1);
}

TEST_F(ServerTest, FinishesWhatAHalfClosedClientAsked) {
  start();
  Client client(options_.path);
  client.write(R"({"method":"change","params":{"name":"a"},"id":1}{"method":"ec)");
  client.end_writing();
  run();
  EXPECT_EQ(client.read(), "");
  EXPECT_FALSE(client.ended());
  ASSERT_EQ(gates_.size(), 1u);
  gates_[0].set(true);
  run();
  EXPECT_THAT(client.read(), HasSubstr("\"result\":\"a\""));
  EXPECT_TRUE(client.ended());
  EXPECT_EQ(server_->connection_count(), 0u);
}

TEST_F(ServerTest, ForgetsAClientThatLeft) {
  start();
  Client client(options_.path);
  client.write(R"({"method":"change","params":{"name":"a"},"id":1})");
  run();
  client.close();
  run();
  EXPECT_EQ(server_->connection_count(), 0u);
  ASSERT_EQ(gates_.size(), 1u);
  gates_[0].set(true);
  run();
  EXPECT_THAT(log_, testing::ElementsAre("begin a", "end a")) << "a change that was begun is finished";
}

TEST_F(ServerTest, ServesARequestWhoseClientDidNotWait) {
  start();
  Client client(options_.path);
  client.write(R"({"method":"echo","id":1})");
  client.close();
  run();
  EXPECT_EQ(echoes_, 1);
  EXPECT_EQ(server_->connection_count(), 0u);
}

TEST_F(ServerTest, ChangesWaitForOneAnotherAndReadsDoNot) {
  start();
  Client first(options_.path), second(options_.path);
  first.write(R"({"method":"change","params":{"name":"a"},"id":1})");
  run();
  second.write(R"({"method":"change","params":{"name":"b"},"id":1}{"method":"change_now","id":2}{"method":"echo","id":3})");
  run();
  EXPECT_THAT(log_, testing::ElementsAre("begin a"));
  EXPECT_THAT(second.read(), HasSubstr("\"id\":3"));
  gates_[0].set(true);
  run();
  EXPECT_THAT(first.read(), HasSubstr("\"result\":\"a\""));
  EXPECT_THAT(log_, testing::ElementsAre("begin a", "end a", "begin b"));
  ASSERT_EQ(gates_.size(), 2u);
  gates_[1].set(true);
  run();
  EXPECT_THAT(log_, testing::ElementsAre("begin a", "end a", "begin b", "end b", "now"));
  EXPECT_THAT(second.read(), testing::AllOf(HasSubstr("\"id\":1"), HasSubstr("\"id\":2")));
}

TEST_F(ServerTest, StopsReadingFromAClientThatDoesNotRead) {
  options_.max_unsent_bytes = 64 * 1024;
  start();
  Client client(options_.path), other(options_.path);
  const std::string request = R"({"method":"echo","id":1,"params":{"value":")" + std::string(8000, 'x') + "\"}}";
  std::string pending;
  int asked = 0;
  // The client only writes, until neither socket buffer takes more.
  for (std::size_t stuck = 0; stuck < 3;) {
    if (pending.empty()) {
      pending = request;
      ++asked;
    }
    const std::size_t sent = client.write(pending);
    pending.erase(0, sent);
    stuck = sent == 0 ? stuck + 1 : 0;
    run();
    ASSERT_LT(asked, 10'000) << "the server takes requests without end";
  }
  const int answered = echoes_;
  EXPECT_LT(answered, asked);
  EXPECT_EQ(ask(other, R"({"method":"echo","params":{"value":5},"id":1})")["result"].asInt(), 5) << "others are served";
  // It reads again: every request is answered.
  std::size_t replies = 0;
  for (int rounds = 0; rounds < 10'000 && replies < static_cast<std::size_t>(asked); ++rounds) {
    const std::string text = client.read(4096);
    replies += static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
    if (!pending.empty()) pending.erase(0, client.write(pending));
    run();
  }
  EXPECT_EQ(replies, static_cast<std::size_t>(asked));
}

TEST_F(ServerTest, BoundsTheRequestsInFlight) {
  options_.max_requests_in_flight = 4;
  start();
  Client client(options_.path);
  std::string requests;
  for (int id = 0; id < 10; ++id) requests += "{\"method\":\"change\",\"params\":{\"name\":\"" + std::to_string(id) + "\"},\"id\":1}";
  requests += R"({"method":"echo","id":"last"})";
  client.write(requests);
  run();
  EXPECT_EQ(echoes_, 0) << "the last request waits for room";
  for (std::size_t gate = 0; gate < 10; ++gate) {
    ASSERT_GT(gates_.size(), gate);
    gates_[gate].set(true);
    run();
  }
  EXPECT_EQ(echoes_, 1);
  EXPECT_THAT(client.read(), HasSubstr("\"id\":\"last\""));
}

TEST_F(ServerTest, BoundsConnectionsInWords) {
  options_.max_connections = 2;
  start();
  Client first(options_.path), second(options_.path), third(options_.path);
  run();
  EXPECT_THAT(third.read(), HasSubstr("limit of 2 connections"));
  EXPECT_TRUE(third.ended());
  first.close();
  run();
  Client fourth(options_.path);
  EXPECT_EQ(ask(fourth, R"({"method":"echo","params":{"value":4},"id":1})")["result"].asInt(), 4);
}

TEST_F(ServerTest, SurvivesAFloodOfConnectionsAndHalfRequests) {
  start();
  for (int round = 0; round < 50; ++round) {
    std::vector<std::unique_ptr<Client>> clients;
    for (int index = 0; index < 20; ++index) {
      clients.push_back(std::make_unique<Client>(options_.path));
      clients.back()->write(std::string_view(R"({"method":"echo","id":1})").substr(0, static_cast<std::size_t>(index)));
    }
    if (round % 2 == 0) run();
  }
  run();
  EXPECT_EQ(server_->connection_count(), 0u);
  EXPECT_EQ(echoes_, 0);
}

TEST_F(ServerTest, HoldsThePhases) {
  start();
  Client client(options_.path), waiting(options_.path);
  waiting.write(R"({"method":"framework_wait_init","id":1})");
  run();
  EXPECT_EQ(ask(client, R"({"method":"early","id":1})")["result"].asInt(), 1);
  const Json::Value refused = ask(client, R"({"method":"late","id":1})");
  EXPECT_EQ(refused["error"]["code"].asInt(), invalid_state);
  EXPECT_THAT(refused["error"]["message"].asString(), HasSubstr("late may only be called after"));
  EXPECT_EQ(waiting.read(), "");
  EXPECT_TRUE(ask(client, R"({"method":"framework_start_init","id":1})")["result"].asBool());
  EXPECT_THAT(waiting.read(), HasSubstr("\"result\":true"));
  EXPECT_EQ(ask(client, R"({"method":"late","id":1})")["result"].asInt(), 2);
  const Json::Value over = ask(client, R"({"method":"early","id":1})");
  EXPECT_EQ(over["error"]["code"].asInt(), invalid_state);
  EXPECT_THAT(over["error"]["message"].asString(), HasSubstr("--wait-for-rpc"));
}

TEST_F(ServerTest, ShowsMethodsSchemaAndConfiguration) {
  start();
  Client client(options_.path);
  const auto names = [&](const char* params) {
    std::vector<std::string> list;
    const Json::Value reply = ask(client, std::string(R"({"method":"rpc_get_methods","id":1,"params":)") + params + "}");
    for (const Json::Value& name : reply["result"]) {
      list.push_back(name.asString());
    }
    return list;
  };
  EXPECT_THAT(names("{}"), testing::IsSupersetOf({"early", "late", "echo"}));
  EXPECT_THAT(names(R"({"current":true})"), testing::AllOf(testing::Contains("early"), testing::Not(testing::Contains("late"))));
  const Json::Value schema = ask(client, R"({"method":"rpc_get_schema","id":1})")["result"];
  const auto method =
      std::find_if(schema["methods"].begin(), schema["methods"].end(), [](const Json::Value& one) { return one["name"] == "change"; });
  ASSERT_NE(method, schema["methods"].end());
  EXPECT_EQ((*method)["params"][0]["name"].asString(), "name");
  EXPECT_TRUE((*method)["params"][0]["required"].asBool());
  EXPECT_TRUE((*method)["changes_state"].asBool());

  ask(client, R"({"method":"framework_start_init","id":1})");
  const Json::Value subsystems = ask(client, R"({"method":"framework_get_subsystems","id":1})")["result"];
  ASSERT_EQ(subsystems.size(), 2u);
  EXPECT_EQ(subsystems[0]["subsystem"].asString(), "bdev") << "what others depend on comes first";
  EXPECT_EQ(subsystems[1]["depends_on"].size(), 1u) << "only names that are in the list";
  const Json::Value config = ask(client, R"({"method":"framework_get_config","params":{"name":"bdev","with_batches":false},"id":1})")["result"];
  EXPECT_EQ(config[0]["method"].asString(), "bdev_null_create");
  const Json::Value none = ask(client, R"({"method":"framework_get_config","params":{"name":"accel"},"id":1})");
  EXPECT_EQ(none["error"]["code"].asInt(), -ENOENT);
  EXPECT_THAT(none["error"]["message"].asString(), HasSubstr("'accel' not found"));
}

TEST_F(ServerTest, ConfigurationFilesAreNotBoundByPhases) {
  std::optional<RpcResult<Json::Value>> outcome;
  const Thread::Scope scope(thread_);
  spawn<RpcResult<Json::Value>>(dispatcher_.call("late", Json::Value(), Origin::config_file),
                                [&](RpcResult<Json::Value> reply) { outcome = std::move(reply); });
  run();
  ASSERT_TRUE(outcome.has_value());
  ASSERT_TRUE(outcome->has_value());
  EXPECT_EQ((*outcome)->asInt(), 2);
}

TEST_F(ServerTest, ClosesWithCallsUnderWay) {
  start();
  Client client(options_.path);
  client.write(R"({"method":"change","params":{"name":"a"},"id":1}{"method":"echo","id":2})");
  run();
  stop();
  EXPECT_THAT(client.read(), HasSubstr("\"id\":2"));
  EXPECT_TRUE(client.ended());
  EXPECT_FALSE(std::filesystem::exists(options_.path));
  gates_[0].set(true);
  run();
  EXPECT_THAT(log_, testing::ElementsAre("begin a", "end a"));
}

}  // namespace
}  // namespace catnap::rpc
