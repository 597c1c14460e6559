// The credentials file, hashes and the Authorization header.
// Owner: none. Left out: who asks for them (authenticator_test.cpp).
#include "web/credentials.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace catnap::web {
namespace {

using testing::HasSubstr;

// Of "abc" (FIPS 180-4's example).
constexpr const char* abc_token = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
// Of "secret", by `openssl passwd -6 -salt salt secret`.
constexpr const char* secret_hash = "$6$salt$egUxKNxDs8kPfh8iPMNcosMhb2eWah6d3R44JDm5Rj/j/XWR5E33QPd0YmHXoDHOIDR6kL5D3JcQcz0O8FHE00";

TEST(Credentials, EntriesHaveNameRoleAndHash) {
  const auto read = Credentials::parse("f", std::string("# who\n\nroot:admin:") + secret_hash + "\r\nscraper:read-only:" + abc_token);
  ASSERT_TRUE(read.has_value()) << read.error().message;
  ASSERT_EQ(read->entries().size(), 2U);
  ASSERT_NE(read->find("root"), nullptr);
  EXPECT_EQ(read->find("root")->role, rpc::Role::admin);
  EXPECT_EQ(read->find("root")->password_hash, secret_hash);
  EXPECT_EQ(read->find("scraper")->role, rpc::Role::read_only);
  EXPECT_EQ(read->find("nobody"), nullptr);
  EXPECT_EQ(read->owner_of_token("abc"), read->find("scraper"));
  EXPECT_EQ(read->owner_of_token("abd"), nullptr);
}

TEST(Credentials, WrongLinesAreNamed) {
  const std::pair<std::string, const char*> wrong[] = {
      {"root", "NAME:ROLE:HASH"},
      {"root:admin", "NAME:ROLE:HASH"},
      {std::string(":admin:") + abc_token, "the name is empty"},
      {std::string("a b:admin:") + abc_token, "blanks"},
      {std::string("root:boss:") + abc_token, "role 'boss'"},
      {"root:admin:secret", "the hash is neither"},
      {"root:admin:$1$salt$weak", "the hash is neither"},
      {"root:admin:sha256:12", "64 hexadecimal digits"},
      {"root:admin:", "the hash is neither"},
      {std::string("a:admin:") + abc_token + "\na:admin:" + abc_token, "line 2: name 'a' stands there twice"},
      {"# nobody\n", "has no entry"},
  };
  for (const auto& [text, reason] : wrong) {
    const auto read = Credentials::parse("/etc/who", text);
    ASSERT_FALSE(read.has_value()) << text;
    EXPECT_THAT(read.error().message, HasSubstr(reason));
    EXPECT_THAT(read.error().message, HasSubstr("'/etc/who'"));
    EXPECT_THAT(read.error().message, testing::Not(HasSubstr("ba7816bf"))) << "no hash in a message";
  }
}

TEST(Credentials, AFileThatOthersCanReadIsRefused) {
  const auto path = std::filesystem::temp_directory_path() / ("catnap_credentials_" + std::to_string(::getpid()));
  std::ofstream(path) << "root:admin:" << abc_token << "\n";
  for (const mode_t mode : {0644U, 0640U, 0604U, 0660U, 0601U}) {
    ASSERT_EQ(::chmod(path.c_str(), mode), 0);
    const auto read = Credentials::read(path);
    ASSERT_FALSE(read.has_value()) << mode;
    EXPECT_EQ(read.error().err, EACCES);
    EXPECT_THAT(read.error().message, HasSubstr("group and others"));
  }
  ASSERT_EQ(::chmod(path.c_str(), 0600), 0);
  EXPECT_TRUE(Credentials::read(path).has_value());
  std::filesystem::remove(path);
  EXPECT_EQ(Credentials::read(path).error().err, ENOENT);
  EXPECT_EQ(Credentials::read(std::filesystem::temp_directory_path()).error().err, EINVAL);
}

TEST(Credentials, PasswordsFitTheirHash) {
  EXPECT_TRUE(password_fits("secret", secret_hash));
  EXPECT_FALSE(password_fits("Secret", secret_hash));
  EXPECT_FALSE(password_fits("", secret_hash));
  EXPECT_FALSE(password_fits("secret", "$6$"));
}

TEST(Credentials, AuthorizationHeaders) {
  using Scheme = Presented::Scheme;
  EXPECT_EQ(read_authorization("").scheme, Scheme::none);
  const Presented basic = read_authorization("Basic cm9vdDpwYTpzcw==");  // root:pa:ss
  EXPECT_EQ(basic.scheme, Scheme::basic);
  EXPECT_EQ(basic.user, "root");
  EXPECT_EQ(basic.secret, "pa:ss");
  EXPECT_EQ(read_authorization("basic cm9vdDo=").secret, "");
  const Presented bearer = read_authorization("bearer  abc ");
  EXPECT_EQ(bearer.scheme, Scheme::bearer);
  EXPECT_EQ(bearer.secret, "abc");
  // No colon, no base64, a zero byte that would cut the password short, another scheme.
  for (const char* header : {"Basic cm9vdA==", "Basic !!!!", "Basic", "Basic =", "Basic cm9vdDphAGI=", "Digest x", "x"}) {
    EXPECT_EQ(read_authorization(header).scheme, Scheme::unknown) << header;
  }
}

}  // namespace
}  // namespace catnap::web
