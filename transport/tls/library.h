// What of OpenSSL the streams share: one context per side, and a BIO that moves bytes from and to a Stream's memory.
// Owner: the process (contexts are made once and never changed). Left out: connections (stream.h).
#pragma once

#include <openssl/ssl.h>

#include <string>

namespace catnap::tls {

// Key exchange groups that are offered and accepted, most wanted first. ffdhe3072 is the one that NVMe/TCP demands and secp384r1 the one it
// recommends (TCP Transport 1.0c, section 3.6.1.2); X25519 and P-256 cost a hundredth.
inline constexpr const char* key_exchange_groups = "X25519:P-256:P-384:ffdhe3072";

// Called by OpenSSL with the stream that SSL_get_app_data() gives.
struct Callbacks {
  SSL_psk_find_session_cb_func find_session = nullptr;
  SSL_psk_use_session_cb_func use_session = nullptr;
  SSL_CTX_keylog_cb_func keylog = nullptr;
  void (*stepped)(const SSL* ssl, int where, int value) = nullptr;
  int (*read)(BIO* bio, char* to, int size) = nullptr;
  int (*write)(BIO* bio, const char* from, int size) = nullptr;
};

// The contexts, made at the first call with its callbacks.
struct Contexts {
  SSL_CTX* server = nullptr;
  SSL_CTX* client = nullptr;
  BIO_METHOD* bio = nullptr;
};
const Contexts& contexts(const Callbacks& callbacks);

// The library's reasons for the last failure on this OS thread, oldest first; empties its queue.
std::string library_errors();

}  // namespace catnap::tls
