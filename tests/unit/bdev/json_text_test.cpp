// JSON text that modules write must parse whatever a name consists of.
#include "bdev/json_text.h"

#include <gtest/gtest.h>

namespace catnap::bdev {
namespace {

TEST(JsonText, QuotesWhatJsonCannotCarry) {
  EXPECT_EQ(json_quote("plain"), "\"plain\"");
  EXPECT_EQ(json_quote("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000a\"");
  EXPECT_EQ(json_quote("für €, 𝄞"), "\"für €, 𝄞\"");
  EXPECT_EQ(json_quote("\xFF"), "\"\\ufffd\"");
  EXPECT_EQ(json_quote("\xC0\x80"), "\"\\ufffd\\ufffd\"");             // overlong
  EXPECT_EQ(json_quote("\xED\xA0\x80"), "\"\\ufffd\\ufffd\\ufffd\"");  // a surrogate
  EXPECT_EQ(json_quote("\xE2\x82"), "\"\\ufffd\\ufffd\"");             // cut short
  EXPECT_EQ(json_quote(std::string_view("\0", 1)), "\"\\u0000\"");
}

TEST(JsonText, ObjectsKeepTheirOrder) {
  JsonObject object;
  object.add("b", "x").add("a", true).add("n", std::uint64_t{18446744073709551615u});
  EXPECT_EQ(object.text(), R"({"b":"x","a":true,"n":18446744073709551615})");
  EXPECT_EQ(config_call("m", JsonObject()), R"({"method":"m","params":{}})");
}

}  // namespace
}  // namespace catnap::bdev
