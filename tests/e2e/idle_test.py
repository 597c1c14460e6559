#!/usr/bin/env -S /usr/bin/python3
"""What catnapd costs while nobody does I/O, for some quiet seconds: unconfigured; with each kind of bdev, with towers of all those that stand on others, and
with arrays (also when marks of writes had to be cleared), two hosts connected (one with digests), after their I/O; after aborts, a stalled reader and a host that vanished; with many connections and namespaces.

Counted for the whole process, all threads: wake-ups (voluntary context switches) and CPU time. Left out: hosts that send keep-alives (each is a wake-up
that the host asked for), the cost of I/O itself (tests/bench). Each case looks at processes of its own and mostly waits, so parts of the cases may run beside
each other (--part).
"""
import http.client
import os
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import idle_remote  # noqa: F401 (its cases)
from harness import Catnapd, NotHere, options, wait_for
from idle_rig import ARRAY_LEVELS, BLOCK_SIZE, MANY_NAMESPACES, MAX_CPU_PERCENT, NQN, cases, configure, do_io, quiet, settled, thread_costs, until_unmarked
from nvme_client import Controller

UNCONFIGURED_S = 10  # a promise of its own: none at all for so long
KATO_MS = 4000
MANY_CONNECTIONS = 200
SCRAPES = 10
ABORT = 0x08


def measure(kind):
  """One server, one bdev of this kind, two hosts; I/O, then quiet."""

  def run(chosen):
    with tempfile.TemporaryDirectory(prefix="catnap-idle-") as folder, Catnapd(chosen.catnapd, name=f"idle-{kind}", log_folder=chosen.logs) as server:
      address = configure(server, folder, kind)
      hosts = [Controller(address, NQN), Controller(address, NQN, header_digest=True, data_digest=True)]
      for host in hosts:
        do_io(host, kind)
      if kind.startswith("raid1"):
        until_unmarked(server.rpc)
      settled(server)
      quiet(server, kind)
      # No safety net: there is nothing periodic that could hide a lost wake-up.
      for thread in server.rpc.call("thread_get_pollers")["threads"]:
        for which in ("active_pollers", "timed_pollers", "paused_pollers"):
          assert not thread[which], f"thread {thread['name']} has {which}: {thread[which]}"
      # It woke up well: the same connections still work.
      for host in hosts:
        host.read(1, 0, 4096)
        host.close()
      server.terminate()

  return run


@cases.case("unconfigured, no thread wakes up at all")
def unconfigured(chosen):
  with Catnapd(chosen.catnapd, name="idle-unconfigured", log_folder=chosen.logs) as server:
    settled(server)
    quiet(server, "unconfigured", max_wakeups=0, quiet_s=UNCONFIGURED_S)
    server.terminate()


@cases.case("dynamic scheduler at rest after a load, on two reactors: no thread wakes up at all")
def dynamic_scheduler(chosen):
  cpus = sorted(os.sched_getaffinity(0))[:2]
  arguments = ("-m", "[" + ",".join(map(str, cpus)) + "]")
  with tempfile.TemporaryDirectory(prefix="catnap-idle-") as folder, \
       Catnapd(chosen.catnapd, arguments, name="idle-dynamic", log_folder=chosen.logs) as server:
    address = configure(server, folder, "malloc")
    server.rpc.call("framework_set_scheduler", name="dynamic", period=100_000)
    host = Controller(address, NQN)
    do_io(host, "malloc")
    host.close()  # a connection's own deadlines are not what is counted here
    wait_for(lambda: not server.rpc.call("framework_get_scheduler")["measuring"], 30, "the scheduler to rest")
    settled(server)
    quiet(server, "dynamic scheduler at rest", max_wakeups=0)
    Controller(address, NQN).close()
    server.terminate()


def after_trouble(kind, trouble, what):
  """Quiet after something went wrong with one host; another one, connected before, still works."""

  def run(chosen):
    with tempfile.TemporaryDirectory(prefix="catnap-idle-") as folder, Catnapd(chosen.catnapd, name="idle-trouble", log_folder=chosen.logs) as server:
      address = configure(server, folder, kind)
      good, bad = Controller(address, NQN), Controller(address, NQN)
      finish = trouble(bad)
      settled(server)
      quiet(server, f"{kind} after {what}")
      finish()
      do_io(good, kind)
      good.close()
      server.terminate()

  return run


def abort(host):
  """Commands in flight, and an Abort for each; all are answered."""
  reads = [host.submit_read(1, place * 65536, 65536) for place in range(16)]
  for first in range(0, len(reads), host.abort_limit):
    together = reads[first:first + host.abort_limit]
    for cid in together:
      host.admin.submit(ABORT, dwords=(1 | cid << 16,))
    for _ in together:
      host.admin.reap().check("Abort")
  for _ in reads:
    host.io.reap()  # aborted or done, either is right
  return host.close


def stall(host):
  """More answers asked for than the sockets' buffers hold, and none read."""
  count = 64
  for place in range(count):
    host.submit_read(1, place * 131072, 131072)

  def read_all():
    for _ in range(count):
      host.io.reap().check("Read")
    host.close()

  return read_all


def vanish(host):
  """The connections are reset with commands in flight and answers unread."""
  for place in range(32):
    host.submit_read(1, place * 131072, 131072)
  for queue in (host.io, host.admin):
    queue.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    queue.close()
  return lambda: None


def after_rate_limit(kind):
  """I/O that had to wait for a rate limit is done, and the limit stays: nothing measures time any more."""

  def run(chosen):
    with tempfile.TemporaryDirectory(prefix="catnap-idle-") as folder, Catnapd(chosen.catnapd, name="idle-qos", log_folder=chosen.logs) as server:
      host = Controller(configure(server, folder, kind), NQN)
      server.rpc.call("bdev_set_qos_limit", name="disk", rw_ios_per_sec=1000, rw_mbytes_per_sec=1)
      do_io(host, kind)
      settled(server)
      quiet(server, f"{kind} after QoS")
      host.read(1, 0, 4096)
      host.close()
      server.terminate()

  return run


class FarHost:
  """A network namespace in which the server runs, and a link to it that can be cut so that packets vanish without a word."""

  def __init__(self, folder):
    self.name = f"catnap-idle-{os.getpid()}"
    self.link = f"cn{os.getpid() % 100000}"
    self.server_address, self.own_address = "192.0.2.1", "192.0.2.2"  # reserved for examples (RFC 5737)
    self.wrapper = Path(folder) / "in-namespace"
    self.made = False

  def ip(self, *arguments):
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)

  def make(self, binary):
    """The program that runs `binary` in there, or why there is none."""
    if not shutil.which("ip"):
      return None, "ip (iproute2) is not there"
    steps = [("netns", "add", self.name),
             ("link", "add", self.link, "type", "veth", "peer", "name", "far", "netns", self.name),
             ("addr", "add", f"{self.own_address}/30", "dev", self.link),
             ("link", "set", self.link, "up"),
             ("-n", self.name, "addr", "add", f"{self.server_address}/30", "dev", "far"),
             ("-n", self.name, "link", "set", "far", "up")]
    for step in steps:
      done = self.ip(*step)
      if done.returncode != 0:
        return None, f"ip {' '.join(step)}: {done.stderr.strip()}"
      self.made = True
    self.wrapper.write_text(f'#!/bin/sh\nexec ip netns exec {self.name} {binary} "$@"\n')
    self.wrapper.chmod(0o755)
    return self.wrapper, None

  def cut(self):
    assert self.ip("-n", self.name, "link", "set", "far", "down").returncode == 0

  def remove(self):
    if self.made:
      self.ip("link", "del", self.link)
      self.ip("netns", "del", self.name)


@cases.case("quiet while and after a host vanished without a word (its packets are dropped)")
def vanished_silently(chosen):
  with tempfile.TemporaryDirectory(prefix="catnap-idle-") as folder:
    far = FarHost(folder)
    try:
      program, reason = far.make(chosen.catnapd)
      if program is None:
        raise NotHere(reason)
      with Catnapd(program, name="idle-vanished", log_folder=chosen.logs) as server:
        address = configure(server, folder, "malloc", traddr=far.server_address)
        host = Controller(address, NQN, kato_ms=KATO_MS)
        for place in range(32):
          host.submit_read(1, place * 131072, 131072)  # answers that nobody will take
        far.cut()
        quiet(server, "malloc while a vanished host is not yet known to be")

        def gone():
          return not server.rpc.call("nvmf_subsystem_get_controllers", nqn=NQN)

        wait_for(gone, 6 * KATO_MS / 1000, "the keep-alive time of the vanished host to end its controller")
        settled(server)
        quiet(server, "malloc after a host vanished without a word")
        server.terminate()
    finally:
      far.remove()


@cases.case(f"{MANY_CONNECTIONS} idle connections and {MANY_NAMESPACES} idle namespaces")
def many(chosen):
  with Catnapd(chosen.catnapd, name="idle-many", log_folder=chosen.logs) as server:
    address = configure(server, None, "null")
    for number in range(2, MANY_NAMESPACES + 1):
      server.rpc.call("bdev_null_create", name=f"N{number}", num_blocks=8192, block_size=BLOCK_SIZE)
      server.rpc.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": f"N{number}", "nsid": number})
    hosts = [Controller(address, NQN) for _ in range(MANY_CONNECTIONS // 2)]  # an admin and an I/O queue each
    for number, host in enumerate(hosts):
      host.read(number * 7 + 1, 0, 4096)
    settled(server)
    quiet(server, "many")
    for host in hosts:
      host.read(1, 0, 4096)
      host.close()
    server.terminate()


def http_port(server):
  """Where it serves HTTP, after --http 127.0.0.1:0."""
  return int(re.findall(r"HTTP at 127\.0\.0\.1:(\d+)", server.log())[-1])  # earlier runs may have left theirs before it


def scrape(connection):
  """How long the page of metrics is."""
  connection.request("GET", "/metrics")
  reply = connection.getresponse()
  text = reply.read()
  assert reply.status == 200, f"{reply.status} {text[:200]}"
  return len(text)


@cases.case("HTTP: no thread wakes up while nobody talks, with an open connection too")
def http_idle(chosen):
  with Catnapd(chosen.catnapd, ("--http", "127.0.0.1:0"), name="idle-http", log_folder=chosen.logs) as server:
    settled(server)
    quiet(server, "HTTP, never asked", max_wakeups=0)
    connection = http.client.HTTPConnection("127.0.0.1", http_port(server), timeout=30)
    scrape(connection)
    # Its end after a minute without a request is one wake-up, beyond what is measured here.
    settled(server)
    quiet(server, "HTTP, a connection that says nothing", max_wakeups=0)
    connection.close()
    settled(server)
    quiet(server, "HTTP, after it", max_wakeups=0)
    server.terminate()


@cases.case(f"/metrics each second with {MANY_NAMESPACES} namespaces: less than 1 % of a core")
def scraped(chosen):
  with Catnapd(chosen.catnapd, ("--http", "127.0.0.1:0"), name="idle-scraped", log_folder=chosen.logs) as server:
    address = configure(server, None, "null")
    for number in range(2, MANY_NAMESPACES + 1):
      server.rpc.call("bdev_null_create", name=f"N{number}", num_blocks=8192, block_size=BLOCK_SIZE)
      server.rpc.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": f"N{number}", "nsid": number})
    host = Controller(address, NQN)
    for number in range(1, MANY_NAMESPACES + 1):
      host.read(number, 0, 4096)  # so that each has latencies
    connection = http.client.HTTPConnection("127.0.0.1", http_port(server), timeout=30)
    length = scrape(connection)
    settled(server)
    costs_ms = []
    before = thread_costs(server.process.pid)
    for _ in range(SCRAPES):
      time.sleep(1)  # as Prometheus would
      scrape(connection)
      # What ends a scrape (the sleep after it) is in the next one's costs.
      after = thread_costs(server.process.pid)
      costs_ms.append(sum(cpu_ns - before.get(thread, (name, 0, 0))[2] for thread, (name, _, cpu_ns) in after.items()) / 1e6)
      before = after
    # The median: another machine's work on the same core is in some of them.
    cpu_ms = statistics.median(costs_ms)
    print(f"  a page of {length} bytes: {cpu_ms:.2f} ms of CPU for each scrape ({min(costs_ms):.2f} to {max(costs_ms):.2f}), {cpu_ms / 10:.2f} % of a core",
          flush=True)
    assert cpu_ms / 10 < MAX_CPU_PERCENT, f"a scrape each second costs {cpu_ms / 10:.2f} % of a core"
    connection.close()
    host.close()
    server.terminate()


for bdev_kind in ("null", "malloc", "aio", "uring", "malloc_tower", "uring_tower", *ARRAY_LEVELS):
  cases.case(f"quiet with {bdev_kind}")(measure(bdev_kind))
for bdev_kind in ("null", "malloc", "aio", "uring"):
  cases.case(f"quiet with {bdev_kind} after QoS")(after_rate_limit(bdev_kind))
for bdev_kind in ("null", "malloc", "aio", "uring"):
  for trouble_name, trouble_made in (("aborts", abort), ("a stalled reader", stall), ("a host that vanished", vanish)):
    cases.case(f"quiet with {bdev_kind} after {trouble_name}")(after_trouble(bdev_kind, trouble_made, trouble_name))


if __name__ == "__main__":
  command_line = options(__doc__.split("\n")[0], ("--part", {"default": "1/1", "metavar": "K/N", "help": "of N parts of the cases the Kth"}))
  this_part, parts = map(int, command_line.part.split("/"))
  cases.cases = cases.cases[this_part - 1::parts]
  sys.exit(cases.run(command_line, command_line.only))
