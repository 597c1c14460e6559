// See library.h.
#include "transport/tls/library.h"

#include <openssl/bio.h>
#include <openssl/err.h>

#include "reactor/base/check.h"

namespace catnap::tls {
namespace {

SSL_CTX* make_context(const SSL_METHOD* method, const Callbacks& callbacks) {
  SSL_CTX* context = SSL_CTX_new(method);
  CATNAP_CHECK(context != nullptr);
  CATNAP_CHECK(SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 && SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1);
  CATNAP_CHECK(SSL_CTX_set1_groups_list(context, key_exchange_groups) == 1);
  CATNAP_CHECK(SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384") == 1);
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_clear_options(context, SSL_OP_ENABLE_MIDDLEBOX_COMPAT | SSL_OP_ALLOW_NO_DHE_KEX);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_max_early_data(context, 0);
  SSL_CTX_set_recv_max_early_data(context, 0);
  // Buffers of 16 KiB each way only while a record is under way; what is written may lie elsewhere at a retry (it is never retried).
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_keylog_callback(context, callbacks.keylog);
  SSL_CTX_set_info_callback(context, callbacks.stepped);
  return context;
}

long bio_control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

int bio_create(BIO* bio) {
  BIO_set_init(bio, 1);
  return 1;
}

Contexts make_contexts(const Callbacks& callbacks) {
  Contexts made;
  made.server = make_context(TLS_server_method(), callbacks);
  made.client = make_context(TLS_client_method(), callbacks);
  // A server that does not take the PSK would have to show a certificate; no authority is known, so none is good enough.
  SSL_CTX_set_verify(made.client, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_psk_find_session_callback(made.server, callbacks.find_session);
  SSL_CTX_set_psk_use_session_callback(made.client, callbacks.use_session);
  made.bio = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "catnap stream");
  CATNAP_CHECK(made.bio != nullptr && BIO_meth_set_read(made.bio, callbacks.read) == 1 && BIO_meth_set_write(made.bio, callbacks.write) == 1 &&
               BIO_meth_set_ctrl(made.bio, bio_control) == 1 && BIO_meth_set_create(made.bio, bio_create) == 1);
  return made;
}

}  // namespace

// Never freed: OpenSSL's own clean-up at exit comes after every user.
const Contexts& contexts(const Callbacks& callbacks) {
  static const Contexts all = make_contexts(callbacks);
  return all;
}

std::string library_errors() {
  std::string text;
  while (const unsigned long code = ERR_get_error()) {
    const char* reason = ERR_reason_error_string(code);
    text += (text.empty() ? "" : ", ") + std::string(reason == nullptr ? "unknown reason" : reason);
  }
  return text;
}

}  // namespace catnap::tls
