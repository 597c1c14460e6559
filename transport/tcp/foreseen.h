// What will come next on a connection whose host was asked for data, and where it belongs: hosts send the data of R2Ts in the order of the R2Ts, so
// that bytes can be received into the commands' memory before their headers were seen, and need not be copied there.
// Owner: the poll group's thread. Left out: what the PDUs mean (receive.cpp); nothing here is believed before the headers that came are those
// foreseen.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "transport/tcp/framing.h"

namespace catnap::tcp {

// The R2Ts of a connection in the order they were queued. Entries are not taken out when their data has come: whoever reads passes over what is over.
class AskedOrder {
 public:
  struct Asked {
    std::uint16_t slot = 0;
    std::uint32_t offset_bytes = 0;  // R2TO
  };

  // Remembers `most` at most (≥ 1): the oldest is forgotten then.
  void push(Asked asked, std::size_t most);
  bool empty() const { return count_ == 0; }
  std::size_t size() const { return count_; }
  const Asked& at(std::size_t place) const { return ring_[(first_ + place) % ring_.size()]; }
  void pop_front();

 private:
  std::vector<Asked> ring_;  // none before the first R2T
  std::size_t first_ = 0;
  std::size_t count_ = 0;
};

// H2CData PDUs that a recvmsg may bring, piece by piece: header, data, digest of each, behind the digest of the PDU whose data are under way.
class Foreseen {
 public:
  static constexpr std::size_t max_pdus = 24;
  static constexpr std::size_t max_pieces = 1 + 3 * max_pdus;

  struct Pdu {
    H2CData expected;
    std::array<std::byte, sizeof(H2CData) + digest_bytes> header;  // as received
    std::uint32_t header_bytes = 0;
    std::byte* data = nullptr;
    std::uint32_t data_bytes = 0;
    std::array<std::byte, digest_bytes> digest;
    std::uint32_t trailer_bytes = 0;

    std::size_t total_bytes() const { return std::size_t{header_bytes} + data_bytes + trailer_bytes; }
  };

  // `leading_digest`: the digest of a PDU whose data come first.
  void begin(const Negotiated& negotiated, bool leading_digest);
  bool empty() const { return count_ == 0; }
  // Of a PDU that goes on at `data`: is it here already?
  bool has(const std::byte* data) const;
  bool is_full() const;
  // `pdu` with all but what negotiation says: lengths and flags of digests are filled in.
  void add(H2CData pdu, std::byte* data);

  // Fills max_pieces at most; returns how many.
  std::size_t put_pieces(iovec* pieces);
  // Of `size` bytes received: how many PDUs came, whole or in part, before the first that is another than foreseen; and whether there is such.
  struct Right {
    std::size_t pdus;
    bool all;
  };
  Right check(std::size_t size) const;
  // The bytes from the PDU `from` on in one piece: those of `size` received, the last of which lie in `behind`. Writes their number to `moved_bytes`.
  std::unique_ptr<std::byte[]> gather(std::size_t from, std::size_t size, const std::byte* behind, std::size_t& moved_bytes) const;

  std::size_t leading_bytes() const { return leading_bytes_; }
  std::byte* leading() { return leading_.data(); }
  Pdu& pdu(std::size_t index) { return pdus_[index]; }

 private:
  Negotiated negotiated_;
  std::array<Pdu, max_pdus> pdus_;
  std::size_t count_ = 0;
  std::size_t data_bytes_ = 0;
  std::array<std::byte, digest_bytes> leading_;
  std::size_t leading_bytes_ = 0;
};

}  // namespace catnap::tcp
