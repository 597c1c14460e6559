// What every protocol test stands on: one server per test program, configured by RPC, and in each test a bystander whose I/O must go on undisturbed.
// Owner: the test's thread. Left out: what is tested.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>

#include "tests/protocol/client/host.h"
#include "tests/protocol/client/server_process.h"

namespace catnap::protocol {

inline constexpr const char* subsystem_nqn = "nqn.2026-11.io.catnap:test";         // any host; namespace 1
inline constexpr const char* restricted_nqn = "nqn.2026-11.io.catnap:restricted";  // only allowed_host_nqn
inline constexpr const char* allowed_host_nqn = "nqn.2026-11.io.catnap:host-allowed";
inline constexpr const char* discovery_nqn = "nqn.2014-08.org.nvmexpress.discovery";
inline constexpr std::uint64_t namespace_blocks = 131072;  // of test_block_bytes: 64 MiB
inline constexpr std::uint32_t max_io_bytes = 1U << 20;    // MDTS as configured
inline constexpr std::uint32_t in_capsule_bytes = 4096;
inline constexpr std::uint16_t max_queue_entries = 128;

// The server of this program; started at the first use, stopped (and its exit code checked) at the end.
ServerProcess& server();
std::uint16_t server_port();
// An RPC that must succeed; its result.
Json::Value rpc(const std::string& method, const std::string& params_json = "");

// An admin queue and an I/O queue of one controller.
struct Queues {
  Connection admin;
  Connection io;
  std::uint16_t cntlid = 0;
};
struct QueueOptions {
  ConnectionOptions io;
  std::uint8_t cattr = 0;
  std::uint16_t entries = max_queue_entries;
};

// One way for a connection to be terminated; no FEI: it is reserved for this FES, or may be anything.
struct Termination {
  tcp::FatalError fes;
  std::optional<std::uint32_t> fei;
};
inline Termination invalid_field_at(std::uint32_t offset) { return {tcp::FatalError::invalid_header_field, offset}; }
inline Termination sequence_error() { return {tcp::FatalError::pdu_sequence_error, std::nullopt}; }

class ProtocolTest : public testing::Test {
 protected:
  void SetUp() override;     // the bystander writes its block
  void TearDown() override;  // the bystander reads it back on the same queue, and the server lives

  // These report a failure themselves; what they return is then not connected.
  Connection open(ConnectionOptions options = {});
  Connection open_bare(ConnectionOptions options = {});
  // An enabled controller's admin queue. `cntlid` gets its id.
  Connection open_admin(ConnectParameters parameters = {.subnqn = subsystem_nqn}, std::uint16_t* cntlid = nullptr);
  Connection open_io(std::uint16_t cntlid, std::uint16_t qid = 1, QueueOptions options = {});
  Queues open_queues(QueueOptions options = {});

  // The next thing on the connection is a C2HTermReq that is one of `allowed` and quotes the header of `offending`.
  void expect_terminated(Connection& connection, std::initializer_list<Termination> allowed, const Bytes& offending = {});
  // One round trip on the bystander's queue: by then the server has seen whatever other connections sent before.
  void let_server_catch_up();

 private:
  Queues bystander_;
  Bytes bystander_bytes_;
};

// For EXPECT_TRUE(has_status(result, nvme::GenericStatus::invalid_field)).
testing::AssertionResult has_status(const CommandResult& result, nvme::Status expected);
testing::AssertionResult has_status_of(const CommandResult& result, std::initializer_list<nvme::Status> expected);
testing::AssertionResult succeeded(const CommandResult& result);

}  // namespace catnap::protocol
