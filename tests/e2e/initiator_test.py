#!/usr/bin/env -S /usr/bin/python3
"""catnap's initiator against the Linux kernel's target in a guest, and through itself: a namespace that one catnapd exports, another attaches and exports
again, and a Linux host uses.

Left out: what goes wrong on the wire (tests/protocol/hostile_controller_test.cpp), paths that fail (failover_test.py).
"""
import hashlib
import random
import re
import sys

from guest import Guest, missing_prerequisite
from harness import Catnapd, Cases, free_port, options, skip, wait_for
from linux_host import Host
from nvme_client import Controller
from targets import BLOCK_SIZE, MIB, CatnapTarget, KernelTarget
from verified_io import VerifiedIo

NQN = "nqn.2026-11.io.catnap:initiator"
FRONT = "nqn.2026-11.io.catnap:front"
SIZE_MIB = 16
SEED = 6
WRITE_ZEROES, COMPARE, DATASET_MANAGEMENT = 0x08, 0x05, 0x09
COMPARE_FAILURE = 0x285

cases = Cases("initiator_test")
case = cases.case


class Initiator:
  """A catnapd that attaches what a target offers, and exports the bdevs under FRONT so that raw commands reach them."""

  def __init__(self, binary, target, log_folder=None, name="catnapd-initiator"):
    self.target = target
    self.port = free_port()
    self.server = Catnapd(binary, name=name, log_folder=log_folder)
    self.rpc = self.server.rpc

  def __enter__(self):
    self.server.__enter__()
    self.rpc.call("nvmf_create_transport", trtype="TCP")
    self.rpc.call("nvmf_create_subsystem", nqn=FRONT, serial_number="FRONT", allow_any_host=True)
    self.rpc.call("nvmf_subsystem_add_listener", nqn=FRONT,
                  listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(self.port)})
    return self

  def __exit__(self, *unused):
    self.server.close()

  def attach(self, name="Remote", **more):
    return self.rpc.call("bdev_nvme_attach_controller", name=name, trtype="TCP", adrfam="IPv4", traddr="127.0.0.1", trsvcid=str(self.target.port), subnqn=NQN, **more)

  def detach(self, name="Remote"):
    self.rpc.call("bdev_nvme_detach_controller", name=name)

  def export(self, bdev, nsid=1):
    self.rpc.call("nvmf_subsystem_add_ns", nqn=FRONT, namespace={"bdev_name": bdev, "nsid": nsid})

  def hide(self, nsid=1):
    self.rpc.call("nvmf_subsystem_remove_ns", nqn=FRONT, nsid=nsid)

  def bdevs(self):
    return {bdev["name"]: bdev for bdev in self.rpc.call("bdev_get_bdevs")}

  def size_of(self, name):
    bdev = self.bdevs()[name]
    return bdev["num_blocks"] * bdev["block_size"]

  def front(self, **more):
    return Controller(("127.0.0.1", self.port), FRONT, timeout_s=60, **more)

  def controllers(self):
    """State of each attached controller."""
    return [one["state"] for subsystem in self.rpc.call("bdev_nvme_get_controllers") for one in subsystem["ctrlrs"]]


class Bench:
  def __init__(self, target, initiator):
    self.target = target
    self.initiator = initiator


def tidy(bench):
  """Nothing exported, nothing attached."""
  rpc = bench.initiator.rpc
  assert bench.initiator.server.alive(), "the initiator ended"
  for subsystem in rpc.call("nvmf_get_subsystems"):
    if subsystem["nqn"] == FRONT:
      for namespace in subsystem["namespaces"]:
        bench.initiator.hide(namespace["nsid"])
  for subsystem in rpc.call("bdev_nvme_get_controllers"):
    bench.initiator.detach(subsystem["name"])
  assert not bench.initiator.bdevs(), "bdevs are left after the detach"
  bench.target.check_alive()


def contents(count, seed):
  return random.Random(seed).randbytes(count)


@case("attach makes a bdev of the namespace's size, detach takes it away")
def attach_and_detach(bench):
  for _ in range(3):
    names = bench.initiator.attach()
    assert names == ["Remoten1"], names
    assert bench.initiator.size_of("Remoten1") == SIZE_MIB * MIB
    assert bench.initiator.controllers() == ["enabled"]
    bench.initiator.detach()
    assert not bench.initiator.bdevs()


def verified_sizes(bench, **digests):
  """Writes and reads of many sizes, which all must give back what was written, through the whole length of the namespace."""
  bench.initiator.attach(**digests)
  bench.initiator.export("Remoten1")
  host = bench.initiator.front()
  sizes = [512, 1024, 4096, 4096 + 512, 8192, 16384, 65536, 65536 + 512, 131072]
  model = bytearray(contents(2 * MIB, SEED))
  for place in range(0, len(model), 131072):
    host.write(1, place, bytes(model[place : place + 131072]))
  choice = random.Random(SEED)
  for round_number in range(60):
    size = choice.choice(sizes)
    place = choice.randrange(0, (len(model) - size) // BLOCK_SIZE) * BLOCK_SIZE
    data = contents(size, round_number)
    model[place : place + size] = data
    host.write(1, place, data)
    place = choice.randrange(0, (len(model) - size) // BLOCK_SIZE) * BLOCK_SIZE
    assert host.read(1, place, size) == model[place : place + size], f"{size} bytes at {place}"
  host.flush(1)
  for place in range(0, len(model), 131072):
    assert host.read(1, place, 131072) == model[place : place + 131072], place
  host.close()


@case("I/O of many sizes is verified, without digests")
def sizes_plain(bench):
  verified_sizes(bench)


@case("I/O of many sizes is verified, with header digests")
def sizes_header(bench):
  verified_sizes(bench, hdgst=True)


@case("I/O of many sizes is verified, with data digests")
def sizes_data(bench):
  verified_sizes(bench, ddgst=True)


@case("I/O of many sizes is verified, with both digests")
def sizes_both(bench):
  verified_sizes(bench, hdgst=True, ddgst=True)


@case("unmap, write zeroes, compare and flush")
def other_commands(bench):
  bench.initiator.attach()
  bench.initiator.export("Remoten1")
  host = bench.initiator.front()
  data = contents(65536, 9)
  host.write(1, 0, data)
  blocks = len(data) // BLOCK_SIZE
  host.io.call("Compare with what is there", COMPARE, 1, (0, 0, blocks - 1), data=data)
  cid = host.io.submit(COMPARE, 1, (0, 0, blocks - 1), data=data[:-1] + bytes([data[-1] ^ 1]))
  done = host.io.reap()
  assert (done.cid, done.status) == (cid, COMPARE_FAILURE), f"status {done.status:x}h"
  host.io.call("Write Zeroes", WRITE_ZEROES, 1, (8, 0, 7))
  expected = bytearray(data)
  expected[8 * BLOCK_SIZE : 16 * BLOCK_SIZE] = bytes(8 * BLOCK_SIZE)
  assert host.read(1, 0, len(data)) == expected
  range_of_all = (0).to_bytes(4, "little") + (32).to_bytes(4, "little") + (64).to_bytes(8, "little")
  host.io.call("Dataset Management, deallocate", DATASET_MANAGEMENT, 1, (0, 4), data=range_of_all)
  after = host.read(1, 0, len(data))
  assert after[: 64 * BLOCK_SIZE] == expected[: 64 * BLOCK_SIZE] and after[96 * BLOCK_SIZE :] == expected[96 * BLOCK_SIZE :], "unmap changed other blocks"
  host.flush(1)
  host.close()


@case("namespaces that come and go are followed by events")
def namespaces_by_event(bench):
  bench.initiator.attach()
  bench.target.add_namespace(NQN, 2, 8)
  wait_for(lambda: "Remoten2" in bench.initiator.bdevs(), 30, "the bdev of namespace 2")
  bench.target.remove_namespace(NQN, 2)
  wait_for(lambda: "Remoten2" not in bench.initiator.bdevs(), 30, "the bdev of namespace 2 to go")
  assert "Remoten1" in bench.initiator.bdevs()


@case("a namespace that grows and shrinks is followed by events")
def resize_by_event(bench):
  bench.initiator.attach()
  bench.target.add_file_namespace(NQN, 3, 4)
  wait_for(lambda: "Remoten3" in bench.initiator.bdevs(), 30, "the bdev of namespace 3")
  for size_mib in (12, 4, 8):
    bench.target.resize_file_namespace(NQN, 3, size_mib)
    wait_for(lambda size=size_mib: bench.initiator.size_of("Remoten3") == size * MIB, 30, f"{size_mib} MiB")
  bench.target.remove_namespace(NQN, 3)
  wait_for(lambda: "Remoten3" not in bench.initiator.bdevs(), 30, "the bdev of namespace 3 to go")


@case("a target that goes away and comes back: I/O waits, and nothing is lost")
def target_goes_and_comes(bench):
  bench.initiator.attach(ctrlr_loss_timeout_sec=-1, reconnect_delay_sec=1)
  bench.initiator.export("Remoten1")
  with VerifiedIo(("127.0.0.1", bench.initiator.port), FRONT, SIZE_MIB * MIB, SEED) as io:
    for _ in range(3):
      io.wait_progress(20)
      bench.target.disable(NQN)
      wait_for(lambda: bench.initiator.controllers() != ["enabled"], 30, "the loss to be noticed")
      bench.target.enable(NQN)
      wait_for(lambda: bench.initiator.controllers() == ["enabled"], 60, "the controller to come back")
    io.wait_progress(20)
  print(f"  {io.done} verified I/Os, the longest pause {io.longest_pause_s:.1f} s")


@case("a target that stays away: I/O fails when its time is over, and the controller is removed")
def target_stays_away(bench):
  bench.initiator.attach(ctrlr_loss_timeout_sec=6, reconnect_delay_sec=1, fast_io_fail_timeout_sec=2)
  bench.initiator.export("Remoten1")
  host = bench.initiator.front()
  host.write(1, 0, contents(4096, 1))
  try:
    bench.target.disable(NQN)
    host.submit_read(1, 0, 4096)
    assert host.io.reap(60).status != 0, "a read of what is not there succeeded"
    wait_for(lambda: not bench.initiator.rpc.call("bdev_nvme_get_controllers"), 60, "the controller to be removed")
    assert not bench.initiator.bdevs()
  finally:
    bench.target.enable(NQN)
  host.close()


class Nvmet(KernelTarget):
  """The kernel's target, with what these cases do to it."""

  def add_file_namespace(self, nqn, nsid, size_mib):
    self.guest.check(f"truncate -s {size_mib}M /tmp/disk-{nsid}; mkdir /sys/kernel/config/nvmet/subsystems/{nqn}/namespaces/{nsid}\n"
                     f"cd /sys/kernel/config/nvmet/subsystems/{nqn}/namespaces/{nsid}; echo 1 >buffered_io; echo -n /tmp/disk-{nsid} >device_path; echo 1 >enable")

  def resize_file_namespace(self, nqn, nsid, size_mib):
    self.guest.check(f"truncate -s {size_mib}M /tmp/disk-{nsid}; echo 1 >/sys/kernel/config/nvmet/subsystems/{nqn}/namespaces/{nsid}/revalidate_size")

  def disable(self, nqn):
    self.guest.check(f"rm /sys/kernel/config/nvmet/ports/1/subsystems/{nqn}")

  def enable(self, nqn):
    self.guest.check(f"ln -s /sys/kernel/config/nvmet/subsystems/{nqn} /sys/kernel/config/nvmet/ports/1/subsystems/{nqn}")


def through_itself(chosen):
  """One catnapd exports, a second attaches and exports again, a Linux host writes and verifies; the first one's disk has the bytes."""
  with CatnapTarget(chosen.catnapd, chosen.logs) as back:
    back.add_subsystem(NQN)
    back.add_namespace(NQN, 1, SIZE_MIB, "uring")
    with Initiator(chosen.catnapd, back, chosen.logs, "catnapd-middle") as middle, Guest("through", log_folder=chosen.logs) as guest:
      middle.attach(hdgst=True, ddgst=True)
      middle.export("Remoten1")
      guest.check("modprobe nvme-tcp; modprobe crc32c-intel; modprobe crc32c_generic")
      host = Host(guest, middle, FRONT)
      host.connect(more="-g -G")
      disk = host.disk(1)
      for rw in ("write", "randwrite", "randrw"):
        host.fio(rw, disk, f"--rw={rw} --bs=4k --size={SIZE_MIB // 2}m --iodepth=16")
      host.fio("sizes", disk, f"--rw=randwrite --bsrange=512-128k --size={SIZE_MIB}m --iodepth=8")
      seen_by_host = re.match(r"[0-9a-f]{64}", host.checksum(disk, SIZE_MIB)).group()
      host.disconnect()
      middle.detach()
      on_disk = hashlib.sha256(next(back.folder.iterdir()).read_bytes()).hexdigest()
      assert seen_by_host == on_disk, "what the host reads is not what lies on the first target's disk"
      middle.server.terminate()
    back.finish()


def main():
  chosen = options(__doc__.split("\n", maxsplit=1)[0])
  problem = missing_prerequisite()
  if problem:
    skip(problem)
  with Nvmet(chosen.logs) as target, Initiator(chosen.catnapd, target, chosen.logs) as initiator:
    target.add_subsystem(NQN)
    target.add_namespace(NQN, 1, SIZE_MIB)
    code = cases.run(Bench(target, initiator), chosen.only, tidy)
    if code:
      print(f"--- the initiator's log ends\n{initiator.server.log()[-6000:]}\n--- the target's log ends\n{target.log()[-2000:]}")
    else:
      initiator.server.terminate()
    target.finish()
  last = Cases("initiator_test, through itself")
  last.case("a namespace exported, attached, exported again, and written by a Linux host")(through_itself)
  return last.run(chosen, chosen.only) or code if not chosen.only or "exported" in chosen.only else code


if __name__ == "__main__":
  sys.exit(main())
