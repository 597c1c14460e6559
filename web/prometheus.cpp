// The text of metrics (prometheus.h).
// Owner: none.
#include "web/prometheus.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

#include "reactor/clock.h"

namespace catnap::web {
namespace {

// Bytes of the UTF-8 sequence (RFC 3629) that the text begins with; 0: it begins with none.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  const auto is_tail = [&](std::size_t i) { return (byte(i) & 0xC0U) == 0x80U; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return is_tail(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    const bool overlong = first == 0xE0 && byte(1) < 0xA0;
    const bool surrogate = first == 0xED && byte(1) >= 0xA0;
    return is_tail(1) && is_tail(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    const bool overlong = first == 0xF0 && byte(1) < 0x90;
    const bool beyond = first == 0xF4 && byte(1) >= 0x90;
    return is_tail(1) && is_tail(2) && is_tail(3) && !overlong && !beyond ? 4 : 0;
  }
  return 0;
}

// The ends of all steps as further labels, made once.
const std::array<std::string, LatencyHistogram::buckets>& step_texts() {
  static const auto texts = [] {
    std::array<std::string, LatencyHistogram::buckets> made;
    for (std::size_t i = 0; i < made.size(); ++i) {
      made[i] = ",le=\"" + (i + 1 == made.size() ? std::string("+Inf") : seconds_text(LatencyHistogram::end_of(i))) + '"';
    }
    return made;
  }();
  return texts;
}

}  // namespace

Labels& Labels::add(std::string_view name, std::string_view value) {
  if (!text_.empty()) text_ += ',';
  text_ += name;
  text_ += "=\"";
  while (!value.empty()) {
    const std::size_t length = utf8_length(value);
    const char first = value.front();
    if (length == 0) {
      text_ += "\xEF\xBF\xBD";
    } else if (first == '\\' || first == '"') {
      text_ += '\\';
      text_ += first;
    } else if (first == '\n') {
      text_ += "\\n";
    } else {
      text_ += value.substr(0, length);
    }
    value.remove_prefix(length == 0 ? 1 : length);
  }
  text_ += '"';
  return *this;
}

Labels& Labels::add_text(std::string_view text) {
  if (!text_.empty() && !text.empty()) text_ += ',';
  text_ += text;
  return *this;
}

void MetricsPage::family(std::string_view name, Type type, std::string_view help) {
  const std::string_view type_name = type == Type::counter ? "counter" : type == Type::gauge ? "gauge" : "histogram";
  fmt::format_to(std::back_inserter(text_), "# HELP {} {}\n# TYPE {} {}\n", name, help, name, type_name);
  name_ = name;
}

void MetricsPage::begin(std::string_view suffix, std::string_view labels, std::string_view more) {
  text_ += name_;
  text_ += suffix;
  if (labels.empty()) more.remove_prefix(more.starts_with(',') ? 1 : 0);
  if (labels.empty() && more.empty()) {
    text_ += ' ';
    return;
  }
  text_ += '{';
  text_ += labels;
  text_ += more;
  text_ += "} ";
}

void MetricsPage::number(std::uint64_t value) {
  std::array<char, 24> digits{};
  const auto [end, failed] = std::to_chars(digits.data(), digits.data() + digits.size() - 1, value);
  *end = '\n';
  text_.append(digits.data(), end + 1);
}

void MetricsPage::add(std::string_view labels, std::string_view more, std::uint64_t value) {
  begin({}, labels, more);
  number(value);
}

void MetricsPage::add_ratio(std::string_view labels, double value) {
  begin({}, labels);
  fmt::format_to(std::back_inserter(text_), "{}\n", value);
}

void MetricsPage::add_seconds(std::string_view labels, std::string_view more, std::uint64_t ns) {
  begin({}, labels, more);
  text_ += seconds_text(ns);
  text_ += '\n';
}

void MetricsPage::add_histogram(std::string_view labels, const LatencyCounts& counts, std::uint64_t sum_ns) {
  const auto& texts = step_texts();
  std::uint64_t so_far = 0;
  const auto tell = [&](std::size_t bucket) {
    begin("_bucket", labels, texts[bucket]);
    number(so_far);
  };
  so_far += counts.counts[0];
  tell(0);
  for (std::size_t octave = 0; octave < LatencyHistogram::octaves; ++octave) {
    const std::size_t first = 1 + octave * LatencyHistogram::steps;
    const std::size_t last = first + LatencyHistogram::steps - 1;
    const std::uint64_t before = so_far;
    for (std::size_t i = first; i <= last; ++i) so_far += counts.counts[i];
    if (so_far != before) {
      so_far = before;
      for (std::size_t i = first; i < last; ++i) {
        so_far += counts.counts[i];
        tell(i);
      }
      so_far += counts.counts[last];
    }
    tell(last);
  }
  so_far += counts.counts.back();
  tell(counts.counts.size() - 1);
  begin("_sum", labels);
  text_ += seconds_text(sum_ns);
  text_ += '\n';
  begin("_count", labels);
  number(so_far);
}

std::string seconds_text(std::uint64_t ns) {
  if (ns == 0) return "0";
  std::string text = fmt::format("{}.{:09}", ns / ns_per_s, ns % ns_per_s);
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text;
}

}  // namespace catnap::web
