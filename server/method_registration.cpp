// All JSON-RPC methods of catnapd. See method_registration.h.
// Owner: app_thread, once at start.
#include "server/method_registration.h"

#include "bdev/aio/aio_rpc.h"
#include "bdev/bdev_rpc.h"
#include "bdev/crypto/crypto_rpc.h"
#include "bdev/delay/delay_rpc.h"
#include "bdev/error/error_rpc.h"
#include "bdev/malloc/malloc_rpc.h"
#include "bdev/null/null_rpc.h"
#include "bdev/nvme/nvme_rpc.h"
#include "bdev/passthru/passthru_rpc.h"
#include "bdev/raid/raid_rpc.h"
#include "bdev/split/split_rpc.h"
#include "bdev/stack/stack_rpc.h"
#include "bdev/uring/uring_rpc.h"
#include "keyring/keyring_rpc.h"
#include "reactor/iobuf_rpc.h"
#include "reactor/log_rpc.h"
#include "reactor/reactor_rpc.h"
#include "rpc/framework_rpc.h"
#include "rpc/introspection_rpc.h"
#include "rpc/notifications.h"
#include "server/controllers_rpc.h"
#include "server/io_statistics_rpc.h"
#include "server/nvmf_rpc.h"

namespace catnap::server {

void register_all_methods(rpc::MethodTable& table, rpc::ConfigRegistry& registry, Runtime& runtime, rpc::Lifecycle& lifecycle,
                          ControllerTable& controllers, const std::vector<ServerGroup*>& groups) {
  rpc::register_introspection_methods(table, lifecycle);
  rpc::register_framework_methods(table, lifecycle, registry);
  register_log_methods(table, &registry);
  rpc::register_notify_methods(table);
  register_iobuf_methods(table);
  keyring::register_keyring_methods(table);
  register_reactor_methods(table, runtime, &registry);
  bdev::register_bdev_methods(table);
  bdev::register_bdev_null_methods(table);
  bdev::register_bdev_malloc_methods(table);
  bdev::register_bdev_aio_methods(table);
  bdev::register_bdev_uring_methods(table);
  bdev::register_bdev_passthru_methods(table);
  bdev::register_bdev_delay_methods(table);
  bdev::register_bdev_error_methods(table);
  bdev::register_bdev_split_methods(table);
  bdev::register_bdev_crypto_methods(table);
  bdev::register_bdev_nvme_methods(table);
  bdev::register_bdev_raid_methods(table);
  register_nvmf_rpc_methods(table);
  register_controllers_methods(table, controllers, groups);
  register_io_statistics_methods(table, controllers);
  register_iobuf_config(registry);
  keyring::register_keyring_config(registry);
  bdev::register_crypto_key_config(registry);
  bdev::register_bdev_nvme_config(registry);
  bdev::register_bdev_config(registry);
  bdev::register_virtual_bdev_config(registry);
  bdev::register_bdev_raid_config(registry);
  bdev::register_bdev_policy_config(registry);
  bdev::register_bdev_notifications();
  bdev::register_bdev_raid_notifications();
  registry.add_telling("nvmf", tell_nvmf_config, {"bdev"});
}

}  // namespace catnap::server
