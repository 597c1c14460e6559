// What a FakeController does wrong, byte by byte. Owner: see fake_connection.h. Left out: when (the script in fake_controller.h).
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "reactor/base/check.h"
#include "tests/protocol/fake/fake_connection.h"
#include "transport/nvme/status.h"
#include "transport/tcp/pdu.h"

namespace catnap::protocol {
namespace {

// Places in the common header.
constexpr std::size_t at_type = 0, at_flags = 1, at_hlen = 2, at_plen = 4;

void flip_last_byte(Bytes& pdu) { pdu.back() = pdu.back() ^ std::byte{0x01}; }

}  // namespace

bool FakeConnection::reset() {
  // Linger 0: close() sends RST. The descriptor's number stays taken until then.
  const linger now{1, 0};
  ::setsockopt(socket_.fd(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  socket_.close();
  return false;
}

bool FakeConnection::answer_correctly(const FakeAnswer& answer) {
  if (answer.held) {
    {
      const std::lock_guard lock(events_mutex_);
      waiting_events_.push_back(answer.cqe.cid);
    }
    const std::lock_guard lock(controller_.mutex_);  // who is about to wait has looked before, or is woken
    controller_.event_request_came_.notify_all();
    return true;
  }
  if (answer.wanted > 0) {
    writing_[answer.cqe.cid] = {answer, Bytes(answer.wanted), 0};
    return send(r2t_pdu(answer.cqe.cid, 0, answer.wanted));
  }
  const bool success = nvme::status_of(answer.cqe).is_success();
  if (success && !answer.data.empty() && !send(data_pdu(answer.cqe.cid, 0, answer.data, true))) return false;
  return send(response_pdu(answer.cqe));
}

bool FakeConnection::perform(Deed deed, const FakeAnswer& answer) {
  switch (deed) {
    case Deed::reset:
    case Deed::close:
    case Deed::silence:
    case Deed::half_header:
    case Deed::half_pdu:
    case Deed::garbage:
    case Deed::term_req:
    case Deed::trickle:
    case Deed::unknown_type:
    case Deed::host_type:
    case Deed::wrong_hlen:
    case Deed::tiny_plen:
    case Deed::huge_plen:
      return bad_connection(deed, response_pdu(answer.cqe));
    case Deed::no_data:
    case Deed::short_data:
    case Deed::over_long_data:
    case Deed::data_beyond:
    case Deed::data_gap:
    case Deed::data_twice:
    case Deed::data_of_other_cid:
    case Deed::data_length_lies:
    case Deed::bad_data_digest:
      return bad_data(deed, answer);
    case Deed::r2t_beyond:
    case Deed::r2t_empty:
    case Deed::r2t_of_other_cid:
    case Deed::r2t_twice:
    case Deed::early_success:
    case Deed::r2t_for_read:
      return bad_r2t(deed, answer);
    default:
      return bad_pdu(deed, answer);
  }
}

// What has nothing to do with what was asked. `correct`: the bytes of the right answer.
bool FakeConnection::bad_connection(Deed deed, std::span<const std::byte> correct) {
  Bytes pdu(correct.begin(), correct.end());
  switch (deed) {
    case Deed::reset:
      return reset();
    case Deed::close:
      return false;
    case Deed::silence:
      mute_ = true;
      return true;
    case Deed::half_header:
      send(correct.first(5));
      return false;
    case Deed::half_pdu:
      mute_ = true;
      return send(correct.first(correct.size() - 1));
    case Deed::garbage:
      return send(pattern(4096, 7));
    case Deed::trickle:
      for (const std::byte& byte : correct) {
        if (!send(std::span(&byte, 1))) return false;
      }
      return true;
    case Deed::term_req: {
      auto header = header_of_type<tcp::TermReq>(tcp::PduType::c2h_term_req);
      header.fes = static_cast<std::uint16_t>(tcp::FatalError::pdu_sequence_error);
      return send(build_pdu(header));
    }
    case Deed::unknown_type:
      patch(pdu, at_type, std::uint8_t{0x42});
      return send(pdu);
    case Deed::host_type:
      return send(build_pdu(header_of_type<tcp::CapsuleCmd>(tcp::PduType::capsule_cmd), {}, digests_));
    case Deed::wrong_hlen:
      patch(pdu, at_hlen, std::uint8_t{12});
      return send(pdu);
    case Deed::tiny_plen:
      patch(pdu, at_plen, le32(4));
      return send(pdu);
    case Deed::huge_plen:
      patch(pdu, at_plen, le32(0xFFFFFFF0));
      return send(pdu);
    default:
      check_failed("no such deed");
  }
}

bool FakeConnection::bad_pdu(Deed deed, const FakeAnswer& answer) {
  FakeAnswer bad = answer;
  switch (deed) {
    case Deed::second_ic_resp: {
      auto response = header_of_type<tcp::IcResp>(tcp::PduType::ic_resp);
      response.maxh2cdata = 65536U;
      return send(build_pdu(response));
    }
    case Deed::bad_header_digest: {
      Bytes pdu = response_pdu(answer.cqe);
      if (digests_.header) {
        flip_last_byte(pdu);
      } else {
        patch(pdu, at_flags, tcp::flag_hdgst);
      }
      return send(pdu);
    }
    case Deed::error_status:
      nvme::set_status(bad.cqe, nvme::Status(nvme::GenericStatus::internal_error).with_dnr());
      bad.held = false;
      bad.wanted = 0;
      return answer_correctly(bad);
    case Deed::wrong_cid:
      bad.cqe.cid = static_cast<std::uint16_t>(answer.cqe.cid ^ 0x0F0F);
      return send(response_pdu(bad.cqe));
    case Deed::answer_twice:
      if (answer.held || answer.wanted > 0) return send(response_pdu(answer.cqe)) && send(response_pdu(answer.cqe));
      return answer_correctly(answer) && send(response_pdu(answer.cqe));
    default:
      check_failed("no such deed");
  }
}

bool FakeConnection::bad_data(Deed deed, const FakeAnswer& answer) {
  const std::uint16_t cid = answer.cqe.cid;
  const std::span<const std::byte> data(answer.data);
  const auto half = static_cast<std::uint32_t>(data.size() / 8 * 4);
  const Bytes response = response_pdu(answer.cqe);
  auto then_success = [&](Bytes pdu) { return send(pdu) && send(response); };
  switch (deed) {
    case Deed::no_data:
      return send(response);
    case Deed::short_data:
      return then_success(data_pdu(cid, 0, data.first(half), true));
    case Deed::over_long_data: {
      Bytes longer(data.begin(), data.end());
      longer.resize(data.size() + 512);
      return then_success(data_pdu(cid, 0, longer, true));
    }
    case Deed::data_beyond:
      return then_success(data_pdu(cid, static_cast<std::uint32_t>(data.size()), data, true));
    case Deed::data_gap:
      return then_success(data_pdu(cid, half, data.subspan(half), true));
    case Deed::data_twice:
      return send(data_pdu(cid, 0, data, true)) && then_success(data_pdu(cid, 0, data, true));
    case Deed::data_of_other_cid:
      return then_success(data_pdu(static_cast<std::uint16_t>(cid ^ 0x0F0F), 0, data, true));
    case Deed::data_length_lies: {
      Bytes pdu = data_pdu(cid, 0, data.first(half), true);
      patch(pdu, offsetof(tcp::C2HData, datal), le32(static_cast<std::uint32_t>(data.size())));
      return then_success(pdu);
    }
    case Deed::bad_data_digest: {
      Bytes pdu = data_pdu(cid, 0, data, true);
      if (digests_.data) {
        flip_last_byte(pdu);
      } else {
        patch(pdu, at_flags, static_cast<std::uint8_t>(tcp::flag_ddgst | tcp::flag_last_pdu));
      }
      return then_success(pdu);
    }
    default:
      check_failed("no such deed");
  }
}

bool FakeConnection::bad_r2t(Deed deed, const FakeAnswer& answer) {
  const std::uint16_t cid = answer.cqe.cid;
  const std::uint32_t wanted = answer.wanted;
  switch (deed) {
    case Deed::r2t_beyond:
      return send(r2t_pdu(cid, wanted, wanted));
    case Deed::r2t_empty:
      return send(r2t_pdu(cid, 0, 0));
    case Deed::r2t_of_other_cid:
      return send(r2t_pdu(static_cast<std::uint16_t>(cid ^ 0x0F0F), 0, wanted));
    case Deed::r2t_twice:
      return send(r2t_pdu(cid, 0, wanted)) && send(r2t_pdu(cid, 0, wanted));
    case Deed::early_success:
      return send(response_pdu(answer.cqe));
    case Deed::r2t_for_read:
      return send(r2t_pdu(cid, 0, static_cast<std::uint32_t>(answer.data.size())));
    default:
      check_failed("no such deed");
  }
}

}  // namespace catnap::protocol
