// See math.h.
#include "transport/dhchap/math.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>
#include <openssl/rand.h>

#include <cerrno>
#include <string>
#include <utility>

namespace catnap::dhchap {
namespace {

template <auto function>
struct FreeWith {
  template <typename T>
  void operator()(T* pointer) const {
    function(pointer);
  }
};
using PkeyPtr = std::unique_ptr<EVP_PKEY, FreeWith<EVP_PKEY_free>>;
using PkeyCtxPtr = std::unique_ptr<EVP_PKEY_CTX, FreeWith<EVP_PKEY_CTX_free>>;
using BnPtr = std::unique_ptr<BIGNUM, FreeWith<BN_free>>;
using BuilderPtr = std::unique_ptr<OSSL_PARAM_BLD, FreeWith<OSSL_PARAM_BLD_free>>;
using ParamsPtr = std::unique_ptr<OSSL_PARAM, FreeWith<OSSL_PARAM_free>>;

const EVP_MD* md_of(AuthHash hash) {
  switch (hash) {
    case AuthHash::sha256:
      return EVP_sha256();
    case AuthHash::sha384:
      return EVP_sha384();
    case AuthHash::sha512:
      return EVP_sha512();
    default:
      return nullptr;
  }
}

const unsigned char* raw(std::span<const std::byte> bytes) { return reinterpret_cast<const unsigned char*>(bytes.data()); }
unsigned char* raw(std::span<std::byte> bytes) { return reinterpret_cast<unsigned char*>(bytes.data()); }

BnPtr number(const EVP_PKEY* pkey, const char* what) {
  BIGNUM* value = nullptr;
  EVP_PKEY_get_bn_param(pkey, what, &value);
  return BnPtr(value);
}

// 2 … p-2: 0, 1 and p-1 would make the secret one that anybody knows (NVMe Base 2.0, section 8.13.5; RFC 7919, section 5.1).
bool in_range(const BIGNUM* value, const BIGNUM* prime) {
  const BnPtr last(BN_dup(prime));
  if (last == nullptr || BN_sub_word(last.get(), 1) != 1) return false;
  return BN_cmp(value, BN_value_one()) > 0 && BN_cmp(value, last.get()) < 0;
}

PkeyPtr peer_key(AuthGroup group, const BIGNUM* value) {
  const PkeyCtxPtr context(EVP_PKEY_CTX_new_from_name(nullptr, "DH", nullptr));
  const BuilderPtr builder(OSSL_PARAM_BLD_new());
  if (context == nullptr || builder == nullptr || EVP_PKEY_fromdata_init(context.get()) != 1) return nullptr;
  const std::string name(name_of(group));
  if (OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, name.c_str(), 0) != 1) return nullptr;
  if (OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, value) != 1) return nullptr;
  const ParamsPtr params(OSSL_PARAM_BLD_to_param(builder.get()));
  EVP_PKEY* made = nullptr;
  if (params == nullptr || EVP_PKEY_fromdata(context.get(), &made, EVP_PKEY_PUBLIC_KEY, params.get()) != 1) return nullptr;
  return PkeyPtr(made);
}

// HMAC(H(secret), challenge): what both sides compute with instead of the bare challenge when there is a group.
Result<Digest> augmented(AuthHash hash, std::span<const std::byte> dh_secret, const Digest& challenge) {
  if (dh_secret.empty()) return challenge;
  Digest key;
  key.size = hash_bytes(hash);
  Digest out;
  out.size = key.size;
  unsigned int length = 0;
  const bool hashed = EVP_Digest(dh_secret.data(), dh_secret.size(), raw(key.bytes()), &length, md_of(hash), nullptr) == 1;
  const bool made = hashed && hmac(hash, key.bytes(), {challenge.bytes()}, out.bytes());
  OPENSSL_cleanse(key.storage.data(), key.storage.size());
  if (!made) return fail(EIO, "OpenSSL could not hash");
  return out;
}

}  // namespace

bool equal(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

bool fill_random(std::span<std::byte> bytes) { return RAND_bytes(raw(bytes), static_cast<int>(bytes.size())) == 1; }

bool hmac(AuthHash hash, std::span<const std::byte> key, std::initializer_list<std::span<const std::byte>> pieces, std::span<std::byte> out) {
  const EVP_MD* md = md_of(hash);
  if (md == nullptr || out.size() != hash_bytes(hash)) return false;
  // Nothing of the message is secret: challenges, numbers and names.
  std::vector<std::byte> message;
  for (const auto piece : pieces) message.insert(message.end(), piece.begin(), piece.end());
  unsigned int length = 0;
  return HMAC(md, key.data(), static_cast<int>(key.size()), raw(std::span<const std::byte>(message)), message.size(), raw(out), &length) != nullptr &&
         length == out.size();
}

void DhPair::Free::operator()(void* pkey) const { EVP_PKEY_free(static_cast<EVP_PKEY*>(pkey)); }

Result<DhPair> DhPair::generate(AuthGroup group) {
  const PkeyCtxPtr context(EVP_PKEY_CTX_new_from_name(nullptr, "DH", nullptr));
  std::string name(name_of(group));
  const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, name.data(), 0), OSSL_PARAM_construct_end()};
  EVP_PKEY* made = nullptr;
  if (context == nullptr || EVP_PKEY_keygen_init(context.get()) != 1 || EVP_PKEY_CTX_set_params(context.get(), params) != 1 ||
      EVP_PKEY_generate(context.get(), &made) != 1) {
    return fail(EIO, "OpenSSL could not make a Diffie-Hellman key pair");
  }
  DhPair pair(group, made);
  const BnPtr value = number(made, OSSL_PKEY_PARAM_PUB_KEY);
  pair.public_.resize(group_bytes(group));
  if (value == nullptr || BN_bn2binpad(value.get(), raw(std::span(pair.public_)), static_cast<int>(pair.public_.size())) < 0) {
    return fail(EIO, "OpenSSL could not give the public value");
  }
  return pair;
}

Result<keyring::SecretBytes> DhPair::agree(std::span<const std::byte> peer_public) const {
  if (peer_public.size() != group_bytes(group_)) return fail(EINVAL, "the peer's public value does not have the length of the group");
  auto* own = static_cast<EVP_PKEY*>(pkey_.get());
  const BnPtr value(BN_bin2bn(raw(peer_public), static_cast<int>(peer_public.size()), nullptr));
  const BnPtr prime = number(own, OSSL_PKEY_PARAM_FFC_P);
  if (value == nullptr || prime == nullptr) return fail(EIO, "OpenSSL could not take the public value");
  if (!in_range(value.get(), prime.get())) return fail(EINVAL, "the peer's public value is 0, 1, p-1 or beyond");
  const PkeyPtr peer = peer_key(group_, value.get());
  const PkeyCtxPtr context(EVP_PKEY_CTX_new_from_pkey(nullptr, own, nullptr));
  auto secret = keyring::SecretBytes::create(peer_public.size());
  if (!secret) return secret;
  std::size_t length = secret->bytes().size();
  unsigned int pad = 1;
  const OSSL_PARAM params[] = {OSSL_PARAM_construct_uint(OSSL_EXCHANGE_PARAM_PAD, &pad), OSSL_PARAM_construct_end()};
  // The range was checked; the prime being a safe one, OpenSSL's own check of the order would cost another exponentiation and find nothing more
  // than a value outside the subgroup of squares, which tells a peer one bit of a key that lives for one transaction.
  if (peer == nullptr || context == nullptr || EVP_PKEY_derive_init_ex(context.get(), params) != 1 ||
      EVP_PKEY_derive_set_peer_ex(context.get(), peer.get(), 0) != 1 || EVP_PKEY_derive(context.get(), raw(secret->bytes()), &length) != 1 ||
      length != secret->bytes().size()) {
    return fail(EIO, "OpenSSL could not derive the Diffie-Hellman secret");
  }
  return secret;
}

Result<Digest> respond(const ResponseInput& input, std::span<const std::byte> key, std::span<const std::byte> dh_secret, const Digest& challenge) {
  const auto challenged = augmented(input.hash, dh_secret, challenge);
  if (!challenged) return challenged;
  const le32 seqnum = input.seqnum;
  const le16 t_id = input.t_id;
  const std::byte sc_c{input.sc_c};
  const std::byte separator{0};
  const std::string_view who = input.of_controller ? "Controller" : "HostHost";
  const std::string_view first = input.of_controller ? input.subnqn : input.hostnqn;
  const std::string_view second = input.of_controller ? input.hostnqn : input.subnqn;
  Digest response;
  response.size = hash_bytes(input.hash);
  const bool made = hmac(input.hash, key,
                         {challenged->bytes(), std::as_bytes(std::span(&seqnum, 1)), std::as_bytes(std::span(&t_id, 1)), std::span(&sc_c, 1),
                          bytes_of(who), bytes_of(first), std::span(&separator, 1), bytes_of(second)},
                         response.bytes());
  if (!made) return fail(EIO, "OpenSSL could not compute an HMAC");
  return response;
}

}  // namespace catnap::dhchap
