// TLS keys that hosts have made by authenticating with secure channel concatenation: which there are, for whom, and how long they are good.
//
// A key is good for its host and subsystem as long as a controller of that host lives whose admin queue it protects (or which made it in place of
// that one), and for a while before and after: the host has to come back by TLS with it. It is forgotten at once when another one replaces it.
//
// Owner: app_thread prunes (ControllerTable, which knows the controllers); the rest on any OS thread, under a mutex, off every I/O path. Left out:
// how keys are made (transport/dhchap) and proven (transport/tcp/secure_acceptor.h), whether the host may still come in (Target).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "keyring/keyring.h"
#include "keyring/secret.h"
#include "transport/tls/psk.h"

namespace catnap::server {

class GeneratedPsks {
 public:
  // In all: more associations than a target of this size has. 48 bytes each, in locked pages that they share.
  static constexpr std::size_t max_keys = 4096;
  // Of a host for a subsystem: a controller per path, and each path coming back a few times. Beyond either, the oldest is forgotten.
  static constexpr std::size_t max_keys_of_host = 64;

  struct Origin {
    Origin() = default;
    std::string hostnqn;
    std::string subnqn;         // as the host calls it
    keyring::KeyRef proven_by;  // the host's dhchap_key; the generated key is good for as long as the host has that
    // Of a key that replaces another: the name of that one, and the controller over whose secured admin queue it was made.
    std::string replaces;
    std::string controller_subnqn;
    std::uint16_t cntlid = 0;
    std::uint64_t timeout_ns = 0;  // good for so long without a controller
  };
  // `psk`: as long as `hash`. The name that the key goes by, "generated-7". Errors: ENOMEM.
  Result<std::string> add(Origin origin, tls::Hash hash, tls::Bytes psk, std::uint64_t now_ns);

  struct Found {
    Found() = default;
    std::string name;
    keyring::KeyRef proven_by;
    std::shared_ptr<const keyring::SecretBytes> psk;
  };
  // Errors: ENOENT, ENOMEM.
  Result<Found> find(const tls::Identity& identity) const;

  // A key as in_use() sees it.
  struct Shown {
    std::string name;
    std::string controller_subnqn;  // empty: replaces none
    std::uint16_t cntlid = 0;
  };
  // Forgets keys that have been without a controller for too long. When to look again; nullopt: not before something changes.
  std::optional<std::uint64_t> prune(std::uint64_t now_ns, const std::function<bool(const Shown& key)>& in_use);

  std::size_t size() const;

 private:
  struct Entry {
    Origin origin;
    Shown shown;
    std::string identity;  // text
    tls::Hash hash = tls::Hash::sha256;
    std::span<std::byte> cell;
    std::uint64_t idle_since_ns = 0;
    bool used = false;  // at the last look
  };
  using Entries = std::list<Entry>;  // oldest first

  Result<std::span<std::byte>> take_cell();
  void forget(Entries::iterator at);
  void make_room(const Origin& origin);

  mutable std::mutex mutex_;
  Entries entries_;
  std::vector<keyring::SecretBytes> pages_;
  std::vector<std::span<std::byte>> free_cells_;
  std::uint64_t next_number_ = 1;
};

}  // namespace catnap::server
