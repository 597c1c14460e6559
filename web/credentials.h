// Who may use the HTTP server: the credentials file. One NAME:ROLE:HASH a line, "#" begins a comment. ROLE is admin or read-only. HASH is what
// crypt(5) makes of a password ($y$, $gy$, $7$, $2b$, $2y$, $6$, $5$; `openssl passwd -6` prints one), or sha256: and the SHA-256 of a random token
// of at least 128 bits in hexadecimal digits (`printf %s TOKEN | sha256sum`), which may be used as password of NAME, or as bearer token. Nothing in
// the file can be used to log in. Owner: none (values). Left out: asking for them (authenticator.h).
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reactor/base/error.h"
#include "rpc/caller.h"

namespace catnap::web {

using Digest = std::array<std::uint8_t, 32>;

// SHA-256 (FIPS 180-4).
Digest sha256(std::string_view text);
// HMAC (RFC 2104) with SHA-256.
Digest hmac_sha256(const Digest& key, std::string_view text);
// In a time that does not depend on where they differ.
bool equal(const Digest& a, const Digest& b);
// Overwrites in a way that the compiler keeps.
void wipe(std::string& text);

struct Credential {
  std::string name;
  rpc::Role role = rpc::Role::read_only;
  std::string password_hash;  // crypt(5); "": a token
  Digest token{};             // its SHA-256

  bool operator==(const Credential&) const = default;
};

class Credentials {
 public:
  // Bounds that only a wrong file exceeds.
  static constexpr std::size_t max_file_bytes = 1 << 20;
  static constexpr std::size_t max_entries = 1000;

  // Errors: what open says; EACCES when group or others may read or write the file, or it belongs to neither root nor this user nor the one that the
  // process is about to become; EINVAL naming line and reason.
  static Result<Credentials> read(const std::string& path, std::optional<uid_t> future_user = std::nullopt);
  static Result<Credentials> parse(const std::string& path, std::string_view text);

  const std::vector<Credential>& entries() const { return entries_; }
  const Credential* find(std::string_view name) const;
  // Whose token this is; every entry is compared.
  const Credential* owner_of_token(std::string_view token) const;

 private:
  std::vector<Credential> entries_;
};

// Does crypt(3) make `hash` of the password? Takes milliseconds to seconds, as its maker wanted: on a worker.
bool password_fits(const std::string& password, const std::string& hash);

// What an Authorization header (RFC 9110 section 11.6.2) carries.
struct Presented {
  enum class Scheme : std::uint8_t { none, basic, bearer, unknown };
  Scheme scheme = Scheme::none;
  std::string user;    // basic
  std::string secret;  // password or token
};
Presented read_authorization(std::string_view header);

}  // namespace catnap::web
