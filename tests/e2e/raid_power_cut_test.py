#!/usr/bin/env -S /usr/bin/python3
"""A raid1 of three disks inside a guest whose power is cut amid writes: after the next boot the array is found by its superblocks, what was promised (by a
flush or FUA) is there, and once it is resynced all members are equal, byte by byte.

Each disk forgets unflushed writes on its own (volatile_disk.py), so members differ after a cut. While the machine is off the disks are looked at (raid_media.py):
a region in which they differ must be marked; and what the next start copies must be marked regions only.
- The cuts take turns: the virtual machine is killed, or the guest resets itself (sysrq b).
- Writers end with FUA writes; with flushes; with flushes in few blocks whose marks are there already, so that no flush of marks makes data durable; or with
  neither there, so that much is volatile. A virtual machine is not killed before something is.
- Of the volatile sectors a random half survives; at times no mark and no superblock of them does, at times all data of them.
- Before half of the cuts one disk breaks amid the writes, and is whole again, as it was left, at the next boot: it must be brought up to date, and not be believed.
CATNAP_SOAK=1: 50 cuts, else 2. `--without-flush LIBRARY` is the proof by mutation: when marks are not made durable (no_flush_shim.cpp), members must be seen to
differ in regions without a mark; with CATNAP_SOAK=1 also when all flushes are left out, by which promised data must be lost.
Left out: kill -9 (raid_kill_test.py), all orders of events (tests/sim/raid1_test.cpp).
"""
import json
import os
import random
import sys
import time
from pathlib import Path

import power_cut_test
from acknowledged import BLOCK, READ_BLOCKS, Ledger, read_back
from guest_image import Cpio, add_program
from harness import Cases, free_port, options, run_program, wait_for
from power_cut_test import ADDRESS_IN_GUEST, NQN, PORT_IN_GUEST
from raid_media import FAILED, IN_SYNC, Media
from volatile_disk import VolatileDisk, cut_together

MIB = 1 << 20
DISK_BYTES = 24 * MIB
# Of 4 KiB: the first part of the array is written. With regions of 8 KiB there are always some that are marked for the first time.
BLOCKS, REGION_KIB = 4096, 8
MEMBERS = ("vda", "vdb", "vdc")
SOAK = bool(os.environ.get("CATNAP_SOAK"))
CUTS = 50 if SOAK else 2
# Enough for marks of many regions to be made, and some to be cleared.
WANTED_FLUSHES, WANTED_FUA_WRITES = 30, 30
# How writers end, how many writes that takes, and how many blocks "few" are.
WAYS = ("flush", "fua", "few", "neither")
WANTED_LAST_WRITES, FEW_BLOCKS = 60, 64
# Sectors on each disk, before the power is cut: one write of 4 KiB, which is nearly always there.
LEAST_VOLATILE = 8

cases = Cases("raid_power_cut_test")
mutated_cases = Cases("raid_power_cut_mutation_test")


def configuration(first):
  """catnapd's configuration file. `first`: the array is created; later it is found."""
  def method(method_name, **params):
    return {"method": method_name, "params": params}

  bdevs = [method("bdev_uring_create", name=name, filename=f"/dev/{name}", block_size=512) for name in MEMBERS]
  if first:
    # Freshly made disks are all zeroes.
    bdevs.append(method("bdev_raid_create", name="mirror", raid_level="raid1", base_bdevs=list(MEMBERS), superblock=True, assume_clean=True,
                        bitmap_region_kb=REGION_KIB))
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
    self.mutated = chosen.without_flush is not None
    self.seed = chosen.seed
    self.random = random.Random(chosen.seed)
    self.overlay = self.make_overlay(chosen)
    self.port = free_port()
    self.boots = 0
    self.guest = None
    self.disks = []
    self.new_disks()

  def new_disks(self):
    """Three that hold nothing, and so nothing has been promised."""
    if self.guest:
      self.guest.stop()
    for disk in self.disks:
      disk.close()
    self.disks = [VolatileDisk(self.folder / f"{name}-{self.boots}", DISK_BYTES) for name in MEMBERS]
    self.ledgers = [Ledger(1, BLOCKS)]
    self.lost_at_cuts = 0
    self.media = None  # as the last cut has left it
    self.marked = set()

  def make_overlay(self, chosen):
    path = self.folder / "catnapd.cpio"
    archive = Cpio(path)
    add_program(archive, chosen.catnapd, "usr/bin/catnapd")
    archive.add("etc/first.json", configuration(True).encode())
    archive.add("etc/later.json", configuration(False).encode())
    if chosen.without_flush:
      add_program(archive, chosen.without_flush, "usr/lib/no_flush_shim.so")
    archive.close()
    return path

  def start_server(self, mutation=""):
    configured_by = "first" if not any(self.ledgers[0].submitted) else "later"
    preload = f"LD_PRELOAD=/usr/lib/no_flush_shim.so NO_FLUSH_SHIM={mutation} " if self.mutated else ""
    self.guest.check("modprobe crc32c-intel || modprobe crc32c_generic; mkdir -p /var/tmp\n"
                     "[ \"$(cat /sys/block/vda/queue/write_cache)\" = 'write back' ]\n"
                     f"{preload}catnapd -r /run/rpc.sock --allow-path /dev -c /etc/{configured_by}.json >/dev/kmsg 2>&1 &\n"
                     f"catnapd=$!; until grep -q ':{PORT_IN_GUEST:04X} 00000000:0000 0A' /proc/net/tcp; do kill -0 $catnapd; sleep 0.1; done", 60)
    self.guest.wait_for_console("system calls are filtered")  # where the harness looks for what was refused

  def write_a_while(self, last):
    """Starts a writer; returns (thread, writer) when enough was promised, while it goes on: at the end in one of the four WAYS."""
    power_cut_test.WANTED_FLUSHES, power_cut_test.WANTED_FUA_WRITES = WANTED_FLUSHES, WANTED_FUA_WRITES
    thread, writer = self.write_until_promised("fua" if last == "fua" else "flush")
    if last == "neither":
      writer.flush_share = 0
    if last in ("neither", "few"):
      self.write_more(thread, writer, FEW_BLOCKS)
    return thread, writer

  def write_more(self, thread, writer, blocks):
    """`blocks`: only in the first so many, from now on; None: everywhere."""
    writer.blocks = blocks
    ledger = self.ledgers[0]
    writes, flushes = ledger.writes + WANTED_LAST_WRITES, ledger.flushes + (power_cut_test.WANTED_LAST if writer.flush_share else 0)
    wait_for(lambda: (ledger.writes >= writes and ledger.flushes >= flushes) or not thread.is_alive(), 120, "more writes")
    assert thread.is_alive(), f"the writer ended: {writer.problem or 'connection lost'}"

  def break_one(self, thread):
    """A disk breaks while writes go on, and these do not notice; until more was promised."""
    disk = self.random.choice(self.disks)
    disk.broken = True
    ledger = self.ledgers[0]
    wanted = ledger.flushes + ledger.fua_writes + 6
    wait_for(lambda: ledger.flushes + ledger.fua_writes >= wanted or not thread.is_alive(), 120, "promises without the broken disk")
    assert thread.is_alive(), "the writer ended when one disk of three broke"

  def data_offset(self):
    return Media([disk.current for disk in self.disks]).data_offset

  def survival(self):
    """(What of the volatile sectors survives on a disk, in words), as VolatileDisk.cut wants it."""
    first_of_data = self.data_offset() // 512
    half = lambda sector: self.random.random() < 0.5
    if not self.lost_at_cuts:
      return half, "half of everything"
    return self.random.choice(((half, "half of everything"), (lambda sector: sector >= first_of_data and half(sector), "no mark, half of the data"),
                               (lambda sector: sector >= first_of_data or half(sector), "half of the marks, all data")))

  def cut(self, thread, writer, by_reset=False):
    """The power goes while writes are under way; if not by a reset, at a moment when something is volatile on each disk that works."""
    survives, words = self.survival()
    if by_reset:
      self.guest.send("echo b >/proc/sysrq-trigger")
      self.guest.wait_ready()
      counts = [disk.forget(survives) for disk in self.disks]
      self.boots += 1
    else:
      counts = wait_for(lambda: cut_together(self.disks, LEAST_VOLATILE, survives), 120, "volatile sectors on each disk")
      self.guest.kill()
    self.after_cut(thread, writer)
    for disk in self.disks:
      disk.broken = False
    self.media = Media([disk.current for disk in self.disks])
    self.marked = self.media.marked()
    different = self.media.different()
    self.lost_at_cuts += sum(lost for _, lost in counts)
    print(f"  {'reset' if by_reset else 'killed'}, {words} survived: {sum(volatile for volatile, _ in counts)} sectors were volatile, "
          f"{sum(lost for _, lost in counts)} lost; {len(self.marked)} regions marked, members differ in {len(different)}", flush=True)
    return different - self.marked

  def start_again(self, by_reset=False):
    for disk in self.disks:
      disk.written.clear()
    if by_reset:
      self.start_server()
    else:
      self.boot()

  def equal(self):
    """All members, byte by byte, as far as they hold data."""
    contents = []
    for disk in self.disks:
      with disk.lock:
        contents.append(bytes(disk.current[self.media.data_offset:]))
    return all(each == contents[0] for each in contents)

  def judge(self):
    promised = sum(version > 0 for version in self.ledgers[0].promised)
    controller = self.connect()
    lost = read_back(controller, self.ledgers)[1]
    wait_for(lambda: self.equal() and set(Media([disk.current for disk in self.disks]).states) == {IN_SYNC}, 120, "all members to be equal and in sync")
    again = read_back(controller, self.ledgers)[1]
    controller.close()
    copied = {self.media.region_of_sector(sector) for disk in self.disks for sector in disk.written} - {None}
    print(f"  boot {self.boots}: {promised} blocks promised, none missing: {not lost}, read the same after the resync: {not again}; "
          f"{len(copied)} regions written by both", flush=True)
    assert not lost + again, f"sectors lost what was promised, or did not keep what was read (seed {self.seed}):\n" + "\n".join((lost + again)[:20])
    # A read that touches a marked region has all of its blocks written to the other members (docs/raid.md, "Regions that may differ").
    read_regions = READ_BLOCKS * BLOCK // self.media.region_bytes
    near = {region for marked in self.marked for region in range(marked // read_regions * read_regions, (marked // read_regions + 1) * read_regions)}
    assert copied <= near, f"written without a mark: regions {sorted(copied - near)[:20]} (seed {self.seed})"


def cut_once(rig, number):
  """Writes, cut, looks at the disks, boots and judges."""
  by_reset = number % 2 == 1
  thread, writer = rig.write_a_while(rig.random.choice(WAYS))
  broken = number % 4 in (1, 2)
  if broken:
    writer.flush_share, writer.fua_share, writer.blocks = 0.08, 0.1, None
    rig.break_one(thread)
  unmarked = rig.cut(thread, writer, by_reset)
  assert not unmarked, f"members differ without a mark in regions {sorted(unmarked)[:20]} (seed {rig.seed})"
  assert not broken or FAILED in rig.media.states, f"a broken member is not recorded as left out: {rig.media.states} (seed {rig.seed})"
  rig.start_again(by_reset)
  rig.judge()


@cases.case(f"cut off {CUTS} times amid writes, and once more in the resync: nothing promised is lost, members become equal")
def cut(rig):
  rig.boot()
  for number in range(CUTS):
    cut_once(rig, number)
  assert rig.lost_at_cuts > 0, f"{CUTS} cuts have lost nothing at all: this shows nothing"
  print(f"  {rig.lost_at_cuts} sectors lost at {CUTS} cuts", flush=True)
  # The resync has begun; the next start goes on with it.
  thread, writer = rig.write_a_while("neither")
  assert not rig.cut(thread, writer), "members differ without a mark"
  rig.start_again()
  for disk in rig.disks:
    disk.cut(rig.random)
  rig.guest.kill()
  rig.start_again()
  rig.judge()


@mutated_cases.case("marks are not made durable: members are seen to differ in regions without a mark")
def marks_not_durable(rig):
  rig.boot("marks")
  thread, writer = rig.write_a_while("flush")
  writer.flush_share = 0
  rig.write_more(thread, writer, None)
  rig.survival = lambda: (lambda sector: sector >= rig.data_offset() // 512 and rig.random.random() < 0.5, "no mark, half of the data")
  assert rig.cut(thread, writer), f"marks were not flushed, and members differ only in marked regions (seed {rig.seed})"


def flushes_left_out(rig):
  rig.new_disks()
  rig.boot("flush")
  thread, writer = rig.write_a_while("few")
  rig.survival = lambda: (rig.random, "half of everything")
  rig.cut(thread, writer)
  rig.start_again()
  controller = rig.connect()
  lost = read_back(controller, rig.ledgers)[1]
  controller.close()
  print(f"  {len(lost)} sectors lost what was promised", flush=True)
  assert lost, f"flushes were cut out, and no loss was seen (seed {rig.seed})"


if SOAK:
  mutated_cases.case("flushes are left out: what was promised is seen to be lost")(flushes_left_out)


def main():
  chosen = options(__doc__.split("\n")[0],
                   ("--without-flush", {"type": Path, "metavar": "LIBRARY", "help": "cut flushes out of catnapd with this library and expect losses"}),
                   ("--seed", {"type": int, "default": int(time.time()), "help": "of the writes and of what a cut leaves; printed"}))
  return run_program(mutated_cases if chosen.without_flush else cases, chosen, Rig, in_guest=True)


if __name__ == "__main__":
  sys.exit(main())
