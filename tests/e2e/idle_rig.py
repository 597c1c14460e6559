"""What idle_test's cases share: what a process costs while nobody asks it for anything, how to wait until it may be judged, and servers with one disk.

Counted for the whole process, all threads: wake-ups (voluntary context switches) and CPU time. Left out: the cases (idle_test.py, idle_remote.py).
"""
import os
import time
from pathlib import Path

from harness import Cases, free_port, wait_for

NQN = "nqn.2026-11.io.catnap:idle"
# Rates are judged, and what happens less often than they allow passes in a long window as well; so a short one finds the same.
QUIET_S = 10 if os.environ.get("CATNAP_SOAK") else 2
MAX_WAKEUPS_PER_S = 5
MAX_CPU_PERCENT = 1
SIZE_BYTES = 16 << 20
BLOCK_SIZE = 512
MANY_NAMESPACES = 1000
ARRAY_LEVELS = {"raid0": {"strip_size_kb": 16}, "concat": {"strip_size_kb": 16}, "raid1": {}, "raid1_superblock": {"superblock": True}}
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
