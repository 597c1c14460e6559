// Generated PSKs: what DH-HMAC-CHAP left on both sides when a host asked for a secure channel (Base 2.0, section 8.13.5.9; TCP Transport 1.0c,
// sections 3.6.1.3 and 3.6.1.4), for the TLS connections that follow. Owner: app_thread, every member. Left out: how they are made
// (transport/dhchap).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "keyring/secret.h"
#include "reactor/timer.h"
#include "transport/tls/psk.h"

namespace catnap::tls {

class GeneratedKeys {
 public:
  static constexpr std::uint64_t default_lifetime_us = 600'000'000;  // ten minutes (section 3.6.1.4)
  // Keys at a time; beyond it the one that would expire first goes.
  static constexpr std::size_t max_keys = 4096;

  static GeneratedKeys& instance();

  // `psk`: as long as `hash`; it serves identities of both versions with that hash. A later one for the same host, subsystem and hash takes its
  // place.
  void add(std::string hostnqn, std::string subnqn, Hash hash, SecretBytes psk, std::uint64_t lifetime_us = default_lifetime_us);
  void remove(const std::string& hostnqn, const std::string& subnqn);
  // Null: none that is still good.
  std::shared_ptr<const SecretBytes> find(const Identity& identity) const;
  std::size_t size() const { return keys_.size(); }

 private:
  struct Name {
    std::string hostnqn;
    std::string subnqn;
    Hash hash;
    auto operator<=>(const Name&) const = default;
  };
  struct Entry {
    std::shared_ptr<const SecretBytes> psk;
    std::uint64_t until_ns = 0;
  };
  void expire();
  void watch();

  std::map<Name, Entry> keys_;
  Timer timer_{[this] { expire(); }};  // while there are keys
};

}  // namespace catnap::tls
