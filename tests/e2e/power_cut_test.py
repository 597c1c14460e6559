#!/usr/bin/env -S /usr/bin/python3
"""catnapd inside a guest whose power is cut: what was acknowledged with FUA, or before an acknowledged flush, must be there after the next boot.

The guest's disks forget unflushed writes (volatile_disk.py). Four namespaces: aio and uring, each on a raw disk and on a file of an ext4 file system.
Two cuts: the virtual machine is killed and a random half of each disk's volatile sectors is lost with it; the guest resets itself (sysrq b) and all of
them are lost. What was promised last, before the first cut, was promised by flushes alone, and before the second by FUA alone.
`--without-flush LIBRARY` is the proof by mutation: with catnapd's flushes cut out by that library (no_flush_shim.cpp) before the first cut, and the
durability of its FUA writes before the second, these must be seen to lose promised data on every namespace. Left out: kill -9 of the server (kill_test.py).
"""
import json
import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from acknowledged import BLOCK, Ledger, Writer, read_back
from guest import Guest
from guest_image import Cpio, add_program
from harness import Cases, free_port, options, run_program
from nvme_client import connect_when_ready
from volatile_disk import VolatileDisk

NQN = "nqn.2026-11.io.catnap:power"
DISK_BYTES = 24 << 20
NAMESPACE_BLOCKS = 1024  # of 4 KiB: the first part of each namespace is written
FILE_BYTES = 6 << 20
ADDRESS_IN_GUEST, PORT_IN_GUEST = "10.0.2.15", 4420
KINDS = {1: "aio on a raw disk", 2: "uring on a raw disk", 3: "aio on an ext4 file", 4: "uring on an ext4 file"}
# Enough for each namespace to have promised something many times over.
WANTED_FLUSHES, WANTED_FUA_WRITES = 12, 12
# And then by the one means alone that the cut is about.
WANTED_LAST = 6
WRITING_TIMEOUT_S = 90

cases = Cases("power_cut_test")
case = cases.case


def configuration():
  """catnapd's configuration file."""
  def method(method_name, **params):
    return {"method": method_name, "params": params}

  files = {1: "/dev/vda", 2: "/dev/vdb", 3: "/mnt/aio.img", 4: "/mnt/uring.img"}
  bdevs, nvmf = [], [method("nvmf_create_transport", trtype="TCP"),
                     method("nvmf_create_subsystem", nqn=NQN, serial_number="POWERCUT", model_number="catnap power cut", allow_any_host=True)]
  for nsid, path in files.items():
    kind = KINDS[nsid].split()[0]
    bdevs.append(method(f"bdev_{kind}_create", name=f"disk{nsid}", filename=path, block_size=512))
    nvmf.append(method("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": f"disk{nsid}", "nsid": nsid}))
  address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": ADDRESS_IN_GUEST, "trsvcid": str(PORT_IN_GUEST)}
  nvmf.append(method("nvmf_subsystem_add_listener", nqn=NQN, listen_address=address))
  return json.dumps({"subsystems": [{"subsystem": "bdev", "config": bdevs}, {"subsystem": "nvmf", "config": nvmf}]}, indent=2)


def overlay(folder, catnapd, shim):
  """An initramfs archive with the server, its libraries, its configuration, and the mutation's library if there is one."""
  path = folder / "catnapd.cpio"
  archive = Cpio(path)
  add_program(archive, catnapd, "usr/bin/catnapd")
  archive.add("etc/catnapd.json", configuration().encode())
  if shim:
    add_program(archive, shim, "usr/lib/no_flush_shim.so")
  archive.close()
  return path


def ext4_image(folder):
  """An empty ext4 file system with the two files preallocated in it by name only (catnapd finds them sparse)."""
  path = folder / "ext4"
  content = folder / "content"
  content.mkdir()
  for name in ("aio.img", "uring.img"):
    with open(content / name, "wb") as file:
      file.truncate(FILE_BYTES)
  with open(path, "wb") as file:
    file.truncate(DISK_BYTES)
  subprocess.run(["mkfs.ext4", "-q", "-F", "-d", str(content), str(path)], check=True, stdout=subprocess.DEVNULL, env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"})
  return path.read_bytes()


class Rig:
  """The disks and the guest that catnapd runs in; what has been promised so far."""

  def __init__(self, folder, chosen):
    self.folder = folder
    self.logs = chosen.logs
    self.mutated = chosen.without_flush is not None
    self.seed = chosen.seed
    self.overlay = overlay(folder, chosen.catnapd, chosen.without_flush)
    self.disks = [VolatileDisk(folder / "vda", DISK_BYTES), VolatileDisk(folder / "vdb", DISK_BYTES), VolatileDisk(folder / "vdc", image=ext4_image(folder))]
    self.port = free_port()
    self.ledgers = [Ledger(nsid, NAMESPACE_BLOCKS) for nsid in KINDS]
    self.boots = 0
    self.guest = None

  def boot(self, mutation=""):
    """`mutation`: what a mutated server leaves out from now on, `flush` or `fua`."""
    self.boots += 1
    if self.guest:
      self.guest.stop()
    for disk in self.disks:
      disk.power_on()
    self.guest = Guest(f"power-cut-{'mutated-' if self.mutated else ''}{self.boots}", tools=False, overlay=self.overlay,
                       drives=[disk.drive() for disk in self.disks], forwards=[(self.port, PORT_IN_GUEST)], log_folder=self.logs, reboots=True)
    self.guest.start()
    self.start_server(mutation)

  def start_server(self, mutation=""):
    # commit=600: the journal must not flush the disk by itself while a mutated server leaves that out.
    preload = f"LD_PRELOAD=/usr/lib/no_flush_shim.so NO_FLUSH_SHIM={mutation} " if self.mutated else ""
    self.guest.check("modprobe crc32c-intel || modprobe crc32c_generic; modprobe ext4; mount -t ext4 -o commit=600 /dev/vdc /mnt; mkdir -p /var/tmp\n"
                     f"[ \"$(cat /sys/block/vda/queue/write_cache)\" = 'write back' ]\n"
                     f"{preload}catnapd -r /run/rpc.sock --allow-path /dev --allow-path /mnt -c /etc/catnapd.json >/dev/kmsg 2>&1 &\n"
                     f"catnapd=$!; until grep -q ':{PORT_IN_GUEST:04X} 00000000:0000 0A' /proc/net/tcp; do kill -0 $catnapd; sleep 0.1; done", 60)
    self.guest.wait_for_console("system calls are filtered")  # where the harness looks for what was refused

  def connect(self):
    return connect_when_ready(("127.0.0.1", self.port), NQN)

  def write_until_promised(self, last):
    """Starts a writer; returns (thread, writer) when every namespace has promised enough, at the end by `last` ("flush" or "fua") alone, while it goes on."""
    controller = self.connect()
    writer = Writer(controller, self.ledgers, self.seed + self.boots)
    thread = threading.Thread(target=writer.run, daemon=True)
    thread.start()
    self._wait_for_promises(thread, writer, WANTED_FLUSHES, WANTED_FUA_WRITES)
    if last == "flush":
      writer.fua_share = 0
      self._wait_for_promises(thread, writer, WANTED_LAST, 0)
    else:
      writer.flush_share = 0
      self._wait_for_promises(thread, writer, 0, WANTED_LAST)
    return thread, writer

  def _wait_for_promises(self, thread, writer, flushes, fua_writes):
    """Until every namespace has had so many more of both."""
    wanted = [(ledger.flushes + flushes, ledger.fua_writes + fua_writes) for ledger in self.ledgers]
    deadline = time.monotonic() + WRITING_TIMEOUT_S
    while any(ledger.flushes < more_flushes or ledger.fua_writes < more_fua for ledger, (more_flushes, more_fua) in zip(self.ledgers, wanted)):
      assert thread.is_alive(), f"the writer ended: {writer.problem or 'connection lost'}\n{self.guest.console()[-3000:]}"
      assert time.monotonic() < deadline, f"too few writes in {WRITING_TIMEOUT_S} s: {[(ledger.writes, ledger.flushes) for ledger in self.ledgers]}"
      time.sleep(0.02)

  def after_cut(self, thread, writer):
    """Ends the writer, whose target is gone."""
    for queue in (writer.controller.admin, writer.controller.io):
      try:
        queue.socket.shutdown(socket.SHUT_RDWR)
      except OSError:
        pass  # the connection is gone already
    thread.join(30)
    assert not thread.is_alive() and writer.problem is None, f"the writer: {writer.problem or 'does not end'}"
    writer.controller.close()

  def judge(self):
    """Reads everything back: nothing promised may be lost; under mutation, every namespace must have lost something."""
    promised = {ledger.nsid: sum(version > 0 for version in ledger.promised) for ledger in self.ledgers}
    controller = self.connect()
    lost = read_back(controller, self.ledgers)
    controller.close()
    for nsid, kind in KINDS.items():
      print(f"  {kind}: {promised[nsid]} blocks promised, {len(lost[nsid])} sectors lost", flush=True)
    if self.mutated:
      blind = [KINDS[nsid] for nsid, sentences in lost.items() if not sentences]
      assert not blind, f"flushes were cut out, and no loss was seen on: {', '.join(blind)} (seed {self.seed})"
    else:
      sentences = [sentence for each in lost.values() for sentence in each]
      assert not sentences, f"{len(sentences)} sectors lost what was promised (seed {self.seed}):\n" + "\n".join(sentences[:20])

  def close(self):
    if self.guest:
      self.guest.stop()
    for disk in self.disks:
      disk.close()


@case("flushed, and the machine is cut off amid writes; half of the volatile sectors survive")
def cut(rig):
  rig.boot("flush")
  thread, writer = rig.write_until_promised("flush")
  keep = random.Random(rig.seed)
  for disk in rig.disks:
    disk.cut(keep)
  rig.guest.kill()
  rig.after_cut(thread, writer)
  rig.boot("fua")
  rig.judge()


@case("written with FUA, and the guest resets itself with sysrq b amid writes; no volatile sector survives")
def sysrq(rig):
  thread, writer = rig.write_until_promised("fua")
  rig.guest.send("echo b >/proc/sysrq-trigger")
  rig.guest.wait_ready()
  for disk in rig.disks:
    disk.forget()
  rig.after_cut(thread, writer)
  rig.start_server()
  rig.judge()


def main():
  chosen = options(__doc__.split("\n")[0],
                   ("--without-flush", {"type": Path, "metavar": "LIBRARY", "help": "cut flushes out of catnapd with this library and expect losses"}),
                   ("--seed", {"type": int, "default": 20261121, "help": "of the writes and of what a cut leaves"}))
  if chosen.without_flush:
    cases.title = "power_cut_mutation_test"
  return run_program(cases, chosen, Rig, in_guest=True)


if __name__ == "__main__":
  sys.exit(main())
