// The initiator against a controller that does everything wrong: each step of the connect in each wrong way, absurd values, wrong data, storms of
// events. Owner: the test's thread. Left out: controllers that only go away (failover_test.cpp).
#include <cstdio>
#include <cstdlib>
#include <set>

#include "tests/protocol/fake/fake_controller.h"
#include "tests/protocol/initiator_fixture.h"
#include "transport/nvme/identify.h"

namespace catnap::protocol {
namespace {

const bool soak = std::getenv("CATNAP_SOAK") != nullptr;

class HostileController : public InitiatorTest {
 protected:
  void SetUp() override {
    InitiatorTest::SetUp();
    // Short, since many of these controllers never answer.
    must(
        "bdev_nvme_set_options",
        R"({"keep_alive_timeout_ms": 0, "tcp_connect_timeout_ms": 250, "timeout_us": 250000, "timeout_admin_us": 250000, "action_on_timeout": "reset"})");
  }
  Json::Value to(const FakeController& controller, const std::string& more = "{}") {
    Json::Value params = path_to(controller.port(), controller.options().subnqn, more);
    params["fabrics_connect_timeout_us"] = 250'000;
    return params;
  }
  // Nothing of an attempt is left. (Its connections end a moment after the answer.)
  void expect_nothing_left(FakeController& controller) {
    EXPECT_TRUE(must("bdev_get_bdevs", "{}").empty());
    EXPECT_TRUE(must("bdev_nvme_get_controllers", "{}").empty());
    // An I/O queue that was just being connected would otherwise meet what the next attempt is meant for.
    controller.accept_waiting();
    EXPECT_TRUE(eventually([&] { return controller.live_connections() == 0; }));
  }
  // Each step of an attempt has a quarter of a second, within which a busy machine may have let nobody do anything: what should attach is tried
  // again. `prepare` is done before each attempt, after which the controller knows of this one only.
  Result<Json::Value> attach_in_time(FakeController& controller, const std::string& more = "{}", const std::function<void()>& prepare = {}) {
    Result<Json::Value> attached;
    for (int i = 0; i < attempts_in_time && (i == 0 || !attached); ++i) {
      if (i > 0) expect_nothing_left(controller);
      controller.forget();
      if (prepare) prepare();
      attached = call("bdev_nvme_attach_controller", to(controller, more));
    }
    return attached;
  }
  Result<Json::Value> attach_once(FakeController& controller, const std::function<void()>& prepare) {
    controller.forget();
    prepare();
    return call("bdev_nvme_attach_controller", to(controller));
  }
  static constexpr int attempts_in_time = 20;
  void expect_sentence(const Error& error, const FakeController& controller) {
    EXPECT_LT(error.err, 0) << "a JSON-RPC error of the server, not of this test's socket: " << error.message;
    EXPECT_GT(error.message.size(), 20U) << error.message;
    EXPECT_NE(error.message.find(std::to_string(controller.port())), std::string::npos) << "the address is named: " << error.message;
    if (sentences_.insert(error.message).second && std::getenv("CATNAP_VERBOSE") != nullptr) printf("  %s\n", error.message.c_str());
  }
  std::set<std::string> sentences_;
};

// Where the host may do without an answer, or has all it wants before it meets the fault.
bool may_succeed(const FakeController::Seen& seen, Deed deed) {
  if (seen.step == "Asynchronous Event Request" || seen.step == "Keep Alive") return true;
  if (deed == Deed::error_status || deed == Deed::answer_twice || deed == Deed::data_twice) return true;
  // What is wrong with one command's data costs that namespace, or its identifiers, and not the others.
  const bool of_one_namespace = seen.step == "Identify CNS 00h" || seen.step == "Identify CNS 03h";
  const bool data_only = deed == Deed::no_data || deed == Deed::short_data || deed == Deed::data_gap || deed == Deed::bad_data_digest;
  return of_one_namespace && data_only;
}

TEST_F(HostileController, EveryStepOfTheConnectInEveryWrongWay) {
  FakeController controller;
  const std::string digests = R"({"hdgst": true, "ddgst": true})";
  ASSERT_TRUE(attach_in_time(controller, digests));
  std::vector<FakeController::Seen> steps = controller.seen();
  // Who looks at the new bdev may have an I/O queue connected by now, which the answer does not wait for: HostileIo has those steps.
  steps.erase(std::ranges::find(steps, FakeController::Seen{"accept", 2, StepKind::accept}), steps.end());
  ASSERT_GE(steps.size(), 10U);
  must("bdev_nvme_detach_controller", R"({"name": "Nvme0"})");
  expect_nothing_left(controller);
  const std::size_t fds = open_fds();

  std::size_t attempts = 0;
  std::set<StepKind> half_done;
  for (const FakeController::Seen& seen : steps) {
    for (Deed deed : deeds_for(seen.kind)) {
      if (seen.step == "Asynchronous Event Request" && deed == Deed::silence) continue;  // is what it should do
      // Takes its time each time, and differs from silence only in how the host reads: once per kind of step will do.
      if (!soak && deed == Deed::half_pdu && !half_done.insert(seen.kind).second) continue;
      SCOPED_TRACE(seen.text() + ", " + std::string(deed_name(deed)));
      Result<Json::Value> attached;
      for (int i = 0; i < attempts_in_time && (i == 0 || !(controller.misbehaved() || attached)); ++i) {
        if (i > 0) expect_nothing_left(controller);
        controller.forget();
        controller.misbehave(seen.step, seen.occurrence, deed);
        attached = call("bdev_nvme_attach_controller", to(controller, digests));
        ++attempts;
      }
      EXPECT_TRUE(controller.misbehaved()) << "the step was reached";
      if (attached) {
        EXPECT_TRUE(may_succeed(seen, deed)) << "attached all the same";
        must("bdev_nvme_detach_controller", R"({"name": "Nvme0"})");
      } else {
        expect_sentence(attached.error(), controller);
      }
      expect_nothing_left(controller);
      if (HasFailure()) return;
    }
  }
  printf("%zu steps, %zu attempts, %zu different sentences\n", steps.size(), attempts, sentences_.size());
  EXPECT_TRUE(eventually([&] { return open_fds() <= fds; })) << open_fds() << " after " << fds;
  ASSERT_TRUE(attach_in_time(controller));
  must("bdev_nvme_detach_controller", R"({"name": "Nvme0"})");
}

TEST_F(HostileController, AnswersInSingleBytesAreNoFault) {
  FakeController controller;
  const auto trickle = [&controller] {
    for (const char* step : {"ICReq", "Connect admin", "Property Get 00h", "Property Get 1Ch"}) controller.misbehave(step, 0, Deed::trickle);
  };
  ASSERT_TRUE(attach_in_time(controller, "{}", trickle));
  EXPECT_TRUE(controller.misbehaved());
  must("bdev_nvme_detach_controller", R"({"name": "Nvme0"})");
}

// A value that a controller says, and whether it can be attached with it.
struct ValueRow {
  const char* what;
  std::function<void(const std::string& step, nvme::CompletionEntry& cqe, Bytes& data)> change;
  bool attaches;
};

template <typename Change>
auto in_controller(Change change) {
  return [change](const std::string& step, nvme::CompletionEntry&, Bytes& data) {
    if (step != "Identify CNS 01h") return;
    nvme::IdentifyController page;
    std::memcpy(static_cast<void*>(&page), data.data(), sizeof(page));
    change(page);
    std::memcpy(data.data(), &page, sizeof(page));
  };
}
template <typename Change>
auto in_namespace(Change change) {
  return [change](const std::string& step, nvme::CompletionEntry&, Bytes& data) {
    if (step != "Identify CNS 00h") return;
    nvme::IdentifyNamespace page;
    std::memcpy(static_cast<void*>(&page), data.data(), sizeof(page));
    change(page);
    std::memcpy(data.data(), &page, sizeof(page));
  };
}
template <typename Change>
auto in_cap(Change change) {
  return [change](const std::string& step, nvme::CompletionEntry& cqe, Bytes&) {
    if (step != "Property Get 00h") return;
    nvme::Cap cap = nvme::Cap::from_value(cqe.dw0_dw1());
    change(cap);
    cqe.set_dw0_dw1(cap.value());
  };
}
auto every_namespace_list(std::uint32_t first, std::uint32_t step_by) {
  return [first, step_by](const std::string& step, nvme::CompletionEntry&, Bytes& data) {
    if (step != "Identify CNS 02h") return;
    nvme::NamespaceList list;
    std::uint32_t nsid = first;
    for (auto& entry : list.nsid) {
      entry = nsid;
      nsid += step_by;
    }
    std::memcpy(data.data(), &list, sizeof(list));
  };
}

const ValueRow value_rows[] = {
    {"MDTS 0: no limit", in_controller([](auto& page) { page.mdts = 0; }), true},
    {"MDTS 255", in_controller([](auto& page) { page.mdts = 255; }), true},
    {"NN ffffffffh", in_controller([](auto& page) { page.nn = 0xFFFFFFFF; }), true},
    {"NN 0", in_controller([](auto& page) { page.nn = 0; }), true},
    {"IOCCSZ 0", in_controller([](auto& page) { page.ioccsz = 0; }), false},
    {"IOCCSZ ffffffffh", in_controller([](auto& page) { page.ioccsz = 0xFFFFFFFF; }), true},
    {"ICDOFF ffffh", in_controller([](auto& page) { page.icdoff = 0xFFFF; }), true},
    {"MAXCMD 0", in_controller([](auto& page) { page.maxcmd = 0; }), true},
    {"SGLS 0", in_controller([](auto& page) { page.sgls = 0; }), false},
    {"KAS 0", in_controller([](auto& page) { page.kas = 0; }), true},
    {"CNTLID that is not Connect's", in_controller([](auto& page) { page.cntlid = 8; }), false},
    {"an administrative controller", in_controller([](auto& page) { page.cntrltype = 3; }), false},
    {"a subsystem NQN without end", in_controller([](auto& page) { page.subnqn.fill('x'); }), true},
    {"ANA with the largest numbers", in_controller([](auto& page) {
       page.cmic = nvme::cmic_ana;
       page.nanagrpid = page.anagrpmax = page.mnan = 0xFFFFFFFF;
     }),
     true},
    {"MQES 0", in_cap([](auto& cap) { cap.mqes = 0; }), false},
    {"MQES ffffh", in_cap([](auto& cap) { cap.mqes = 0xFFFF; }), true},
    {"TO 0", in_cap([](auto& cap) { cap.to = 0; }), true},
    {"no NVM command set", in_cap([](auto& cap) {
       cap.css_nvm = false;
       cap.css_admin_only = true;
     }),
     false},
    {"pages of 128 MiB", in_cap([](auto& cap) { cap.mpsmin = cap.mpsmax = 15; }), false},
    {"LBADS 0", in_namespace([](auto& page) { page.lbaf[0].lbads = 0; }), true},
    {"LBADS 8", in_namespace([](auto& page) { page.lbaf[0].lbads = 8; }), true},
    {"LBADS 63", in_namespace([](auto& page) { page.lbaf[0].lbads = 63; }), true},
    {"LBADS 255", in_namespace([](auto& page) { page.lbaf[0].lbads = 255; }), true},
    {"FLBAS of a format that is not there", in_namespace([](auto& page) { page.flbas = 0x6F; }), true},
    {"blocks with metadata", in_namespace([](auto& page) { page.lbaf[0].ms = 8; }), true},
    {"NSZE 0", in_namespace([](auto& page) { page.nsze = 0; }), true},
    {"NSZE of all bits", in_namespace([](auto& page) { page.nsze = ~std::uint64_t{0}; }), true},
    {"a list of namespaces without end", every_namespace_list(1, 1), false},
    {"a list of one namespace 1024 times", every_namespace_list(5, 0), false},
    {"a list of namespaces that goes down", every_namespace_list(0xFFFFFFF0, 0xFFFFFFFF), false},
};

// Whatever a controller says, the answer is a bdev that works or a sentence, and never anything in between.
TEST_F(HostileController, AbsurdValues) {
  FakeController controller;
  for (const ValueRow& row : value_rows) {
    SCOPED_TRACE(row.what);
    const auto change = [&] { controller.change_answers(row.change); };
    auto attached = row.attaches ? attach_in_time(controller, "{}", change) : attach_once(controller, change);
    EXPECT_EQ(attached.has_value(), row.attaches) << (attached ? "attached" : attached.error().message);
    if (attached) {
      const Json::Value bdevs = must("bdev_get_bdevs", "{}");
      for (const auto& bdev : bdevs) {
        const auto block = bdev["block_size"].asUInt64(), blocks = bdev["num_blocks"].asUInt64();
        EXPECT_TRUE(block >= 512 && block <= 65536 && (block & (block - 1)) == 0) << block;
        EXPECT_GT(blocks, 0U);
        EXPECT_LE(blocks, (std::uint64_t{1} << 63) / block) << "its size in bytes is a number";
      }
      must("bdev_nvme_detach_controller", R"({"name": "Nvme0"})");
    } else {
      expect_sentence(attached.error(), controller);
    }
    expect_nothing_left(controller);
  }
}

TEST_F(HostileController, AbsurdIcResps) {
  struct Row {
    const char* what;
    std::function<void(tcp::IcResp&)> change;
    bool attaches;
  };
  const Row rows[] = {
      {"PFV 1", [](tcp::IcResp& response) { response.pfv = 1; }, false},
      {"CPDA 31: data at multiples of 128 bytes", [](tcp::IcResp& response) { response.cpda = 31; }, true},
      {"CPDA 32", [](tcp::IcResp& response) { response.cpda = 32; }, false},
      {"digests that nobody asked for", [](tcp::IcResp& response) { response.dgst = 3; }, false},
      {"MAXH2CDATA 0", [](tcp::IcResp& response) { response.maxh2cdata = 0; }, false},
      {"MAXH2CDATA 4095", [](tcp::IcResp& response) { response.maxh2cdata = 4095; }, false},
      {"MAXH2CDATA 4098", [](tcp::IcResp& response) { response.maxh2cdata = 4098; }, false},
      {"MAXH2CDATA 4096", [](tcp::IcResp& response) { response.maxh2cdata = 4096; }, true},
      {"MAXH2CDATA ffffffffh", [](tcp::IcResp& response) { response.maxh2cdata = 0xFFFFFFFC; }, true},
  };
  FakeController controller;
  for (const Row& row : rows) {
    SCOPED_TRACE(row.what);
    const auto change = [&] { controller.change_ic_resp(row.change); };
    auto attached = row.attaches ? attach_in_time(controller, "{}", change) : attach_once(controller, change);
    EXPECT_EQ(attached.has_value(), row.attaches) << (attached ? "attached" : attached.error().message);
    if (attached) must("bdev_nvme_detach_controller", R"({"name": "Nvme0"})");
    if (!attached) expect_sentence(attached.error(), controller);
    expect_nothing_left(controller);
  }
}

class HostileIo : public HostileController {
 protected:
  void SetUp() override {
    HostileController::SetUp();
    ASSERT_TRUE(attach_in_time(controller_, R"({"hdgst": true, "ddgst": true, "ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1})"));
    front_ = serve("Nvme0n1");
    host_ = connect_host(front_);
    ASSERT_TRUE(host_.io.socket().is_open());
    content_ = pattern(64 * 512, 3);
    ASSERT_TRUE(write(host_.io, 0, content_).ok());
    ASSERT_EQ(read(host_.io, 0, 64 * 512).data, content_);
  }

  struct IoStep {
    const char* step;
    StepKind kind;
    bool writes;
    std::uint32_t bytes;
  };
  // One I/O of the kind on a controller that is about to do something wrong: it succeeds in the end and the data is right, or it fails with a status.
  void one(const IoStep& io, Deed deed) {
    SCOPED_TRACE(std::string(io.step) + ", " + std::string(deed_name(deed)));
    // Where no lost write of before holds later ones back.
    if (io.writes) {
      place_ += 64;
      ASSERT_LT(place_, controller_.options().blocks);
      ASSERT_TRUE(write(host_.io, place_, content_).ok());
    }
    controller_.forget();
    controller_.misbehave(io.step, 1, deed);
    CommandResult result;
    if (io.writes) {
      const Bytes news = pattern(io.bytes, ++seed_);
      std::ranges::copy(news, content_.begin());
      result = write(host_.io, place_, news);
    } else {
      result = read(host_.io, place_, io.bytes);
      if (result.ok()) {
        EXPECT_TRUE(std::ranges::equal(result.data, std::span(content_).first(io.bytes))) << "wrong data, said to be right";
      }
    }
    EXPECT_EQ(result.outcome, Outcome::pdu) << result.note;
    EXPECT_TRUE(controller_.misbehaved());
    // All is well again afterwards, and a write that said yes has written.
    const bool written = !io.writes || result.ok();
    if (io.writes && !result.ok()) {
      ASSERT_TRUE(write(host_.io, place_, content_).ok());
    }
    EXPECT_TRUE(written || deed == Deed::error_status)
        << "a fault of the connection is no error of the command: status " << std::hex << result.status.field();
    const CommandResult after = read(host_.io, place_, 64 * 512);
    ASSERT_TRUE(after.ok()) << after.note;
    ASSERT_EQ(after.data, content_);
  }

  FakeController controller_;
  std::uint16_t front_ = 0;
  Host host_;
  Bytes content_;
  std::uint64_t place_ = 0;
  std::uint32_t seed_ = 100;
};

TEST_F(HostileIo, EveryWrongAnswerToReadsAndWrites) {
  const IoStep steps[] = {
      {"read", StepKind::to_host, false, 16 * 512}, {"write", StepKind::plain, true, 4 * 512}, {"write by R2T", StepKind::from_host, true, 32 * 512}};
  for (const IoStep& step : steps) {
    for (Deed deed : deeds_for(step.kind)) {
      one(step, deed);
      if (HasFailure()) return;
    }
  }
}

// The I/O queue's own connect goes wrong once, after a loss: I/O waits, and comes through.
TEST_F(HostileIo, EveryStepOfTheIoQueuesConnect) {
  const std::pair<const char*, StepKind> steps[] = {{"accept", StepKind::accept}, {"ICReq", StepKind::ic}, {"Connect I/O", StepKind::plain}};
  for (const auto& [step, kind] : steps) {
    for (Deed deed : deeds_for(kind)) {
      const bool quick = deed == Deed::reset || deed == Deed::half_header || deed == Deed::wrong_cid || deed == Deed::error_status;
      if (!soak && !quick) continue;
      SCOPED_TRACE(std::string(step) + ", " + std::string(deed_name(deed)));
      controller_.forget();
      // The first of an association is the admin queue's.
      controller_.misbehave(step, std::string(step) == "Connect I/O" ? 1 : 2, deed);
      controller_.drop_connections();
      const CommandResult result = read(host_.io, 0, 16 * 512);
      ASSERT_TRUE(result.ok()) << result.note << " status " << std::hex << result.status.field();
      EXPECT_TRUE(std::ranges::equal(result.data, std::span(content_).first(16 * 512)));
      EXPECT_TRUE(eventually([&] { return controller_.misbehaved(); }));
    }
  }
}

// Events as fast as they are asked for: the server keeps answering, and I/O goes on.
TEST_F(HostileIo, AStormOfEventsHoldsUpNobody) {
  constexpr std::uint32_t namespace_changed = 0x00040002;
  const int events = soak ? 100'000 : 1'000;
  std::atomic<int> raised{0};
  std::atomic<bool> over{false};
  std::thread storm([&] {
    while (raised.load() < events && controller_.raise_event(namespace_changed)) raised.fetch_add(1);
    over.store(true);
  });
  std::size_t ios = 0;
  do {
    EXPECT_TRUE(read(host_.io, 0, 4096).ok());
    must("bdev_nvme_get_controllers", "{}");
    ++ios;
  } while (raised.load() < events / 2 && !over.load() && !HasFailure());
  controller_.resize(8192);
  storm.join();
  EXPECT_EQ(raised.load(), events);
  EXPECT_GT(ios, 0U);
  EXPECT_TRUE(controller_.raise_event(namespace_changed));
  EXPECT_TRUE(eventually([&] { return must("bdev_get_bdevs", "{}")[0]["num_blocks"].asUInt64() == 8192; })) << "the last word counts";
}

}  // namespace
}  // namespace catnap::protocol
