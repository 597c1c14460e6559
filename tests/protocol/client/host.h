// Commands as a host makes them: fabrics, admin and I/O command entries, and the steps from a TCP connection to a queue ready for I/O.
// Owner: the test's thread. Left out: PDUs (connection.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/protocol/client/connection.h"
#include "transport/nvme/dsm.h"
#include "transport/nvme/fabrics.h"
#include "transport/nvme/features.h"
#include "transport/nvme/identify.h"
#include "transport/nvme/log_page.h"

namespace catnap::protocol {

inline constexpr const char* default_host_nqn = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555";

// What Connect says.
struct ConnectParameters {
  std::string subnqn;
  std::string hostnqn = default_host_nqn;
  std::uint8_t hostid_byte = 0x5A;  // all 16 bytes of HOSTID
  std::uint16_t cntlid = nvme::cntlid_dynamic;
  std::uint16_t qid = 0;
  std::uint16_t entries = 32;  // 1's based
  std::uint8_t cattr = 0;
  std::uint32_t kato_ms = 0;
  std::uint16_t recfmt = 0;
};

nvme::ConnectCommand connect_command(const ConnectParameters& parameters);
nvme::ConnectData connect_data(const ConnectParameters& parameters);
CommandResult connect_queue(Connection& connection, const ConnectParameters& parameters);

CommandResult property_get(Connection& admin, nvme::Property property, nvme::PropertySize size);
CommandResult property_set(Connection& admin, nvme::Property property, nvme::PropertySize size, std::uint64_t value);
// CC.EN = 1 as Linux writes it, then CSTS until RDY. False when it does not get ready.
bool enable(Connection& admin);
// CC.EN = 0, then CSTS until RDY is clear; before that, enabling again is undefined. False when it stays ready.
bool disable(Connection& admin);

template <typename T>
Bytes bytes_of(const T& value) {
  auto view = std::as_bytes(std::span<const T, 1>(&value, 1));
  return Bytes(view.begin(), view.end());
}
// What a result's data begin with.
template <typename T>
T data_as(const CommandResult& result, std::size_t offset = 0) {
  T value{};
  if (offset < result.data.size()) {
    std::memcpy(static_cast<void*>(&value), result.data.data() + offset, std::min(sizeof(T), result.data.size() - offset));
  }
  return value;
}

// A host with an enabled controller and so many I/O queues (QID 1 and up). What failed leaves `io` shorter; not connected at all: empty.
struct HostQueues {
  Connection admin;
  std::vector<Connection> io;
  std::uint16_t cntlid = 0;
};
HostQueues connect_host(std::uint16_t port, const std::string& subnqn, unsigned io_queues = 1, std::uint16_t entries = 32);

nvme::SubmissionEntry admin_command(nvme::AdminOpcode opcode, std::uint32_t nsid = 0);
nvme::SubmissionEntry io_command(nvme::IoOpcode opcode, std::uint64_t slba, std::uint32_t blocks, std::uint32_t nsid = 1);

CommandResult identify(Connection& admin, nvme::Cns cns, std::uint32_t nsid = 0, std::uint8_t csi = 0, std::uint16_t cntid = 0);
struct LogRequest {
  nvme::LogPage page;
  std::uint32_t length_bytes;
  std::uint32_t nsid = nvme::broadcast_nsid;
  std::uint64_t offset_bytes = 0;
  std::uint8_t lsp = 0;
  bool retain_event = false;
};
nvme::SubmissionEntry log_command(const LogRequest& request);
CommandResult get_log(Connection& admin, const LogRequest& request);
CommandResult get_feature(Connection& admin, nvme::Feature feature, nvme::FeatureSelect select = nvme::FeatureSelect::current, std::uint32_t nsid = 0,
                          std::uint32_t data_bytes = 0, std::uint32_t cdw11 = 0);
CommandResult set_feature(Connection& admin, nvme::Feature feature, std::uint32_t cdw11, Payload payload = Payload::none());

// Blocks of 512 bytes; `bytes` is a multiple. Above 4096 bytes the data goes by R2T.
inline constexpr std::uint32_t test_block_bytes = 512;
CommandResult write(Connection& io, std::uint64_t slba, Bytes bytes, std::uint32_t nsid = 1);
CommandResult read(Connection& io, std::uint64_t slba, std::uint32_t length_bytes, std::uint32_t nsid = 1);
CommandResult flush(Connection& io, std::uint32_t nsid = 1);

}  // namespace catnap::protocol
