// See stream.h.
#include "transport/tls/stream.h"

#include <fmt/core.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>

#include "reactor/base/check.h"
#include "reactor/undumped_bytes.h"
#include "transport/tls/kernel.h"
#include "transport/tls/library.h"

namespace catnap::tls {
namespace {

// Ciphertext of one recv(): with what the library holds of a record that was cut, it fits the buffers of both queue pairs (256 KiB) when decrypted.
constexpr std::size_t receive_bytes = std::size_t{192} << 10;
constexpr std::size_t plain_record_bytes = 16384;
// Messages of TLS itself behind the handshake, which cost this thread some 50 us each and the peer nothing: so many, and one for each MiB of data. A
// peer that takes new keys after 2^24.5 full records (RFC 8446, section 5.5) sends one for 388 GiB; each KeyUpdate and each answer to one count two
// or three times.
constexpr std::uint64_t max_messages = 256;
constexpr std::uint64_t bytes_for_a_message = std::uint64_t{1} << 20;

std::byte* receive_buffer() {
  thread_local const UndumpedBytes buffer = undumped_bytes(receive_bytes);
  return buffer.get();
}

// Small pieces are gathered here, so that a record is as full as can be: each costs 22 bytes and a start of the cipher.
std::byte* gather_buffer() {
  thread_local const UndumpedBytes buffer = undumped_bytes(plain_record_bytes);
  return buffer.get();
}

std::vector<std::byte>& send_buffer() {
  thread_local std::vector<std::byte> buffer;
  return buffer;
}

}  // namespace

const char* suite_name(Hash hash) { return hash == Hash::sha256 ? "TLS_AES_128_GCM_SHA256" : "TLS_AES_256_GCM_SHA384"; }

struct Stream::Kernel {
  SecretBytes secrets;  // the client's, then the server's
  bool server = false;
};

// The library's calls back, as members of a friend.
struct Stream::Library {
  static Stream& of(const SSL* ssl) { return *static_cast<Stream*>(SSL_get_app_data(ssl)); }
  static SSL* ssl(const Stream& stream) { return static_cast<SSL*>(stream.ssl_); }

  static int read(BIO* bio, char* to, int size) {
    auto& stream = *static_cast<Stream*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    if (stream.input_.empty()) {
      BIO_set_retry_read(bio);
      return -1;
    }
    if (stream.messages_ > stream.messages_allowed()) return -1;  // asked for each record: a flood ends in the middle of what was received
    const std::size_t taken = std::min(static_cast<std::size_t>(size), stream.input_.size());
    std::memcpy(to, stream.input_.data(), taken);
    stream.input_ = stream.input_.subspan(taken);
    return static_cast<int>(taken);
  }
  static int write(BIO* bio, const char* from, int size) {
    auto& stream = *static_cast<Stream*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    const auto* bytes = reinterpret_cast<const std::byte*>(from);
    stream.output_->insert(stream.output_->end(), bytes, bytes + size);
    return size;
  }
  // A session that stands for the external PSK.
  static SSL_SESSION* session_of(SSL* ssl, const Stream& stream) {
    const std::array<unsigned char, 2> suite = {0x13, static_cast<unsigned char>(stream.hash_)};
    const SSL_CIPHER* cipher = SSL_CIPHER_find(ssl, suite.data());
    SSL_SESSION* session = SSL_SESSION_new();
    const Bytes psk = stream.psk_.bytes();
    if (session != nullptr && cipher != nullptr && SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1 &&
        SSL_SESSION_set_cipher(session, cipher) == 1 &&
        SSL_SESSION_set1_master_key(session, reinterpret_cast<const unsigned char*>(psk.data()), psk.size()) == 1)
      return session;
    SSL_SESSION_free(session);
    return nullptr;
  }
  static int find_session(SSL* ssl, const unsigned char* identity, std::size_t length, SSL_SESSION** session) {
    const Stream& stream = of(ssl);
    *session = nullptr;
    const std::string_view offered(reinterpret_cast<const char*>(identity), length);
    if (offered != stream.identity_ || stream.psk_.empty()) return 1;  // goes on with the next identity
    *session = session_of(ssl, stream);
    return *session != nullptr ? 1 : 0;
  }
  static int use_session(SSL* ssl, const EVP_MD* md, const unsigned char** identity, std::size_t* length, SSL_SESSION** session) {
    const Stream& stream = of(ssl);
    *session = nullptr;
    if (md != nullptr && static_cast<std::size_t>(EVP_MD_get_size(md)) != hash_bytes(stream.hash_)) return 1;
    *session = session_of(ssl, stream);
    *identity = reinterpret_cast<const unsigned char*>(stream.identity_.data());
    *length = stream.identity_.size();
    return *session != nullptr ? 1 : 0;
  }
  // "CLIENT_TRAFFIC_SECRET_0 RANDOM SECRET", each in hexadecimal: kept only for the kernel, in locked memory.
  static void keylog(const SSL* ssl, const char* line) {
    const Stream& stream = of(ssl);
    if (stream.kernel_ == nullptr) return;
    const std::string_view text(line);
    const bool client = text.starts_with("CLIENT_TRAFFIC_SECRET_0 ");
    if (!client && !text.starts_with("SERVER_TRAFFIC_SECRET_0 ")) return;
    const std::string_view hex = text.substr(text.rfind(' ') + 1);
    const std::size_t size = hash_bytes(stream.hash_);
    if (hex.size() != 2 * size) return;
    const auto to = stream.kernel_->secrets.bytes().subspan(client ? 0 : size, size);
    const auto digit = [](char c) { return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10; };
    for (std::size_t i = 0; i < size; ++i) to[i] = static_cast<std::byte>(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
  }
  // At each step of the library's handshake machine, which messages behind the handshake go through as well; data does not.
  static void stepped(const SSL* ssl, int where, int) {
    if ((where & SSL_CB_LOOP) != 0) ++of(ssl).messages_;
  }
  static const Contexts& shared() {
    static const Callbacks callbacks{find_session, use_session, keylog, stepped, read, write};
    return contexts(callbacks);
  }
};

// --- life ---

Stream::Stream(StreamOptions options) : options_(options) {}

Stream::~Stream() { SSL_free(Library::ssl(*this)); }

Result<void> Stream::open(bool server, Hash hash) {
  hash_ = hash;
  ERR_clear_error();
  SSL* ssl = SSL_new(server ? Library::shared().server : Library::shared().client);
  BIO* bio = BIO_new(Library::shared().bio);
  ssl_ = ssl;
  if (ssl == nullptr || bio == nullptr) {
    BIO_free(bio);
    return fail(ENOMEM, "Cannot allocate memory: a TLS connection");
  }
  BIO_set_data(bio, this);
  SSL_set_bio(ssl, bio, bio);
  SSL_set_app_data(ssl, this);
  if (SSL_set_ciphersuites(ssl, suite_name(hash)) != 1)
    return fail(ENOTSUP, fmt::format("the TLS library has no {}: {}", suite_name(hash), library_errors()));
  if (server) {
    SSL_set_accept_state(ssl);
  } else {
    SSL_set_connect_state(ssl);
  }
  if (!options_.use_kernel || !kernel_has_tls()) return {};
  auto secrets = SecretBytes::create(2 * hash_bytes(hash));
  if (!secrets) return {};  // this process can do it, too
  kernel_ = std::make_unique<Kernel>();
  kernel_->secrets = std::move(*secrets);
  kernel_->server = server;
  return {};
}

Result<std::unique_ptr<Stream>> Stream::accept(std::string offered_identity, Hash hash, SecretBytes psk, StreamOptions options) {
  std::unique_ptr<Stream> stream(new Stream(options));
  stream->identity_ = std::move(offered_identity);
  stream->psk_ = std::move(psk);
  if (auto opened = stream->open(true, hash); !opened) return std::unexpected(opened.error());
  return stream;
}

Result<std::unique_ptr<Stream>> Stream::connect(TlsKey key, StreamOptions options) {
  std::unique_ptr<Stream> stream(new Stream(options));
  stream->identity_ = key.identity.text();
  stream->psk_ = std::move(key.psk);
  if (auto opened = stream->open(false, key.identity.hash); !opened) return std::unexpected(opened.error());
  return stream;
}

// --- handshake ---

Stream::Step Stream::shake(Bytes records, std::vector<std::byte>& out) {
  SSL* ssl = Library::ssl(*this);
  input_ = records;
  output_ = &out;
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl);
  if (result == 1) {
    // Both sides prove the PSK by it; without one there is no session to reuse.
    if (SSL_session_reused(ssl) != 1) {
      why_ = "the peer did not use the PSK";
      return Step::failed;
    }
    pending_ = !input_.empty();
    ciphertext_.assign(input_.begin(), input_.end());
    input_ = {};
    psk_ = SecretBytes();
    messages_ = 0;
    shaken_ = true;
    return Step::done;
  }
  const int error = SSL_get_error(ssl, result);
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return Step::more;
  note_failure();
  return Step::failed;
}

std::uint64_t Stream::messages_allowed() const {
  return shaken_ ? max_messages + received_bytes_ / bytes_for_a_message : std::numeric_limits<std::uint64_t>::max();
}

void Stream::note_failure() {
  why_ = library_errors();
  if (messages_ > messages_allowed()) why_ = "the peer sends more messages of TLS itself (KeyUpdate) than any host needs";
  if (why_.empty()) why_ = "the TLS connection failed";
}

void Stream::offload(int fd) {
  if (kernel_ == nullptr) return;
  const auto kernel = std::move(kernel_);
  if (!attach_kernel(fd)) return;
  const std::size_t size = hash_bytes(hash_);
  const Bytes client = kernel->secrets.bytes().first(size);
  const Bytes server = kernel->secrets.bytes().subspan(size);
  kernel_sends_ = give_to_kernel(fd, Direction::sending, hash_, kernel->server ? server : client);
  // What was read already is encrypted in front of what the kernel would begin with.
  if (!pending_) kernel_receives_ = give_to_kernel(fd, Direction::receiving, hash_, kernel->server ? client : server);
}

// --- receiving ---

ssize_t Stream::give_up(int err) {
  ended_ = true;
  end_err_ = err;
  if (err == 0) return 0;
  errno = err;
  return -1;
}

ssize_t Stream::receive_from_kernel(int fd, const iovec* to, std::size_t count) {
  KernelReceived got = receive_by_kernel(fd, to, count);
  if (got.bytes < 0 && (errno == EBADMSG || errno == EINVAL || errno == EMSGSIZE)) {
    why_ = "a record does not decrypt";
    errno = EBADMSG;
  }
  if (got.ends) return 0;
  if (got.fault != nullptr) {
    why_ = got.fault;
    errno = EBADMSG;
    return -1;
  }
  return got.bytes;
}

// Decrypts what the input has into the rest of `to`. True: all input is used up (or the end was found: ended_).
bool Stream::take(ssize_t& total, const iovec* to, std::size_t count) {
  SSL* ssl = Library::ssl(*this);
  std::size_t skip = static_cast<std::size_t>(total);
  for (std::size_t i = 0; i < count;) {
    if (skip >= to[i].iov_len) {
      skip -= to[i++].iov_len;
      continue;
    }
    std::size_t got = 0;
    ERR_clear_error();
    const int result = SSL_read_ex(ssl, static_cast<std::byte*>(to[i].iov_base) + skip, to[i].iov_len - skip, &got);
    if (result == 1) {
      skip += got;
      total += static_cast<ssize_t>(got);
      continue;
    }
    const int error = SSL_get_error(ssl, result);
    if (error == SSL_ERROR_WANT_READ) return true;
    ended_ = true;
    end_err_ = 0;
    if (error != SSL_ERROR_ZERO_RETURN) {
      end_err_ = EBADMSG;
      note_failure();
    }
    return true;
  }
  return input_.empty() && SSL_pending(ssl) == 0;
}

ssize_t Stream::receive(int fd, const iovec* to, std::size_t count) {
  if (ended_) return give_up(end_err_);
  if (kernel_receives_) return receive_from_kernel(fd, to, count);
  if (pending_) {
    input_ = Bytes(ciphertext_).subspan(ciphertext_at_);
  } else {
    const ssize_t got = recv(fd, receive_buffer(), receive_bytes, MSG_DONTWAIT);
    if (got <= 0) return got;
    input_ = Bytes(receive_buffer(), static_cast<std::size_t>(got));
  }
  output_ = &unsent_;  // an answer to KeyUpdate, an alert
  ssize_t total = 0;
  const bool from_kept = pending_;
  pending_ = !take(total, to, count);
  if (!pending_) {
    if (from_kept) std::vector<std::byte>().swap(ciphertext_);
    ciphertext_at_ = 0;
  } else if (from_kept) {
    ciphertext_at_ = ciphertext_.size() - input_.size();
  } else {
    ciphertext_.assign(input_.begin(), input_.end());
    ciphertext_at_ = 0;
  }
  input_ = {};
  received_bytes_ += static_cast<std::uint64_t>(total);
  if (total > 0) return total;
  if (ended_) return give_up(end_err_);
  errno = EAGAIN;
  return -1;
}

// --- sending ---

void Stream::maybe_update_key() {
  if (options_.key_update_records == 0 || records_ < options_.key_update_records) return;
  records_ = 0;
  (void)SSL_key_update(Library::ssl(*this), SSL_KEY_UPDATE_NOT_REQUESTED);
}

bool Stream::write_record(const std::byte* bytes, std::size_t size) {
  std::size_t written = 0;
  ERR_clear_error();
  records_ += (size + plain_record_bytes - 1) / plain_record_bytes;
  while (size > 0) {
    if (SSL_write_ex(Library::ssl(*this), bytes, size, &written) != 1) {
      note_failure();
      return false;
    }
    bytes += written;
    size -= written;
  }
  return true;
}

ssize_t Stream::send(int fd, const iovec* from, std::size_t count) {
  if (kernel_sends_) {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(from);
    message.msg_iovlen = count;
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  if (has_unsent() && flush(fd) < 0) return -1;
  if (finishing_) {
    errno = EPIPE;
    return -1;
  }
  maybe_update_key();
  std::vector<std::byte>& out = send_buffer();
  output_ = &out;
  std::byte* const gather = gather_buffer();
  std::size_t gathered = 0, taken = 0;
  bool good = true;
  for (std::size_t i = 0; good && i < count && taken < max_send_bytes; ++i) {
    const auto* bytes = static_cast<const std::byte*>(from[i].iov_base);
    std::size_t left = std::min(from[i].iov_len, max_send_bytes - taken);
    taken += left;
    while (good && left > 0) {
      if (gathered == 0 && left >= plain_record_bytes) {
        const std::size_t whole = left / plain_record_bytes * plain_record_bytes;
        good = write_record(bytes, whole);
        bytes += whole;
        left -= whole;
        continue;
      }
      const std::size_t part = std::min(left, plain_record_bytes - gathered);
      std::memcpy(gather + gathered, bytes, part);
      gathered += part;
      bytes += part;
      left -= part;
      if (gathered == plain_record_bytes) good = write_record(gather, std::exchange(gathered, 0));
    }
  }
  if (good && gathered > 0) good = write_record(gather, gathered);
  if (!good) {
    out.clear();
    errno = EBADMSG;
    return -1;
  }
  const ssize_t sent = ::send(fd, out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  const int err = errno;
  const std::size_t gone = sent > 0 ? static_cast<std::size_t>(sent) : 0;
  if (gone < out.size()) unsent_.assign(out.begin() + static_cast<std::ptrdiff_t>(gone), out.end());
  out.clear();
  if (sent < 0 && err != EAGAIN && err != EINTR) {
    errno = err;
    return -1;
  }
  return static_cast<ssize_t>(taken);
}

ssize_t Stream::flush(int fd) {
  ssize_t total = 0;
  while (has_unsent()) {
    const ssize_t sent = ::send(fd, unsent_.data() + unsent_at_, unsent_.size() - unsent_at_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return -1;
    total += sent;
    unsent_at_ += static_cast<std::size_t>(sent);
    if (unsent_at_ < unsent_.size()) continue;
    std::vector<std::byte>().swap(unsent_);
    unsent_at_ = 0;
  }
  if (finishing_) ::shutdown(fd, SHUT_WR);
  return total;
}

void Stream::finish(int fd) {
  if (std::exchange(finishing_, true)) return;
  if (kernel_sends_) {
    send_close_by_kernel(fd);
  } else {
    output_ = &unsent_;
    ERR_clear_error();
    (void)SSL_shutdown(Library::ssl(*this));
    ERR_clear_error();
  }
  (void)flush(fd);
}

}  // namespace catnap::tls
