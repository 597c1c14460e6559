// How many connections a transport takes, in all that have not finished their handshake, and from one host's address: a hostile host must not take
// the places of others (docs/limits.md).
// Owner: shared by all poll groups of the transport; a mutex, taken when a connection comes, finishes Connect, and goes. Left out: the number of
// connections in all (the server's, before a group is chosen).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace catnap::tcp {

struct AdmissionLimits {
  // Connections that have not finished Connect. A host opens its queues one after the other or a few at once: 1024 are far more than a rack of
  // servers that boot together has under way, and cost some 10 MiB.
  std::uint32_t max_half_open = 1024;
  // Of these from one address: two controllers of 128 queues, all opened at once.
  std::uint32_t max_half_open_per_host = 256;
  // Connections from one address, in any state; 0: no bound but the total. Hosts behind one translated address look like one.
  std::uint32_t max_connections_per_host = 0;
};

enum class Refusal : std::uint8_t { none, half_open, half_open_per_host, connections_per_host };

class Admission : public std::enable_shared_from_this<Admission> {
 public:
  explicit Admission(const AdmissionLimits& limits) : limits_(limits) {}
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

  // A place, given back when destroyed. Half open until finished().
  class Ticket {
   public:
    Ticket() = default;
    Ticket(Ticket&& other) noexcept = default;
    Ticket& operator=(Ticket&& other) noexcept;
    ~Ticket() { give_back(); }
    // Connect succeeded.
    void finished();
    void give_back();

   private:
    friend class Admission;
    std::shared_ptr<Admission> from_;
    std::string key_;
    bool half_open_ = false;
  };

  // `traddr`: the host's address in numbers. An IPv6 host is known by the first 64 bits: the rest is its own to choose.
  Refusal enter(const std::string& traddr, Ticket& ticket);
  static std::string key_of(const std::string& traddr);

  struct Counts {
    std::uint32_t connections = 0;
    std::uint32_t half_open = 0;
  };
  Counts counts() const;
  Counts counts_of(const std::string& traddr) const;
  std::size_t hosts() const;  // addresses known now

 private:
  void leave(const std::string& key, bool half_open, bool gone);

  const AdmissionLimits limits_;
  mutable std::mutex mutex_;
  Counts all_;
  std::map<std::string, Counts> hosts_;
};

}  // namespace catnap::tcp
