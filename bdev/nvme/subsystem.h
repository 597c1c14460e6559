// What was attached under one name: the controllers (one per path) that lead to one NVM subsystem, and the bdevs of its namespaces.
// Owner: app_thread. Left out: connecting (controller.h), I/O (nvme_bdev.h).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bdev/nvme/controller.h"
#include "bdev/nvme/nvme_bdev.h"

namespace catnap::bdev {

class NvmeSubsystem : public std::enable_shared_from_this<NvmeSubsystem> {
 public:
  NvmeSubsystem(NvmeModule& module, std::string name) : module_(module), name_(std::move(name)) {}

  const std::string& name() const { return name_; }
  const std::vector<std::shared_ptr<NvmeController>>& controllers() const { return controllers_; }
  const std::map<std::uint32_t, std::shared_ptr<NvmeBdev>>& bdevs() const { return bdevs_; }
  std::shared_ptr<NvmeController> find_controller(std::uint16_t cntlid) const;
  std::shared_ptr<NvmeController> find_controller(const TransportId& id) const;
  std::vector<std::string> bdev_names() const;
  std::string bdev_name(std::uint32_t nsid) const;  // whether there is one or not
  // Whether a controller may join: same subsystem NQN, host and multipath mode. Errors: EINVAL, EEXIST with what does not fit.
  Result<void> may_join(const TransportId& id, const ControllerOptions& options) const;

  void add(const std::shared_ptr<NvmeController>& controller);
  void remove(const std::shared_ptr<NvmeController>& controller);
  // Makes, removes and resizes bdevs and publishes paths, by what the controllers know now; done when every channel goes by it.
  Task<void> follow();
  // Removes all bdevs for good; done when they are gone.
  Task<void> remove_bdevs(Removal why);

  // bdev_nvme_set_preferred_path, bdev_nvme_set_multipath_policy. Errors: ENODEV.
  Result<void> set_preferred(const std::string& bdev_name, const std::shared_ptr<NvmeController>& controller, std::move_only_function<void()> done);
  Result<void> set_multipath(const std::string& bdev_name, const MultipathOptions& options, std::move_only_function<void()> done);
  // What these calls said about a namespace's bdev, for saving it; null, none: nothing.
  std::vector<std::uint32_t> chosen_namespaces() const;
  std::shared_ptr<NvmeController> preferred(std::uint32_t nsid) const;
  std::optional<MultipathOptions> chosen_multipath(std::uint32_t nsid) const;

 private:
  struct Choice {
    std::weak_ptr<NvmeController> preferred;  // and not its controller id, which a reconnect changes
    std::optional<MultipathOptions> multipath;
  };
  Task<void> follow_once();
  void make_bdev(const NamespaceData& data);
  std::map<std::uint32_t, NamespaceData> namespaces() const;
  Promise<bool> take_away(const std::shared_ptr<NvmeBdev>& bdev);
  PathSet paths_of(std::uint32_t nsid) const;
  void publish(std::uint32_t nsid, std::move_only_function<void()> done = nullptr);

  NvmeModule& module_;
  std::string name_;
  std::vector<std::shared_ptr<NvmeController>> controllers_;
  std::map<std::uint32_t, std::shared_ptr<NvmeBdev>> bdevs_;
  std::map<std::uint32_t, Choice> choices_;  // by nsid
  bool following_ = false;
  std::vector<Promise<bool>> followers_;  // who asked while it was following
  bool dissolved_ = false;                // its bdevs are gone for good
};

}  // namespace catnap::bdev
