// What goes by itself stays part of the configuration when a state file keeps it: controllers whose loss time-out has run out, bdevs that went with
// what they stand on, and namespaces of those. The calls that made them wait (pending_calls.h) until they can be made again, or somebody deletes what
// they stand for. Owner: app_thread. Left out: without --state, where such things are gone, as in SPDK.
#pragma once

#include "bdev/nvme/module.h"
#include "server/pending_calls.h"
#include "server/snapshot.h"

namespace catnap::server {

// From now on `pending` gets the calls of controllers and bdevs that go by themselves; null: nobody does any more.
void keep_what_is_lost(PendingCalls* pending, bdev::NvmeModule& nvme);
// The same of a namespace, before it goes.
void keep_lost_namespace(PendingCalls& pending, const SubsystemSnapshot& subsystem, const NamespaceConfig& config);

}  // namespace catnap::server
