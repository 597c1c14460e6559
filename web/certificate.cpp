// PEM files through GnuTLS (certificate.h).
// Owner: none.
#include "web/certificate.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <gnutls/x509.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <ctime>
#include <string_view>
#include <utility>

#include "web/credentials.h"
#include "web/own_file.h"

namespace catnap::web {
namespace {

constexpr const char* certificate_option = "--http-cert";
constexpr const char* key_option = "--http-key";

Result<std::string> read_pem(const char* option, const std::string& path, bool secret) {
  auto file = OwnFile::open(option, path);
  if (!file) return std::unexpected(file.error());
  if (secret && (file->mode() & S_IRWXO) != 0) {
    return fail(EACCES, fmt::format("{} '{}' has mode {:04o}: others must not have access to it (chmod o=)", option, path, file->mode()));
  }
  auto text = file->read(Certificate::max_pem_bytes);
  if (text && text->find("-----BEGIN ") == std::string::npos) return fail(EINVAL, fmt::format("{} '{}' has nothing in PEM in it", option, path));
  return text;
}

// GnuTLS asks for a pointer that could be written through, and only reads.
gnutls_datum_t datum_of(const std::string& text) {
  return {reinterpret_cast<unsigned char*>(const_cast<char*>(text.data())), static_cast<unsigned>(text.size())};
}

using KeyId = std::array<unsigned char, 32>;  // SHA-256

bool key_id_of(gnutls_pubkey_t key, KeyId& id) {
  std::size_t size = id.size();
  return ::gnutls_pubkey_get_key_id(key, GNUTLS_KEYID_USE_SHA256, id.data(), &size) == GNUTLS_E_SUCCESS && size == id.size();
}

}  // namespace

Certificate::~Certificate() {
  for (unsigned i = 0; i < chain_length_; ++i) ::gnutls_pcert_deinit(&chain_[i]);
  if (key_ != nullptr) ::gnutls_privkey_deinit(key_);
}

Result<std::shared_ptr<const Certificate>> Certificate::read(const std::string& certificate_file, const std::string& key_file) {
  auto certificate = read_pem(certificate_option, certificate_file, false);
  if (!certificate) return std::unexpected(certificate.error());
  auto key = read_pem(key_option, key_file, true);
  if (!key) return std::unexpected(key.error());
  std::shared_ptr<Certificate> made(new Certificate());
  auto parsed = made->parse(certificate_file, *certificate, key_file, *key);
  wipe(*key);
  if (!parsed) return std::unexpected(parsed.error());
  return made;
}

Result<void> Certificate::parse(const std::string& certificate_file, const std::string& certificate, const std::string& key_file,
                                const std::string& key) {
  const gnutls_datum_t chain = datum_of(certificate);
  unsigned length = max_chain;
  int status = ::gnutls_pcert_list_import_x509_raw(chain_.data(), &length, &chain, GNUTLS_X509_FMT_PEM, GNUTLS_X509_CRT_LIST_SORT);
  if (status < 0) return fail(EINVAL, fmt::format("{} '{}': {}", certificate_option, certificate_file, ::gnutls_strerror(status)));
  chain_length_ = length;
  const gnutls_datum_t secret = datum_of(key);
  status = ::gnutls_privkey_init(&key_);
  if (status == GNUTLS_E_SUCCESS) status = ::gnutls_privkey_import_x509_raw(key_, &secret, GNUTLS_X509_FMT_PEM, nullptr, 0);
  if (status < 0) return fail(EINVAL, fmt::format("{} '{}': {}", key_option, key_file, ::gnutls_strerror(status)));
  if (!is_pair()) {
    return fail(EINVAL, fmt::format("{} '{}' is not the key of {} '{}'", key_option, key_file, certificate_option, certificate_file));
  }
  find_validity();
  return {};
}

bool Certificate::is_pair() const {
  KeyId of_key{};
  KeyId of_certificate{};
  gnutls_pubkey_t own = nullptr;
  if (::gnutls_pubkey_init(&own) != GNUTLS_E_SUCCESS) return false;
  const bool known = ::gnutls_pubkey_import_privkey(own, key_, 0, 0) == GNUTLS_E_SUCCESS && key_id_of(own, of_key);
  ::gnutls_pubkey_deinit(own);
  return known && key_id_of(chain_[0].pubkey, of_certificate) && of_key == of_certificate;
}

void Certificate::find_validity() {
  gnutls_x509_crt_t leaf = nullptr;
  if (::gnutls_pcert_export_x509(&chain_[0], &leaf) != GNUTLS_E_SUCCESS) return;
  const std::time_t end = ::gnutls_x509_crt_get_expiration_time(leaf);
  ::gnutls_x509_crt_deinit(leaf);
  std::tm utc{};
  if (end == static_cast<std::time_t>(-1) || ::gmtime_r(&end, &utc) == nullptr) return;
  end_s_ = static_cast<std::int64_t>(end);
  validity_ = fmt::format("{} {:%Y-%m-%d %H:%M} UTC", end < std::time(nullptr) ? "NO LONGER valid since" : "valid until", utc);
}

}  // namespace catnap::web
