// The text of metrics, and the steps of latencies.
// Owner: none. Left out: what is counted (tests/protocol/web).
#include "web/prometheus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <random>

namespace catnap::web {
namespace {

using testing::HasSubstr;

TEST(Prometheus, FamiliesAndSamples) {
  MetricsPage page;
  page.family("a_total", MetricsPage::Type::counter, "Things");
  page.add({}, 3);
  page.add(Labels().add("x", "y").add("n", std::uint64_t{7}).text(), ~std::uint64_t{0});
  page.family("b_seconds", MetricsPage::Type::gauge, "Time");
  page.add_seconds({}, 1'500'000'000);
  page.add_ratio("", 0.25);
  EXPECT_EQ(page.text(),
            "# HELP a_total Things\n# TYPE a_total counter\na_total 3\na_total{x=\"y\",n=\"7\"} 18446744073709551615\n"
            "# HELP b_seconds Time\n# TYPE b_seconds gauge\nb_seconds 1.5\nb_seconds 0.25\n");
}

TEST(Prometheus, LabelsAreQuotedAndAlwaysUtf8) {
  EXPECT_EQ(Labels().add("l", "a\\b\"c\nd").text(), "l=\"a\\\\b\\\"c\\nd\"");
  EXPECT_EQ(Labels().add("l", "gr\xC3\xBC\xC3\x9F \xF0\x9F\x90\x88").text(), "l=\"gr\xC3\xBC\xC3\x9F \xF0\x9F\x90\x88\"");
  const std::string bad = "\xEF\xBF\xBD";
  for (const char* broken : {"\xFF", "\xC3", "\xC0", "\x80"}) EXPECT_EQ(Labels().add("l", broken).text(), "l=\"" + bad + "\"") << broken;
  EXPECT_EQ(Labels().add("l", "\xED\xA0\x80").text(), "l=\"" + bad + bad + bad + "\"");  // a surrogate
}

TEST(Prometheus, SecondsAreExact) {
  EXPECT_EQ(seconds_text(0), "0");
  EXPECT_EQ(seconds_text(1), "0.000000001");
  EXPECT_EQ(seconds_text(1'024), "0.000001024");
  EXPECT_EQ(seconds_text(10'000'000'000), "10");
}

TEST(Prometheus, HistogramsRiseAndEndWithAll) {
  LatencyCounts counts;
  for (const std::uint64_t ns : {std::uint64_t{500}, std::uint64_t{100'000}, std::uint64_t{100'001}, std::uint64_t{1} << 40}) counts.count(ns);
  MetricsPage page;
  page.family("l", MetricsPage::Type::histogram, "Latency");
  page.add_histogram("op=\"read\"", counts, 77);
  EXPECT_THAT(page.text(), HasSubstr("l_bucket{op=\"read\",le=\"0.000001024\"} 1\n"));
  EXPECT_THAT(page.text(), HasSubstr("l_bucket{op=\"read\",le=\"0.000098304\"} 1\nl_bucket{op=\"read\",le=\"0.000100352\"} 3\n"));
  EXPECT_THAT(page.text(),
              HasSubstr("l_bucket{op=\"read\",le=\"34.359738368\"} 3\nl_bucket{op=\"read\",le=\"+Inf\"} 4\nl_sum{op=\"read\"} 0.000000077\n"
                        "l_count{op=\"read\"} 4\n"));
  // Powers of two where nothing was counted have one line each: 24 of 25, the other 32 lines; and the two ends, sum and count.
  EXPECT_EQ(std::ranges::count(page.text(), '\n'), 2 + 24 + 32 + 2 + 2);
}

TEST(LatencyHistogram, EachLatencyIsWithinItsStep) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 100'000; ++i) {
    const std::uint64_t ns = random() >> (random() % 64);
    const std::size_t bucket = LatencyHistogram::bucket_of(ns);
    ASSERT_LT(bucket, LatencyHistogram::buckets);
    ASSERT_LT(ns, LatencyHistogram::end_of(bucket));
    if (bucket == 0) continue;
    const std::uint64_t begin = LatencyHistogram::end_of(bucket - 1);
    ASSERT_GE(ns, begin);
    if (bucket + 1 < LatencyHistogram::buckets) {
      ASSERT_LE(LatencyHistogram::end_of(bucket) - begin, begin / 32 + 1) << ns;
    }
  }
}

// Readers skip stretches without counts: nothing may be in them, at either end, and of none.
TEST(LatencyHistogram, SumsHaveEveryCount) {
  std::mt19937_64 random(20'261'122);
  for (int round = 0; round < 200; ++round) {
    LatencyHistogram histogram;
    LatencyCounts counts;
    std::array<std::uint64_t, LatencyHistogram::buckets> expected{};
    for (int i = 0; i < round; ++i) {
      const std::size_t bucket = round % 2 == 0 ? random() % expected.size() : (i % 2 == 0 ? 0 : expected.size() - 1);
      const std::uint64_t ns = LatencyHistogram::end_of(bucket) - 1;
      histogram.count(ns);
      counts.count(ns);
      expected[bucket] += 2;
    }
    LatencyCounts sum;
    sum.add(histogram);
    sum.add(counts);
    ASSERT_EQ(sum.counts, expected) << round;
    ASSERT_EQ(sum.total, 2U * static_cast<unsigned>(round));
    LatencyCounts twice;
    twice.add(sum);
    twice.add(sum);
    ASSERT_EQ(twice.total, 2 * sum.total);
    ASSERT_EQ(twice.counts.back(), 2 * expected.back());
  }
}

TEST(LatencyHistogram, Percentiles) {
  LatencyCounts counts;
  EXPECT_EQ(counts.percentile_ns(0.5), 0U);
  for (std::uint64_t us = 1; us <= 1000; ++us) counts.count(us * 1000);
  EXPECT_NEAR(static_cast<double>(counts.percentile_ns(0.5)), 500e3, 500e3 * 0.04);
  EXPECT_NEAR(static_cast<double>(counts.percentile_ns(0.99)), 990e3, 990e3 * 0.04);
  EXPECT_GE(counts.percentile_ns(1), 1'000'000U);
}

}  // namespace
}  // namespace catnap::web
