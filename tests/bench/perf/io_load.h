// One I/O queue under load: keeps its depth of I/Os outstanding, or as many as are due, and counts what comes back.
// Owner: the run's one thread. Left out: connecting the controller, when I/Os are due (run.cpp).
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/bench/perf/latency.h"
#include "tests/bench/perf/options.h"
#include "tests/bench/perf/places.h"
#include "transport/tcp/host_queue.h"

namespace catnap::perf {

// What all queues of a run count together; begun anew after the warm-up.
struct Counts {
  Latencies reads;
  Latencies writes;
  std::uint64_t ios() const { return reads.count() + writes.count(); }
};

class IoLoad final : private tcp::HostQueueUser {
 public:
  // `share`: of the namespace, in places of options.size bytes.
  struct Share {
    std::uint64_t first_place = 0;
    std::uint64_t places = 0;
    std::uint32_t block_size = 512;
  };
  IoLoad(Thread& thread, const Options& options, tcp::HostQueueOptions queue, Share share, std::uint64_t seed);
  ~IoLoad();
  IoLoad(const IoLoad&) = delete;
  IoLoad& operator=(const IoLoad&) = delete;

  void connect() { queue_->connect(); }
  bool ready() const { return queue_->ready(); }
  // Why it ended, or an I/O failed; the run is over then.
  const std::optional<Error>& failed() const { return failed_; }

  // Without a rate: begins, and goes on until stop(). Counted into `counts`, which may be exchanged at any time.
  void start(Counts* counts);
  void count_into(Counts* counts) { counts_ = counts; }
  // With a rate: one more I/O, due at `due_ns`; it waits here while the depth is used up.
  void add_due(std::uint64_t due_ns);
  void stop() { stopped_ = true; }
  std::uint32_t outstanding() const { return outstanding_; }
  std::uint64_t behind() const { return due_.size(); }
  void close();

 private:
  struct Io;
  void queue_ready(tcp::HostQueue&, std::uint32_t) override {}
  void queue_ended(tcp::HostQueue&, const Error& why) override;
  void request_late(tcp::HostQueue&, tcp::HostRequest&) override {}
  static void done(tcp::HostRequest& request);
  void submit(Io& io, std::uint64_t since_ns);
  void finish(Io& io);
  void fail(Error why);

  const Options& options_;
  Share share_;
  Places places_;
  std::unique_ptr<tcp::HostQueue> queue_;
  std::unique_ptr<Io[]> ios_;
  // Without --verify all I/Os of a queue share these: the target is to be measured, and not how the caches of the load's CPU take its data, nor
  // how fast it digests them: that is done once.
  std::vector<std::uint64_t> to_write_;
  std::vector<std::uint64_t> read_;
  std::vector<Io*> free_;
  std::deque<std::uint64_t> due_;
  Counts* counts_ = nullptr;
  std::uint32_t outstanding_ = 0;
  bool stopped_ = false;
  std::optional<Error> failed_;
};

}  // namespace catnap::perf
