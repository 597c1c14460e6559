// See kernel.h.
#include "transport/tls/kernel.h"

#include <arpa/inet.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace catnap::tls {
namespace {

constexpr std::uint8_t record_alert = 21, record_handshake = 22, record_data = 23;
constexpr std::byte alert_close_notify{0};
constexpr std::byte new_session_ticket{4};
constexpr std::string_view ulp = "tls";

// A connected pair is needed: the kernel attaches its TLS to established connections only.
bool probe() {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool there = false;
  if (listener >= 0 && client >= 0 && bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 && listen(listener, 1) == 0 &&
      getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) == 0 &&
      connect(client, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0)
    there = attach_kernel(client);
  if (client >= 0) close(client);
  if (listener >= 0) close(listener);
  return there;
}

// RFC 8446, section 7.3: key and initialisation vector of a traffic secret; the latter as salt and the rest.
template <typename Info>
bool set_keys(int fd, int direction, std::uint16_t cipher, Hash hash, Bytes secret) {
  Info info{};
  info.info.version = TLS_1_3_VERSION;
  info.info.cipher_type = cipher;
  Wiped<sizeof info.salt + sizeof info.iv> iv;
  const auto whole_iv = iv.first(sizeof info.salt + sizeof info.iv);
  hkdf_expand_label(hash, secret, "iv", {}, whole_iv);
  hkdf_expand_label(hash, secret, "key", {}, std::as_writable_bytes(std::span(info.key)));
  std::memcpy(info.salt, whole_iv.data(), sizeof info.salt);
  std::memcpy(info.iv, whole_iv.data() + sizeof info.salt, sizeof info.iv);
  const bool done = setsockopt(fd, SOL_TLS, direction, &info, sizeof info) == 0;
  wipe(std::as_writable_bytes(std::span(&info, 1)));
  return done;
}

}  // namespace

bool kernel_has_tls() {
  static const bool there = probe();
  return there;
}

bool attach_kernel(int fd) { return setsockopt(fd, SOL_TCP, TCP_ULP, ulp.data(), ulp.size()) == 0; }

bool give_to_kernel(int fd, Direction direction, Hash hash, Bytes traffic_secret) {
  const int option = direction == Direction::sending ? TLS_TX : TLS_RX;
  if (hash == Hash::sha256) return set_keys<tls12_crypto_info_aes_gcm_128>(fd, option, TLS_CIPHER_AES_GCM_128, hash, traffic_secret);
  return set_keys<tls12_crypto_info_aes_gcm_256>(fd, option, TLS_CIPHER_AES_GCM_256, hash, traffic_secret);
}

KernelReceived receive_by_kernel(int fd, const iovec* to, std::size_t count) {
  KernelReceived result;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(std::uint8_t))> control{};
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(to);
  message.msg_iovlen = count;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  result.bytes = recvmsg(fd, &message, MSG_DONTWAIT);
  if (result.bytes < 0) return result;
  result.ends = result.bytes == 0;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_level != SOL_TLS || header->cmsg_type != TLS_GET_RECORD_TYPE) return result;
  const auto type = *CMSG_DATA(header);
  if (type == record_data) return result;
  // Such a record is two bytes, or begins with its message's type: it lies in the first piece.
  const auto* bytes = static_cast<const std::byte*>(to[0].iov_base);
  const auto size = std::min(static_cast<std::size_t>(result.bytes), to[0].iov_len);
  result.ends = type == record_alert && size == 2 && bytes[1] == alert_close_notify;
  if (result.ends) return result;
  result.bytes = -1;
  errno = EAGAIN;
  if (type == record_handshake && size > 0 && bytes[0] == new_session_ticket) return result;
  result.fault = type == record_alert       ? "the peer sent an alert"
                 : type == record_handshake ? "the peer wants new keys (KeyUpdate), which the kernel's TLS cannot follow"
                                            : "a record of unknown type";
  return result;
}

void send_close_by_kernel(int fd) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(std::uint8_t))> control{};
  std::array<std::byte, 2> alert = {std::byte{1}, alert_close_notify};
  iovec piece{alert.data(), alert.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_TLS;
  header->cmsg_type = TLS_SET_RECORD_TYPE;
  header->cmsg_len = CMSG_LEN(sizeof record_alert);
  *CMSG_DATA(header) = record_alert;
  (void)sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace catnap::tls
