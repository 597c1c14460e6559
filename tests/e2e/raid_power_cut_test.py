#!/usr/bin/env -S /usr/bin/python3
"""A raid1 of three disks inside a guest whose power is cut amid writes: after the next boot the array is found by its superblocks, what was promised (by a
flush or FUA) is there, and once it is resynced all members are equal, byte by byte.

Each disk forgets unflushed writes on its own (volatile_disk.py), so members differ after a cut: each keeps another random half of its volatile sectors.
The cuts take turns: the virtual machine is killed, or the guest resets itself (sysrq b). CATNAP_SOAK=1: 50 cuts, else 2. Left out: kill -9
(raid_kill_test.py), all orders of events (tests/sim/raid1_test.cpp), the proof that such a rig sees losses (power_cut_test.py).
"""
import json
import os
import random
import struct
import sys
import time
from pathlib import Path

import power_cut_test
from acknowledged import BLOCK, Ledger, read_back
from guest_image import Cpio, add_program
from harness import Cases, free_port, options, run_program, wait_for
from power_cut_test import ADDRESS_IN_GUEST, NQN, PORT_IN_GUEST
from volatile_disk import VolatileDisk

MIB = 1 << 20
DISK_BYTES = 12 * MIB
BLOCKS = 1024  # of 4 KiB: the first part of the array is written
MEMBERS = ("vda", "vdb", "vdc")
CUTS = 50 if os.environ.get("CATNAP_SOAK") else 2
# Enough for marks of many regions to be made, and some to be cleared.
WANTED_FLUSHES, WANTED_FUA_WRITES = 30, 30

cases = Cases("raid_power_cut_test")


def configuration(first):
  """catnapd's configuration file. `first`: the array is created; later it is found."""
  def method(method_name, **params):
    return {"method": method_name, "params": params}

  bdevs = [method("bdev_uring_create", name=name, filename=f"/dev/{name}", block_size=512) for name in MEMBERS]
  if first:
    # Freshly made disks are all zeroes.
    bdevs.append(method("bdev_raid_create", name="mirror", raid_level="raid1", base_bdevs=list(MEMBERS), superblock=True, assume_clean=True,
                        bitmap_region_kb=64))
  bdevs.append(method("bdev_wait_for_examine"))
  address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": ADDRESS_IN_GUEST, "trsvcid": str(PORT_IN_GUEST)}
  nvmf = [method("nvmf_create_transport", trtype="TCP"),
          method("nvmf_create_subsystem", nqn=NQN, serial_number="RAIDCUT", allow_any_host=True),
          method("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "mirror", "nsid": 1}),
          method("nvmf_subsystem_add_listener", nqn=NQN, listen_address=address)]
  return json.dumps({"subsystems": [{"subsystem": "bdev", "config": bdevs}, {"subsystem": "nvmf", "config": nvmf}]}, indent=2)


class Rig(power_cut_test.Rig):
  """The members' disks and the guest that catnapd runs in; what has been promised so far."""

  def __init__(self, folder, chosen):  # pylint: disable=super-init-not-called
    self.folder = folder
    self.logs = chosen.logs
    self.mutated = False
    self.seed = chosen.seed
    self.random = random.Random(chosen.seed)
    self.overlay = self.make_overlay(chosen)
    self.disks = [VolatileDisk(folder / name, DISK_BYTES) for name in MEMBERS]
    self.port = free_port()
    self.ledgers = [Ledger(1, BLOCKS)]
    self.boots = 0
    self.guest = None

  def make_overlay(self, chosen):
    path = self.folder / "catnapd.cpio"
    archive = Cpio(path)
    add_program(archive, chosen.catnapd, "usr/bin/catnapd")
    archive.add("etc/first.json", configuration(True).encode())
    archive.add("etc/later.json", configuration(False).encode())
    archive.close()
    return path

  def start_server(self, mutation=""):
    configured_by = "first" if not any(self.ledgers[0].submitted) else "later"
    self.guest.check("modprobe crc32c-intel || modprobe crc32c_generic; mkdir -p /var/tmp\n"
                     "[ \"$(cat /sys/block/vda/queue/write_cache)\" = 'write back' ]\n"
                     f"catnapd -r /run/rpc.sock --allow-path /dev -c /etc/{configured_by}.json >/dev/kmsg 2>&1 &\n"
                     f"catnapd=$!; until grep -q ':{PORT_IN_GUEST:04X} 00000000:0000 0A' /proc/net/tcp; do kill -0 $catnapd; sleep 0.1; done", 60)
    self.guest.wait_for_console("system calls are filtered")  # where the harness looks for what was refused

  def write_a_while(self):
    """Starts a writer; returns (thread, writer) when enough was promised, while it goes on."""
    power_cut_test.WANTED_FLUSHES, power_cut_test.WANTED_FUA_WRITES = WANTED_FLUSHES, WANTED_FUA_WRITES
    return self.write_until_promised(self.random.choice(("flush", "fua")))

  def unequal(self):
    """Blocks of data in which the members differ."""
    contents = []
    for disk in self.disks:
      with disk.lock:
        contents.append(bytes(disk.current[self.data_offset():]))
    first = contents[0]
    return [at // BLOCK for at in range(0, len(first), BLOCK) for other in contents[1:] if first[at:at + BLOCK] != other[at:at + BLOCK]]

  def data_offset(self):
    """Where the array's first block is on a member: each written block says which one it is."""
    stamped = self.disks[0].current.find(b"catnap!\n")
    _, _, block, _ = struct.unpack_from("<8sIIQ", self.disks[0].current, stamped)
    return stamped // BLOCK * BLOCK - block * BLOCK

  def judge(self):
    promised = sum(version > 0 for version in self.ledgers[0].promised)
    different = len(self.unequal())
    controller = self.connect()
    lost = read_back(controller, self.ledgers)[1]
    wait_for(lambda: not self.unequal(), 120, "all members to be equal")
    again = read_back(controller, self.ledgers)[1]
    controller.close()
    print(f"  boot {self.boots}: {promised} blocks promised, {len(lost)} and {len(again)} sectors lost; members still differed in {different} blocks after "
          "the start, and in none after the resync", flush=True)
    assert not lost + again, f"sectors lost what was promised, or did not keep what was read (seed {self.seed}):\n" + "\n".join((lost + again)[:20])


@cases.case(f"cut off {CUTS} times amid writes, and once more in the resync: nothing promised is lost, members become equal")
def cut(rig):
  rig.boot()
  for number in range(CUTS):
    thread, writer = rig.write_a_while()
    if number % 2 == 0:
      for disk in rig.disks:
        disk.cut(rig.random)
      rig.guest.kill()
      rig.after_cut(thread, writer)
      rig.boot()
    else:
      rig.guest.send("echo b >/proc/sysrq-trigger")
      rig.guest.wait_ready()
      for disk in rig.disks:
        disk.forget(rig.random)
      rig.after_cut(thread, writer)
      rig.boots += 1
      rig.start_server()
    rig.judge()
  # The resync has begun; the next start goes on with it.
  thread, writer = rig.write_a_while()
  for _ in range(2):
    for disk in rig.disks:
      disk.cut(rig.random)
    rig.guest.kill()
    rig.after_cut(thread, writer)
    rig.boot()
  rig.judge()


def main():
  chosen = options(__doc__.split("\n")[0], ("--seed", {"type": int, "default": int(time.time()), "help": "of the writes and of what a cut leaves; printed"}))
  return run_program(cases, chosen, Rig, in_guest=True)


if __name__ == "__main__":
  sys.exit(main())
