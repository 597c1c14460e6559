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
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "protocol" / "rpc"))

from auth_host import AuthQueue, dhchap  # noqa: E402
from harness import Cases, Catnapd, NotHere, free_port, options, wait_for  # noqa: E402
from nvme_client import Controller  # noqa: E402
from tls_keys import HostKey, dialler, interchange, new_key  # noqa: E402

NQN = "nqn.2026-11.io.catnap:idle"
# Rates are judged, and what happens less often than they allow passes in a long window as well; so a short one finds the same.
QUIET_S = 10 if os.environ.get("CATNAP_SOAK") else 2
UNCONFIGURED_S = 10  # a promise of its own: none at all for so long
KATO_MS = 4000
MAX_WAKEUPS_PER_S = 5
MAX_CPU_PERCENT = 1
SIZE_BYTES = 16 << 20
BLOCK_SIZE = 512
MANY_CONNECTIONS = 200
MANY_NAMESPACES = 1000
SCRAPES = 10
ABORT = 0x08

cases = Cases("idle_test")


def thread_costs(pid):
  """{thread id: (name, voluntary context switches, CPU nanoseconds)}."""
  result = {}
  for folder in Path(f"/proc/{pid}/task").iterdir():
    try:
      status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
      result[folder.name] = (status["Name"], int(status["voluntary_ctxt_switches"]), int((folder / "schedstat").read_text().split()[0]))
    except FileNotFoundError:
      pass  # the thread ended meanwhile
  return result


def do_io(controller, kind):
  """A few transfers of several sizes, in flight together; what was written is read back (null keeps nothing)."""
  data = {size: bytes([size // 512 & 0xFF]) * size for size in (512, 4096, 16384, 65536)}
  place = 0
  for size, content in data.items():
    for _ in range(4):
      controller.submit_write(1, place, content)
      place += size
  for _ in range(16):
    controller.io.reap().check("Write")
  controller.flush(1)
  place = 0
  for size, content in data.items():
    found = controller.read(1, place, size)
    assert kind == "null" or found == content, f"{size} bytes at {place} read back differently"
    place += 4 * size


def quiet(server, what, max_wakeups=MAX_WAKEUPS_PER_S, quiet_s=QUIET_S):
  """Fails when the process, which nobody asks for anything, wakes up more often than this per second, or takes more CPU than allowed."""
  before = thread_costs(server.process.pid)
  started = time.monotonic()
  time.sleep(quiet_s)  # this is the measurement itself, not a wait for something
  seconds = time.monotonic() - started
  after = thread_costs(server.process.pid)
  costs = {}
  for thread, (name, switches, cpu_ns) in after.items():
    _, switches_before, cpu_ns_before = before.get(thread, (name, 0, 0))
    costs[f"{name} ({thread})"] = (switches - switches_before, (cpu_ns - cpu_ns_before) / 1e6)
  wakeups = sum(count for count, _ in costs.values()) / seconds
  cpu_percent = sum(cpu_ms for _, cpu_ms in costs.values()) / seconds / 10
  print(f"  {what}: {wakeups:.2f} wake-ups/s, {cpu_percent:.3f} % CPU, {len(after)} threads", flush=True)
  if wakeups > max_wakeups or cpu_percent > MAX_CPU_PERCENT:
    threads = "\n".join(f"  {name}: {count} wake-ups, {cpu_ms:.1f} ms" for name, (count, cpu_ms) in costs.items())
    raise AssertionError(f"{what}: more than {max_wakeups} wake-ups/s or {MAX_CPU_PERCENT} % CPU in {seconds:.1f} quiet seconds\n{threads}\n"
                         f"{server.rpc.call('reactor_get_wakeups')}")


def settled(server):
  """Waits until what came before is over: every reactor twice in one and the same sleep, and the last question's own traces gone."""

  def same_sleep():
    first, second = (server.rpc.call("framework_get_reactors")["reactors"] for _ in range(2))
    return all(one["asleep"] and two["asleep"] and one["sleeps"] == two["sleeps"] for one, two in zip(first, second))

  def stands_still():
    before = thread_costs(server.process.pid)
    time.sleep(0.1)  # a sample's length; wait_for() asks again
    return before == thread_costs(server.process.pid)

  wait_for(same_sleep, 30, "reactors to sleep")
  wait_for(stands_still, 30, "every thread to stand still")


def build_tower(rpc, base):
  """Every module that stands on others, one over another, on that base; the top is called disk. From the top down: each waits for its base."""
  rpc.call("bdev_crypto_create", name="disk", base_bdev_name="P", key_name="key")
  rpc.call("bdev_passthru_create", name="P", base_bdev_name="D")
  rpc.call("bdev_delay_create", name="D", base_bdev_name=f"EE_{base}p0", avg_read_latency=100, p99_read_latency=2000, avg_write_latency=200,
           p99_write_latency=4000)
  rpc.call("bdev_error_create", base_name=f"{base}p0")
  rpc.call("bdev_split_create", base_bdev=base, split_count=1)
  rpc.call("accel_crypto_key_create", name="key", cipher="AES_XTS", key="1" * 32, key2="2" * 32)


ARRAY_LEVELS = {"raid0": {"strip_size_kb": 16}, "concat": {"strip_size_kb": 16}, "raid1": {}, "raid1_superblock": {"superblock": True}}


def build_array(rpc, folder, array):
  """An array called disk of two files. Its marks are cleared a while after writes: settled() comes after that, and then nothing may be left to do."""
  members = [f"{array}-member{number}" for number in range(2)]
  for member in members:
    path = Path(folder) / member
    with open(path, "wb") as disk:
      disk.truncate(SIZE_BYTES)
    rpc.call("bdev_uring_create", name=member, filename=str(path), block_size=BLOCK_SIZE)
  rpc.call("bdev_raid_create", name="disk", raid_level=array.removesuffix("_superblock"), base_bdevs=members, **ARRAY_LEVELS[array])

  def whole():
    return all("process" not in one for one in rpc.call("bdev_raid_get_bdevs", category="online"))

  wait_for(lambda: rpc.call("bdev_raid_get_bdevs", category="online") and whole(), 60, "the array to be whole")


def until_unmarked(rpc):
  """Waits for the marks of writes to be cleared, which is the last thing an array does."""
  def unmarked():
    return rpc.call("bdev_raid_get_bitmap", name="disk")["marked_regions"] == 0
  wait_for(unmarked, 60, "the array's marks to be cleared")


def configure(server, folder, kind, traddr="127.0.0.1"):
  """One subsystem with one bdev of this kind; its address."""
  name = "disk"
  if kind.endswith("_tower"):
    kind, name = kind.removesuffix("_tower"), "ground"
    build_tower(server.rpc, name)
  if kind in ARRAY_LEVELS:
    build_array(server.rpc, folder, kind)
  elif kind in ("aio", "uring"):
    path = Path(folder) / "disk"
    with open(path, "wb") as disk:
      disk.truncate(SIZE_BYTES)
    server.rpc.call(f"bdev_{kind}_create", name=name, filename=str(path), block_size=BLOCK_SIZE)
  else:
    server.rpc.call(f"bdev_{kind}_create", name=name, num_blocks=SIZE_BYTES // BLOCK_SIZE, block_size=BLOCK_SIZE)
  server.rpc.call("bdev_wait_for_examine")
  port = free_port()
  server.rpc.call("nvmf_create_transport", trtype="TCP")
  server.rpc.call("nvmf_create_subsystem", nqn=NQN, serial_number="IDLE", allow_any_host=True, max_namespaces=MANY_NAMESPACES)
  server.rpc.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "disk"})
  server.rpc.call("nvmf_subsystem_add_listener", nqn=NQN, listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": traddr, "trsvcid": str(port)})
  return (traddr, port)


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


INITIATOR_CONTROLLERS = 8
INITIATOR_PATHS = 2
# Keep-alives go every 5 s, for all paths together: a window that holds two such moments counts what they cost.
INITIATOR_QUIET_S = max(QUIET_S, 10)


def export_disk(rpc, nqn, disk, ports):
  rpc.call("nvmf_create_subsystem", nqn=nqn, allow_any_host=True)
  rpc.call("nvmf_subsystem_add_ns", nqn=nqn, namespace={"bdev_name": disk, "nsid": 1})
  for port in ports:
    rpc.call("nvmf_subsystem_add_listener", nqn=nqn, listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)})


@cases.case(f"{INITIATOR_CONTROLLERS} attached controllers with {INITIATOR_PATHS} paths each, exported again, after I/O")
def initiator(chosen):
  with Catnapd(chosen.catnapd, name="idle-back", log_folder=chosen.logs) as back, Catnapd(chosen.catnapd, name="idle-initiator",
                                                                                         log_folder=chosen.logs) as server:
    ports = [free_port() for _ in range(INITIATOR_PATHS)]
    front = free_port()
    for rpc in (back.rpc, server.rpc):
      rpc.call("nvmf_create_transport", trtype="TCP")
    hosts = []
    for number in range(INITIATOR_CONTROLLERS):
      back_nqn, front_nqn = f"{NQN}-back{number}", f"{NQN}-front{number}"
      back.rpc.call("bdev_malloc_create", name=f"M{number}", num_blocks=SIZE_BYTES // BLOCK_SIZE, block_size=BLOCK_SIZE)
      export_disk(back.rpc, back_nqn, f"M{number}", ports)
      for port in ports:
        server.rpc.call("bdev_nvme_attach_controller", name=f"Nvme{number}", trtype="TCP", adrfam="IPv4", traddr="127.0.0.1", trsvcid=str(port),
                        subnqn=back_nqn, multipath="multipath", ctrlr_loss_timeout_sec=-1, reconnect_delay_sec=1,
                        multipath_opts={"policy": "active_active", "selector": "round_robin"})
      export_disk(server.rpc, front_nqn, f"Nvme{number}n1", [front])
      hosts.append(Controller(("127.0.0.1", front), front_nqn))
    for host in hosts:
      do_io(host, "nvme")
    settled(server)
    quiet(server, f"{INITIATOR_CONTROLLERS} controllers with {INITIATOR_PATHS} paths each", quiet_s=INITIATOR_QUIET_S)
    for host in hosts:
      host.close()
    server.terminate()
    back.terminate()


@cases.case("secure channels: a host's after I/O, an attached controller's, and a half handshake that is given up")
def secure_channels(chosen):
  host_id = uuid.UUID("7065726f-0000-4000-8000-000000000009")
  raw = new_key()
  front_nqn, back_nqn = NQN + "-front", NQN + "-back"
  hostnqn = f"nqn.2014-08.org.nvmexpress:uuid:{host_id}"
  with tempfile.TemporaryDirectory(prefix="catnap-idle-") as folder, Catnapd(chosen.catnapd, name="idle-tls-back", log_folder=chosen.logs) as back, \
       Catnapd(chosen.catnapd, name="idle-tls", log_folder=chosen.logs) as server:
    key = Path(folder) / "psk"
    key.touch(mode=0o600)
    key.write_text(interchange(raw, 1))
    ports = {}
    back.rpc.call("bdev_malloc_create", name="M0", num_blocks=SIZE_BYTES // BLOCK_SIZE, block_size=BLOCK_SIZE)
    for each, nqn, disk in ((back, back_nqn, "M0"), (server, front_nqn, "Nvme0n1")):
      ports[nqn] = free_port()
      each.rpc.call("nvmf_create_transport", trtype="TCP", tls_handshake_timeout_ms=1000)
      each.rpc.call("keyring_file_add_key", name="k", path=str(key))
      if each is server:
        each.rpc.call("bdev_nvme_attach_controller", name="Nvme0", trtype="TCP", adrfam="IPv4", traddr="127.0.0.1", trsvcid=str(ports[back_nqn]),
                      subnqn=back_nqn, hostnqn=hostnqn, psk="k")
      each.rpc.call("nvmf_create_subsystem", nqn=nqn)
      each.rpc.call("nvmf_subsystem_add_ns", nqn=nqn, namespace={"bdev_name": disk, "nsid": 1})
      each.rpc.call("nvmf_subsystem_add_host", nqn=nqn, host=hostnqn, psk="k")
      each.rpc.call("nvmf_subsystem_add_listener", nqn=nqn, secure_channel=True,
                    listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(ports[nqn])})
    address = ("127.0.0.1", ports[front_nqn])
    host = Controller(address, front_nqn, host_id=host_id, dial=dialler(HostKey(raw, 1, hostnqn, front_nqn)))
    do_io(host, "nvme")
    with socket.create_connection(address) as half:
      half.sendall(b"\x16\x03\x01\x02\x00")
      settled(server)
      wait_for(lambda: server.rpc.call("nvmf_get_stats")["connections"]["tls_handshakes"]["timed_out"] == 1, 20, "the half handshake to be given up")
    settled(server)
    quiet(server, "TLS connected on both sides", quiet_s=INITIATOR_QUIET_S)
    do_io(host, "nvme")
    host.close()
    server.terminate()
    back.terminate()


@cases.case("authentication: an attached controller's queues after new keys, and a queue that never finished")
def authentication(chosen):
  authenticated_controller(chosen, {}, {}, lambda queue: queue["auth"]["state"] == "completed")


@cases.case("secure channel concatenation: the same by TLS with a generated key")
def concatenation(chosen):
  authenticated_controller(chosen, {"secure_concatenation": "allowed"}, {"secure_concatenation": True},
                           lambda queue: (queue["tls"] or {}).get("key_type") == "generated")


def authenticated_controller(chosen, listener, attach, proven):
  hostnqn = "nqn.2026-11.io.catnap:idle-host"
  with tempfile.TemporaryDirectory(prefix="catnap-idle-") as folder, \
       Catnapd(chosen.catnapd, ["--wait-for-rpc"], name="idle-auth-back", log_folder=chosen.logs) as back, \
       Catnapd(chosen.catnapd, name="idle-auth", log_folder=chosen.logs) as server:
    back.rpc.call("nvmf_set_config", dhchap_timeout_ms=1000)
    back.rpc.call("framework_start_init")
    secrets = {name: dhchap.make_secret() for name in ("one", "two")}
    for name, secret in secrets.items():
      key = Path(folder) / name
      key.touch(mode=0o600)
      key.write_text(secret)
      for each in (back, server):
        each.rpc.call("keyring_file_add_key", name=name, path=str(key))
    port = free_port()
    back.rpc.call("nvmf_create_transport", trtype="TCP")
    back.rpc.call("bdev_malloc_create", name="M0", num_blocks=SIZE_BYTES // BLOCK_SIZE, block_size=BLOCK_SIZE)
    back.rpc.call("nvmf_create_subsystem", nqn=NQN)
    back.rpc.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "M0", "nsid": 1})
    back.rpc.call("nvmf_subsystem_add_host", nqn=NQN, host=hostnqn, dhchap_key="one", dhchap_ctrlr_key="two")
    back.rpc.call("nvmf_subsystem_add_listener", nqn=NQN, **listener,
                  listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)})
    server.rpc.call("bdev_nvme_attach_controller", name="Nvme0", trtype="TCP", adrfam="IPv4", traddr="127.0.0.1", trsvcid=str(port), subnqn=NQN,
                    hostnqn=hostnqn, dhchap_key="one", dhchap_ctrlr_key="two", **attach)
    front = free_port()
    server.rpc.call("nvmf_create_transport", trtype="TCP")
    export_disk(server.rpc, NQN + "-front", "Nvme0n1", [front])
    host = Controller(("127.0.0.1", front), NQN + "-front")
    do_io(host, "nvme")

    def authenticated():
      queues = back.rpc.call("nvmf_subsystem_get_qpairs", nqn=NQN)
      return len(queues) == 2 and all(proven(queue) for queue in queues)

    wait_for(authenticated, 20, "the queues to have authenticated")
    back.rpc.call("nvmf_subsystem_set_keys", nqn=NQN, host=hostnqn, dhchap_key="two", dhchap_ctrlr_key="one")
    server.rpc.call("bdev_nvme_set_keys", name="Nvme0", dhchap_key="two", dhchap_ctrlr_key="one")
    before = len(back.rpc.call("nvmf_subsystem_get_qpairs", nqn=NQN))
    half = AuthQueue(("127.0.0.1", port), NQN, hostnqn, secrets["two"])
    half.negotiate()
    half.challenge()
    wait_for(lambda: len(back.rpc.call("nvmf_subsystem_get_qpairs", nqn=NQN)) == before, 20, "the half authentication to be given up")
    for each, what in ((back, "hosts that have authenticated"), (server, "controllers that have authenticated")):
      settled(each)
      quiet(each, what, quiet_s=INITIATOR_QUIET_S)
    half.close()
    do_io(host, "nvme")
    host.close()
    server.terminate()
    back.terminate()


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
    before = thread_costs(server.process.pid)
    for _ in range(SCRAPES):
      time.sleep(1)  # as Prometheus would
      scrape(connection)
    after = thread_costs(server.process.pid)
    cpu_ms = sum(cpu_ns - before.get(thread, (name, 0, 0))[2] for thread, (name, _, cpu_ns) in after.items()) / 1e6
    print(f"  a page of {length} bytes: {cpu_ms / SCRAPES:.2f} ms of CPU for each scrape, {cpu_ms / SCRAPES / 10:.2f} % of a core", flush=True)
    assert cpu_ms / SCRAPES / 10 < MAX_CPU_PERCENT, f"a scrape each second costs {cpu_ms / SCRAPES / 10:.2f} % of a core"
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
