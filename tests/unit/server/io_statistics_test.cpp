// I/O counted by namespace, host and connection: sums, who is remembered, and how many.
// Owner: none. Left out: who counts (tests/protocol/web/metrics_test.py).
#include "server/io_statistics.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <iterator>
#include <vector>

namespace catnap::server {
namespace {

void count(IoCounts& counts, IoClass io_class, std::uint64_t bytes, std::uint64_t latency_ns) {
  counts.count(io_class, IoTotals{1, bytes, 0, latency_ns});
  counts.histogram(io_class).count(latency_ns);
}

IoStatistics::ConnectionKey connection_of(const std::string& host, std::uint16_t qid = 1) { return {{"nqn", host}, 1, qid}; }

TEST(IoStatistics, AnIdleObjectHasNoHistogram) {
  IoCounts counts;
  EXPECT_EQ(counts.latencies(IoClass::read), nullptr);
  counts.count_error(IoClass::read);
  EXPECT_EQ(counts.latencies(IoClass::read), nullptr);
  count(counts, IoClass::read, 4096, 1000);
  EXPECT_NE(counts.latencies(IoClass::read), nullptr);
  EXPECT_EQ(counts.latencies(IoClass::write), nullptr);
}

TEST(IoStatistics, AnIoCountsForItsConnectionAndItsNamespace) {
  IoStatistics statistics;
  const auto name_space = statistics.add_namespace({"nqn", 1});
  const auto connection = statistics.add_connection(connection_of("host"));
  FinishedIo io;
  io.connection = connection.get();
  io.name_space = name_space.get();
  io.began_ns = 1000;
  io.bytes = 512;
  io.io_class = IoClass::write;
  EXPECT_EQ(count_run(&io, &io + 1, 51'000), &io + 1);
  io.name_space = nullptr;
  EXPECT_EQ(count_run(&io, &io + 1, 500), &io + 1);  // a clock that stands still, or was read before
  const IoSums of_namespace = statistics.namespaces().front().sum(true);
  EXPECT_EQ(of_namespace.of(IoClass::write).totals.ios, 1U);
  EXPECT_EQ(of_namespace.of(IoClass::write).totals.bytes, 512U);
  EXPECT_EQ(of_namespace.of(IoClass::write).totals.latency_ns, 50'000U);
  EXPECT_EQ(of_namespace.of(IoClass::write).latencies->total, 1U);
  const IoSums of_host = statistics.hosts().front().sum(true);
  EXPECT_EQ(of_host.of(IoClass::write).totals.ios, 2U);
  EXPECT_EQ(of_host.of(IoClass::write).totals.latency_ns, 50'000U);
  EXPECT_EQ(of_host.of(IoClass::write).latencies->counts[0], 1U);
  EXPECT_EQ(statistics.connections().size(), 1U);
}

TEST(IoStatistics, ARunEndsWhereTheNextIoCountsElsewhere) {
  IoCounts one, two, name_space;
  FinishedIo read;
  read.connection = &one;
  read.name_space = &name_space;
  read.bytes = 512;
  read.io_class = IoClass::read;
  FinishedIo write = read, other = read, nowhere = read;
  write.io_class = IoClass::write;
  other.connection = &two;
  nowhere.name_space = nullptr;
  const FinishedIo all[] = {read, read, write, other, nowhere, nowhere, read};
  std::vector<std::ptrdiff_t> ends;
  for (const FinishedIo* at = all; at != std::end(all);) {
    at = count_run(at, std::end(all), 2000);
    ends.push_back(at - all);
  }
  EXPECT_EQ(ends, (std::vector<std::ptrdiff_t>{2, 3, 4, 6, 7}));
  EXPECT_EQ(one.totals(IoClass::read).ios, 5U);
  EXPECT_EQ(one.totals(IoClass::write).bytes, 512U);
  EXPECT_EQ(two.totals(IoClass::read).latency_ns, 2000U);
  EXPECT_EQ(name_space.totals(IoClass::read).ios, 4U);
  LatencyCounts latencies;
  latencies.add(*name_space.latencies(IoClass::read));
  EXPECT_EQ(latencies.total, 4U);
}

TEST(IoStatistics, WhatIsGoneStaysCountedForItsHostAndNamespace) {
  IoStatistics statistics;
  for (std::uint16_t qid = 1; qid <= 3; ++qid) {
    const auto name_space = statistics.add_namespace({"nqn", 7});
    const auto connection = statistics.add_connection(connection_of("host", qid));
    count(*name_space, IoClass::read, 10, 2000);
    count(*connection, IoClass::read, 10, 2000);
    statistics.remove_connection(connection_of("host", qid), connection);
    statistics.remove_namespace({"nqn", 7}, name_space);
  }
  EXPECT_TRUE(statistics.connections().empty());
  EXPECT_EQ(statistics.hosts().at(0).sum(true).of(IoClass::read).latencies->total, 3U);
  EXPECT_EQ(statistics.namespaces().at(0).sum(false).of(IoClass::read).totals.bytes, 30U);
  EXPECT_EQ(statistics.namespaces().at(0).sum(false).of(IoClass::read).latencies, nullptr);
}

TEST(IoStatistics, WhatIsDeletedIsForgotten) {
  IoStatistics statistics;
  const auto gone = statistics.add_namespace({"nqn", 1});
  const auto stays = statistics.add_namespace({"nqn", 2});
  const auto connection = statistics.add_connection(connection_of("host"));
  count(*gone, IoClass::read, 1, 1);
  statistics.forget_namespace({"nqn", 1});
  statistics.remove_namespace({"nqn", 1}, gone);
  ASSERT_EQ(statistics.namespaces().size(), 1U);
  EXPECT_EQ(statistics.namespaces().front().key.nsid, 2U);
  statistics.forget_subsystem("nqn");
  EXPECT_EQ(statistics.hosts().size(), 1U) << "it is still connected";
  statistics.remove_connection(connection_of("host"), connection);
  EXPECT_TRUE(statistics.hosts().empty());
  statistics.remove_namespace({"nqn", 2}, stays);
  statistics.forget_namespace({"nqn", 2});
  EXPECT_TRUE(statistics.namespaces().empty());
}

TEST(IoStatistics, HostsThatAreGoneAreBoundedAndNothingIsLost) {
  IoStatistics statistics;
  constexpr std::size_t hosts = IoStatistics::max_past_hosts + 50;
  for (std::size_t i = 0; i < hosts; ++i) {
    const auto key = connection_of("host" + std::to_string(i));
    const auto connection = statistics.add_connection(key);
    count(*connection, IoClass::read, 1, 1'000'000);
    statistics.remove_connection(key, connection);
  }
  EXPECT_EQ(statistics.hosts().size(), IoStatistics::max_past_hosts);
  ASSERT_NE(statistics.other_hosts(), nullptr);
  EXPECT_EQ(statistics.other_hosts()->of(IoClass::read).totals.ios, 50U);
  EXPECT_EQ(statistics.other_hosts()->of(IoClass::read).latencies->total, 50U);
  // One that comes back is itself again, and makes no room for more than there may be.
  const auto key = connection_of("host" + std::to_string(hosts - 1));
  const auto back = statistics.add_connection(key);
  EXPECT_EQ(statistics.hosts().size(), IoStatistics::max_past_hosts);
  statistics.remove_connection(key, back);
  EXPECT_EQ(statistics.hosts().size(), IoStatistics::max_past_hosts);
}

}  // namespace
}  // namespace catnap::server
