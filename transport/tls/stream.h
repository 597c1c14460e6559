// One TLS 1.3 connection by PSK: its handshake as steps over whole records, then bytes in and out of a socket as recvmsg and sendmsg would move them.
// Owner: one thread at a time: a worker of the pool for each step of the handshake, then the thread of the connection; it may move with it.
// Left out: reading handshake records from the socket and deadlines (acceptor.h, connector.h), which key (psk.h), certificates, resumption, early
// data.
//
// Two ways to move bytes, and the same behaviour: OpenSSL in this process, or the kernel (kTLS, offload()), each direction by itself.
// In this process, ciphertext comes through one buffer per OS thread and goes out through another, so an idle connection holds no buffers. Bytes that
// the socket did not take stay here (has_unsent()), bytes that the reader had no room for as well (has_pending()): epoll sees neither, so the owner
// must come back by itself, by EPOLLOUT and by its ready list.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "reactor/base/error.h"
#include "transport/tls/psk.h"

namespace catnap::tls {

// Names as IANA lists them: "TLS_AES_128_GCM_SHA256".
const char* suite_name(Hash hash);

struct StreamOptions {
  // Give the connection to the kernel's TLS where it is there.
  bool use_kernel = true;
  // New sending keys after so many records of 16 KiB; 0: never. RFC 8446, section 5.5 advises it before 2^24.5 with AES-GCM (388 GiB), but Linux
  // before 6.14 takes KeyUpdate as the end of the connection, so it is only for peers that are known to bear it.
  std::uint64_t key_update_records = 0;
};

class Stream {
 public:
  // Plaintext that one send() takes at most: what waits here when the socket is full is bounded by it.
  static constexpr std::size_t max_send_bytes = std::size_t{256} << 10;
  static constexpr std::size_t max_record_bytes = 5 + 16384 + 256;  // RFC 8446, section 5.2

  // The server's side, for a ClientHello that offers `offered_identity` and whose binder fits `psk`. The client's side offers `key`.
  static Result<std::unique_ptr<Stream>> accept(std::string offered_identity, Hash hash, SecretBytes psk, StreamOptions options);
  static Result<std::unique_ptr<Stream>> connect(TlsKey key, StreamOptions options);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // --- handshake ---
  enum class Step : std::uint8_t { more, done, failed };
  // Goes on with `records`, which are whole ones; the bytes to be sent are appended to `out`, also when it failed (an alert).
  Step shake(Bytes records, std::vector<std::byte>& out);
  // After `done`: lets the kernel take over what it can. Nothing of the connection may have been read beyond the handshake's last record.
  void offload(int fd);
  bool wants_kernel() const { return kernel_ != nullptr; }  // offload() may do something; it may take its time, when it is the first one

  // --- connection ---
  // As recvmsg(MSG_DONTWAIT): bytes moved; 0: the peer said that it ends, or hung up; -1 and errno (EAGAIN; EBADMSG: why() says what is wrong).
  ssize_t receive(int fd, const iovec* to, std::size_t count);
  // As sendmsg(MSG_DONTWAIT): bytes taken, at most max_send_bytes; -1 and errno. What it took may still be here.
  ssize_t send(int fd, const iovec* from, std::size_t count);
  // Sends what is here: bytes of it that the socket took; -1 and errno when some is left (EAGAIN), or the socket failed.
  ssize_t flush(int fd);
  bool has_unsent() const { return !unsent_.empty(); }
  // There is more to receive() without a new event of the socket.
  bool has_pending() const { return pending_ || ended_; }
  // Tells the peer that nothing more comes, behind what is unsent, and ends the sending half of the socket when that has gone out.
  void finish(int fd);

  bool kernel_receives() const { return kernel_receives_; }
  bool kernel_sends() const { return kernel_sends_; }
  const std::string& why() const { return why_; }

 private:
  struct Library;
  struct Kernel;
  explicit Stream(StreamOptions options);
  Result<void> open(bool server, Hash hash);
  bool take(ssize_t& total, const iovec* to, std::size_t count);
  bool write_record(const std::byte* bytes, std::size_t size);
  ssize_t receive_from_kernel(int fd, const iovec* to, std::size_t count);
  ssize_t give_up(int err);
  void note_failure();
  void maybe_update_key();
  std::uint64_t messages_allowed() const;

  StreamOptions options_;
  void* ssl_ = nullptr;   // SSL
  std::string identity_;  // as offered
  Hash hash_ = Hash::sha256;
  SecretBytes psk_;                    // until the handshake is done
  std::unique_ptr<Kernel> kernel_;     // traffic secrets, until offload()
  bool pending_ = false;               // bytes are in ciphertext_, or decrypted in the library
  std::vector<std::byte> ciphertext_;  // received and not yet decrypted, from ciphertext_at_ on
  std::size_t ciphertext_at_ = 0;
  Bytes input_;                               // what the library reads from now
  std::vector<std::byte>* output_ = nullptr;  // where the library writes to now
  std::vector<std::byte> unsent_;
  std::size_t unsent_at_ = 0;
  std::uint64_t records_ = 0;         // sent under the present key
  std::uint64_t messages_ = 0;        // of TLS itself, behind the handshake
  std::uint64_t received_bytes_ = 0;  // decrypted in this process
  bool shaken_ = false;               // the handshake is done
  bool kernel_sends_ = false;
  bool kernel_receives_ = false;
  bool ended_ = false;      // what there was has been received, and the end is to be told by the next receive()
  bool finishing_ = false;  // the sending half ends when nothing is unsent
  int end_err_ = 0;         // 0: an orderly end
  std::string why_;
};

}  // namespace catnap::tls
