// Checks credentials (authenticator.h).
// Owner: app_thread; hashing on a worker.
#include "web/authenticator.h"

#include <arpa/inet.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "reactor/base/check.h"
#include "reactor/base/event_counter.h"

namespace catnap::web {
namespace {

constexpr const char* counter_name = "catnap_http_authentications_total";
constexpr const char* counter_help = "Requests with credentials by what became of them";
EventCounter accepted_count{counter_name, counter_help, R"(result="accepted")"};
EventCounter refused_count{counter_name, counter_help, R"(result="refused")"};
EventCounter throttled_count{counter_name, counter_help, R"(result="throttled")"};

// One customer has a whole IPv6 network of 64 bits: the failures of all its addresses count together.
std::string failure_key(const std::string& address) {
  in6_addr six{};
  if (::inet_pton(AF_INET6, address.c_str(), &six) != 1) return address;
  return {reinterpret_cast<const char*>(six.s6_addr), 8};
}

}  // namespace

Authenticator::Authenticator(Credentials credentials, std::uint32_t max_failures, WorkerPool& workers)
    : credentials_(std::move(credentials)), max_failures_(max_failures), workers_(workers), thread_(*Thread::current()) {
  CATNAP_CHECK(::RAND_bytes(key_.data(), static_cast<int>(key_.size())) == 1);
}

Digest Authenticator::mark_of(const Credential& credential, const Presented& presented) const {
  std::string text = credential.name + '\0' + presented.secret;
  const Digest mark = hmac_sha256(key_, text);
  wipe(text);
  return mark;
}

bool Authenticator::too_many_failures(const std::string& address) {
  const auto found = failures_.find(failure_key(address));
  if (found == failures_.end()) return false;
  if (thread_.now_ns() - found->second.since_ns >= window_ns) {
    failures_.erase(found);
    return false;
  }
  return found->second.count >= max_failures_;
}

void Authenticator::count_failure(const std::string& address) {
  const std::uint64_t now_ns = thread_.now_ns();
  if (failures_.size() >= max_addresses) {
    const auto oldest = std::ranges::min_element(failures_, {}, [](const auto& entry) { return entry.second.since_ns; });
    failures_.erase(oldest);
  }
  Failures& failures = failures_[failure_key(address)];
  if (failures.count == 0 || now_ns - failures.since_ns >= window_ns) failures = {0, now_ns};
  ++failures.count;
}

void Authenticator::answer(const Credential* credential, const std::string& address, Done& done) {
  if (credential != nullptr) {
    accepted_count.add();
    done(Answer(Outcome::accepted, credential));
    return;
  }
  refused_count.add();
  count_failure(address);
  done(Answer(Outcome::refused, nullptr));
}

void Authenticator::check(Presented presented, const std::string& address, Done done) {
  const bool basic = presented.scheme == Presented::Scheme::basic;
  const Credential* credential = basic ? credentials_.find(presented.user) : nullptr;
  if (presented.scheme == Presented::Scheme::bearer) credential = credentials_.owner_of_token(presented.secret);
  if (credential != nullptr) {
    const auto known = known_.find(credential->name);
    if (known != known_.end() && equal(known->second, mark_of(*credential, presented))) return answer(credential, address, done);
  }
  if (too_many_failures(address)) {
    throttled_count.add();
    return done(Answer(Outcome::throttled, nullptr));
  }
  const bool is_token = credential == nullptr || credential->password_hash.empty();
  if (is_token && credential != nullptr && credentials_.owner_of_token(presented.secret) != credential) credential = nullptr;
  if (is_token && credential != nullptr) {
    known_[credential->name] = mark_of(*credential, presented);
    return answer(credential, address, done);
  }
  // A name that nobody has takes as long as one that somebody has, as far as there are passwords.
  const auto& entries = credentials_.entries();
  const auto hashed = std::ranges::find_if(entries, [](const Credential& entry) { return !entry.password_hash.empty(); });
  if (!basic || hashed == entries.end()) return answer(nullptr, address, done);
  if (jobs_.size() >= max_waiting) {
    throttled_count.add();
    return done(Answer(Outcome::throttled, nullptr));
  }
  jobs_.emplace_back(credential, (credential != nullptr ? *credential : *hashed).password_hash, std::move(presented), address, std::move(done));
  work();
}

void Authenticator::replace(Credentials credentials) {
  // A secret that was right is remembered only for an entry that is still the same.
  std::erase_if(known_, [&](const auto& known) {
    const Credential* const now = credentials.find(known.first);
    const Credential* const before = credentials_.find(known.first);
    return now == nullptr || before == nullptr || !(*now == *before);
  });
  credentials_ = std::move(credentials);
  std::deque<Job> waiting = std::exchange(jobs_, {});
  if (working_) {  // the worker's answer is for the first
    replaced_ = true;
    jobs_.push_back(std::move(waiting.front()));
    waiting.pop_front();
  }
  for (Job& job : waiting) check(std::move(job.presented), job.address, std::move(job.done));
}

void Authenticator::work() {
  if (working_ || jobs_.empty()) return;
  working_ = true;
  const Job& job = jobs_.front();
  workers_.submit(
      thread_,
      [password = job.presented.secret, hash = job.hash]() mutable {
        const bool fits = password_fits(password, hash);
        wipe(password);
        return fits;
      },
      [self = weak_from_this()](bool fits) {
        if (const auto alive = self.lock()) alive->worked(fits);
      });
}

void Authenticator::worked(bool fits) {
  working_ = false;
  Job job = std::move(jobs_.front());
  jobs_.pop_front();
  if (std::exchange(replaced_, false)) {
    check(std::move(job.presented), job.address, std::move(job.done));  // from the start
    return work();
  }
  const Credential* right = fits ? job.credential : nullptr;
  if (right != nullptr) known_[right->name] = mark_of(*right, job.presented);
  wipe(job.presented.secret);
  answer(right, job.address, job.done);
  work();
}

}  // namespace catnap::web
