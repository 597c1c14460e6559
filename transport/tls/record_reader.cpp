// See record_reader.h.
#include "transport/tls/record_reader.h"

#include <sys/socket.h>

#include <cerrno>
#include <utility>

namespace catnap::tls {
namespace {

constexpr std::size_t header_bytes = 5;
constexpr std::size_t max_payload_bytes = 16384 + 256;                  // RFC 8446, section 5.2
constexpr std::uint8_t first_type = 20, last_type = 23, tls_major = 3;  // change_cipher_spec, alert, handshake, application_data

std::uint8_t at(const std::vector<std::byte>& bytes, std::size_t index) { return static_cast<std::uint8_t>(bytes[index]); }
bool is_type(std::uint8_t type) { return type >= first_type && type <= last_type; }

}  // namespace

// Looks without taking: the socket may be meant for something else.
bool RecordReader::first_is_no_tls(int fd) {
  bytes_.resize(header_bytes);
  if (recv(fd, bytes_.data(), 1, MSG_DONTWAIT | MSG_PEEK) != 1) return false;  // the read behind this says why
  begun_ = true;
  if (is_type(at(bytes_, 0))) return false;
  have_ = 1;
  return true;
}

RecordReader::Got RecordReader::read(int fd) {
  if (!begun_ && first_is_no_tls(fd)) return Got::no_tls;
  for (;;) {
    std::size_t wanted = header_bytes;
    if (have_ >= header_bytes) {
      wanted += static_cast<std::size_t>(at(bytes_, 3) << 8 | at(bytes_, 4));
      if (have_ == wanted) return Got::record;
    }
    bytes_.resize(wanted);
    const ssize_t got = recv(fd, bytes_.data() + have_, wanted - have_, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return Got::more;
    if (got <= 0) {
      if (got == 0) errno = 0;
      return Got::closed;
    }
    have_ += static_cast<std::size_t>(got);
    const bool type_wrong = !is_type(at(bytes_, 0));
    const bool version_wrong = have_ >= 2 && at(bytes_, 1) != tls_major;
    const bool too_long = have_ >= header_bytes && static_cast<std::size_t>(at(bytes_, 3) << 8 | at(bytes_, 4)) > max_payload_bytes;
    if (type_wrong || version_wrong || too_long) return Got::no_tls;
  }
}

std::vector<std::byte> RecordReader::take() {
  have_ = 0;
  return std::exchange(bytes_, {});
}

}  // namespace catnap::tls
