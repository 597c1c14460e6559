// What a correct controller answers: enough of NVMe that a host attaches it and does I/O on one namespace.
// Owner: see fake_connection.h. Left out: everything optional.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "tests/protocol/fake/fake_connection.h"
#include "transport/nvme/features.h"
#include "transport/nvme/identify.h"
#include "transport/nvme/log_page.h"
#include "transport/nvme/status.h"

namespace catnap::protocol {
namespace {

constexpr std::uint16_t fake_cntlid = 7;

std::string hex(const char* prefix, unsigned value) {
  char text[64];
  std::snprintf(text, sizeof(text), "%s %02Xh", prefix, value);
  return text;
}

void refuse(FakeAnswer& answer, nvme::Status status) { nvme::set_status(answer.cqe, status.with_dnr()); }

template <typename T>
void answer_with(FakeAnswer& answer, const T& page, std::size_t length) {
  const auto bytes = std::as_bytes(std::span<const T, 1>(&page, 1));
  answer.kind = StepKind::to_host;
  answer.data.assign(bytes.begin(), bytes.end());
  answer.data.resize(length);
}

}  // namespace

FakeAnswer FakeConnection::answer_of(const nvme::SubmissionEntry& sqe, std::span<const std::byte> in_capsule) {
  FakeAnswer answer;
  answer.cqe.cid = std::uint16_t{sqe.cid};
  answer.cqe.sqhd = static_cast<std::uint16_t>(commands_ % entries_);
  if (sqe.opcode == static_cast<std::uint8_t>(nvme::AdminOpcode::fabrics)) {
    fabrics(sqe, answer);
  } else if (qid_ == 0) {
    admin(sqe, answer);
  } else {
    io(sqe, in_capsule, answer);
  }
  return answer;
}

void FakeConnection::fabrics(const nvme::SubmissionEntry& sqe, FakeAnswer& answer) {
  switch (static_cast<nvme::FabricsType>(sqe.fctype())) {
    case nvme::FabricsType::connect: {
      nvme::ConnectCommand connect;
      std::memcpy(static_cast<void*>(&connect), static_cast<const void*>(&sqe), sizeof(connect));
      qid_ = connect.qid;
      entries_ = static_cast<std::uint16_t>(connect.sqsize + 1);
      answer.step = qid_ == 0 ? "Connect admin" : "Connect I/O";
      answer.cqe.dw0 = std::uint32_t{fake_cntlid};
      return;
    }
    case nvme::FabricsType::property_get:
    case nvme::FabricsType::property_set: {
      nvme::PropertyCommand command;
      std::memcpy(static_cast<void*>(&command), static_cast<const void*>(&sqe), sizeof(command));
      const bool set = command.fctype == static_cast<std::uint8_t>(nvme::FabricsType::property_set);
      answer.step = hex(set ? "Property Set" : "Property Get", command.offset);
      if (set) {
        cc_ = nvme::Cc::from_value(static_cast<std::uint32_t>(command.value));
        return;
      }
      switch (static_cast<nvme::Property>(std::uint32_t{command.offset})) {
        case nvme::Property::cap:
          answer.cqe.set_dw0_dw1(nvme::Cap{.mqes = 127, .to = 20}.value());
          return;
        case nvme::Property::vs:
          answer.cqe.dw0 = nvme::version_value(1, 4, 0);
          return;
        case nvme::Property::cc:
          answer.cqe.dw0 = cc_.value();
          return;
        case nvme::Property::csts: {
          nvme::Csts csts{.rdy = cc_.en};
          if (cc_.shn != nvme::ShutdownNotification::none) csts.shst = nvme::ShutdownStatus::complete;
          answer.cqe.dw0 = csts.value();
          return;
        }
        default:
          refuse(answer, nvme::GenericStatus::invalid_field);
          return;
      }
    }
    default:
      answer.step = hex("fabrics", sqe.fctype());
      refuse(answer, nvme::GenericStatus::invalid_field);
  }
}

void FakeConnection::admin(const nvme::SubmissionEntry& sqe, FakeAnswer& answer) {
  const auto opcode = static_cast<nvme::AdminOpcode>(sqe.opcode);
  switch (opcode) {
    case nvme::AdminOpcode::identify:
      return identify(sqe, answer);
    case nvme::AdminOpcode::get_log_page:
      return log_page(sqe, answer);
    case nvme::AdminOpcode::set_features:
    case nvme::AdminOpcode::get_features: {
      const unsigned feature = sqe.cdw10 & 0xFF;
      answer.step = hex(opcode == nvme::AdminOpcode::set_features ? "Set Features" : "Get Features", feature);
      const std::uint32_t granted = controller_.options_.granted_queues - 1U;
      if (feature == static_cast<unsigned>(nvme::Feature::number_of_queues)) answer.cqe.dw0 = granted << 16 | granted;
      return;
    }
    case nvme::AdminOpcode::keep_alive:
      answer.step = "Keep Alive";
      return;
    case nvme::AdminOpcode::abort:
      answer.step = "Abort";
      answer.cqe.dw0 = 1U;  // not aborted
      return;
    case nvme::AdminOpcode::async_event_request:
      answer.step = "Asynchronous Event Request";
      answer.held = true;
      return;
    default:
      answer.step = hex("admin", sqe.opcode);
      refuse(answer, nvme::GenericStatus::invalid_opcode);
  }
}

void FakeConnection::identify(const nvme::SubmissionEntry& sqe, FakeAnswer& answer) {
  const auto cns = static_cast<nvme::Cns>(sqe.cdw10 & 0xFF);
  answer.step = hex("Identify CNS", static_cast<unsigned>(cns));
  answer.kind = StepKind::to_host;
  answer.data.resize(nvme::identify_bytes);
  if (cns == nvme::Cns::controller) {
    nvme::IdentifyController page;
    std::ranges::fill(page.sn, ' ');
    std::ranges::fill(page.mn, ' ');
    std::ranges::fill(page.fr, ' ');
    page.sn[0] = page.mn[0] = page.fr[0] = 'F';
    page.cmic = nvme::cmic_multi_controller;
    page.cqt = 1;  // ms: what was under way is over at once when a connection ends
    page.mdts = 5;
    page.cntlid = fake_cntlid;
    page.ver = nvme::version_value(1, 4, 0);
    page.oaes = nvme::oaes_namespace_attribute;
    page.cntrltype = static_cast<std::uint8_t>(nvme::ControllerType::io);
    page.aerl = 3;
    page.kas = 10;
    page.lpa = nvme::lpa_extended_data;
    page.sqes = 0x66;
    page.cqes = 0x44;
    page.maxcmd = 128;
    page.nn = 1;
    page.oncs = nvme::oncs_dataset_management | nvme::oncs_write_zeroes;
    page.sgls = nvme::sgls_supported | nvme::sgls_offset_in_address;
    page.ioccsz = (64U + 4096U) / 16;
    page.iorcsz = 1;
    std::ranges::copy(controller_.options_.subnqn, page.subnqn.begin());
    return answer_with(answer, page, nvme::identify_bytes);
  }
  if (cns == nvme::Cns::namespace_data) {
    nvme::IdentifyNamespace page;
    {
      const std::lock_guard lock(controller_.mutex_);
      page.nsze = page.ncap = page.nuse = std::uint64_t{controller_.options_.blocks};
    }
    page.lbaf[0].lbads = controller_.options_.lbads;
    page.nguid.fill(0xA5);
    return answer_with(answer, page, nvme::identify_bytes);
  }
  if (cns == nvme::Cns::active_namespaces && sqe.nsid < 1U) {
    nvme::NamespaceList page;
    page.nsid[0] = 1;
    return answer_with(answer, page, nvme::identify_bytes);
  }
  if (cns == nvme::Cns::namespace_descriptors) {
    // NGUID, as in Identify Namespace.
    answer.data[0] = std::byte{static_cast<std::uint8_t>(nvme::NamespaceIdType::nguid)};
    answer.data[1] = std::byte{16};
    std::fill_n(answer.data.begin() + sizeof(nvme::NamespaceDescriptor), 16, std::byte{0xA5});
  }
}

void FakeConnection::log_page(const nvme::SubmissionEntry& sqe, FakeAnswer& answer) {
  answer.step = hex("Get Log Page", sqe.cdw10 & 0xFF);
  answer.kind = StepKind::to_host;
  const std::uint32_t dwords = ((sqe.cdw11 & 0xFFFFU) << 16 | sqe.cdw10 >> 16) + 1;
  answer.data.resize(std::min(dwords, 65536U) * std::size_t{4});
}

void FakeConnection::io(const nvme::SubmissionEntry& sqe, std::span<const std::byte> in_capsule, FakeAnswer& answer) {
  const unsigned lbads = controller_.options_.lbads;
  const std::uint64_t at = sqe.slba() << lbads;
  const std::size_t length = std::size_t{sqe.block_count()} << lbads;
  const auto opcode = static_cast<nvme::IoOpcode>(sqe.opcode);
  std::size_t bytes = 0;
  {
    const std::lock_guard lock(controller_.mutex_);
    bytes = controller_.memory_.size();
  }
  const bool in_range = at <= bytes && length <= bytes - at;
  switch (opcode) {
    case nvme::IoOpcode::read: {
      answer.step = "read";
      answer.kind = StepKind::to_host;
      if (!in_range) return refuse(answer, nvme::GenericStatus::lba_out_of_range);
      const std::lock_guard lock(controller_.mutex_);
      const auto from = controller_.memory_.begin() + static_cast<std::ptrdiff_t>(at);
      answer.data.assign(from, from + static_cast<std::ptrdiff_t>(length));
      return;
    }
    case nvme::IoOpcode::write:
      answer.step = "write";
      if (!in_range) return refuse(answer, nvme::GenericStatus::lba_out_of_range);
      answer.write_at = at;
      if (sqe.sgl.is_in_capsule()) {
        if (in_capsule.size() == length) return store(at, in_capsule);
        return refuse(answer, nvme::GenericStatus::data_sgl_length_invalid);
      }
      answer.step = "write by R2T";
      answer.kind = StepKind::from_host;
      answer.wanted = static_cast<std::uint32_t>(length);
      return;
    case nvme::IoOpcode::flush:
      answer.step = "flush";
      return;
    case nvme::IoOpcode::write_zeroes:
      answer.step = "write zeroes";
      if (!in_range) return refuse(answer, nvme::GenericStatus::lba_out_of_range);
      return store(at, Bytes(length));
    default:
      answer.step = hex("I/O", sqe.opcode);
      refuse(answer, nvme::GenericStatus::invalid_opcode);
  }
}

void FakeConnection::store(std::uint64_t at, std::span<const std::byte> bytes) {
  const std::lock_guard lock(controller_.mutex_);
  if (at + bytes.size() <= controller_.memory_.size()) std::ranges::copy(bytes, controller_.memory_.begin() + static_cast<std::ptrdiff_t>(at));
}

}  // namespace catnap::protocol
