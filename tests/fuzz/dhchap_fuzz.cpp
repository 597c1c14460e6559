// Feeds authentication messages to both sides' state machines: the input is a list of messages (a length byte pair, then bytes) that a host, or a
// controller, is made to have sent, in a state that earlier messages led to. Owner: libFuzzer. Left out: commands (fabrics_fuzz.cpp), right keys.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "transport/dhchap/host_exchange.h"
#include "transport/dhchap/target_exchange.h"

namespace {

using namespace catnap::dhchap;

constexpr const char* nqn = "nqn.2026-11.io.catnap:fuzz";

void run(std::optional<Work> work) {
  if (work) (*work)()();
}

// Cheap to compute with: what is fuzzed is the messages, not the arithmetic.
Allowed cheap() {
  Allowed allowed;
  allowed.groups = 0b11;
  return allowed;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  std::span<const std::byte> rest = std::as_bytes(std::span(data, size));
  const bool as_host = (data[0] & 1) != 0;
  const bool concatenates = (data[0] & 2) != 0;
  rest = rest.subspan(1);
  const auto key = std::make_shared<catnap::keyring::Key>("fuzz");  // without a file: reading it fails
  TargetExchange target(nqn, nqn);
  TargetRules rules;
  rules.key = rules.ctrlr_key = key;
  rules.allowed = cheap();
  rules.may_generate_psk = concatenates;
  rules.may_replace_psk = (data[0] & 4) != 0;
  rules.must_concatenate = (data[0] & 8) != 0;
  using catnap::dhchap::AuthConcatenation;
  HostExchange host(HostCredentials{key, key, cheap()}, nqn, nqn, concatenates ? AuthConcatenation::new_tls_psk : AuthConcatenation::none);
  host.sent();
  while (rest.size() > 2) {
    const std::size_t wanted = std::to_integer<std::size_t>(rest[0]) | std::to_integer<std::size_t>(rest[1]) << 8;
    rest = rest.subspan(2);
    const auto message = rest.first(std::min(wanted & 0xFFF, rest.size()));
    rest = rest.subspan(message.size());
    if (as_host) {
      run(target.take(message, rules));
      run(target.prepare());
      if ((wanted & 0x8000) != 0) (void)target.give(wanted & 0x7FF);
    } else if (host.next() == HostExchange::Next::receive) {
      run(host.received(message));
      if (host.next() == HostExchange::Next::send) host.sent();
    }
  }
  if (target.take_psk() || host.take_psk()) __builtin_trap();
  if (as_host && target.state() == TargetExchange::State::completed) __builtin_trap();  // nobody has the key
  if (!as_host && host.next() == HostExchange::Next::finished && host.outcome()) __builtin_trap();
  return 0;
}
