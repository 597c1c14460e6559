// Strict JSON: from bytes to values and back, and the end of a value found in a stream that arrives piece by piece.
// Owner: none (values). Left out: every use of jsoncpp's reader and writer elsewhere in rpc/: they are called, and their exceptions
// end, in json.cpp alone.
#pragma once

#include <json/json.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

namespace catnap::rpc {

// Deepest nesting of arrays and objects in anything we read. No declared parameter nests deeper than 6; 32 leaves room for free-form ones.
inline constexpr unsigned max_json_depth = 32;

struct JsonError {
  enum class Kind : std::uint8_t { syntax, duplicate_key };

  JsonError(Kind what, std::string text) : kind(what), message(std::move(text)) {}
  Kind kind;
  std::string message;  // of duplicate_key: the key itself
};

enum class DuplicateKeys : std::uint8_t { refuse, keep_last };

// Exactly one value (RFC 8259: valid UTF-8, no comments, no trailing commas), white space around it allowed.
std::expected<Json::Value, JsonError> parse_json(std::string_view text, DuplicateKeys duplicates = DuplicateKeys::refuse);

// One line without a line end, ASCII only (the rest as \u escapes; bytes that are not UTF-8 become U+FFFD).
std::string json_to_text(const Json::Value& value);

// Indented, for files that people read; ends with a line end.
std::string json_to_page(const Json::Value& value);

// A value as error messages show it: at most `max_length` characters, strings in quotes.
std::string json_excerpt(const Json::Value& value, std::size_t max_length = 80);
// A name from outside as error messages show it: unprintable bytes as "?", cut at `max_length`.
std::string printable(std::string_view text, std::size_t max_length = 128);

// Finds where the first array or object of a byte stream ends, looking at each byte once however the stream is cut.
class ValueScanner {
 public:
  enum class State : std::uint8_t {
    need_more,   // no whole value yet
    complete,    // [begin(), end()) is one value
    not_a_value  // the next byte cannot begin an array or object, or nesting is too deep (error())
  };

  // `buffer` is the same stream as in the last call, only longer; scanning goes on where it stopped.
  State scan(std::string_view buffer);
  std::size_t begin() const { return begin_; }
  std::size_t end() const { return position_; }
  // Anything but white space seen since the last value?
  bool started() const { return depth_ > 0; }
  const std::string& error() const { return error_; }
  // After complete: the caller cut the first `consumed` bytes off its buffer (end() at least), look for the next value.
  void restart() { *this = ValueScanner(); }

 private:
  std::size_t position_ = 0;
  std::size_t begin_ = 0;
  unsigned depth_ = 0;
  bool in_string_ = false;
  bool escaped_ = false;
  std::string error_;
};

}  // namespace catnap::rpc
