// The command line: catnapd's options, SPDK's without effect, and wrong ones.
// Owner: the test's thread.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "reactor/base/log.h"
#include "server/options.h"

namespace catnap::server {
namespace {

using testing::HasSubstr;

// Two source files that log under one name, as some of the server do.
const LogFlag one_flag("twin"), other_flag("twin");

auto parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "catnapd");
  return parse_options(static_cast<int>(arguments.size()), arguments.data());
}

TEST(CommandLine, Defaults) {
  const auto options = parse({});
  ASSERT_TRUE(options.has_value());
  EXPECT_EQ(options->rpc_socket, "/var/tmp/spdk.sock");
  EXPECT_EQ(options->mode, ReactorMode::adaptive);
  EXPECT_TRUE(options->cpumask.empty());
  EXPECT_FALSE(options->wait_for_rpc);
}

TEST(CommandLine, CpumaskInBothSpellings) {
  const auto hexadecimal = parse({"-m", "0x3"});
  ASSERT_TRUE(hexadecimal.has_value());
  EXPECT_EQ(hexadecimal->cpumask.cpus(), (std::vector<unsigned>{0, 1}));
  const auto list = parse({"--cpumask", "[0,2-3]"});
  ASSERT_TRUE(list.has_value());
  EXPECT_EQ(list->cpumask.cpus(), (std::vector<unsigned>{0, 2, 3}));
  const auto glued = parse({"-m0x4"});
  ASSERT_TRUE(glued.has_value());
  EXPECT_EQ(glued->cpumask.cpus(), (std::vector<unsigned>{2}));
}

TEST(CommandLine, Modes) {
  EXPECT_EQ(parse({"--mode", "poll"})->mode, ReactorMode::poll);
  EXPECT_EQ(parse({"--mode", "interrupt"})->mode, ReactorMode::interrupt);
  EXPECT_EQ(parse({"--interrupt-mode"})->mode, ReactorMode::interrupt);
  EXPECT_EQ(parse({"--interrupt-mode", "--mode", "interrupt"})->mode, ReactorMode::interrupt);
}

TEST(CommandLine, ConfigFileUnderItsThreeNames) {
  for (const char* name : {"-c", "--config", "--json"}) {
    const auto options = parse({name, "/etc/catnap.json"});
    ASSERT_TRUE(options.has_value());
    EXPECT_EQ(options->config_file, "/etc/catnap.json");
  }
}

TEST(CommandLine, LinesMadeForNvmfTgtAreTaken) {
  const auto options = parse({"-i",
                              "0",
                              "-e",
                              "0xFFFF",
                              "-m",
                              "0x1",
                              "-s",
                              "512",
                              "--no-huge",
                              "-u",
                              "-r",
                              "/tmp/s.sock",
                              "--iova-mode",
                              "pa",
                              "-g",
                              "-R",
                              "-p",
                              "0",
                              "-n",
                              "4",
                              "-A",
                              "0000:00:01.0",
                              "-B",
                              "0000:00:02.0",
                              "-B",
                              "0000:00:03.0",
                              "--num-trace-entries",
                              "32768",
                              "-d",
                              "--msg-mempool-size",
                              "100",
                              "--disable-cpumask-locks"});
  ASSERT_TRUE(options.has_value());
  EXPECT_EQ(options->rpc_socket, "/tmp/s.sock");
  EXPECT_EQ(options->cpumask.cpus(), (std::vector<unsigned>{0}));
  for (const char* given : {"-i,--shm-id", "-s,--mem-size", "--no-huge", "-u,--no-pci", "-B,--pci-blocked"}) {
    EXPECT_THAT(options->without_effect, testing::Contains(given));
  }
}

TEST(CommandLine, LogFlagsRepeatAndMustExist) {
  const auto options = parse({"-L", "nvmf", "-L", "all"});
  ASSERT_TRUE(options.has_value());
  EXPECT_EQ(options->log_flags, (std::vector<std::string>{"nvmf", "all"}));
  const auto unknown = parse({"-L", "no_such_flag"});
  ASSERT_FALSE(unknown.has_value());
  EXPECT_EQ(unknown.error().code, exit_usage);
  EXPECT_THAT(unknown.error().text, HasSubstr("no_such_flag"));
  const auto listed = unknown.error().text.find("twin");
  ASSERT_NE(listed, std::string::npos);
  EXPECT_EQ(unknown.error().text.find("twin", listed + 1), std::string::npos) << unknown.error().text;
}

TEST(CommandLine, WrongOnesEndWith2AndSayWhich) {
  const std::pair<std::vector<const char*>, const char*> table[] = {
      {{"--no-such-option"}, "no-such-option"},
      {{"stray"}, "stray"},
      {{"-m", "0xZZ"}, "cpumask"},
      {{"-m", "0x0"}, "cpumask"},
      {{"-m"}, "cpumask"},
      {{"--mode", "turbo"}, "turbo"},
      {{"--mode", "poll", "--interrupt-mode"}, "exclude"},
      {{"--demo", "-c", "x"}, "exclude"},
      {{"-r", ""}, "rpc-socket"},
      {{"--rpcs-allowed", ""}, "rpcs-allowed"},
      {{"--rpcs-allowed", " ,"}, "names no method"},
      {{"--max-connections", "0"}, "max-connections"},
      {{"--wait-for-rpc", "--no-rpc-server"}, "exclude"},
  };
  for (const auto& [arguments, text] : table) {
    const auto refused = parse(arguments);
    ASSERT_FALSE(refused.has_value()) << text;
    EXPECT_EQ(refused.error().code, exit_usage) << text;
    EXPECT_THAT(refused.error().text, HasSubstr(text));
  }
}

TEST(CommandLine, TheMethodsAllowedAreAList) {
  EXPECT_FALSE(parse({})->rpcs_allowed.has_value()) << "all";
  const auto given = parse({"--rpcs-allowed", " bdev_get_* ,,spdk_get_version, x y\t"});
  ASSERT_TRUE(given.has_value());
  EXPECT_EQ(*given->rpcs_allowed, (std::vector<std::string>{"bdev_get_*", "spdk_get_version", "x y"}));
}

TEST(CommandLine, HelpAndVersionEndWell) {
  for (const char* flag : {"-h", "--help", "-v", "--version"}) {
    const auto ended = parse({flag});
    ASSERT_FALSE(ended.has_value());
    EXPECT_EQ(ended.error().code, 0);
    EXPECT_THAT(ended.error().text, HasSubstr("catnap"));
  }
}

}  // namespace
}  // namespace catnap::server
