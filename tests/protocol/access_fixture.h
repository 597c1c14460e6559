// What tests of access share: subsystems of their own that go again, hosts with a name that come in at an address, and RPCs that must fail.
// Owner: the test's thread. Left out: what is tested.
#pragma once

#include <string>
#include <vector>

#include "tests/protocol/fixture.h"

namespace catnap::protocol {

inline constexpr const char* host_a = "nqn.2026-11.io.catnap:host-a";
inline constexpr const char* host_b = "nqn.2026-11.io.catnap:host-b";

struct Host {
  Connection admin;
  Connection io;
  std::uint16_t cntlid = 0;
};
struct Place {
  std::uint16_t port = 0;  // 0: the server's own
  std::string traddr = "127.0.0.1";
};

class AccessTest : public ProtocolTest {
 protected:
  void TearDown() override {
    for (const std::string& nqn : made_) rpc("nvmf_delete_subsystem", params(nqn, ""));
    ProtocolTest::TearDown();
  }

  static std::string params(const std::string& nqn, const std::string& rest) {
    return R"({"nqn": ")" + nqn + "\"" + (rest.empty() ? "" : ", ") + rest + "}";
  }
  static std::string address_members(const Place& place) {
    return R"({"trtype": "TCP", "traddr": ")" + place.traddr + R"(", "trsvcid": ")" + std::to_string(place.port == 0 ? server_port() : place.port) +
           R"("})";
  }
  static std::string listen_address(const Place& place) { return R"("listen_address": )" + address_members(place); }
  static std::string host_member(const std::string& host) { return R"("host": ")" + host + "\""; }

  void create(const std::string& nqn, const std::string& more = R"("allow_any_host": true)") {
    rpc("nvmf_create_subsystem", params(nqn, R"("serial_number": "CATNAP0042", )" + more));
    made_.push_back(nqn);
  }
  void forget(const std::string& nqn) { std::erase(made_, nqn); }
  static void add_namespace(const std::string& nqn, const std::string& bdev, std::uint32_t nsid, bool masked = false) {
    rpc("nvmf_subsystem_add_ns", params(nqn, R"("namespace": {"bdev_name": ")" + bdev + R"(", "nsid": )" + std::to_string(nsid) +
                                                 (masked ? R"(, "no_auto_visible": true})" : "}")));
  }
  static void listen(const std::string& nqn, const Place& place = {}) { rpc("nvmf_subsystem_add_listener", params(nqn, listen_address(place))); }
  static void unlisten(const std::string& nqn, const Place& place = {}) { rpc("nvmf_subsystem_remove_listener", params(nqn, listen_address(place))); }

  Connection open_at(const Place& place) {
    ConnectionOptions options;
    options.traddr = place.traddr;
    auto made = Connection::open(place.port == 0 ? server_port() : place.port, options);
    if (made) return std::move(*made);
    ADD_FAILURE() << "cannot connect to " << place.traddr << ": " << made.error().message;
    return {};
  }
  CommandResult try_connect(const std::string& nqn, const std::string& host, const Place& place = {}) {
    auto connection = open_at(place);
    return connect_queue(connection, {.subnqn = nqn, .hostnqn = host});
  }
  Connection admin_of(const std::string& nqn, const std::string& host, std::uint16_t& cntlid, const Place& place = {}) {
    auto admin = open_at(place);
    auto connected = connect_queue(admin, {.subnqn = nqn, .hostnqn = host});
    EXPECT_TRUE(succeeded(connected)) << host << " in " << nqn;
    cntlid = static_cast<std::uint16_t>(std::uint32_t{connected.cqe.dw0});
    if (connected.ok()) {
      EXPECT_TRUE(enable(admin));
    }
    return admin;
  }
  // A controller with one I/O queue.
  Host come_in(const std::string& nqn, const std::string& host, const Place& place = {}) {
    Host made;
    made.admin = admin_of(nqn, host, made.cntlid, place);
    made.io = open_at(place);
    EXPECT_TRUE(succeeded(connect_queue(made.io, {.subnqn = nqn, .hostnqn = host, .cntlid = made.cntlid, .qid = 1, .entries = max_queue_entries})));
    return made;
  }
  Connection discover(const std::string& host, const Place& place = {}) {
    std::uint16_t cntlid = 0;
    return admin_of(discovery_nqn, host, cntlid, place);
  }

  static bool is_gone(Connection& connection) { return connection.receive_until_closed().has_value(); }
  static bool is_there(Connection& admin) { return property_get(admin, nvme::Property::csts, nvme::PropertySize::four_bytes).ok(); }

  // Asks for one event of this kind, and returns once the target has the request.
  static std::uint16_t ask_for_event(Connection& admin, std::uint32_t kinds) {
    EXPECT_TRUE(succeeded(set_feature(admin, nvme::Feature::async_event_configuration, kinds)));
    auto cid = admin.submit(admin_command(nvme::AdminOpcode::async_event_request));
    EXPECT_TRUE(is_there(admin));
    return cid;
  }
  // Events of a change are on their way before its RPC is answered, so two round trips later they would be here.
  static bool nothing_told(Connection& admin, std::uint16_t cid) {
    EXPECT_TRUE(is_there(admin) && is_there(admin));
    return admin.wait(cid, Milliseconds(0)).outcome == Outcome::timed_out;
  }

  static std::vector<std::uint32_t> active_namespaces(Connection& admin) {
    auto list = data_as<nvme::NamespaceList>(identify(admin, nvme::Cns::active_namespaces));
    std::vector<std::uint32_t> nsids;
    for (std::uint32_t nsid : list.nsid) {
      if (nsid != 0) nsids.push_back(nsid);
    }
    return nsids;
  }

  // An RPC that must fail: its code and text.
  static Error refused(const std::string& method, const std::string& params_json) {
    auto answer = server().rpc().call(method, json(params_json));
    if (!answer) return answer.error();
    ADD_FAILURE() << method << " " << params_json << " was taken";
    return Error(0, "");
  }

 private:
  std::vector<std::string> made_;
};

}  // namespace catnap::protocol
