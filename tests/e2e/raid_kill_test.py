#!/usr/bin/env -S /usr/bin/python3
"""kill -9 of catnapd in the middle of writes to arrays over uring files: after a restart every acknowledged write is there, the members of each raid1
are equal once it is resynced, and the resync has copied marked regions alone.

Arrays: raid1 with a superblock (found by examine alone, in an order that changes), raid1 with a bitmap in a file, raid0 with a superblock, concat by its
create call; and, apart from these, a copy that is killed and goes on where it was, and a raid1 of which only the state file knows how it was left. The kernel
outlives the server, so acknowledged is promised. With CATNAP_SOAK=1 50 kills, else a few. Left out: loss of power (raid_power_cut_test.py), the order of
operations in all its interleavings (tests/sim/raid1_test.cpp).
"""
import os
import random
import sys
from pathlib import Path

from acknowledged import BLOCK, Ledger, read_back, write_and_kill
from harness import Cases, Catnapd, free_port, options, run_program, wait_for
from nvme_client import connect_when_ready

NQN = "nqn.2026-11.io.catnap:raid-kill"
MIB = 1 << 20
BLOCK_SIZE = 512
MEMBER_BYTES = 16 * MIB
BLOCKS = 1024  # of 4 KiB: the first part of each array is written
WANTED_WRITES = 1500
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
      write_and_kill(server, rig.connect(), rig.ledgers, rig.chosen.seed + number, rig.random.randrange(WANTED_WRITES // 2, WANTED_WRITES))
      server.start()  # over the stale RPC socket of the killed one
      rig.configure(server, first=False)
      promised = judge(rig, server, number)
      print(f"  kill {number}: {promised} blocks promised, none lost; blocks copied by resyncs: {copied(rig, server)}", flush=True)
    server.terminate()


@cases.case("a copy of everything is killed half-way: the next process goes on from about there")
def resume(rig):
  mib, region_kib = 64, 64
  files = [rig.folder / f"half{number}" for number in range(2)]
  for number, path in enumerate(files):
    path.write_bytes(bytes([number + 1]) * (mib * MIB))  # not of zeroes, so that there is something to be copied
  with Catnapd(rig.chosen.catnapd, name="raid-resume", log_folder=rig.chosen.logs) as server:
    call = server.rpc.call

    def add_files():
      for path in files:
        call("bdev_uring_create", name=path.name, filename=str(path), block_size=BLOCK_SIZE)

    def progress():
      return rig.arrays(server)["half"].get("process", {}).get("progress")

    add_files()
    call("bdev_raid_set_options", process_max_bandwidth_mb_sec=32)
    call("bdev_raid_create", name="half", raid_level="raid1", base_bdevs=[path.name for path in files], superblock=True, bitmap_region_kb=region_kib)
    wait_for(lambda: progress()["percent"] >= 50, 30, "half of it to be copied")
    done = progress()
    server.kill()
    server.start()
    add_files()
    call("bdev_wait_for_examine")
    wait_for(lambda: rig.arrays(server)["half"]["state"] == "online" and progress() is None, 60, "the rest to be copied")
    array = rig.arrays(server)["half"]
    assert [member["state"] for member in array["base_bdevs_list"]] == ["in_sync", "in_sync"], array
    rest = array["last_resync"]["copied_blocks"]
    # Regions count as equal when 64 of them were copied and flushed; as many may be under way.
    most = done["total_blocks"] - done["blocks"] + 2 * 64 * region_kib * 1024 // BLOCK_SIZE
    print(f"  {done['blocks']} of {done['total_blocks']} blocks were done, {rest} were left to copy", flush=True)
    assert rest <= most, f"{rest} blocks were copied, at most {most} were left"
    assert not rig.differences(server, "half")
    server.terminate()


@cases.case("without superblock and bitmap the state file knows: a clean stop leaves nothing to copy, a kill everything, a member that was left out is copied whole")
def known_by_state(rig):
  files = [rig.folder / f"bare{number}" for number in range(2)]
  for number, path in enumerate(files):
    path.write_bytes(bytes([number + 1]) * MEMBER_BYTES)
  everything = MEMBER_BYTES // BLOCK_SIZE
  ledger = Ledger(1, BLOCKS, acknowledged_lasts=True)
  state = rig.folder / "state.json"
  port = free_port()
  with Catnapd(rig.chosen.catnapd, ["--state", str(state)], name="raid-state", log_folder=rig.chosen.logs) as server:
    call = server.rpc.call

    def bare():
      return rig.arrays(server)["bare"]

    def at_rest():
      wait_for(lambda: bare()["state"] == "online" and "process" not in bare(), 60, "the array to be online and at rest")

    def connect():
      return connect_when_ready(("127.0.0.1", port), NQN)

    def judge():
      controller = connect()
      lost = read_back(controller, [ledger])[1]
      controller.close()
      assert not lost, f"{len(lost)} sectors lost:\n" + "\n".join(lost[:20])

    def add_file(path):
      # Named by its UUID too: another one would be another disk.
      number = files.index(path)
      call("bdev_uring_create", name=path.name, filename=str(path), block_size=BLOCK_SIZE, uuid=f"11111111-2222-4333-8444-55555555555{number}")

    for path in files:
      add_file(path)
    call("bdev_raid_create", name="bare", raid_level="raid1", base_bdevs=[path.name for path in files])
    at_rest()
    assert bare()["last_resync"]["copied_blocks"] == everything, bare()
    call("nvmf_create_transport", trtype="TCP")
    call("nvmf_create_subsystem", nqn=NQN, serial_number="RAID", allow_any_host=True)
    call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "bare", "nsid": 1})
    call("nvmf_subsystem_add_listener", nqn=NQN, listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)})
    controller = connect()
    for place in range(0, BLOCKS * BLOCK, 16 * BLOCK):
      controller.submit_write(1, place, bytes(16 * BLOCK))  # the ledger begins with zeroes
      controller.io.reap().check("Write")
    controller.close()
    for number in range(2):
      write_and_kill(server, connect(), [ledger], rig.chosen.seed + number, 300)
      server.start()
      at_rest()
      assert bare()["last_resync"]["copied_blocks"] == everything, f"after a kill: {bare()}"
      judge()
      assert not rig.differences(server, "bare")
      server.terminate()
      assert Path(f"{state}.clean").exists()
      server.start()
      at_rest()
      assert "last_resync" not in bare(), f"after a clean stop something was copied: {bare()}"
      assert not Path(f"{state}.clean").exists(), "the sign of a clean stop must not be found by the start after this one"
      judge()
    # A member goes, and with it its word: also after a kill it must not be asked.
    call("bdev_uring_delete", name=files[0].name)
    write_and_kill(server, connect(), [ledger], rig.chosen.seed + 9, 300)
    server.start()
    at_rest()
    assert [member["state"] for member in bare()["base_bdevs_list"]] == ["missing", "in_sync"], bare()
    judge()
    add_file(files[0])
    wait_for(lambda: [member["state"] for member in bare()["base_bdevs_list"]] == ["in_sync", "in_sync"], 60, "the member to be copied")
    judge()
    assert not rig.differences(server, "bare")
    server.terminate()


def main():
  chosen = options(__doc__.split("\n")[0], ("--seed", {"type": int, "default": 20261121, "help": "of the writes and of the order of calls"}))
  return run_program(cases, chosen, Rig)


if __name__ == "__main__":
  sys.exit(main())
