// A page of metrics as Prometheus reads it: text exposition format, version 0.0.4.
// Owner: whoever writes it. Left out: what is counted (collectors, server/metrics*.cpp).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "reactor/base/latency_histogram.h"

namespace catnap::web {

// The labels of a series, as text between braces. Values come from outside: quoted, and what is no UTF-8 becomes U+FFFD.
class Labels {
 public:
  Labels() = default;
  Labels& add(std::string_view name, std::string_view value);
  Labels& add(std::string_view name, std::uint64_t value) { return add(name, std::to_string(value)); }
  // Already in that form.
  Labels& add_text(std::string_view text);
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

class MetricsPage {
 public:
  static constexpr const char* content_type = "text/plain; version=0.0.4; charset=utf-8";
  enum class Type : std::uint8_t { counter, gauge, histogram };

  // What follows belongs to this family, until the next; each name once on a page. `help`: one line.
  void family(std::string_view name, Type type, std::string_view help);
  void add(std::string_view labels, std::uint64_t value) { add(labels, {}, value); }
  // `more`: further labels, beginning with a comma.
  void add(std::string_view labels, std::string_view more, std::uint64_t value);
  void add_ratio(std::string_view labels, double value);
  // Seconds, exactly.
  void add_seconds(std::string_view labels, std::uint64_t ns) { add_seconds(labels, {}, ns); }
  void add_seconds(std::string_view labels, std::string_view more, std::uint64_t ns);
  // One histogram of the family. Steps of a power of two are told only where something was counted in it, its ends always: a step that appears later
  // was 0.
  void add_histogram(std::string_view labels, const LatencyCounts& counts, std::uint64_t sum_ns);

  const std::string& text() const { return text_; }
  std::string take() { return std::move(text_); }
  // About so many bytes will come.
  void expect(std::size_t bytes) { text_.reserve(bytes); }

 private:
  void begin(std::string_view suffix, std::string_view labels, std::string_view more = {});
  void number(std::uint64_t value);

  std::string text_;
  std::string name_;
};

// "0.000001024" for 1,024 ns.
std::string seconds_text(std::uint64_t ns);

}  // namespace catnap::web
