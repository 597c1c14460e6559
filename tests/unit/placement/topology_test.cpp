// The reader of a machine's topology: described trees of /sys, broken ones, and the machine that the test runs on.
// Owner: the test. Left out: what is done with it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/unit/placement/machine.h"

namespace catnap::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// The CPUs that the kernel lets this process run on, asked without our own code.
std::vector<unsigned> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  EXPECT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
  std::vector<unsigned> cpus;
  for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

std::vector<unsigned> numbers_of(const Topology& topology) {
  std::vector<unsigned> numbers;
  for (const auto& cpu : topology.cpus()) numbers.push_back(cpu.cpu);
  return numbers;
}

TEST(RealTopology, HasTheCpusThisProcessMayUse) {
  const auto topology = read_topology(CpuMask::of_process());
  ASSERT_TRUE(topology.has_value()) << topology.error().message;
  EXPECT_EQ(numbers_of(*topology), allowed_cpus());
  EXPECT_EQ(topology->reactor_cpus(), allowed_cpus());
  for (const unsigned node : topology->nodes()) EXPECT_EQ(topology->distance(node, node), Topology::local_distance);
}

TEST(RealTopology, AgreesWithTheKernelAboutTheNodeOfEachCpu) {
  const auto topology = read_topology({});
  ASSERT_TRUE(topology.has_value()) << topology.error().message;
  EXPECT_TRUE(topology->reactor_cpus().empty());
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  for (const unsigned cpu : allowed_cpus()) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    unsigned here = 0, node = 0;
    ASSERT_EQ(::syscall(SYS_getcpu, &here, &node, nullptr), 0);
    EXPECT_EQ(here, cpu);
    EXPECT_EQ(topology->node_of(cpu), node);
  }
  EXPECT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
}

TEST(RealTopology, FollowsTheAffinityOfTheProcess) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  const unsigned last = allowed_cpus().back();
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(last, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  const auto topology = read_topology(CpuMask::of_cpu(last));
  EXPECT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
  ASSERT_TRUE(topology.has_value());
  EXPECT_EQ(numbers_of(*topology), std::vector<unsigned>{last});
}

// A tree like /sys/devices/system in a folder of its own.
class DescribedTree : public testing::Test {
 protected:
  DescribedTree() {
    std::string pattern = (fs::temp_directory_path() / "catnap_topology_XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
  }
  ~DescribedTree() override { fs::remove_all(root_); }

  void node(unsigned number, const std::string& cpulist, const std::string& distance) {
    const fs::path folder = root_ / "node" / ("node" + std::to_string(number));
    fs::create_directories(folder);
    std::ofstream(folder / "cpulist") << cpulist << "\n";
    std::ofstream(folder / "distance") << distance << "\n";
  }
  Result<Topology> read() const { return read_topology({}, root_.string()); }
  void expect_refused(const std::string& words) const {
    const auto topology = read();
    ASSERT_FALSE(topology.has_value());
    EXPECT_EQ(topology.error().err, EIO);
    EXPECT_THAT(topology.error().message, HasSubstr(words));
  }

  fs::path root_;
};

TEST_F(DescribedTree, WithoutNumaAllCpusAreOnNode0) {
  const auto topology = read();
  ASSERT_TRUE(topology.has_value()) << topology.error().message;
  EXPECT_EQ(numbers_of(*topology), allowed_cpus());
  EXPECT_EQ(topology->nodes(), std::vector<unsigned>{0});
}

TEST_F(DescribedTree, NodesMayBeSparseAndWithoutCpus) {
  node(0, "", "10 21 30");
  node(3, "0-1023", "21 10 31");
  node(12, "", "30 31 10");
  fs::create_directories(root_ / "node" / "nodes_of_another_kind");
  const auto topology = read();
  ASSERT_TRUE(topology.has_value()) << topology.error().message;
  EXPECT_EQ(topology->nodes(), std::vector<unsigned>{3});
  EXPECT_EQ(topology->distance(0, 3), 21U);
  EXPECT_EQ(topology->distance(12, 3), 31U);
  EXPECT_EQ(topology->distance(12, 99), Topology::remote_distance);
}

TEST_F(DescribedTree, ACpuListThatIsNoneIsNamed) {
  node(0, "0-x", "10");
  expect_refused("node0/cpulist");
}

TEST_F(DescribedTree, ADistanceThatIsNoneIsNamed) {
  node(0, "0-3", "10 2o");
  node(1, "4-7", "20 10");
  expect_refused("node0/distance");
}

TEST_F(DescribedTree, AMissingFileIsNamed) {
  node(0, "0-3", "10");
  fs::remove(root_ / "node" / "node0" / "cpulist");
  expect_refused("node0/cpulist");
}

}  // namespace
}  // namespace catnap::test
