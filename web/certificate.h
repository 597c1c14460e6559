// The certificate that the HTTP server shows, with its key, out of two PEM files, in GnuTLS's form. Made anew when the files are read again; who was
// shown the old one keeps it until the connection ends. Owner: none (immutable; made by any OS thread). Left out: handshakes (libmicrohttpd), whether
// clients will believe it.
#pragma once

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "reactor/base/error.h"

namespace catnap::web {

class Certificate {
 public:
  // Bounds that only a wrong file exceeds.
  static constexpr std::size_t max_pem_bytes = 1 << 20;
  static constexpr unsigned max_chain = 16;

  // Errors, naming option and file: what open and read say; EACCES when others have access to the key; EINVAL: nothing in PEM that can be used, or
  // the key of another certificate.
  static Result<std::shared_ptr<const Certificate>> read(const std::string& certificate_file, const std::string& key_file);
  ~Certificate();
  Certificate(const Certificate&) = delete;
  Certificate& operator=(const Certificate&) = delete;

  // For GnuTLS, which only reads them: the chain, the server's own first, and its key.
  gnutls_pcert_st* chain() const { return const_cast<gnutls_pcert_st*>(chain_.data()); }
  unsigned chain_length() const { return chain_length_; }
  gnutls_privkey_t key() const { return key_; }
  // For the log: until when it is valid.
  const std::string& validity() const { return validity_; }
  // The same in seconds since 1970; nothing where it does not say.
  std::optional<std::int64_t> end_s() const { return end_s_; }

 private:
  Certificate() = default;
  Result<void> parse(const std::string& certificate_file, const std::string& certificate, const std::string& key_file, const std::string& key);
  bool is_pair() const;
  void find_validity();

  std::array<gnutls_pcert_st, max_chain> chain_{};
  unsigned chain_length_ = 0;
  gnutls_privkey_t key_ = nullptr;
  std::string validity_;
  std::optional<std::int64_t> end_s_;
};

}  // namespace catnap::web
