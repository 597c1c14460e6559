// See admission.h.
#include "transport/tcp/admission.h"

#include <arpa/inet.h>
#include <fmt/core.h>

#include <array>
#include <utility>

#include "reactor/base/check.h"

namespace catnap::tcp {

std::string Admission::key_of(const std::string& traddr) {
  std::array<std::uint8_t, 16> bytes{};
  if (inet_pton(AF_INET6, traddr.c_str(), bytes.data()) != 1) return traddr;
  std::string key = "6:";
  for (std::size_t i = 0; i < 8; ++i) key += fmt::format("{:02x}", bytes[i]);
  return key;
}

Refusal Admission::enter(const std::string& traddr, Ticket& ticket) {
  std::string key = key_of(traddr);
  const std::lock_guard lock(mutex_);
  if (all_.half_open >= limits_.max_half_open) return Refusal::half_open;
  const auto found = hosts_.find(key);
  const Counts known = found == hosts_.end() ? Counts() : found->second;
  if (known.half_open >= limits_.max_half_open_per_host) return Refusal::half_open_per_host;
  if (limits_.max_connections_per_host != 0 && known.connections >= limits_.max_connections_per_host) return Refusal::connections_per_host;
  hosts_[key] = {known.connections + 1, known.half_open + 1};
  ++all_.connections;
  ++all_.half_open;
  ticket.from_ = shared_from_this();
  ticket.key_ = std::move(key);
  ticket.half_open_ = true;
  return Refusal::none;
}

void Admission::leave(const std::string& key, bool half_open, bool gone) {
  const std::lock_guard lock(mutex_);
  const auto found = hosts_.find(key);
  CATNAP_CHECK(found != hosts_.end());
  for (Counts* counts : {&all_, &found->second}) {
    if (half_open) --counts->half_open;
    if (gone) --counts->connections;
  }
  if (found->second.connections == 0) hosts_.erase(found);
}

Admission::Counts Admission::counts() const {
  const std::lock_guard lock(mutex_);
  return all_;
}

Admission::Counts Admission::counts_of(const std::string& traddr) const {
  const std::lock_guard lock(mutex_);
  const auto found = hosts_.find(key_of(traddr));
  return found == hosts_.end() ? Counts() : found->second;
}

std::size_t Admission::hosts() const {
  const std::lock_guard lock(mutex_);
  return hosts_.size();
}

Admission::Ticket& Admission::Ticket::operator=(Ticket&& other) noexcept {
  if (this == &other) return *this;
  give_back();
  from_ = std::exchange(other.from_, nullptr);
  key_ = std::move(other.key_);
  half_open_ = other.half_open_;
  return *this;
}

void Admission::Ticket::finished() {
  if (from_ != nullptr && std::exchange(half_open_, false)) from_->leave(key_, true, false);
}

void Admission::Ticket::give_back() {
  if (from_ != nullptr) std::exchange(from_, nullptr)->leave(key_, half_open_, true);
}

}  // namespace catnap::tcp
