// The nvmf_* methods that configure the target, and its part of a saved configuration.
// Owner: app_thread. Left out: controllers, queue pairs and statistics (controllers_rpc.h).
#pragma once

#include <json/json.h>

#include "rpc/config_registry.h"
#include "rpc/method.h"
#include "server/snapshot.h"

namespace catnap::server {

// Texts and codes that live callers match (docs/rpc.md): Longhorn takes this pattern for "somebody made the transport before me".
inline constexpr const char* transport_exists_text = "Transport type 'TCP' already exists";
inline constexpr int transport_exists_code = rpc::internal_error;

// All of the below. The handlers work on Target::instance().
void register_nvmf_rpc_methods(rpc::MethodTable& table);

void register_nvmf_transport_methods(rpc::MethodTable& table);   // nvmf_create_transport, nvmf_get_transports
void register_nvmf_subsystem_methods(rpc::MethodTable& table);   // nvmf_create_subsystem, nvmf_delete_subsystem, nvmf_get_subsystems
void register_nvmf_namespace_methods(rpc::MethodTable& table);   // nvmf_subsystem_add_ns, nvmf_subsystem_remove_ns
void register_nvmf_listener_methods(rpc::MethodTable& table);    // nvmf_subsystem_add_listener, …_remove_listener, …_get_listeners
void register_nvmf_ana_methods(rpc::MethodTable& table);         // nvmf_subsystem_listener_set_ana_state, nvmf_subsystem_set_ns_ana_group
void register_nvmf_host_methods(rpc::MethodTable& table);        // nvmf_subsystem_add_host, …_remove_host, …_allow_any_host
void register_nvmf_visibility_methods(rpc::MethodTable& table);  // nvmf_ns_add_host, nvmf_ns_remove_host, nvmf_ns_visible
void register_nvmf_referral_methods(rpc::MethodTable& table);    // nvmf_discovery_add_referral, …_remove_referral, …_get_referrals, …_referral_*
void register_nvmf_target_methods(rpc::MethodTable& table);      // nvmf_create_target, …_delete_target, …_get_targets, nvmf_set_crdt, …
void register_nvmf_config_methods(rpc::MethodTable& table);      // nvmf_set_config, nvmf_set_max_subsystems

// The calls that make a namespace.
Json::Value namespace_calls(const SubsystemSnapshot& subsystem, const NamespaceConfig& config);

// For rpc::ConfigRegistry, subsystem "nvmf": calls that bring the present configuration about.
void tell_nvmf_config(rpc::ConfigRegistry::Listener& listener);

}  // namespace catnap::server
