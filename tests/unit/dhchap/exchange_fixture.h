// The two sides of an exchange against each other, by hand, with keys of files. Owner: one thread.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "keyring/interchange.h"
#include "transport/dhchap/host_exchange.h"
#include "transport/dhchap/target_exchange.h"

namespace catnap::dhchap {

inline constexpr const char* host_nqn = "nqn.2026-11.io.catnap:host";
inline constexpr const char* sub_nqn = "nqn.2026-11.io.catnap:subsystem";

using State = TargetExchange::State;
using Next = HostExchange::Next;

// Runs what would be a worker's, here.
inline void run(std::optional<Work> work) {
  if (work) (*work)()();
}

class ExchangeTest : public testing::Test {
 protected:
  ExchangeTest() {
    key("host", 'h');
    key("ctrlr", 'c');
    key("wrong", 'w');
  }
  ~ExchangeTest() override {
    for (const auto& path : files_) unlink(path.c_str());
  }
  void key(const std::string& name, char fill) {
    std::string path = testing::TempDir() + "/catnap_exchange_XXXXXX";
    const int fd = mkstemp(path.data());
    const std::string text = "DHHC-1:00:" + keyring::encode_key(std::vector<std::byte>(32, static_cast<std::byte>(fill))) + ":\n";
    EXPECT_EQ(::write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    close(fd);
    files_.push_back(path);
    ASSERT_TRUE(ring_.add_file(name, path).has_value());
  }
  keyring::KeyRef ref(const std::string& name) { return name.empty() ? nullptr : *ring_.borrow(name, "test"); }
  TargetRules rules(const std::string& host_key = "host", const std::string& ctrlr_key = "ctrlr") {
    TargetRules rules;
    rules.key = ref(host_key);
    rules.ctrlr_key = ref(ctrlr_key);
    return rules;
  }
  HostCredentials credentials(const std::string& host_key = "host", const std::string& ctrlr_key = "") {
    HostCredentials made;
    made.key = ref(host_key);
    made.ctrlr_key = ref(ctrlr_key);
    return made;
  }
  // Until the host has finished, or `most` messages have passed. `spoil` may change each message, by its number.
  using Spoil = std::function<void(int number, Bytes& message)>;
  static void converse(HostExchange& host, TargetExchange& target, const TargetRules& rules, const Spoil& spoil = {}, int most = 100) {
    for (int number = 0; host.next() != Next::finished && number < most; ++number) {
      if (host.next() == Next::send) {
        Bytes message = host.outgoing();
        if (spoil) spoil(number, message);
        run(target.take(message, rules));
        host.sent();
      } else {
        run(target.prepare());
        Bytes message = target.give(4096);
        message.resize(4096);
        if (spoil) spoil(number, message);
        run(host.received(message));
      }
    }
  }
  keyring::Keyring ring_;
  std::vector<std::string> files_;
};

}  // namespace catnap::dhchap
