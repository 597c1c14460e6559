// TLS handshakes of accepted connections, away from the reactors: sockets wait on app_thread, arithmetic runs on the worker pool, and what is secured
// goes on to a poll group. A host must show by the binder of its first message that it has a key before anything is made for it; see
// transport/tls/client_hello.h.
// Owner: app_thread. Left out: which addresses are secure and which keys a host has (server), what follows (PollGroup).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "keyring/keyring.h"
#include "reactor/thread.h"
#include "transport/command_sink.h"
#include "transport/tcp/admission.h"
#include "transport/tcp/poll_group.h"
#include "transport/tls/handshake.h"
#include "transport/tls/psk.h"

namespace catnap::tcp {

// How handshakes with hosts end, counted since the start of the process.
enum class HandshakeEnd : std::uint8_t {
  secured,
  cleartext,         // NVMe/TCP without TLS, or no protocol at all, at a secure listener
  malformed,         // no ClientHello
  old_version,       // TLS 1.3 is not offered
  no_psk,            // no PSK with (EC)DHE is offered
  suite,             // the PSK's suite is not offered
  unknown_identity,  // no host of the configuration has it
  wrong_key,         // the binder was made with another key
  key_unreadable,    // the host's key file
  library,           // OpenSSL refused what came later
  peer_closed,
  timed_out,
  too_many,  // max_tls_handshakes
  refused,   // Admission's limits
};
inline constexpr std::size_t handshake_end_count = 14;
// "unknown_identity".
const char* handshake_end_name(HandshakeEnd end);

// Any OS thread; also shown by /metrics (catnap_tls_handshakes_total).
std::uint64_t handshakes_ended(HandshakeEnd end);
std::uint64_t handshakes_under_way();

// The keys that an identity may mean.
struct KnownKeys {
  KnownKeys() = default;
  std::vector<keyring::KeyRef> configured;
  // That of an identity of type G, out of DH-HMAC-CHAP; null: none.
  std::shared_ptr<const keyring::SecretBytes> generated;
  std::string generated_name;

  bool empty() const { return configured.empty() && generated == nullptr; }
};

class SecureAcceptor {
 public:
  // The keys that the host of an identity has for its subsystem now; none: no such host.
  using FindKeys = std::function<KnownKeys(const tls::Identity& identity)>;
  // The connection may go to a poll group. One that take() was told to let be cleartext, and is, has no stream.
  using Secured = std::function<void(Incoming connection)>;
  // A handshake failed, with the reason for people. `claimed` is what the host said of itself and nothing has proven; null: nothing readable. Not
  // told of peers that only hung up, and of those refused for their number.
  using Failed =
      std::function<void(const transport::CommandQueue::Address& peer, HandshakeEnd end, const tls::Identity* claimed, const std::string& why)>;

  SecureAcceptor(Thread& app_thread, SecureAcceptorOptions options, std::shared_ptr<Admission> admission, FindKeys find_keys, Secured secured,
                 Failed failed = nullptr);
  ~SecureAcceptor();  // what is under way ends
  SecureAcceptor(const SecureAcceptor&) = delete;
  SecureAcceptor& operator=(const SecureAcceptor&) = delete;

  // Takes over a connected non-blocking socket. `cleartext_too`: a host that begins with NVMe/TCP is handed on as it is.
  void take(int fd, bool cleartext_too = false);
  std::size_t under_way() const { return connections_.size(); }

 private:
  struct Connection;
  struct Verdict;
  void first_record(Connection& connection, const std::vector<std::byte>& record);
  void judge(Connection& connection);
  void refuse(Connection& connection, HandshakeEnd end, std::uint8_t alert, const std::string& why);
  void end(Connection& connection, HandshakeEnd end, const std::string& why);
  void secured(Connection& connection, std::unique_ptr<tls::Stream> stream);
  void is_cleartext(Connection& connection);
  std::unique_ptr<Connection> let_go(Connection& connection);
  void bury(std::unique_ptr<Connection> connection);

  Thread& thread_;
  SecureAcceptorOptions options_;
  std::shared_ptr<Admission> admission_;
  FindKeys find_keys_;
  Secured secured_;
  Failed failed_;
  tls::Executor executor_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Connection>> connections_;
  std::uint64_t next_id_ = 1;
};

}  // namespace catnap::tcp
