// Methods of others. See not_here.h.
// Owner: none.
#include "server/not_here.h"

#include <fmt/format.h>

#include "rpc/json.h"

namespace catnap::server {
namespace {

struct Elsewhere {
  std::string_view name;  // of a method, or with "*" the beginning of names
  std::string_view why;
};

constexpr std::string_view front_end = "catnap serves NVMe over TCP only";
constexpr std::string_view back_end = "catnap has no such block device";
constexpr std::string_view volumes = "there are no logical volumes";
constexpr std::string_view accelerators = "catnap uses the CPU for checksums and encryption, and no DPDK or accelerator devices";
constexpr std::string_view fork = "it belongs to a fork of SPDK";

// SPDK 26.09-pre (schema/schema.yaml), and the forks that Longhorn, simplyblock and ceph-nvmeof bring along. The first that fits counts.
constexpr Elsewhere table[] = {
    {"vhost_*", front_end},
    {"virtio_blk_*", front_end},
    {"vfu_*", front_end},
    {"iscsi_*", front_end},
    {"scsi_get_devices", front_end},
    {"nbd_*", front_end},
    {"ublk_*", front_end},
    {"fsdev_*", front_end},
    {"bdev_lvol_*", volumes},
    {"bdev_ocf_*", back_end},
    {"bdev_virtio_*", back_end},
    {"bdev_iscsi_*", back_end},
    {"bdev_rbd_*", back_end},
    {"bdev_xnvme_*", back_end},
    {"bdev_daos_*", back_end},
    {"bdev_ftl_*", back_end},
    {"bdev_zone_block_*", back_end},
    {"bdev_opal_*", back_end},
    {"bdev_pmem_*", back_end},
    {"bdev_compress_*", back_end},
    {"bdev_nvme_opal_*", "self-encrypting drives are reached through local NVMe controllers, and catnap has none"},
    {"bdev_nvme_cuse_*", "there are no character devices in user space"},
    {"bdev_nvme_*", "the NVMe initiator does not have it"},
    {"keyring_*", "keys come from files (keyring_file_add_key), not from the kernel's keyring"},
    {"accel_*", accelerators},
    {"compressdev_scan_accel_module", accelerators},
    {"dsa_scan_accel_module", accelerators},
    {"iaa_scan_accel_module", accelerators},
    {"ioat_scan_accel_module", accelerators},
    {"ae4dma_scan_accel_module", accelerators},
    {"mlx5_scan_accel_module", accelerators},
    {"cuda_scan_accel_module", accelerators},
    {"dpdk_cryptodev_*", accelerators},
    {"env_dpdk_*", accelerators},
    {"vmd_*", "local NVMe devices are the kernel's; catnap opens them as block devices"},
    {"framework_get_pci_devices", "local NVMe devices are the kernel's; catnap opens them as block devices"},
    {"framework_enable_cpumask_locks", "CPUs are shared with whoever else uses them; there are no locks"},
    {"framework_disable_cpumask_locks", "CPUs are shared with whoever else uses them; there are no locks"},
    {"trace_*", "there are no trace points; log flags (log_set_flag) and framework_get_reactors show what happens"},
    {"sock_*", "there is one socket implementation, the kernel's, without options"},
    {"bdev_ec_*", fork},
    {"bdev_lvs_*", fork},
    {"bdev_alceml_*", fork},
    {"bdev_distrib_*", fork},
    {"bdev_jm_*", fork},
    {"bdev_passtest_*", fork},
    {"bdev_ptnonexcl_*", fork},
    {"alceml_*", fork},
    {"distr_*", fork},
    {"jc_*", fork},
    {"jm_*", fork},
    {"qos_vbdev_*", fork},
    {"ultra21_*", fork},
};

bool fits(std::string_view name, std::string_view method) {
  return name.ends_with('*') ? method.starts_with(name.substr(0, name.size() - 1)) : method == name;
}

}  // namespace

std::string why_not_here(std::string_view method) {
  for (const Elsewhere& each : table) {
    if (fits(each.name, method)) return fmt::format("Operation not supported: {}: {}", rpc::printable(method), each.why);
  }
  return "";
}

}  // namespace catnap::server
