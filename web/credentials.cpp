// The credentials file and what is computed of credentials (credentials.h).
// Owner: none.
#include "web/credentials.h"

#include <crypt.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <utility>

#include "web/own_file.h"

namespace catnap::web {
namespace {

std::optional<Digest> digest_from_hex(std::string_view hex) {
  Digest digest{};
  if (hex.size() != 2 * digest.size()) return std::nullopt;
  const auto value = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  for (std::size_t i = 0; i < digest.size(); ++i) {
    const int high = value(hex[2 * i]);
    const int low = value(hex[2 * i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    digest[i] = static_cast<std::uint8_t>(high * 16 + low);
  }
  return digest;
}

// Methods of crypt(5) that its manual calls strong enough for new passwords, and SHA-2's, which `openssl passwd` makes.
bool is_strong_hash(std::string_view hash) {
  static constexpr std::string_view prefixes[] = {"$y$", "$gy$", "$7$", "$2b$", "$2y$", "$6$", "$5$"};
  return std::ranges::any_of(prefixes, [&](std::string_view prefix) { return hash.starts_with(prefix) && hash.size() > prefix.size(); });
}

Result<Credential> parse_line(std::string_view line) {
  const std::size_t first = line.find(':');
  const std::size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
  if (second == std::string_view::npos) return fail(EINVAL, "it is not NAME:ROLE:HASH");
  Credential credential;
  credential.name = line.substr(0, first);
  const std::string_view role = line.substr(first + 1, second - first - 1);
  const std::string_view hash = line.substr(second + 1);
  if (credential.name.empty()) return fail(EINVAL, "the name is empty");
  const auto printable = [](char c) { return c > ' ' && c < 127; };
  if (!std::ranges::all_of(credential.name, printable)) return fail(EINVAL, "the name has blanks or characters outside of ASCII");
  if (role == "admin") {
    credential.role = rpc::Role::admin;
  } else if (role != "read-only") {
    return fail(EINVAL, fmt::format("role '{}' is not one of admin, read-only", role));
  }
  constexpr std::string_view token_prefix = "sha256:";
  if (hash.starts_with(token_prefix)) {
    const auto digest = digest_from_hex(hash.substr(token_prefix.size()));
    if (!digest) return fail(EINVAL, "behind sha256: there are not 64 hexadecimal digits");
    credential.token = *digest;
  } else if (is_strong_hash(hash)) {
    credential.password_hash = hash;
  } else {
    return fail(EINVAL, "the hash is neither sha256:... nor one of crypt(5) that begins with $y$, $gy$, $7$, $2b$, $2y$, $6$ or $5$");
  }
  return credential;
}

std::string base64_decoded(std::string_view text) {
  std::string decoded(text.size() / 4 * 3 + 3, '\0');
  const int length = ::EVP_DecodeBlock(reinterpret_cast<unsigned char*>(decoded.data()), reinterpret_cast<const unsigned char*>(text.data()),
                                       static_cast<int>(text.size()));
  const auto padding = static_cast<std::size_t>(std::ranges::count(text.substr(text.size() - std::min<std::size_t>(text.size(), 2)), '='));
  if (length < 0 || static_cast<std::size_t>(length) < padding) return "";
  decoded.resize(static_cast<std::size_t>(length) - padding);
  return decoded;
}

}  // namespace

Digest sha256(std::string_view text) {
  Digest digest{};
  unsigned length = 0;
  static_cast<void>(::EVP_Digest(text.data(), text.size(), digest.data(), &length, ::EVP_sha256(), nullptr));
  return digest;
}

Digest hmac_sha256(const Digest& key, std::string_view text) {
  Digest digest{};
  unsigned length = 0;
  static_cast<void>(::HMAC(::EVP_sha256(), key.data(), static_cast<int>(key.size()), reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                           digest.data(), &length));
  return digest;
}

bool equal(const Digest& a, const Digest& b) { return ::CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0; }

void wipe(std::string& text) {
  ::OPENSSL_cleanse(text.data(), text.size());
  text.clear();
}

Result<Credentials> Credentials::parse(const std::string& path, std::string_view text) {
  Credentials credentials;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with('#')) continue;
    auto credential = parse_line(line);
    if (!credential) return fail(EINVAL, fmt::format("--http-credentials '{}', line {}: {}", path, number, credential.error().message));
    if (credentials.find(credential->name) != nullptr) {
      return fail(EINVAL, fmt::format("--http-credentials '{}', line {}: name '{}' stands there twice", path, number, credential->name));
    }
    credentials.entries_.push_back(std::move(*credential));
  }
  if (credentials.entries_.empty()) return fail(EINVAL, fmt::format("--http-credentials '{}' has no entry", path));
  if (credentials.entries_.size() > max_entries) {
    return fail(EINVAL, fmt::format("--http-credentials '{}' has {} entries, it may have {}", path, credentials.entries_.size(), max_entries));
  }
  return credentials;
}

Result<Credentials> Credentials::read(const std::string& path, std::optional<uid_t> future_user) {
  constexpr const char* option = "--http-credentials";
  auto file = OwnFile::open(option, path);
  if (!file) return std::unexpected(file.error());
  if ((file->mode() & (S_IRWXG | S_IRWXO)) != 0) {
    return fail(EACCES, fmt::format("{} '{}' has mode {:04o}: group and others must not have access to it (chmod 600)", option, path, file->mode()));
  }
  if (file->owner() != 0 && file->owner() != ::geteuid() && file->owner() != future_user) {
    return fail(EACCES, fmt::format("{} '{}' belongs to uid {}, neither root nor the user of this process", option, path, file->owner()));
  }
  auto text = file->read(max_file_bytes);
  if (!text) return std::unexpected(text.error());
  return parse(path, *text);
}

const Credential* Credentials::find(std::string_view name) const {
  const auto found = std::ranges::find(entries_, name, &Credential::name);
  return found == entries_.end() ? nullptr : &*found;
}

const Credential* Credentials::owner_of_token(std::string_view token) const {
  const Digest digest = sha256(token);
  const Credential* owner = nullptr;
  for (const Credential& entry : entries_) {
    if (equal(entry.token, digest) && entry.password_hash.empty()) owner = &entry;
  }
  return owner;
}

bool password_fits(const std::string& password, const std::string& hash) {
  const auto data = std::make_unique<crypt_data>();
  const char* made = ::crypt_r(password.c_str(), hash.c_str(), data.get());
  const bool fits = made != nullptr && made[0] != '*' && std::char_traits<char>::length(made) == hash.size() &&
                    ::CRYPTO_memcmp(made, hash.data(), hash.size()) == 0;
  ::OPENSSL_cleanse(data.get(), sizeof(crypt_data));
  return fits;
}

Presented read_authorization(std::string_view header) {
  Presented presented;
  if (header.empty()) return presented;
  const std::size_t blank = std::min(header.find(' '), header.size());
  const std::string scheme(header.substr(0, blank));
  std::string_view rest = header.substr(blank);
  while (rest.starts_with(' ')) rest.remove_prefix(1);
  while (rest.ends_with(' ')) rest.remove_suffix(1);
  presented.scheme = Presented::Scheme::unknown;
  if (::strcasecmp(scheme.c_str(), "Bearer") == 0) {
    presented.scheme = Presented::Scheme::bearer;
    presented.secret = rest;
  } else if (::strcasecmp(scheme.c_str(), "Basic") == 0) {
    std::string pair = base64_decoded(rest);
    const std::size_t colon = pair.find(':');
    // crypt(3) reads up to the first zero byte: what lies behind it would count for nothing.
    if (colon != std::string::npos && pair.find('\0') == std::string::npos) {
      presented.scheme = Presented::Scheme::basic;
      presented.user = pair.substr(0, colon);
      presented.secret = pair.substr(colon + 1);
    }
    wipe(pair);
  }
  return presented;
}

}  // namespace catnap::web
