// What happens in the target that people want to know of and no call has brought about: hosts that come and go, paths, ANA states, the state file.
// Any part of the server tells, one listener hears it (the notifications).
//
// Hosts can make such things happen as often as they like: of one host and kind a burst is told, then silence for a while, with the number left out.
//
// Owner: told on any OS thread, heard on app_thread. Left out: JSON (happenings_rpc.h); bdevs and arrays, which have listeners of their own.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "reactor/base/log_limit.h"
#include "reactor/thread.h"

namespace catnap::server {

struct Happening {
  Happening(const char* what, std::string whom) : type(what), about(std::move(whom)) {}
  Happening&& with(const char* name, std::string value) && {
    details.emplace_back(name, std::move(value));
    return std::move(*this);
  }
  const char* type;
  std::string about;  // whom it is about: a name
  std::vector<std::pair<const char*, std::string>> details;
  bool by_host = false;
};

// Types.
inline constexpr const char* host_connected = "nvmf_host_connected";
inline constexpr const char* host_disconnected = "nvmf_host_disconnected";
inline constexpr const char* host_authentication_failed = "nvmf_host_authentication_failed";
inline constexpr const char* host_tls_failed = "nvmf_host_tls_failed";  // about an address: nothing that the host says of itself is proven
inline constexpr const char* ana_state_changed = "nvmf_ana_state";
inline constexpr const char* path_up = "bdev_nvme_path_up";
inline constexpr const char* path_down = "bdev_nvme_path_down";
inline constexpr const char* state_not_kept = "state_file_fault";
inline constexpr const char* state_kept_again = "state_file_written";
inline constexpr const char* configuration_waits = "configuration_pending";
inline constexpr const char* configuration_back = "configuration_made";

class Happenings {
 public:
  // Of one host and type, in each interval: enough for a host with several paths that reconnects, few enough that a thousand hosts wake nobody up for
  // long. Hosts beyond LogLimit::max_keys share one burst.
  static constexpr std::uint32_t burst_of_host = 10;
  static constexpr std::uint64_t interval_us = 10'000'000;

  using Listener = std::function<void(const Happening& happening)>;

  static Happenings& instance();

  // Before any other thread tells, and null after the last one.
  void listen(Thread* app_thread, Listener listener);
  void tell(Happening happening);
  // The same of something that a host can bring about; left out when it does so too often.
  void tell_of_host(Happening happening);

 private:
  Thread* app_thread_ = nullptr;
  Listener listener_;
  LogLimit limit_{burst_of_host, interval_us};
};

}  // namespace catnap::server
