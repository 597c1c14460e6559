// The NVMe/TCP initiator: everything attached, by name, and the options that hold for all of it.
// Owner: app_thread. Left out: JSON-RPC (nvme_rpc.cpp), discovery.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bdev/nvme/options.h"
#include "bdev/nvme/subsystem.h"
#include "reactor/placement.h"
#include "reactor/task.h"

namespace catnap::bdev {

struct AttachRequest {
  AttachRequest() = default;
  std::string name;  // prefix of the bdevs' names: "Nvme0" gives "Nvme0n1"
  TransportId id;
  ControllerOptions options;
};

class NvmeModule {
 public:
  // Made on app_thread. `topology`: the machine and its reactors, for the placement of I/O queues.
  NvmeModule(Thread& app_thread, Topology topology);
  ~NvmeModule();
  NvmeModule(const NvmeModule&) = delete;
  NvmeModule& operator=(const NvmeModule&) = delete;
  // The process's one; null before it was made.
  static NvmeModule* instance();

  // Attaches a controller, or adds a path or a reserve address to what has that name already. Gives the names of all its bdevs. Errors: EINVAL and
  // EEXIST naming the field, EALREADY (this path is there), or why the connect failed; then nothing is left behind.
  Task<Result<std::vector<std::string>>> attach(AttachRequest request);
  // Detaches everything of that name, or only the path with these addresses (empty fields match anything). Errors: ENODEV.
  Task<Result<void>> detach(std::string name, std::optional<TransportId> path);
  std::shared_ptr<NvmeSubsystem> find(const std::string& name) const;  // null: none
  std::vector<std::shared_ptr<NvmeSubsystem>> all() const;             // in the order of attaching
  // The subsystem and bdev of that bdev name; null: no bdev of this module.
  std::shared_ptr<NvmeSubsystem> subsystem_of(const std::string& bdev_name) const;
  std::shared_ptr<NvmeBdev> find_bdev(const std::string& bdev_name) const;

  const NvmeOptions& options() const { return options_; }
  // Takes effect at once on what is attached: poll periods, time-outs; what belongs to connecting at the next connect. Errors: EINVAL.
  Result<void> set_options(const NvmeOptions& options);
  bool options_changed() const { return options_changed_; }  // set_options was called: worth saving

  // Told of each controller whose loss time-out has run out, before it goes. One listener: what keeps the configuration.
  using LossListener = std::function<void(const NvmeSubsystem& subsystem, const NvmeController& controller)>;
  void set_loss_listener(LossListener listener) { loss_listener_ = std::move(listener); }

  // Told when a controller becomes ready, or is so no longer.
  using PathListener = std::function<void(const NvmeController& controller, bool up)>;
  void set_path_listener(PathListener listener) { path_listener_ = std::move(listener); }
  void path_changed(const NvmeController& controller, bool up) const {
    if (path_listener_) path_listener_(controller, up);
  }

  Thread& app_thread() const { return app_thread_; }
  const Topology& topology() const { return topology_; }
  LoadTable& load() { return load_; }
  std::uint32_t next_index() { return next_index_++; }
  // The CPU of the data reactor that a thread runs on now; none: on the control thread's, or of a machine that the topology does not describe.
  std::optional<unsigned> cpu_of(const Thread& thread) const;
  // Fences of a bdev that goes (NvmeBdev::fence_key), for the next one of that namespace; null: none that still holds.
  void keep_fences(std::string key, std::shared_ptr<const WriteFences> fences);
  std::shared_ptr<const WriteFences> kept_fences(const std::string& key) const;
  // Detaches all, at the end of the process.
  Task<void> shut_down();

 private:
  void join(const std::shared_ptr<NvmeSubsystem>& subsystem, const std::shared_ptr<NvmeController>& controller);
  Task<void> drop(std::shared_ptr<NvmeSubsystem> subsystem, std::shared_ptr<NvmeController> controller, Removal why);

  Thread& app_thread_;
  Topology topology_;
  LoadTable load_;
  NvmeOptions options_;
  bool options_changed_ = false;
  std::uint32_t next_index_ = 0;
  std::vector<std::shared_ptr<NvmeSubsystem>> subsystems_;
  std::map<std::string, std::shared_ptr<const WriteFences>> kept_fences_;
  std::vector<std::string> attaching_;
  std::vector<std::shared_ptr<NvmeController>> connecting_;  // of attach calls under way
  LossListener loss_listener_;
  PathListener path_listener_;
};

}  // namespace catnap::bdev
