// Is this PDU header well formed? Pure functions over bytes: no sockets, no state but what the connection negotiated.
// Owner: none. Left out: what a PDU means (queue_pair.cpp); data digests (known only after the data).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "transport/tcp/pdu.h"

namespace catnap::tcp {

// Why a connection must end: what the C2HTermReq or H2CTermReq says (TCP Transport 1.0c, sections 3.6.2.4 and 3.6.2.5).
struct Fault {
  FatalError fes;
  std::uint32_t fei;   // offset of the field, or the digest received, as fes demands
  const char* reason;  // for the log
};

// What is known once the 8 common bytes of a PDU are there.
struct Layout {
  PduType type{};
  std::uint32_t header_bytes = 0;   // up to the data, or the whole PDU if it has none: header, digest, padding; at most 255
  std::uint32_t payload_bytes = 0;  // data without its digest
  bool header_digest = false;
  bool data_digest = false;
};

struct Negotiated {
  bool header_digest = false;
  bool data_digest = false;
  std::uint8_t cpda = 0;  // what we asked data of CapsuleCmd and H2CData to be aligned to, as the wire has it
  std::uint32_t max_in_capsule_bytes = admin_in_capsule_bytes;
  std::uint32_t max_h2c_data_bytes = 131072;
};

// Checks type, HLEN, PDO, PLEN and flags of a PDU sent by a host. `common` is its first 8 bytes. Fills `layout` in place: a copy of it right after
// would wait as begin_header() (pdu_writer.h) says. What it is after a fault nobody should ask.
std::optional<Fault> check_common_header(const CommonHeader& common, const Negotiated& negotiated, Layout& layout);

// The same for a PDU sent by a controller. `negotiated.cpda` stands for what the host asked data of C2HData to be aligned to (HPDA).
std::optional<Fault> check_controller_header(const CommonHeader& common, const Negotiated& negotiated, Layout& layout);

// Compares the digest that follows the header (header: HLEN bytes, then 4 of digest).
std::optional<Fault> check_header_digest(std::span<const std::byte> header_and_digest, std::size_t header_bytes);

// ICReq's own fields: PFV, HPDA, DGST's reserved bits are ignored as the specification demands of reserved fields.
std::optional<Fault> check_ic_req(const IcReq& request);

}  // namespace catnap::tcp
