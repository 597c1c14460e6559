#!/usr/bin/env -S /usr/bin/python3
"""A raid1 over two remote targets, reached by our own initiator: each member's target and the array's own process are killed with kill -9 amid writes.

Writes go on while a member is away, it comes back by itself when its target does, and is brought up to date; in the end everything acknowledged is there, and the
members' files are equal. Also with an initiator that holds I/O back meanwhile, where the array learns of a restart by the new association alone: from a target that
has lost what it had not flushed, and from one that came back empty. CATNAP_SOAK=1: 50 kills of each process, else 2. Left out: loss of power (raid_power_cut_test.py), arrays of local files
(raid_kill_test.py), what the initiator promises alone (initiator_test.py).
"""
import os
import random
import sys
import threading
import time

from acknowledged import BLOCK, SECTOR, Ledger, Writer, read_back
from harness import Cases, Catnapd, free_port, options, run_program, wait_for
from nvme_client import connect_when_ready

FRONT = "nqn.2026-11.io.catnap:mirror"
MIB = 1 << 20
MEMBER_BYTES = 16 * MIB
BLOCK_SIZE = 512
BLOCKS = 1024  # of 4 KiB: the first part of the array is written
ROUNDS = 50 if os.environ.get("CATNAP_SOAK") else 2
WRITES_MEANWHILE = 300

cases = Cases("raid_remote_test")


def export(server, nqn, bdev, port):
  call = server.rpc.call
  call("nvmf_create_transport", trtype="TCP")
  call("nvmf_create_subsystem", nqn=nqn, serial_number="RAIDREMOTE", allow_any_host=True)
  call("nvmf_subsystem_add_ns", nqn=nqn, namespace={"bdev_name": bdev})
  call("nvmf_subsystem_add_listener", nqn=nqn, listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)})


class Target:
  """A process that exports one file."""

  def __init__(self, folder, chosen, name, number):
    self.path = folder / f"{name}{number}"
    with open(self.path, "wb") as disk:
      disk.truncate(MEMBER_BYTES)
    self.nqn = f"nqn.2026-11.io.catnap:member{number}"
    self.uuid = f"11111111-2222-4333-8444-00000000000{number}"
    self.port = free_port()
    self.server = Catnapd(chosen.catnapd, name=f"raid-remote-{name}{number}", log_folder=chosen.logs)

  def configure(self):
    """Serves the disk. What stands on it belongs to the array's process, and must be left alone by this one."""
    self.server.rpc.call("bdev_uring_create", name="disk", filename=str(self.path), block_size=BLOCK_SIZE, uuid=self.uuid)
    self.server.rpc.call("bdev_wait_for_examine")
    assert self.server.rpc.call("bdev_raid_get_bdevs", category="all") == [], "a member's target has assembled the array by itself"
    export(self.server, self.nqn, "disk", self.port)


class Rig:
  """Two targets and the process with the array over them. `patient`: its initiator holds I/O back until a target is there again, so that the array sees no error."""

  def __init__(self, folder, chosen, patient=False):
    self.chosen = chosen
    self.patient = patient
    name = "patient" if patient else "member"
    self.targets = [Target(folder, chosen, name, number) for number in range(2)]
    self.port = free_port()
    self.server = Catnapd(chosen.catnapd, name=f"raid-remote-{name}-array", log_folder=chosen.logs)
    self.ledger = Ledger(1, BLOCKS, acknowledged_lasts=True)
    self.seed = chosen.seed
    self.random = random.Random(chosen.seed)
    self.thread = self.writer = None

  def start(self):
    for target in self.targets:
      target.server.start()
      target.configure()
    self.server.start()
    self.configure_array(first=True)

  def close(self):
    for server in [self.server] + [target.server for target in self.targets]:
      server.close()

  def configure_array(self, first):
    call = self.server.rpc.call
    call("bdev_nvme_set_options", bdev_retry_count=-1 if self.patient else 0)
    patience = {} if self.patient else {"fast_io_fail_timeout_sec": 1}
    for number, target in enumerate(self.targets):
      call("bdev_nvme_attach_controller", name=f"Remote{number}", trtype="TCP", adrfam="IPv4", traddr="127.0.0.1", trsvcid=str(target.port),
           subnqn=target.nqn, reconnect_delay_sec=1, ctrlr_loss_timeout_sec=-1, **patience)
    if first:
      call("bdev_raid_create", name="mirror", raid_level="raid1", base_bdevs=["Remote0n1", "Remote1n1"], superblock=True, assume_clean=True,
           bitmap_region_kb=64)
    call("bdev_wait_for_examine")
    wait_for(lambda: self.info()["state"] == "online", 30, "the array to be online")
    export(self.server, FRONT, "mirror", self.port)

  def info(self):
    arrays = self.server.rpc.call("bdev_raid_get_bdevs", category="all")
    return arrays[0] if arrays else {"state": "none", "base_bdevs_list": []}

  def states(self):
    return [member["state"] for member in self.info()["base_bdevs_list"]]

  def until_whole(self):
    wait_for(lambda: "process" not in self.info() and self.states() == ["in_sync", "in_sync"], 120, "all members to be in sync")

  def start_writing(self, flush_share=None, fua_share=None):
    self.seed += 1
    self.writer = Writer(connect_when_ready(("127.0.0.1", self.port), FRONT, timeout_s=60), [self.ledger], self.seed)
    if flush_share is not None:
      self.writer.flush_share, self.writer.fua_share = flush_share, fua_share
    self.thread = threading.Thread(target=self.writer.run, daemon=True)
    self.thread.start()

  def write_on(self, count=WRITES_MEANWHILE):
    wanted = self.ledger.writes + count
    wait_for(lambda: self.ledger.writes >= wanted or not self.thread.is_alive(), 60, f"{count} more writes")
    assert self.thread.is_alive(), f"the writer ended: {self.writer.problem or 'connection lost'}\n{self.server.log()[-3000:]}"

  def end_writing(self):
    self.writer.stopping = True
    self.thread.join(60)
    assert not self.thread.is_alive() and self.writer.problem is None, f"the writer: {self.writer.problem or 'does not end'}"
    self.writer.controller.close()

  def judge(self):
    controller = connect_when_ready(("127.0.0.1", self.port), FRONT, timeout_s=60)
    lost = read_back(controller, [self.ledger])[1]
    controller.close()
    assert not lost, f"{len(lost)} sectors lost what was acknowledged (seed {self.chosen.seed}):\n" + "\n".join(lost[:20])
    self.until_whole()
    contents = []
    for target, member in zip(self.targets, self.info()["base_bdevs_list"]):
      with open(target.path, "rb") as disk:
        disk.seek(member["data_offset"] * BLOCK_SIZE)
        contents.append(disk.read(member["data_size"] * BLOCK_SIZE))
    different = [at // BLOCK for at in range(0, len(contents[0]), BLOCK) if contents[0][at:at + BLOCK] != contents[1][at:at + BLOCK]]
    assert not different, f"the members differ in {len(different)} blocks of 4 KiB, from {different[0]} on"


@cases.case(f"each member's target is killed {ROUNDS} times amid writes, which go on; it returns by itself and is brought up to date")
def kill_targets(rig):
  rig.start_writing()
  for number in range(1, ROUNDS + 1):
    for slot, target in enumerate(rig.targets):
      rig.write_on()
      target.server.kill()
      wait_for(lambda slot=slot: rig.states()[slot] != "in_sync", 60, "the dead target to be noticed")
      rig.write_on()
      target.server.start()
      target.configure()
      rig.until_whole()
      print(f"  kill {number} of member {slot}: {rig.info().get('last_rebuild')}", flush=True)
  rig.write_on()
  rig.end_writing()
  rig.judge()


@cases.case(f"the array's process is killed {ROUNDS} times amid writes; found again by superblocks, nothing is lost and members become equal")
def kill_array(rig):
  for number in range(1, ROUNDS + 1):
    rig.start_writing()
    rig.write_on()
    rig.server.kill()
    rig.thread.join(60)
    assert not rig.thread.is_alive() and rig.writer.problem is None, f"the writer: {rig.writer.problem or 'does not end'}"
    rig.writer.controller.close()
    rig.server.start()
    rig.configure_array(first=False)
    rig.judge()
    print(f"  kill {number} of the array: {rig.info().get('last_resync')}", flush=True)


patient_cases = Cases("raid_remote_test, patient initiator")
# Lost caches are let be seen by nothing but data: writes go on for less than this, in which no mark grows old enough for the array to flush.
SHORTER_THAN_QUIET_S = 4.5
LOSSES = 50 if os.environ.get("CATNAP_SOAK") else 1  # of each member's cache


def lose_unflushed(rig, target, stable):
  """The target's disk as a loss of power may leave it: of the data written since it was `stable`, some sectors of it; superblock and bitmap, which are written with FUA, as
  they are."""
  now = bytearray(target.path.read_bytes())
  offset = rig.info()["base_bdevs_list"][0]["data_offset"] * BLOCK_SIZE
  lost = 0
  for at in range(offset, len(now), SECTOR):
    if now[at:at + SECTOR] != stable[at:at + SECTOR] and rig.random.random() < 0.7:
      now[at:at + SECTOR] = stable[at:at + SECTOR]
      lost += 1
  target.path.write_bytes(now)
  return lost


@patient_cases.case(f"each member's target restarts {LOSSES} times without what it had not flushed; no I/O fails, and nothing of it is missed")
def lose_caches(rig):
  for number in range(1, LOSSES + 1):
    for slot, target in enumerate(rig.targets):
      rig.until_whole()
      wait_for(lambda: rig.server.rpc.call("bdev_raid_get_bitmap", name="mirror")["marked_regions"] == 0, 60, "marks to be cleared")
      # All that was written is flushed. From now on nobody flushes.
      stable = target.path.read_bytes()
      rebuilds = rig.server.log().count("rebuild finished")
      rig.start_writing(flush_share=0, fua_share=0)
      begun = time.monotonic()
      rig.write_on(WRITES_MEANWHILE // 2)
      target.server.kill()
      took = time.monotonic() - begun
      lost = lose_unflushed(rig, target, stable) if took < SHORTER_THAN_QUIET_S else 0
      target.server.start()
      target.configure()
      rig.write_on()
      wait_for(lambda: rig.server.log().count("rebuild finished") > rebuilds, 60, "the array to notice that the member had been away")
      rig.end_writing()
      rig.judge()
      print(f"  restart {number} of member {slot}: {lost} sectors lost after {took:.1f} s of writing, {rig.info().get('last_rebuild')}", flush=True)
      assert lost or took >= SHORTER_THAN_QUIET_S, "no write was there to be lost"


@patient_cases.case("a member's target comes back with an empty disk: it is not taken for the member, and never asked; as a new one it is copied whole")
def come_back_empty(rig):
  target = rig.targets[0]
  rig.until_whole()
  rig.start_writing()
  rig.write_on()
  target.server.kill()
  target.path.write_bytes(bytes(MEMBER_BYTES))
  target.server.start()
  target.configure()
  rig.write_on()
  wait_for(lambda: rig.states()[0] == "failed", 60, "the empty disk to be noticed")
  rig.write_on()
  rig.end_writing()
  member = rig.info()["base_bdevs_list"][0]
  assert member["reason"] == "what is there is not the member that left", member
  controller = connect_when_ready(("127.0.0.1", rig.port), FRONT, timeout_s=60)
  lost = read_back(controller, [rig.ledger])[1]
  controller.close()
  assert not lost, "\n".join(lost[:20])
  rig.server.rpc.call("bdev_raid_add_base_bdev", raid_bdev="mirror", base_bdev="Remote0n1")
  rig.judge()


def main():
  chosen = options(__doc__.split("\n")[0], ("--seed", {"type": int, "default": 20261121, "help": "of the writes"}))

  def impatient(folder, chosen):
    rig = Rig(folder, chosen)
    rig.start()
    return rig

  def patient(folder, chosen):
    rig = Rig(folder, chosen, patient=True)
    rig.start()
    return rig

  chosen_cases = [each for each in ((cases, impatient), (patient_cases, patient)) if not chosen.only or any(chosen.only in name for name, _ in each[0].cases)]
  return max(run_program(group, chosen, make_rig) for group, make_rig in chosen_cases)


if __name__ == "__main__":
  sys.exit(main())
