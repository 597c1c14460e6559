// How often a host has failed to authenticate from an address, for the limit of failures (AuthenticationRules::failures_per_minute).
// Owner: process-wide, any OS thread (a mutex; asked once per transaction). Left out: what happens to those over the limit (authentication.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace catnap::server {

class AuthFailures {
 public:
  static constexpr std::uint64_t window_ns = 60'000'000'000;
  // Pairs of host and address that are remembered; for one more the one that began first is forgotten. So whoever has many addresses fails more often
  // than others, but makes nobody else wait.
  static constexpr std::size_t max_keys = 1024;

  static AuthFailures& instance();

  void note(const std::string& hostnqn, const std::string& address, std::uint64_t now_ns);
  bool too_many(const std::string& hostnqn, const std::string& address, std::uint64_t now_ns, std::uint32_t per_minute);
  // It has succeeded.
  void forget(const std::string& hostnqn, const std::string& address);
  // It has other keys: what failed with the old ones says nothing. From every address.
  void forget_host(const std::string& hostnqn);

 private:
  struct Window {
    std::uint64_t began_ns = 0;
    std::uint32_t count = 0;
  };
  // Null: none, or its time is over.
  Window* find(const std::string& key, std::uint64_t now_ns);

  std::mutex mutex_;
  std::map<std::string, Window> windows_;
};

}  // namespace catnap::server
