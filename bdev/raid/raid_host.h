// Which process an array belongs to. Superblocks name it, so that a process which serves disks to others does not assemble by itself the arrays that
// these others have made of them.
// Owner: app_thread (set once at start). Left out: what is asked of it (raid_arrays.h), where it stands (superblock.h).
#pragma once

#include <string>
#include <string_view>

#include "bdev/raid/superblock.h"

namespace catnap::bdev {

// All zeroes as long as nobody has set it: every array is taken for ours, and superblocks name nobody.
const Uuid& raid_host();
void set_raid_host(const Uuid& host);

// The same again after each restart, and another one for each machine and each server on it: made of the machine's id, and of what servers on one
// machine cannot have in common (the path of their state file, or of their RPC socket).
Uuid raid_host_of(std::string_view machine_id, std::string_view place);
// /etc/machine-id, or where containers have none the board's UUID; empty: this machine has neither.
std::string this_machine_id();

// Whether the array is ours to assemble when we find that superblock on a bdev: it is, unless another host has reached that disk over a connection,
// and here it is not remote (`remote_here`): then we are the one who serves it.
bool is_our_array(const Superblock& superblock, bool remote_here);

}  // namespace catnap::bdev
