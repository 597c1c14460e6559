// Command entries and the usual steps of a host. Owner: the test's thread. Left out: see host.h.
#include "tests/protocol/client/host.h"

#include <algorithm>
#include <chrono>

namespace catnap::protocol {

namespace {

// In-capsule data size the tests configure for I/O queues (and SPDK's default).
constexpr std::size_t io_in_capsule_bytes = 4096;
// CC as Linux writes it: IOSQES 6, IOCQES 4, EN.
constexpr std::uint32_t cc_enabled = 0x00460001;
constexpr std::uint32_t cc_disabled = 0x00460000;

std::uint8_t fabrics_opcode() { return static_cast<std::uint8_t>(nvme::AdminOpcode::fabrics); }

void copy_nqn(std::array<char, nvme::nqn_field_bytes>& field, const std::string& nqn) {
  std::copy_n(nqn.begin(), std::min(nqn.size(), field.size()), field.begin());
}

nvme::PropertyCommand property_command(nvme::FabricsType type, nvme::Property property, nvme::PropertySize size) {
  nvme::PropertyCommand command;
  command.opcode = fabrics_opcode();
  command.fctype = static_cast<std::uint8_t>(type);
  command.attrib = static_cast<std::uint8_t>(size);
  command.offset = static_cast<std::uint32_t>(property);
  return command;
}

}  // namespace

nvme::ConnectCommand connect_command(const ConnectParameters& parameters) {
  nvme::ConnectCommand command;
  command.opcode = fabrics_opcode();
  command.fctype = static_cast<std::uint8_t>(nvme::FabricsType::connect);
  command.recfmt = parameters.recfmt;
  command.qid = parameters.qid;
  command.sqsize = static_cast<std::uint16_t>(parameters.entries - 1);
  command.cattr = parameters.cattr;
  command.kato = parameters.kato_ms;
  return command;
}

nvme::ConnectData connect_data(const ConnectParameters& parameters) {
  nvme::ConnectData data;
  data.hostid.fill(parameters.hostid_byte);
  data.cntlid = parameters.cntlid;
  copy_nqn(data.subnqn, parameters.subnqn);
  copy_nqn(data.hostnqn, parameters.hostnqn);
  return data;
}

CommandResult connect_queue(Connection& connection, const ConnectParameters& parameters) {
  auto sqe = nvme::view_as<nvme::SubmissionEntry>(connect_command(parameters));
  return connection.run(sqe, Payload::in_capsule(bytes_of(connect_data(parameters))));
}

CommandResult property_get(Connection& admin, nvme::Property property, nvme::PropertySize size) {
  return admin.run(nvme::view_as<nvme::SubmissionEntry>(property_command(nvme::FabricsType::property_get, property, size)));
}

CommandResult property_set(Connection& admin, nvme::Property property, nvme::PropertySize size, std::uint64_t value) {
  auto command = property_command(nvme::FabricsType::property_set, property, size);
  command.value = value;
  return admin.run(nvme::view_as<nvme::SubmissionEntry>(command));
}

namespace {

bool configure_until_ready_is(Connection& admin, std::uint32_t cc, bool ready) {
  if (!property_set(admin, nvme::Property::cc, nvme::PropertySize::four_bytes, cc).ok()) return false;
  auto deadline = std::chrono::steady_clock::now() + patience;
  while (std::chrono::steady_clock::now() < deadline) {
    auto csts = property_get(admin, nvme::Property::csts, nvme::PropertySize::four_bytes);
    if (!csts.ok()) return false;
    if (nvme::Csts::from_value(csts.cqe.dw0).rdy == ready) return true;
  }
  return false;
}

}  // namespace

bool enable(Connection& admin) { return configure_until_ready_is(admin, cc_enabled, true); }
bool disable(Connection& admin) { return configure_until_ready_is(admin, cc_disabled, false); }

HostQueues connect_host(std::uint16_t port, const std::string& subnqn, unsigned io_queues, std::uint16_t entries) {
  HostQueues host;
  auto admin = Connection::open(port);
  if (!admin) return host;
  host.admin = std::move(*admin);
  const CommandResult connected = connect_queue(host.admin, {.subnqn = subnqn});
  if (!connected.ok() || !enable(host.admin)) return host;
  host.cntlid = static_cast<std::uint16_t>(std::uint32_t{connected.cqe.dw0});
  if (io_queues == 0 || !set_feature(host.admin, nvme::Feature::number_of_queues, (io_queues - 1) | (io_queues - 1) << 16).ok()) return host;
  for (unsigned qid = 1; qid <= io_queues; ++qid) {
    auto io = Connection::open(port);
    if (!io) break;
    const ConnectParameters parameters{.subnqn = subnqn, .cntlid = host.cntlid, .qid = static_cast<std::uint16_t>(qid), .entries = entries};
    if (!connect_queue(*io, parameters).ok()) break;
    host.io.push_back(std::move(*io));
  }
  return host;
}

nvme::SubmissionEntry admin_command(nvme::AdminOpcode opcode, std::uint32_t nsid) {
  nvme::SubmissionEntry sqe;
  sqe.opcode = static_cast<std::uint8_t>(opcode);
  sqe.nsid = nsid;
  return sqe;
}

nvme::SubmissionEntry io_command(nvme::IoOpcode opcode, std::uint64_t slba, std::uint32_t blocks, std::uint32_t nsid) {
  nvme::SubmissionEntry sqe;
  sqe.opcode = static_cast<std::uint8_t>(opcode);
  sqe.nsid = nsid;
  sqe.set_slba(slba);
  sqe.cdw12 = blocks - 1;
  return sqe;
}

CommandResult identify(Connection& admin, nvme::Cns cns, std::uint32_t nsid, std::uint8_t csi, std::uint16_t cntid) {
  auto sqe = admin_command(nvme::AdminOpcode::identify, nsid);
  sqe.cdw10 = static_cast<std::uint32_t>(cns) | static_cast<std::uint32_t>(cntid) << 16;
  sqe.cdw11 = static_cast<std::uint32_t>(csi) << 24;
  return admin.run(sqe, Payload::to_host(nvme::identify_bytes));
}

nvme::SubmissionEntry log_command(const LogRequest& request) {
  auto sqe = admin_command(nvme::AdminOpcode::get_log_page, request.nsid);
  std::uint32_t dwords = request.length_bytes / 4 - 1;
  sqe.cdw10 = static_cast<std::uint32_t>(request.page) | static_cast<std::uint32_t>(request.lsp) << 8 |
              static_cast<std::uint32_t>(request.retain_event) << 15 | (dwords & 0xFFFF) << 16;
  sqe.cdw11 = dwords >> 16;
  sqe.cdw12 = static_cast<std::uint32_t>(request.offset_bytes);
  sqe.cdw13 = static_cast<std::uint32_t>(request.offset_bytes >> 32);
  return sqe;
}

CommandResult get_log(Connection& admin, const LogRequest& request) {
  return admin.run(log_command(request), Payload::to_host(request.length_bytes));
}

CommandResult get_feature(Connection& admin, nvme::Feature feature, nvme::FeatureSelect select, std::uint32_t nsid, std::uint32_t data_bytes,
                          std::uint32_t cdw11) {
  auto sqe = admin_command(nvme::AdminOpcode::get_features, nsid);
  sqe.cdw10 = static_cast<std::uint32_t>(feature) | static_cast<std::uint32_t>(select) << 8;
  sqe.cdw11 = cdw11;
  return admin.run(sqe, data_bytes == 0 ? Payload::none() : Payload::to_host(data_bytes));
}

CommandResult set_feature(Connection& admin, nvme::Feature feature, std::uint32_t cdw11, Payload payload) {
  auto sqe = admin_command(nvme::AdminOpcode::set_features);
  sqe.cdw10 = static_cast<std::uint32_t>(feature);
  sqe.cdw11 = cdw11;
  return admin.run(sqe, std::move(payload));
}

CommandResult write(Connection& io, std::uint64_t slba, Bytes bytes, std::uint32_t nsid) {
  auto sqe = io_command(nvme::IoOpcode::write, slba, static_cast<std::uint32_t>(bytes.size() / test_block_bytes), nsid);
  bool small = bytes.size() <= io_in_capsule_bytes;
  return io.run(sqe, small ? Payload::in_capsule(std::move(bytes)) : Payload::by_r2t(std::move(bytes)));
}

CommandResult read(Connection& io, std::uint64_t slba, std::uint32_t length_bytes, std::uint32_t nsid) {
  return io.run(io_command(nvme::IoOpcode::read, slba, length_bytes / test_block_bytes, nsid), Payload::to_host(length_bytes));
}

CommandResult flush(Connection& io, std::uint32_t nsid) {
  nvme::SubmissionEntry sqe;
  sqe.opcode = static_cast<std::uint8_t>(nvme::IoOpcode::flush);
  sqe.nsid = nsid;
  return io.run(sqe);
}

}  // namespace catnap::protocol
