// The keyring: which files it takes, how keys are borrowed, removed and revived, and that their memory is locked and wiped.
#include "keyring/keyring.h"

#include <gtest/gtest.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

namespace catnap::keyring {
namespace {

class KeyringTest : public testing::Test {
 protected:
  ~KeyringTest() override {
    for (const auto& path : files_) unlink(path.c_str());
  }
  std::string file(const std::string& text, mode_t mode = 0600) {
    std::string path = testing::TempDir() + "/catnap_keyring_XXXXXX";
    const int fd = mkstemp(path.data());
    EXPECT_EQ(::write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    EXPECT_EQ(fchmod(fd, mode), 0);
    close(fd);
    files_.push_back(path);
    return path;
  }
  Keyring ring_;
  std::vector<std::string> files_;
};

TEST_F(KeyringTest, TakesOnlyFilesThatNobodyElseCanTouch) {
  EXPECT_TRUE(check_key_file(file("x")).has_value());
  EXPECT_TRUE(check_key_file(file("x", 0400)).has_value());
  for (const mode_t mode : {0640U, 0604U, 0610U, 0601U, 0620U, 0602U, 0666U}) {
    const auto refused = check_key_file(file("x", mode));
    ASSERT_FALSE(refused.has_value()) << mode;
    EXPECT_EQ(refused.error().err, EPERM);
  }
  EXPECT_EQ(check_key_file("relative").error().err, EPERM);
  EXPECT_EQ(check_key_file("/nonexistent/key").error().err, ENOENT);
  EXPECT_EQ(check_key_file("/dev/null").error().err, EINVAL);
  EXPECT_EQ(check_key_file(file(std::string(max_key_file_bytes + 1, 'x'))).error().err, EFBIG);
  EXPECT_EQ(read_key_file(file("\n \r\n")).error().err, EINVAL);
}

TEST_F(KeyringTest, RefusesAFileOfAnotherUser) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  const std::string path = file("x");
  ASSERT_EQ(chown(path.c_str(), 12345, 12345), 0);
  EXPECT_EQ(check_key_file(path).error().err, EPERM);
}

TEST_F(KeyringTest, ReadsAtEachUse) {
  const std::string path = file("first\r\n");
  ASSERT_TRUE(ring_.add_file("k", path).has_value());
  const auto key = *ring_.borrow("k", "test");
  EXPECT_EQ(key->read()->text(), "first");
  const std::string next = file("second\n");
  ASSERT_EQ(rename(next.c_str(), path.c_str()), 0);
  EXPECT_EQ(key->read()->text(), "second");
  ASSERT_EQ(chmod(path.c_str(), 0644), 0);
  const auto refused = key->read();
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().err, EPERM);
  EXPECT_NE(refused.error().message.find("key 'k'"), std::string::npos);
}

TEST_F(KeyringTest, RemovedKeysCannotBeReadUntilTheyComeBack) {
  ASSERT_TRUE(ring_.add_file("k", file("one")).has_value());
  EXPECT_EQ(ring_.add_file(":k", "/x").error().err, EEXIST) << "the same name";
  const auto key = *ring_.borrow(":k", "test");
  EXPECT_EQ(ring_.all()[0].refcnt, 2);
  ASSERT_TRUE(ring_.remove("k").has_value());
  EXPECT_EQ(ring_.remove("k").error().err, ENOKEY);
  EXPECT_EQ(key->read().error().err, ENOKEY);
  EXPECT_EQ(ring_.borrow("k", "dhchap_key of host 'x'").error().err, ENOKEY);
  ASSERT_EQ(ring_.all().size(), 1U);
  EXPECT_TRUE(ring_.all()[0].removed);
  EXPECT_EQ(ring_.all()[0].refcnt, 1);
  ASSERT_TRUE(ring_.add_file("k", file("two")).has_value());
  EXPECT_EQ(key->read()->text(), "two");
  EXPECT_EQ(key, *ring_.borrow("k", "test"));
}

TEST_F(KeyringTest, ForgetsARemovedKeyThatNobodyUses) {
  ASSERT_TRUE(ring_.add_file("k", file("one")).has_value());
  ASSERT_TRUE(ring_.remove("k").has_value());
  EXPECT_TRUE(ring_.all().empty());
}

TEST_F(KeyringTest, NamesAreChecked) {
  EXPECT_EQ(ring_.add_file("", "/x").error().err, EINVAL);
  EXPECT_EQ(ring_.add_file(":", "/x").error().err, EINVAL);
  EXPECT_EQ(ring_.add_file("other:k", "/x").error().err, EINVAL);
  EXPECT_EQ(ring_.add_file(std::string(max_key_name_bytes + 1, 'k'), "/x").error().err, EINVAL);
}

// Sanitizers make mlock() do nothing.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool mlock_is_intercepted = true;
#elif defined(__has_feature)
constexpr bool mlock_is_intercepted = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool mlock_is_intercepted = false;
#endif

// Pages of secrets as the kernel describes them: locked ("lo") and left out of core dumps ("dd").
TEST(SecretBytes, AreLockedAndNotDumped) {
  const auto secret = SecretBytes::create(100);
  ASSERT_TRUE(secret.has_value());
  std::ifstream smaps("/proc/self/smaps");
  const auto at = reinterpret_cast<std::uintptr_t>(secret->bytes().data());
  bool here = false;
  std::string flags;
  for (std::string line; std::getline(smaps, line);) {
    unsigned long from = 0;
    unsigned long to = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &from, &to) == 2) here = from <= at && at < to;
    if (here && line.starts_with("VmFlags:")) flags = line;
  }
  if (!mlock_is_intercepted) {
    EXPECT_NE(flags.find(" lo"), std::string::npos) << flags;
  }
  EXPECT_NE(flags.find(" dd"), std::string::npos) << flags;
}

using Key = std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)>;

Key make_key(const char* type, const char* group) {
  const std::unique_ptr<EVP_PKEY_CTX, void (*)(EVP_PKEY_CTX*)> maker(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr), EVP_PKEY_CTX_free);
  EVP_PKEY* made = nullptr;
  const bool well = EVP_PKEY_keygen_init(maker.get()) == 1 && (*group == '\0' || EVP_PKEY_CTX_set_group_name(maker.get(), group) == 1) &&
                    EVP_PKEY_generate(maker.get(), &made) == 1;
  EXPECT_TRUE(well) << type << group;
  return {made, EVP_PKEY_free};
}

// X25519 and others of TLS handshakes, and the groups of DH-HMAC-CHAP.
TEST(SecretBytes, PrivateHalvesInsideOpenSslAreSetApartAndSmall) {
  // Where the limit of locked memory is small it is not locked, and says so.
  if (CRYPTO_secure_malloc_initialized() == 0) {
    static_cast<void>(lock_library_keys());
  }
  ASSERT_EQ(CRYPTO_secure_malloc_initialized(), 1);
  static_cast<void>(make_key("X25519", ""));  // the first one seeds the random numbers of its OS thread, which lie there too
  for (const auto& [type, group] : {std::pair{"X25519", ""}, std::pair{"EC", "P-384"}, std::pair{"DH", "ffdhe2048"}, std::pair{"DH", "ffdhe8192"}}) {
    const std::size_t before = CRYPTO_secure_used();
    const Key key = make_key(type, group);
    const std::size_t taken = CRYPTO_secure_used() - before;
    EXPECT_GE(taken, 32U) << type << group;
    EXPECT_LE(taken, 64U) << type << group;
  }
}

TEST(SecretBytes, ShrinkWipesWhatIsCutOff) {
  auto secret = *SecretBytes::create(16);
  std::fill(secret.bytes().begin(), secret.bytes().end(), std::byte{0x5A});
  std::byte* behind = secret.bytes().data() + 8;
  secret.shrink(8);
  EXPECT_EQ(secret.text(), std::string(8, 'Z'));
  EXPECT_EQ(*behind, std::byte{0});
}

}  // namespace
}  // namespace catnap::keyring
