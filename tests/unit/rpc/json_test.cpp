// Strict JSON and the scanner that finds where a request ends in a stream.
#include "rpc/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rpc/request.h"

namespace catnap::rpc {
namespace {

TEST(ParseJson, RefusesWhatRfc8259Refuses) {
  for (const char* text : {"",          "{",        "{]",        "[1,]",      "{\"a\":1,}",  "{'a':1}",    "{a:1}",          "[01]",
                           "[1.]",      "[-]",      "[+1]",      "[.5]",      "[1e]",        "[NaN]",      "[Infinity]",     "[1] [2]",
                           "// x\n[1]", "[1]/* */", "[\"\n\"]",  "[\"\\x\"]", "[\"\\u12\"]", "[\"\xff\"]", "[\"\xc0\xaf\"]", "[\"\xed\xa0\x80\"]",
                           "[tru]",     "[1 2]",    "{\"a\" 1}", "[\x01]",    "[\xc3\xa4]",  "1",          "\"a\""}) {
    const auto value = parse_json(text);
    ASSERT_FALSE(value.has_value()) << testing::PrintToString(std::string(text));
    EXPECT_EQ(value.error().kind, JsonError::Kind::syntax) << text;
    EXPECT_FALSE(value.error().message.empty());
  }
}

TEST(ParseJson, TakesWhatRfc8259Takes) {
  for (const char* text :
       {"{}", " [ ] ", "[-0, 0.5, -1e+2, 1E5]", "[\"\\u00e4 \\\" \\\\ ä 😀\"]", "{\"a\":{\"a\":1}}", "[true,false,null]", "\t{\n\t\"a\":\t1\n}\n"}) {
    EXPECT_TRUE(parse_json(text).has_value()) << text;
  }
}

TEST(ParseJson, NamesDuplicateKeys) {
  const auto value = parse_json(R"({"a":1,"b":{"x'y":1,"x'y":2}})");
  ASSERT_FALSE(value.has_value());
  EXPECT_EQ(value.error().kind, JsonError::Kind::duplicate_key);
  EXPECT_EQ(value.error().message, "x'y");
  const auto kept = parse_json(R"({"a":1,"a":2})", DuplicateKeys::keep_last);
  ASSERT_TRUE(kept.has_value());
  EXPECT_EQ((*kept)["a"].asInt(), 2);
}

TEST(ParseJson, SurvivesDeepNesting) {
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  EXPECT_FALSE(parse_json(deep).has_value());
  const std::string allowed = std::string(max_json_depth, '[') + std::string(max_json_depth, ']');
  EXPECT_TRUE(parse_json(allowed).has_value());
}

TEST(JsonToText, IsAsciiOnOneLine) {
  Json::Value value(Json::objectValue);
  value["name"] = "a\n\xc3\xa4\xff";
  const std::string text = json_to_text(value);
  EXPECT_EQ(text.find('\n'), std::string::npos);
  for (const char byte : text) EXPECT_LT(static_cast<unsigned char>(byte), 0x80);
}

TEST(JsonToText, WritesWhatJsoncppWouldWrite) {
  Json::StreamWriterBuilder builder;
  builder["indentation"] = "";
  builder["emitUTF8"] = false;
  const auto value = parse_json(R"({"a": [1, -1, 18446744073709551615, -9223372036854775808, 1.5, 1e300, true, false, null, [], {}, [[{}]]],
                                    "": "", "x\"y\\z\/": "\u0000\u001f\u007f \u00e4\u65e5\ud83d\ude00", "plain text": "plain text"})");
  ASSERT_TRUE(value.has_value());
  EXPECT_EQ(json_to_text(*value), Json::writeString(builder, *value));
  for (const char* text : {"[]", "{}", R"(["a"])", "[0]"}) EXPECT_EQ(json_to_text(*parse_json(text)), text);
  Json::Value sparse(Json::arrayValue);
  sparse[3] = 7;
  EXPECT_EQ(json_to_text(sparse), "[null,null,null,7]");
  EXPECT_EQ(json_to_text(Json::Value()), "null");
}

TEST(ValueScanner, FindsTheEndHoweverTheStreamIsCut) {
  const std::string value = "{\"a}\\\"]\": [1, {\"b\": \"\\\\\"}], \"c\": \"[\"}";
  const std::string stream = " \n\t" + value + "[]";
  for (std::size_t step = 1; step <= stream.size(); ++step) {
    ValueScanner scanner;
    std::size_t length = 0;
    ValueScanner::State state = ValueScanner::State::need_more;
    while (state == ValueScanner::State::need_more && length < stream.size()) {
      length = std::min(length + step, stream.size());
      state = scanner.scan(std::string_view(stream).substr(0, length));
    }
    ASSERT_EQ(state, ValueScanner::State::complete) << step;
    EXPECT_EQ(stream.substr(scanner.begin(), scanner.end() - scanner.begin()), value) << step;
  }
}

TEST(ValueScanner, RefusesWhatBeginsNoRequest) {
  for (const char* text : {"x", " 1", "\"a\"", "null", "}", "\xef\xbb\xbf{}"}) {
    ValueScanner scanner;
    EXPECT_EQ(scanner.scan(text), ValueScanner::State::not_a_value) << text;
    EXPECT_FALSE(scanner.error().empty());
  }
  ValueScanner scanner;
  EXPECT_EQ(scanner.scan(std::string(max_json_depth + 1, '[')), ValueScanner::State::not_a_value);
}

Message read(const char* text) { return read_message(text, 4); }

TEST(ReadMessage, TakesRequestsApart) {
  const Message message = read(R"({"jsonrpc":"2.0","method":"m","params":{"a":1},"id":"x"})");
  ASSERT_FALSE(message.fault);
  ASSERT_EQ(message.requests.size(), 1u);
  const Request& request = message.requests[0];
  EXPECT_FALSE(request.fault);
  EXPECT_EQ(request.method, "m");
  EXPECT_EQ(request.id.asString(), "x");
  EXPECT_EQ(request.params["a"].asInt(), 1);
  EXPECT_FALSE(request.is_notification);
  EXPECT_TRUE(read(R"({"method":"m"})").requests[0].is_notification);
  EXPECT_FALSE(read(R"({"method":"m","id":null})").requests[0].is_notification);
}

struct Malformed {
  const char* text;
  int code;
  const char* says;
};

class MalformedRequest : public testing::TestWithParam<Malformed> {};

TEST_P(MalformedRequest, HasItsCodeAndReason) {
  const Message message = read(GetParam().text);
  ASSERT_FALSE(message.fault);
  ASSERT_EQ(message.requests.size(), 1u);
  ASSERT_TRUE(message.requests[0].fault);
  EXPECT_EQ(message.requests[0].fault->code, GetParam().code);
  EXPECT_THAT(message.requests[0].fault->message, testing::HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(Table, MalformedRequest,
                         testing::Values(Malformed{R"({"jsonrpc":"1.0","method":"m","id":1})", invalid_request, "\"jsonrpc\" is \"1.0\""},
                                         Malformed{R"({"jsonrpc":2.0,"method":"m","id":1})", invalid_request, "\"jsonrpc\" is 2"},
                                         Malformed{R"({"method":5,"id":1})", invalid_request, "\"method\" is 5"},
                                         Malformed{R"({"id":1})", invalid_request, "\"method\" is missing"},
                                         Malformed{R"({"method":"m","id":[1]})", invalid_request, "\"id\" is [1]"},
                                         Malformed{R"({"method":"m","id":true})", invalid_request, "\"id\" is true"},
                                         Malformed{R"({"method":"m","parms":{},"id":1})", invalid_request, "unknown member 'parms'"},
                                         Malformed{R"({"method":"m","method":"n","id":1})", invalid_request, "duplicate member 'method'"},
                                         Malformed{R"({"method":"m","params":{"a":1,"a":2},"id":1})", invalid_params, "duplicate parameter 'a'"},
                                         Malformed{R"({"method":"m","params":{"l":{"t":1,"t":1}},"id":1})", invalid_params,
                                                   "duplicate parameter 't'"},
                                         Malformed{R"([5])", invalid_request, "5 is not an object"}));

TEST(ReadMessage, DuplicatesInABatchConcernOneRequest) {
  const Message message = read(R"([{"method":"a","params":{"x":1,"x":2},"id":1},{"method":"b","params":{"x":1},"id":2}])");
  ASSERT_EQ(message.requests.size(), 2u);
  ASSERT_TRUE(message.requests[0].fault);
  EXPECT_EQ(message.requests[0].fault->code, invalid_params);
  EXPECT_FALSE(message.requests[1].fault);
}

TEST(ReadMessage, RefusesEmptyAndLongBatches) {
  EXPECT_EQ(read("[]").fault->code, invalid_request);
  EXPECT_EQ(read("[{},{},{},{},{}]").fault->code, invalid_request);
  EXPECT_EQ(read("{\"method\"}").fault->code, parse_error);
}

}  // namespace
}  // namespace catnap::rpc
