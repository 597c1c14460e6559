#!/usr/bin/env -S /usr/bin/python3
"""Two paths to one namespace, of which one is taken away under verified I/O, again and again: the target killed, its listener removed, its packets dropped,
its ANA state changed. No I/O may fail, all data must be right, and the path must come back.

Two catnapds in a network namespace of their own serve the same file as one subsystem; a third attaches both and exports the bdev to a raw client. Printed:
how long no I/O came through, each time. Left out: both paths gone (initiator_test.py, tests/unit/bdev_nvme), the Linux host's multipathing (ana_test.py).
"""
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import Catnapd, Cases, free_port, options, skip, wait_for
from verified_io import VerifiedIo

NQN = "nqn.2026-11.io.catnap:failover"
FRONT = "nqn.2026-11.io.catnap:front"
UUID = "6b6d7a3c-5f0e-4d0c-9a55-0f2f0c6a8e11"
SIZE = 4 << 20
ROUNDS = 100 if os.environ.get("CATNAP_SOAK") else 2
# Long enough for a busy machine, short enough that frozen paths are noticed within a test.
KEEP_ALIVE_MS = 1000
# How long after the loss writes of blocks that a lost write may still change are held back: twice the keep-alive time and 2 s of slack, and CQT.
FENCE_S = 2 * (KEEP_ALIVE_MS / 1000 + 2) + 1
PORT = "4420"

cases = Cases("failover_test")
case = cases.case


class Wire:
  """A network namespace with two links to it; cut, a link drops all packets without a word."""

  def __init__(self):
    self.name = f"catnap-failover-{os.getpid()}"
    self.links = [f"cf{path}x{os.getpid() % 100000}" for path in range(2)]
    self.far = ["far0", "far1"]
    net = f"198.18.{os.getpid() % 256}"  # reserved for tests of networks (RFC 2544); of its own, as another run may be under way
    self.own_addresses = [f"{net}.2", f"{net}.6"]
    self.addresses = [f"{net}.1", f"{net}.5"]
    self.made = False

  @staticmethod
  def ip(*arguments):
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)

  def make(self):
    """None, or why there is none."""
    if not shutil.which("ip"):
      return "ip (iproute2) is not there"
    steps = [("netns", "add", self.name)]
    for link, far, own, there in zip(self.links, self.far, self.own_addresses, self.addresses):
      steps += [("link", "add", link, "type", "veth", "peer", "name", far, "netns", self.name),
                ("addr", "add", f"{own}/30", "dev", link),
                ("link", "set", link, "up"),
                ("-n", self.name, "addr", "add", f"{there}/30", "dev", far),
                ("-n", self.name, "link", "set", far, "up")]
    for step in steps:
      done = self.ip(*step)
      if done.returncode != 0:
        return f"ip {' '.join(step)}: {done.stderr.strip()}"
      self.made = True
    return None

  def cut(self, path):
    assert self.ip("-n", self.name, "link", "set", self.far[path], "down").returncode == 0

  def mend(self, path):
    assert self.ip("-n", self.name, "link", "set", self.far[path], "up").returncode == 0

  def remove(self):
    if self.made:
      for link in self.links:
        self.ip("link", "del", link)
      self.ip("netns", "del", self.name)


class PathTarget:
  """One of the two catnapds; both serve the same file as namespace 1 of the same subsystem."""

  def __init__(self, binary, wire, path, disk, log_folder):
    self.wire, self.path, self.disk = wire, path, disk
    self.address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": wire.addresses[path], "trsvcid": PORT}
    self.folder = Path(tempfile.mkdtemp(prefix="catnap-failover-"))
    wrapper = self.folder / "in-namespace"
    wrapper.write_text(f'#!/bin/sh\nexec ip netns exec {wire.name} {binary} "$@"\n')
    wrapper.chmod(0o755)
    self.server = Catnapd(wrapper, name=f"failover-target{path}", log_folder=log_folder)

  def start(self):
    self.server.start()
    rpc = self.server.rpc
    rpc.call("nvmf_create_transport", trtype="TCP")
    rpc.call("bdev_uring_create", name="Disk", filename=str(self.disk), block_size=512, uuid=UUID)
    rpc.call("nvmf_create_subsystem", nqn=NQN, serial_number="FAILOVER", allow_any_host=True, ana_reporting=True, min_cntlid=1 + 1000 * self.path,
             max_cntlid=1000 + 1000 * self.path)
    rpc.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "Disk", "nsid": 1})
    self.listen()

  def listen(self):
    self.server.rpc.call("nvmf_subsystem_add_listener", nqn=NQN, listen_address=self.address)

  def deafen(self):
    self.server.rpc.call("nvmf_subsystem_remove_listener", nqn=NQN, listen_address=self.address)

  def set_ana(self, state):
    self.server.rpc.call("nvmf_subsystem_listener_set_ana_state", nqn=NQN, listen_address=self.address, ana_state=state)

  def close(self):
    self.server.close()
    shutil.rmtree(self.folder, ignore_errors=True)


class Bench:
  """All of it, with both paths attached."""

  def __init__(self, chosen, wire):
    self.wire = wire
    self.folder = Path(tempfile.mkdtemp(prefix="catnap-failover-disk-"))
    self.disk = self.folder / "disk"
    self.disk.write_bytes(bytes(SIZE))
    self.targets = [PathTarget(chosen.catnapd, wire, path, self.disk, chosen.logs) for path in range(2)]
    self.initiator = Catnapd(chosen.catnapd, name="failover-initiator", log_folder=chosen.logs)
    self.rpc = self.initiator.rpc
    self.port = free_port()

  def start(self):
    for target in self.targets:
      target.start()
    self.initiator.start()
    self.rpc.call("bdev_nvme_set_options", keep_alive_timeout_ms=KEEP_ALIVE_MS, tcp_connect_timeout_ms=3000, ctrlr_loss_timeout_sec=-1, reconnect_delay_sec=1)
    for target in self.targets:
      self.rpc.call("bdev_nvme_attach_controller", name="Both", subnqn=NQN, multipath="multipath", **target.address)
    self.rpc.call("nvmf_create_transport", trtype="TCP")
    self.rpc.call("nvmf_create_subsystem", nqn=FRONT, allow_any_host=True)
    self.rpc.call("nvmf_subsystem_add_ns", nqn=FRONT, namespace={"bdev_name": "Bothn1", "nsid": 1})
    self.rpc.call("nvmf_subsystem_add_listener", nqn=FRONT,
                  listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(self.port)})

  def close(self):
    self.initiator.close()
    for target in self.targets:
      target.close()
    shutil.rmtree(self.folder, ignore_errors=True)

  def states(self):
    return [one["state"] for subsystem in self.rpc.call("bdev_nvme_get_controllers") for one in subsystem["ctrlrs"]]

  def wait_both(self):
    wait_for(lambda: self.states() == ["enabled", "enabled"], 60, "both paths")

  def path_in_use(self):
    """0 or 1: the path that active_passive uses now; None: none yet, or both."""
    groups = self.rpc.call("bdev_nvme_get_io_paths", name="Bothn1")["poll_groups"]
    used = {(path["cntlid"] - 1) // 1000 for group in groups for path in group["io_paths"] if path["current"]}
    return used.pop() if len(used) == 1 else None

  def rounds(self, take, give_back, noticed=True):
    """Takes a path away and gives it back, again and again, under verified I/O: the one in use, or one after the other. `noticed`: the connection is lost."""
    pauses = []
    with VerifiedIo(("127.0.0.1", self.port), FRONT, SIZE, 6) as io:
      for round_number in range(ROUNDS):
        self.wait_both()
        io.wait_progress(50)
        path = self.path_in_use()
        path = round_number % 2 if path is None else path
        io.take_longest_pause()
        take(path)
        if noticed:
          wait_for(lambda: self.states() != ["enabled", "enabled"], 60, "the loss to be noticed")
        io.wait_progress(100)
        pauses.append(io.take_longest_pause())
        give_back(path)
      self.wait_both()
      io.wait_progress(50)
    print(f"  {ROUNDS} times, {io.done} verified I/Os; longest pause {max(pauses):.2f} s, median {statistics.median(pauses):.2f} s")


def tidy(bench):
  assert bench.initiator.alive(), f"the initiator ended: {bench.initiator.log()[-3000:]}"
  bench.wait_both()


def set_policy(bench, **policy):
  bench.rpc.call("bdev_nvme_set_multipath_policy", name="Bothn1", **policy)


@case("a target is killed")
def killed(bench):
  bench.rounds(lambda path: bench.targets[path].server.kill(), lambda path: bench.targets[path].start())


@case("a listener is removed")
def listener_removed(bench):
  bench.rounds(lambda path: bench.targets[path].deafen(), lambda path: bench.targets[path].listen())


@case("a connection freezes: its packets are dropped")
def frozen(bench):
  bench.rounds(bench.wire.cut, bench.wire.mend)


@case("a target is stopped, and goes on when it has been given up")
def stopped(bench):
  """What it then finds in its sockets was repeated on the other path, and written over since."""
  pauses = []
  chance = random.Random(20261122)
  with VerifiedIo(("127.0.0.1", bench.port), FRONT, SIZE, 8) as io:
    for round_number in range(ROUNDS):
      bench.wait_both()
      io.wait_progress(50)
      path = bench.path_in_use()
      path = round_number % 2 if path is None else path
      target = bench.targets[path].server.process
      # In the soak for any while; else until nothing is held back any more, and what was done since could be lost.
      stopped_s = FENCE_S + 1 if ROUNDS < 10 else chance.uniform(1, FENCE_S + 3)
      io.take_longest_pause()
      os.kill(target.pid, signal.SIGSTOP)
      since = time.monotonic()
      wait_for(lambda: bench.states() != ["enabled", "enabled"], 60, "the loss to be noticed")
      while time.monotonic() < since + stopped_s:
        io.wait_progress(50)
      pauses.append(io.take_longest_pause())
      os.kill(target.pid, signal.SIGCONT)
    bench.wait_both()
    io.wait_progress(50)
  print(f"  {ROUNDS} times, {io.done} verified I/Os; longest pause {max(pauses):.2f} s, median {statistics.median(pauses):.2f} s")


@case("an ANA state changes")
def ana_state(bench):
  bench.rounds(lambda path: bench.targets[path].set_ana("inaccessible"), lambda path: bench.targets[path].set_ana("optimized"), noticed=False)


@case("both targets are killed and come back")
def both_killed(bench):
  with VerifiedIo(("127.0.0.1", bench.port), FRONT, SIZE, 7) as io:
    for _ in range(ROUNDS):
      bench.wait_both()
      io.wait_progress(50)
      io.take_longest_pause()
      for target in bench.targets:
        target.server.kill()
      wait_for(lambda: "enabled" not in bench.states(), 60, "both losses to be noticed")
      for target in bench.targets:
        target.start()
      io.wait_progress(50)
    bench.wait_both()
  print(f"  {ROUNDS} times, {io.done} verified I/Os; longest pause {io.longest_pause_s:.2f} s")


@case("a target is killed while both paths are in use, in turn")
def killed_round_robin(bench):
  set_policy(bench, policy="active_active", selector="round_robin", rr_min_io=2)
  bench.rounds(lambda path: bench.targets[path].server.kill(), lambda path: bench.targets[path].start())


@case("a connection freezes while both paths are in use, by queue depth")
def frozen_queue_depth(bench):
  set_policy(bench, policy="active_active", selector="queue_depth")
  bench.rounds(bench.wire.cut, bench.wire.mend)


def main():
  chosen = options(__doc__.split("\n", maxsplit=1)[0])
  wire = Wire()
  try:
    problem = wire.make()
    if problem:
      skip(f"no network namespaces here: {problem}")
    bench = Bench(chosen, wire)
    try:
      bench.start()
      code = cases.run(bench, chosen.only, tidy)
      if code:
        print(f"--- the initiator's log ends\n{bench.initiator.log()[-6000:]}")
      else:
        bench.initiator.terminate()
    finally:
      bench.close()
  finally:
    wire.remove()
  return code


if __name__ == "__main__":
  sys.exit(main())
