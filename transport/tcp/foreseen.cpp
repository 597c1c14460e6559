// See foreseen.h.
#include "transport/tcp/foreseen.h"

#include <algorithm>
#include <cstring>

#include "reactor/base/check.h"

namespace catnap::tcp {
namespace {

// Data of one receive, beside what is under way: the group's other connections wait meanwhile. docs/performance.md has figures.
constexpr std::size_t enough_data_bytes = std::size_t{384} << 10;

// A queue of the usual depths needs no more than two of these, 8 bytes each.
constexpr std::size_t growth = 64;

}  // namespace

void AskedOrder::push(Asked asked, std::size_t most) {
  if (count_ == ring_.size()) {
    if (ring_.size() < most) {
      std::rotate(ring_.begin(), ring_.begin() + static_cast<std::ptrdiff_t>(first_), ring_.end());
      first_ = 0;
      ring_.resize(std::min(most, ring_.size() + growth));
    } else {
      pop_front();  // commands with several R2Ts; what is forgotten is not foreseen
    }
  }
  ring_[(first_ + count_++) % ring_.size()] = asked;
}

void AskedOrder::pop_front() {
  first_ = (first_ + 1) % ring_.size();
  --count_;
}

void Foreseen::begin(const Negotiated& negotiated, bool leading_digest) {
  negotiated_ = negotiated;
  count_ = data_bytes_ = 0;
  leading_bytes_ = leading_digest ? digest_bytes : 0;
}

bool Foreseen::has(const std::byte* data) const {
  return std::any_of(pdus_.begin(), pdus_.begin() + static_cast<std::ptrdiff_t>(count_), [data](const Pdu& each) { return each.data == data; });
}

bool Foreseen::is_full() const { return count_ == max_pdus || data_bytes_ >= enough_data_bytes; }

void Foreseen::add(H2CData pdu, std::byte* data) {
  CATNAP_DCHECK(!is_full());
  Pdu& next = pdus_[count_++];
  next.data = data;
  next.data_bytes = pdu.datal;
  next.header_bytes = static_cast<std::uint32_t>(sizeof pdu) + (negotiated_.header_digest ? digest_bytes : 0U);
  next.trailer_bytes = negotiated_.data_digest ? digest_bytes : 0U;
  pdu.ch.type = static_cast<std::uint8_t>(PduType::h2c_data);
  pdu.ch.hlen = sizeof pdu;
  if (negotiated_.header_digest) pdu.ch.flags |= flag_hdgst;
  if (negotiated_.data_digest) pdu.ch.flags |= flag_ddgst;
  pdu.ch.pdo = static_cast<std::uint8_t>(next.header_bytes);
  pdu.ch.plen = static_cast<std::uint32_t>(next.total_bytes());
  next.expected = pdu;
  data_bytes_ += next.data_bytes;
}

std::size_t Foreseen::put_pieces(iovec* pieces) {
  if (count_ == 0) return 0;
  std::size_t used = 0;
  const auto put = [&](std::byte* at, std::size_t bytes) {
    if (bytes > 0) pieces[used++] = {at, bytes};
  };
  put(leading_.data(), leading_bytes_);
  for (std::size_t i = 0; i < count_; ++i) {
    put(pdus_[i].header.data(), pdus_[i].header_bytes);
    put(pdus_[i].data, pdus_[i].data_bytes);
    put(pdus_[i].digest.data(), pdus_[i].trailer_bytes);
  }
  return used;
}

Foreseen::Right Foreseen::check(std::size_t size) const {
  std::size_t at = leading_bytes_;
  for (std::size_t i = 0; i < count_; ++i) {
    if (at >= size) return {i, true};
    if (std::memcmp(pdus_[i].header.data(), &pdus_[i].expected, std::min(size - at, sizeof(H2CData))) != 0) return {i, false};
    at += pdus_[i].total_bytes();
  }
  return {count_, true};
}

std::unique_ptr<std::byte[]> Foreseen::gather(std::size_t from, std::size_t size, const std::byte* behind, std::size_t& moved_bytes) const {
  std::size_t left = size - leading_bytes_;
  for (std::size_t i = 0; i < from; ++i) left -= pdus_[i].total_bytes();
  auto moved = std::make_unique_for_overwrite<std::byte[]>(left);
  moved_bytes = 0;
  const auto take = [&](const std::byte* bytes, std::size_t length) {
    const std::size_t part = std::min(length, left);
    std::memcpy(moved.get() + moved_bytes, bytes, part);
    moved_bytes += part;
    left -= part;
  };
  for (std::size_t i = from; i < count_; ++i) {
    take(pdus_[i].header.data(), pdus_[i].header_bytes);
    take(pdus_[i].data, pdus_[i].data_bytes);
    take(pdus_[i].digest.data(), pdus_[i].trailer_bytes);
  }
  take(behind, left);
  return moved;
}

}  // namespace catnap::tcp
