#!/usr/bin/env -S /usr/bin/python3
"""A Linux host with two paths to one subsystem, two listeners of catnapd, while their ANA states and the namespaces' groups change under verified I/O.

Printed: how long the host took to use the other path, as seen from here (software emulation and the test's own questions included); not judged, as it is
wall-clock time. Left out: the log page bit by bit (tests/protocol), hosts without multipathing.
"""
import os
import random
import statistics
import sys
import time

from harness import Cases, free_port, options
from linux_host import FioRounds, run_program
from targets import CatnapTarget

NQN = "nqn.2026-11.io.catnap:ana"
SIZE_MIB = 32
SEED = 20261121
# Each takes the emulated host a good part of a second.
CHANGES = 100 if os.environ.get("CATNAP_SOAK") else 15
USABLE = ("optimized", "non_optimized")
UNUSABLE = ("inaccessible", "persistent_loss", "change")

cases = Cases("ana_test")
case = cases.case


class TwoPathTarget(CatnapTarget):
  """catnapd with a second listener; paths are numbered 0 and 1."""

  def __init__(self, *arguments):
    super().__init__(*arguments)
    self.ports = [self.port, free_port()]

  def add_subsystem(self, nqn, any_host=True):
    self.rpc.call("nvmf_create_subsystem", nqn=nqn, serial_number="ANA", model_number="catnap e2e", allow_any_host=any_host, max_namespaces=32, ana_reporting=True)
    for path in range(2):
      self.rpc.call("nvmf_subsystem_add_listener", nqn=nqn, listen_address=self.listener(path))

  def listener(self, path):
    return {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(self.ports[path])}

  def set_state(self, path, state, group=None):
    more = {} if group is None else {"anagrpid": group}
    self.rpc.call("nvmf_subsystem_listener_set_ana_state", nqn=NQN, listen_address=self.listener(path), ana_state=state, **more)


class Paths:
  """Both paths of the host to namespace `nsid`: the controllers' names, and what the kernel thinks of each."""

  def __init__(self, host, nsid=1):
    self.host = host
    self.nsid = nsid
    for path in range(2):
      host.target.set_state(path, "optimized")
    self.controllers = [host.connect_one(more="-i 1", port=port) for port in host.target.ports]
    self.disk = host.disk(nsid)
    for path in range(2):
      host.guest.wait_until(f"[ -e {self.file(path, 'ana_state')} ]", 20, f"path {path} to namespace {nsid}")

  def file(self, path, name):
    # Only this namespace's path has its number behind the last n.
    return f"/sys/class/nvme/{self.controllers[path]}/nvme*c*n{self.nsid}/{name}"

  def wait_state(self, path, state):
    self.host.guest.wait_until(f'[ "$(cat {self.file(path, "ana_state")})" = {state} ]', 20, f"the host to see path {path} as {state}")

  def served(self, path):
    """Reads and writes that ended on this path."""
    return int(self.host.guest.check(f"awk '{{ print $1 + $5 }}' {self.file(path, 'stat')}"))

  def wait_used(self, path, more_than):
    self.host.guest.wait_until(f"[ $(awk '{{ print $1 + $5 }}' {self.file(path, 'stat')}) -gt {more_than} ]", 30, f"I/O on path {path}")


@case("two paths make one disk, and the host sees the state of each")
def one_disk(host):
  paths = Paths(host)
  disks = host.guest.check("lsblk -dno NAME | grep -c '^nvme' || true").strip()
  assert disks == "1", f"{disks} disks instead of one:\n{host.guest.check('lsblk')}"
  for state in (*USABLE, *UNUSABLE[:2]):
    host.target.set_state(1, state)
    paths.wait_state(1, state.replace("_", "-"))
    paths.wait_state(0, "optimized")
  log = host.guest.check(f"nvme ana-log /dev/{paths.controllers[1]}")
  assert "persistent-loss" in log or "0x4" in log or "state" in log, log


@case("I/O moves to the other path when its path becomes inaccessible, without an error")
def fail_over(host):
  paths = Paths(host)
  host.target.set_state(1, "non_optimized")
  paths.wait_state(1, "non-optimized")
  fio = FioRounds(host, paths.disk)
  paths.wait_used(0, paths.served(0))
  before = paths.served(1)
  host.target.set_state(0, "inaccessible")
  paths.wait_used(1, before)
  paths.wait_state(0, "inaccessible")
  left = paths.served(0)
  paths.wait_used(1, paths.served(1) + 20)
  assert paths.served(0) == left, "I/O is still sent to an inaccessible path"
  host.target.set_state(0, "optimized")
  paths.wait_used(0, left)
  fio.finish()


@case(f"{CHANGES} changes of state under verified I/O, one path usable at any time")
def many_changes(host):
  paths = Paths(host)
  fio = FioRounds(host, paths.disk)
  random.seed(SEED)
  usable, took_ms = 0, []
  for _ in range(CHANGES):
    other = 1 - usable
    before = paths.served(other)
    started = time.monotonic()
    host.target.set_state(other, "optimized")
    host.target.set_state(usable, random.choice(UNUSABLE[:2]))
    paths.wait_used(other, before)
    took_ms.append((time.monotonic() - started) * 1000)
    usable = other
  fio.finish()
  print(f"  seed {SEED}: until I/O on the other path: median {statistics.median(took_ms):.0f} ms, worst {max(took_ms):.0f} ms", flush=True)


@case("I/O waits while every path is inaccessible or in transition, and goes on when one comes back")
def all_gone(host):
  paths = Paths(host)
  for state in ("inaccessible", "change"):
    fio = FioRounds(host, paths.disk, "--rw=randwrite --bs=4k --size=1m --iodepth=4")
    paths.wait_used(0, paths.served(0))
    for path in range(2):
      host.target.set_state(path, state)
    for path in range(2):
      paths.wait_state(path, state)
    before = paths.served(1)
    host.target.set_state(1, "non_optimized")
    paths.wait_used(1, before)
    host.target.set_state(0, "optimized")
    paths.wait_state(0, "optimized")
    fio.finish()


@case("a namespace moves between groups of different state while it is written")
def group_move(host):
  paths = Paths(host)
  # Group 2 is reached over path 1 only, group 1 over path 0 only.
  for path, group in ((0, 2), (1, 1)):
    host.target.set_state(path, "inaccessible", group)
  for path, group in ((0, 1), (1, 2)):
    host.target.set_state(path, "optimized", group)
  fio = FioRounds(host, paths.disk)
  for group in (2, 1, 2, 1):
    path = group - 1
    before = paths.served(path)
    host.target.rpc.call("nvmf_subsystem_set_ns_ana_group", nqn=NQN, nsid=paths.nsid, anagrpid=group)
    paths.wait_used(path, before)
    paths.wait_state(1 - path, "inaccessible")
    host.guest.wait_until(f'[ "$(cat {paths.file(path, "ana_grpid")})" = {group} ]', 20, f"the host to see group {group}")
  fio.finish()


@case("a listener that goes takes its path, and only that")
def listener_goes(host):
  paths = Paths(host)
  fio = FioRounds(host, paths.disk)
  paths.wait_used(0, paths.served(0))
  before = paths.served(1)
  host.target.rpc.call("nvmf_subsystem_remove_listener", nqn=NQN, listen_address=host.target.listener(0))
  paths.wait_used(1, before)
  host.target.rpc.call("nvmf_subsystem_add_listener", nqn=NQN, listen_address=host.target.listener(0))
  host.guest.wait_until(f'[ "$(cat /sys/class/nvme/{paths.controllers[0]}/state)" = live ]', 40, "the path to come back")
  fio.finish()


def prepare(target):
  target.add_subsystem(NQN)
  target.add_namespace(NQN, 1, SIZE_MIB)
  return NQN


def main():
  chosen = options(__doc__.split("\n", maxsplit=1)[0])
  # Losing a path, by state or by its listener, is what the cases ask for.
  expected = "starting error recovery|Reconnecting in|Failing|no usable path|ANA|I/O Error.*sct 0x3|timeout, "
  return run_program(cases, chosen, "ana", lambda: TwoPathTarget(chosen.catnapd, chosen.logs), prepare, expected)


if __name__ == "__main__":
  sys.exit(main())
