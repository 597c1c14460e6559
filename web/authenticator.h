// Decides whether presented credentials are right. A password is hashed on a worker, as that takes long on purpose; once it was right, a keyed digest
// of it in memory answers at once. Wrong ones are counted per address: with too many of them in a minute, only credentials that were right before get
// through. Owner: app_thread. Left out: HTTP.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "reactor/thread.h"
#include "reactor/worker_pool.h"
#include "web/credentials.h"

namespace catnap::web {

class Authenticator : public std::enable_shared_from_this<Authenticator> {
 public:
  // Passwords that wait for a worker; what comes beyond is turned away. One is hashed at a time, so that guessing keeps only one worker busy.
  static constexpr std::size_t max_waiting = 16;
  static constexpr std::uint64_t window_ns = 60 * ns_per_s;
  // Addresses whose failures are remembered; beyond, the one that failed longest ago is forgotten.
  static constexpr std::size_t max_addresses = 1024;

  enum class Outcome : std::uint8_t {
    accepted,
    refused,    // wrong, or of no kind that is known
    throttled,  // not looked at: too many wrong ones before, or too many at once
  };
  struct Answer {
    Answer(Outcome what, const Credential* whose) : outcome(what), credential(whose) {}
    Outcome outcome;
    const Credential* credential;  // accepted
  };
  using Done = std::move_only_function<void(Answer)>;

  Authenticator(Credentials credentials, std::uint32_t max_failures, WorkerPool& workers);

  // From now on these count: for every further check, and for those that wait for a worker. Failures are remembered.
  void replace(Credentials credentials);
  // Calls `done` once, now or later (not after this died). `address`: where the failure counts.
  void check(Presented presented, const std::string& address, Done done);

 private:
  struct Failures {
    std::uint32_t count = 0;
    std::uint64_t since_ns = 0;
  };
  struct Job {
    Job(const Credential* asked, std::string password_hash, Presented what, std::string from, Done answer)
        : credential(asked), hash(std::move(password_hash)), presented(std::move(what)), address(std::move(from)), done(std::move(answer)) {}
    const Credential* credential;  // null: nobody of that name
    std::string hash;
    Presented presented;
    std::string address;
    Done done;
  };

  Digest mark_of(const Credential& credential, const Presented& presented) const;
  bool too_many_failures(const std::string& address);
  void count_failure(const std::string& address);
  void answer(const Credential* credential, const std::string& address, Done& done);
  void work();
  void worked(bool fits);

  Credentials credentials_;
  std::uint32_t max_failures_;
  WorkerPool& workers_;
  Thread& thread_;
  Digest key_{};  // of this process, random
  // By name: what the last right secret looks like under key_.
  std::unordered_map<std::string, Digest> known_;
  std::unordered_map<std::string, Failures> failures_;
  std::deque<Job> jobs_;
  bool working_ = false;
  bool replaced_ = false;  // what the worker was given is not what counts now
};

}  // namespace catnap::web
