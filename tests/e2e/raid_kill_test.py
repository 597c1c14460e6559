#!/usr/bin/env -S /usr/bin/python3
"""kill -9 of catnapd in the middle of writes to arrays over uring files: after a restart every acknowledged write is there, the members of each raid1
are equal once it is resynced, and the resync has copied marked regions alone.

Arrays: raid1 with a superblock (found by examine alone, in an order that changes), raid1 with a bitmap in a file, raid0 with a superblock, concat by its
create call. The kernel outlives the server, so acknowledged is promised. With CATNAP_SOAK=1 50 kills, else a few. Left out: loss of power
(raid_power_cut_test.py), the order of operations in all its interleavings (tests/sim/raid1_test.cpp).
"""
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

from acknowledged import BLOCK, Ledger, Writer, read_back
from harness import Cases, Catnapd, free_port, options, wait_for
from nvme_client import connect_when_ready

NQN = "nqn.2026-11.io.catnap:raid-kill"
MIB = 1 << 20
BLOCK_SIZE = 512
MEMBER_BYTES = 16 * MIB
BLOCKS = 1024  # of 4 KiB: the first part of each array is written
WANTED_WRITES = 1500
WRITING_TIMEOUT_S = 60
ROUNDS = 50 if os.environ.get("CATNAP_SOAK") else 4
REGION_KIB = 64
# Array by namespace id: (name, level, members, further parameters of its create call).
ARRAYS = {
    1: ("mirror", "raid1", ["m0", "m1"], {"superblock": True, "bitmap_region_kb": REGION_KIB}),
    2: ("plain", "raid1", ["p0", "p1"], {"bitmap_file": "bitmap", "bitmap_region_kb": REGION_KIB}),
    3: ("stripes", "raid0", ["s0", "s1", "s2"], {"superblock": True, "strip_size_kb": 16}),
    4: ("chain", "concat", ["c0", "c1"], {"strip_size_kb": 64}),
}

cases = Cases("raid_kill_test")


class Rig:
  def __init__(self, folder, chosen):
    self.folder = folder
    self.chosen = chosen
    self.port = free_port()
    self.random = random.Random(chosen.seed)
    self.ledgers = [Ledger(nsid, BLOCKS, acknowledged_lasts=True) for nsid in ARRAYS]
    for _, _, members, _ in ARRAYS.values():
      for name in members:
        with open(self.disk(name), "wb") as disk:
          disk.truncate(MEMBER_BYTES)

  def disk(self, name):
    return self.folder / name

  def create_array(self, server, nsid):
    name, level, members, more = ARRAYS[nsid]
    more = dict(more)
    if "bitmap_file" in more:
      more["bitmap_file"] = str(self.folder / more["bitmap_file"])
    server.rpc.call("bdev_raid_create", name=name, raid_level=level, base_bdevs=members, **more)

  def configure(self, server, first):
    """`first`: superblocks are to be written; else those arrays are found."""
    call = server.rpc.call
    calls = [lambda name=name: call("bdev_uring_create", name=name, filename=str(self.disk(name)), block_size=BLOCK_SIZE)
             for _, _, members, _ in ARRAYS.values() for name in members]
    calls += [lambda nsid=nsid: self.create_array(server, nsid) for nsid, (_, _, _, more) in ARRAYS.items() if first or not more.get("superblock")]
    self.random.shuffle(calls)
    for each in calls:
      each()
    call("bdev_wait_for_examine")
    wait_for(lambda: len(self.arrays(server, "online")) == len(ARRAYS), 20, "all arrays to be online")
    call("nvmf_create_transport", trtype="TCP")
    call("nvmf_create_subsystem", nqn=NQN, serial_number="RAID", allow_any_host=True)
    for nsid, (name, _, _, _) in ARRAYS.items():
      call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": name, "nsid": nsid})
    call("nvmf_subsystem_add_listener", nqn=NQN, listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(self.port)})

  @staticmethod
  def arrays(server, category="all"):
    return {array["name"]: array for array in server.rpc.call("bdev_raid_get_bdevs", category=category)}

  def connect(self):
    return connect_when_ready(("127.0.0.1", self.port), NQN)

  def write_and_kill(self, server, seed):
    writer = Writer(self.connect(), self.ledgers, seed)
    already = sum(ledger.writes for ledger in self.ledgers)
    thread = threading.Thread(target=writer.run, daemon=True)
    thread.start()
    wanted = already + self.random.randrange(WANTED_WRITES // 2, WANTED_WRITES)
    deadline = time.monotonic() + WRITING_TIMEOUT_S
    while sum(ledger.writes for ledger in self.ledgers) < wanted:
      assert thread.is_alive(), f"the writer ended: {writer.problem or 'connection lost'}\n{server.log()[-3000:]}"
      assert time.monotonic() < deadline, f"too few writes in {WRITING_TIMEOUT_S} s"
      time.sleep(0.01)
    assert thread.is_alive(), "the writer ended before the kill"
    server.kill()
    thread.join(30)
    assert not thread.is_alive() and writer.problem is None, f"the writer: {writer.problem or 'does not end'}"
    writer.controller.close()

  def wait_until_equal(self, server):
    """Nothing is copied any more, and all members are in sync."""
    def at_rest():
      arrays = self.arrays(server).values()
      return all("process" not in array and all(member["state"] == "in_sync" for member in array["base_bdevs_list"]) for array in arrays)
    wait_for(at_rest, 60, "all resyncs to end")

  @staticmethod
  def wait_until_unmarked(server):
    def unmarked():
      return all(server.rpc.call("bdev_raid_get_bitmap", name=name)["marked_regions"] == 0 for name, level, _, _ in ARRAYS.values() if level == "raid1")
    wait_for(unmarked, 60, "marks to be cleared")

  def differences(self, server, name):
    """Blocks of 4 KiB in which the members of a raid1 are not equal."""
    members = self.arrays(server)[name]["base_bdevs_list"]
    contents = []
    for member in members:
      with open(self.disk(member["name"]), "rb") as disk:
        disk.seek(member["data_offset"] * BLOCK_SIZE)
        contents.append(disk.read(member["data_size"] * BLOCK_SIZE))
    first = contents[0]
    return [at for at in range(0, len(first), BLOCK) for other in contents[1:] if first[at:at + BLOCK] != other[at:at + BLOCK]]


def judge(rig, server, number):
  promised = [sum(version > 0 for version in ledger.promised) for ledger in rig.ledgers]
  controller = rig.connect()
  lost = [sentence for sentences in read_back(controller, rig.ledgers).values() for sentence in sentences]
  rig.wait_until_equal(server)
  again = [sentence for sentences in read_back(controller, rig.ledgers).values() for sentence in sentences]
  controller.close()
  assert not lost + again, f"kill {number}: {len(lost)} and {len(again)} sectors lost (seed {rig.chosen.seed}):\n" + "\n".join((lost + again)[:20])
  differences = {name: rig.differences(server, name) for name, level, _, _ in ARRAYS.values() if level == "raid1"}
  assert not any(differences.values()), f"kill {number}: members differ after the resync: {differences} (seed {rig.chosen.seed})"
  return promised


def copied(rig, server):
  """What the resyncs after this start have copied: only what was written lately, never a whole array."""
  result = {}
  for name, level, _, _ in ARRAYS.values():
    if level != "raid1":
      continue
    array = rig.arrays(server)[name]
    total = array["base_bdevs_list"][0]["data_size"]
    blocks = array["last_resync"]["copied_blocks"]
    # Writes go to the first 4 MiB of 16: all that can be marked.
    assert blocks <= BLOCKS * BLOCK // BLOCK_SIZE, f"{name}: {blocks} of {total} blocks were copied, only {BLOCKS * BLOCK // BLOCK_SIZE} can have been marked"
    result[name] = blocks
  return result


@cases.case(f"killed {ROUNDS} times while writing: nothing acknowledged is lost, members are equal, resyncs copy marked regions alone")
def kill(rig):
  with Catnapd(rig.chosen.catnapd, name="raid-kill", log_folder=rig.chosen.logs) as server:
    rig.configure(server, first=True)
    rig.wait_until_equal(server)
    rig.wait_until_unmarked(server)  # a new array's marks: everything
    for number in range(1, ROUNDS + 1):
      rig.write_and_kill(server, rig.chosen.seed + number)
      server.start()  # over the stale RPC socket of the killed one
      rig.configure(server, first=False)
      promised = judge(rig, server, number)
      print(f"  kill {number}: {promised} blocks promised, none lost; blocks copied by resyncs: {copied(rig, server)}", flush=True)
    server.terminate()


def main():
  chosen = options(__doc__.split("\n")[0], ("--seed", {"type": int, "default": 20261121, "help": "of the writes and of the order of calls"}))
  with tempfile.TemporaryDirectory(prefix="catnap-raid-kill-") as folder:
    return cases.run(Rig(Path(folder), chosen), chosen.only)


if __name__ == "__main__":
  sys.exit(main())
