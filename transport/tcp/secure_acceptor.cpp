// See secure_acceptor.h.
#include "transport/tcp/secure_acceptor.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "reactor/base/check.h"
#include "reactor/base/event_counter.h"
#include "reactor/base/log_limit.h"
#include "reactor/timer.h"
#include "transport/tcp/address.h"
#include "transport/tls/client_hello.h"

namespace catnap::tcp {
namespace {

LogFlag log_tls{"nvmf_tls"};
// What hosts do wrong: each address may say so a few times.
LogLimit failure_log;

constexpr std::size_t record_header_bytes = 5, message_header_bytes = 4;
constexpr std::byte handshake_record{22}, client_hello_message{1};
// A ClientHello with the most offers that are looked at and a key share of every group has some 5 KiB.
constexpr std::size_t max_hello_bytes = 16384;
// RFC 8446, section 6.2. That of an unknown identity is the same as that of a wrong key: nobody learns which hosts there are.
constexpr std::uint8_t alert_unexpected_message = 10, alert_handshake_failure = 40, alert_decode_error = 50, alert_decrypt_error = 51,
                       alert_protocol_version = 70, alert_internal_error = 80;

std::array<std::byte, 7> alert_record(std::uint8_t alert) {
  return {std::byte{21}, std::byte{3}, std::byte{3}, std::byte{0}, std::byte{2}, std::byte{2}, static_cast<std::byte>(alert)};
}

constexpr std::array<const char*, handshake_end_count> end_names = {"secured",     "cleartext",        "malformed", "old_version",    "no_psk",
                                                                    "suite",       "unknown_identity", "wrong_key", "key_unreadable", "library",
                                                                    "peer_closed", "timed_out",        "too_many",  "refused"};

// In the order of HandshakeEnd.
constexpr const char* counter_name = "catnap_tls_handshakes_total";
constexpr const char* counter_help = "TLS handshakes with hosts, by result";
EventCounter ended_counters[handshake_end_count] = {
    {counter_name, counter_help, R"(result="secured")"},          {counter_name, counter_help, R"(result="cleartext")"},
    {counter_name, counter_help, R"(result="malformed")"},        {counter_name, counter_help, R"(result="old_version")"},
    {counter_name, counter_help, R"(result="no_psk")"},           {counter_name, counter_help, R"(result="suite")"},
    {counter_name, counter_help, R"(result="unknown_identity")"}, {counter_name, counter_help, R"(result="wrong_key")"},
    {counter_name, counter_help, R"(result="key_unreadable")"},   {counter_name, counter_help, R"(result="library")"},
    {counter_name, counter_help, R"(result="peer_closed")"},      {counter_name, counter_help, R"(result="timed_out")"},
    {counter_name, counter_help, R"(result="too_many")"},         {counter_name, counter_help, R"(result="refused")"},
};
EventCounter& counter_of(HandshakeEnd end) { return ended_counters[static_cast<std::size_t>(end)]; }
std::atomic<std::uint64_t> under_way_count{0};

// Only what is plain text goes to people.
std::optional<tls::Identity> plain_identity(const std::string& offered) {
  auto parsed = tls::parse_identity(offered);
  if (!parsed || !std::ranges::all_of(parsed->hostnqn + parsed->subnqn, [](char c) { return c > ' ' && c < 0x7F; })) return std::nullopt;
  return parsed;
}

// An identity that was offered, and the keys that may be its own.
struct Suspect {
  Suspect(std::size_t offered_at, tls::Identity offered, KnownKeys its_keys)
      : offer(offered_at), identity(std::move(offered)), keys(std::move(its_keys)) {}
  std::size_t offer;
  tls::Identity identity;
  KnownKeys keys;
};

}  // namespace

const char* handshake_end_name(HandshakeEnd end) { return end_names[static_cast<std::size_t>(end)]; }

std::uint64_t handshakes_ended(HandshakeEnd end) { return counter_of(end).get(); }

std::uint64_t handshakes_under_way() { return under_way_count.load(std::memory_order_relaxed); }

// What the worker found out; read on app_thread when its turn is over.
struct SecureAcceptor::Verdict {
  HandshakeEnd end = HandshakeEnd::library;
  std::string key_name;
  tls::Identity identity;
};

struct SecureAcceptor::Connection {
  std::uint64_t id = 0;
  int fd = -1;
  transport::CommandQueue::Address peer;
  Admission::Ticket ticket;
  std::unique_ptr<tls::Handshake> handshake;
  std::vector<std::byte> records;  // of the ClientHello
  std::vector<std::byte> message;  // what they carry
  std::shared_ptr<Verdict> verdict;
  std::optional<tls::Identity> claimed;  // the first identity that it offered, if that is plain text
  std::unique_ptr<Timer> deadline;
};

namespace {

// On a worker: the TLS PSK with which the offer's binder was made, if this key is its origin; empty otherwise.
Result<keyring::SecretBytes> proven_psk(tls::Bytes message, const tls::ClientHello& hello, const Suspect& suspect, const keyring::Key& key) {
  const auto text = key.read();
  if (!text) return std::unexpected(text.error());
  const auto configured = tls::parse_interchange(text->text());
  if (!configured) return fail(configured.error().err, fmt::format("key '{}': {}", key.name(), configured.error().message));
  const tls::Identity& identity = suspect.identity;
  for (const auto derivation : {tls::Derivation::specification, tls::Derivation::early_libnvme}) {
    const auto retained = tls::retained_psk(*configured, identity.hostnqn, derivation);
    if (!retained) return std::unexpected(retained.error());
    if (identity.version == 1 && tls::psk_digest(identity.hash, retained->bytes(), identity.hostnqn, identity.subnqn) != identity.digest) continue;
    auto psk = tls::tls_psk(identity, retained->bytes(), derivation);
    if (!psk) return psk;
    if (tls::binder_fits(message, hello, suspect.offer, identity.hash, psk->bytes())) return psk;
  }
  return keyring::SecretBytes();
}

// The same for a key out of DH-HMAC-CHAP, whose digest is that of the identity.
Result<keyring::SecretBytes> proven_generated(tls::Bytes message, const tls::ClientHello& hello, const Suspect& suspect) {
  for (const auto derivation : {tls::Derivation::specification, tls::Derivation::early_linux}) {
    auto psk = tls::tls_psk(suspect.identity, suspect.keys.generated->bytes(), derivation);
    if (!psk || tls::binder_fits(message, hello, suspect.offer, suspect.identity.hash, psk->bytes())) return psk;
  }
  return keyring::SecretBytes();
}

// What a worker looks for.
struct Proof {
  Proof() = default;
  const Suspect* suspect = nullptr;  // null: no key fits
  std::string key_name;
  keyring::SecretBytes psk;
  std::string unreadable;  // why a key could not be tried
};

Proof find_proof(tls::Bytes message, const tls::ClientHello& hello, const std::vector<Suspect>& suspects) {
  Proof proof;
  const auto fits = [&proof](const Suspect& suspect, Result<keyring::SecretBytes> psk, const std::string& name) {
    if (!psk) proof.unreadable = psk.error().message;
    if (!psk || psk->empty()) return false;
    proof.suspect = &suspect;
    proof.key_name = name;
    proof.psk = std::move(*psk);
    return true;
  };
  for (const Suspect& suspect : suspects) {
    if (suspect.keys.generated != nullptr && fits(suspect, proven_generated(message, hello, suspect), suspect.keys.generated_name)) return proof;
    for (const keyring::KeyRef& key : suspect.keys.configured) {
      if (fits(suspect, proven_psk(message, hello, suspect, *key), key->name())) return proof;
    }
  }
  return proof;
}

}  // namespace

// --- life ---

SecureAcceptor::SecureAcceptor(Thread& app_thread, SecureAcceptorOptions options, std::shared_ptr<Admission> admission, FindKeys find_keys,
                               Secured secured, Failed failed)
    : thread_(app_thread),
      options_(options),
      admission_(std::move(admission)),
      find_keys_(std::move(find_keys)),
      secured_(std::move(secured)),
      failed_(std::move(failed)),
      executor_(tls::worker_pool()) {}

SecureAcceptor::~SecureAcceptor() {
  for (const auto& [id, connection] : connections_) {
    connection->handshake.reset();
    ::close(connection->fd);
  }
  under_way_count -= connections_.size();
}

void SecureAcceptor::take(int fd, bool cleartext_too) {
  check_on_thread(thread_, "tcp::SecureAcceptor");
  auto connection = std::make_unique<Connection>();
  connection->fd = fd;
  connection->peer = peer_address_of(fd);
  const bool full = connections_.size() >= options_.max_handshakes;
  if (full || (admission_ != nullptr && admission_->enter(connection->peer.traddr, connection->ticket) != Refusal::none)) {
    const HandshakeEnd why = full ? HandshakeEnd::too_many : HandshakeEnd::refused;
    counter_of(why).add();
    log_limited(failure_log, LogLevel::warning, handshake_end_name(why), "TLS handshake with {} refused: {}", connection->peer.traddr,
                full ? fmt::format("{} are under way, the most there may be (max_tls_handshakes)", options_.max_handshakes)
                     : "too many connections of this host, or in all, have not finished their handshake (max_half_open, max_half_open_per_host, "
                       "max_connections_per_host)");
    ::close(fd);
    return;
  }
  connection->id = next_id_++;
  Connection& kept = *connections_.emplace(connection->id, std::move(connection)).first->second;
  ++under_way_count;
  tls::Handshake::User user;
  user.first_record = [this, &kept](std::vector<std::byte> record) { first_record(kept, record); };
  user.no_tls = [this, &kept, cleartext_too](tls::Bytes bytes) {
    const bool nvme = !bytes.empty() && bytes[0] == std::byte{0};  // PDU type of ICReq
    if (nvme && cleartext_too) return is_cleartext(kept);
    refuse(kept, HandshakeEnd::cleartext, alert_unexpected_message,
           nvme ? "the host speaks NVMe/TCP without TLS, and this listener was added with secure_channel" : "what it sends is no TLS");
  };
  user.done = [this, &kept](std::unique_ptr<tls::Stream> stream) { this->secured(kept, std::move(stream)); };
  user.failed = [this, &kept](const Error& why) {
    const bool closed = why.err != EPROTO;
    end(kept, closed ? HandshakeEnd::peer_closed : kept.verdict != nullptr ? kept.verdict->end : HandshakeEnd::malformed, why.message);
  };
  kept.handshake = std::make_unique<tls::Handshake>(thread_, fd, fmt::format("TLS handshake {}:{}", kept.peer.traddr, kept.peer.trsvcid), executor_,
                                                    std::move(user));
  kept.deadline = std::make_unique<Timer>([this, &kept] {
    end(kept, HandshakeEnd::timed_out, fmt::format("it did not finish within {} s", static_cast<double>(options_.handshake_timeout_us) / 1e6));
  });
  thread_.arm_in_us(*kept.deadline, options_.handshake_timeout_us);
  kept.handshake->listen();
}

// --- the ClientHello ---

void SecureAcceptor::first_record(Connection& connection, const std::vector<std::byte>& record) {
  if (record[0] != handshake_record || record.size() == record_header_bytes)
    return refuse(connection, HandshakeEnd::malformed, alert_unexpected_message, "its first record is no handshake message");
  connection.records.insert(connection.records.end(), record.begin(), record.end());
  auto& message = connection.message;
  message.insert(message.end(), record.begin() + record_header_bytes, record.end());
  if (message[0] != client_hello_message)
    return refuse(connection, HandshakeEnd::malformed, alert_unexpected_message, "its first message is no ClientHello");
  if (message.size() < message_header_bytes) return;
  const std::size_t length = message_header_bytes + (std::to_integer<std::size_t>(message[1]) << 16 | std::to_integer<std::size_t>(message[2]) << 8 |
                                                     std::to_integer<std::size_t>(message[3]));
  if (length > max_hello_bytes || message.size() > length)
    return refuse(connection, HandshakeEnd::malformed, alert_decode_error, "its ClientHello is too long");
  if (message.size() == length) judge(connection);
}

void SecureAcceptor::judge(Connection& connection) {
  const auto parsed = tls::parse_client_hello(connection.message);
  if (!parsed) return refuse(connection, HandshakeEnd::malformed, alert_decode_error, "its ClientHello is malformed");
  if (!parsed->tls13) return refuse(connection, HandshakeEnd::old_version, alert_protocol_version, "the host does not offer TLS 1.3");
  if (parsed->offers.empty() || !parsed->psk_with_dhe) {
    return refuse(connection, HandshakeEnd::no_psk, alert_handshake_failure,
                  parsed->offers.empty() ? "the host offers no pre-shared key"
                                         : "the host offers its pre-shared key without a key exchange alone (psk_ke), and psk_dhe_ke is needed");
  }
  connection.claimed = plain_identity(parsed->offers.front().identity);
  std::vector<Suspect> suspects;
  bool without_suite = false;
  for (std::size_t i = 0; i < parsed->offers.size(); ++i) {
    auto identity = tls::parse_identity(parsed->offers[i].identity);
    if (!identity) continue;
    auto keys = find_keys_(*identity);
    if (keys.empty()) continue;
    if (parsed->has_suite(tls::suite_of(identity->hash))) {
      suspects.emplace_back(i, std::move(*identity), std::move(keys));
    } else {
      without_suite = true;
    }
  }
  if (suspects.empty() && without_suite)
    return refuse(connection, HandshakeEnd::suite, alert_handshake_failure, "the host offers a pre-shared key without the cipher suite it is for");
  if (suspects.empty()) {
    const auto& shown = connection.claimed;
    return refuse(
        connection, HandshakeEnd::unknown_identity, alert_decrypt_error,
        shown ? fmt::format("host '{}' has no key for subsystem '{}'", shown->hostnqn, shown->subnqn) : "the identity it offers is none of NVMe/TCP");
  }
  auto verdict = std::make_shared<Verdict>();
  connection.verdict = verdict;
  connection.handshake->begin([verdict, hello = *parsed, suspects = std::move(suspects), message = std::move(connection.message),
                               records = std::move(connection.records), options = options_.stream]() -> tls::Handshake::Turn {
    tls::Handshake::Turn turn;
    Proof proof = find_proof(message, hello, suspects);
    if (proof.suspect != nullptr) {
      verdict->key_name = proof.key_name;
      verdict->identity = proof.suspect->identity;
      auto stream = tls::Stream::accept(hello.offers[proof.suspect->offer].identity, verdict->identity.hash, std::move(proof.psk), options);
      if (stream) return tls::Handshake::step(std::move(*stream), records);
      turn.why = stream.error().message;
      return turn;
    }
    const std::string& unreadable = proof.unreadable;
    const auto alert = alert_record(unreadable.empty() ? alert_decrypt_error : alert_internal_error);
    turn.out.assign(alert.begin(), alert.end());
    verdict->end = unreadable.empty() ? HandshakeEnd::wrong_key : HandshakeEnd::key_unreadable;
    turn.why = unreadable.empty() ? fmt::format("host '{}' used another key than those it has for subsystem '{}'", suspects.front().identity.hostnqn,
                                                suspects.front().identity.subnqn)
                                  : unreadable;
    return turn;
  });
}

// --- ends ---

void SecureAcceptor::refuse(Connection& connection, HandshakeEnd how, std::uint8_t alert, const std::string& why) {
  connection.handshake->say(alert_record(alert));
  end(connection, how, why);
}

void SecureAcceptor::end(Connection& connection, HandshakeEnd how, const std::string& why) {
  counter_of(how).add();
  log_limited(failure_log, LogLevel::warning, connection.peer.traddr, "TLS handshake with {}:{} failed ({}): {}", connection.peer.traddr,
              connection.peer.trsvcid, handshake_end_name(how), why);
  auto gone = let_go(connection);
  ::close(gone->fd);
  if (failed_ && how != HandshakeEnd::peer_closed) failed_(gone->peer, how, gone->claimed ? &*gone->claimed : nullptr, why);
  bury(std::move(gone));
}

void SecureAcceptor::secured(Connection& connection, std::unique_ptr<tls::Stream> stream) {
  counter_of(HandshakeEnd::secured).add();
  auto gone = let_go(connection);
  const tls::Identity& identity = gone->verdict->identity;
  Incoming secured(gone->fd);
  secured.channel.hostnqn = identity.hostnqn;
  secured.channel.subnqn = identity.subnqn;
  secured.channel.suite = tls::suite_name(identity.hash);
  secured.channel.identity_version = identity.version;
  secured.channel.generated = identity.generated;
  secured.channel.key_name = gone->verdict->key_name;
  secured.channel.kernel_sends = stream->kernel_sends();
  secured.channel.kernel_receives = stream->kernel_receives();
  secured.stream = std::move(stream);
  secured.ticket = std::move(gone->ticket);
  log_info(log_tls, "{}:{} is secured: host '{}', subsystem '{}', {}, identity version {}{}", gone->peer.traddr, gone->peer.trsvcid, identity.hostnqn,
           identity.subnqn, secured.channel.suite, identity.version, secured.channel.kernel_sends ? ", sent by the kernel" : "");
  bury(std::move(gone));
  secured_(std::move(secured));
}

// Nothing of it was read yet: what it sends is for the poll group.
void SecureAcceptor::is_cleartext(Connection& connection) {
  auto gone = let_go(connection);
  gone->ticket.give_back();  // cleartext connections get theirs from the poll group
  const int fd = gone->fd;
  bury(std::move(gone));
  secured_(Incoming(fd));
}

// The socket is free from here on.
std::unique_ptr<SecureAcceptor::Connection> SecureAcceptor::let_go(Connection& connection) {
  auto gone = std::move(connections_.at(connection.id));
  connections_.erase(gone->id);
  --under_way_count;
  gone->handshake->stop();
  return gone;
}

// This may be running in a callback that the connection holds: it is freed behind it.
void SecureAcceptor::bury(std::unique_ptr<Connection> connection) {
  connection->deadline->disarm();
  thread_.send([gone = std::shared_ptr<Connection>(std::move(connection))] {});
}

}  // namespace catnap::tcp
