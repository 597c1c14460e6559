// A thread's channel of a namespace's bdev: turns I/Os into commands, sends each over the path that the policy names, and carries it to another one
// when that path fails. Owner: the channel's thread. Left out: the paths' connections (io_port.h), what commands look like (nvme_commands.h).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bdev/bdev.h"
#include "bdev/nvme/nvme_bdev.h"
#include "bdev/nvme/nvme_commands.h"
#include "bdev/nvme/path_policy.h"
#include "bdev/nvme/retry_policy.h"
#include "reactor/deferred.h"
#include "reactor/timer.h"

namespace catnap::bdev {

class NvmeChannel final : public Channel, private PortUser {
 public:
  NvmeChannel(NvmeBdev& bdev, Thread& thread);
  ~NvmeChannel() override;

  // What there is now: paths may have come and gone. I/Os under way on a path that went end there.
  void adopt(std::shared_ptr<const PathSet> set);
  std::vector<PathReport> report() const;
  // The bdev's fences as they are now.
  void take_up_fences() { fences_ = nvme_bdev().fences(); }

 private:
  struct Path {
    PathEntry entry;
    std::shared_ptr<IoPort> port;
    std::uint32_t in_flight = 0;
    bool ana_doubtful = false;  // an answer contradicted what is published; until the next news
    bool retired = false;       // not in the set any more
    PathStats stats;
  };
  struct List {
    NvmeIo* first = nullptr;
    NvmeIo* last = nullptr;
    bool empty() const { return first == nullptr; }
    void push_back(NvmeIo& io);
    NvmeIo* pop_front();
    bool remove(NvmeIo& io);
  };

  void execute(BdevIo& io) override;
  bool abort_in_module(BdevIo& io) override;
  void port_changed() override;

  NvmeIo& take(BdevIo& io);
  void give_back(NvmeIo& io);
  void start(NvmeIo& io);
  void submit(NvmeIo& io, std::uint32_t path);
  static void command_done(tcp::HostRequest& request);
  void commands_over(NvmeIo& io);
  void failed(NvmeIo& io, nvme::Status status);
  void carry_out(NvmeIo& io, const RetryDecision& decision, nvme::Status status);
  void end(NvmeIo& io, Status status);
  bool must_wait_for_fence(NvmeIo& io);
  void delay(NvmeIo& io, std::uint64_t until_ns);
  void end_behind_fence(NvmeIo& io, Status status);
  void count(Path& path, const NvmeIo& io);
  void look_at_paths();
  void resume_waiting();
  void delays_due();
  void retire_unused();
  bool any_usable() const;
  bool path_may_come() const;
  void ask_for_ana(Path& path);
  void reset_controllers(NvmeIo& io);
  NvmeBdev& nvme_bdev() const { return static_cast<NvmeBdev&>(bdev()); }

  std::shared_ptr<const PathSet> set_;
  std::vector<std::unique_ptr<Path>> paths_;    // in the order of set_
  std::vector<std::unique_ptr<Path>> retired_;  // with I/O under way
  std::vector<PathView> views_;                 // of paths_
  PathChooser chooser_;
  std::shared_ptr<const WriteFences> fences_;  // null: none, as nearly always
  std::vector<std::unique_ptr<NvmeIo>> ios_;   // all there are
  NvmeIo* free_ = nullptr;
  List waiting_;  // for a path
  List delayed_;  // to be sent again later
  Deferred catch_up_;
  Timer delay_timer_;
};

}  // namespace catnap::bdev
