// RPC methods of the keyring: keyring_file_add_key, keyring_file_remove_key, keyring_get_keys.
// Owner: app_thread. Left out: keyring_linux_set_options (keys of the kernel).
#pragma once

#include "rpc/config_registry.h"
#include "rpc/method.h"

namespace catnap::keyring {

void register_keyring_methods(rpc::MethodTable& table);

// The "keyring" subsystem: names and paths. Comes before whatever names keys.
void register_keyring_config(rpc::ConfigRegistry& registry);

}  // namespace catnap::keyring
