#!/usr/bin/env -S /usr/bin/python3
"""What catnapd costs while nobody does I/O: with each kind of bdev, two hosts connected (one with digests), after their I/O, for 10 quiet seconds.

Counted for the whole process, all threads: wake-ups (voluntary context switches) and CPU time. Left out: hosts that send keep-alives (each is a wake-up
that the host asked for), the cost of I/O itself (tests/bench).
"""
import sys
import tempfile
import time
from pathlib import Path

from harness import Cases, Catnapd, free_port, options
from nvme_client import Controller

NQN = "nqn.2026-11.io.catnap:idle"
QUIET_S = 10
MAX_WAKEUPS_PER_S = 5
MAX_CPU_PERCENT = 1
SIZE_BYTES = 16 << 20
BLOCK_SIZE = 512

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


def measure(kind):
  """One server, one bdev of this kind, two hosts; I/O, then quiet."""

  def run(chosen):
    with tempfile.TemporaryDirectory(prefix="catnap-idle-") as folder, Catnapd(chosen.catnapd, name=f"idle-{kind}", log_folder=chosen.logs) as server:
      if kind in ("aio", "uring"):
        path = Path(folder) / "disk"
        with open(path, "wb") as disk:
          disk.truncate(SIZE_BYTES)
        server.rpc.call(f"bdev_{kind}_create", name="disk", filename=str(path), block_size=BLOCK_SIZE)
      else:
        server.rpc.call(f"bdev_{kind}_create", name="disk", num_blocks=SIZE_BYTES // BLOCK_SIZE, block_size=BLOCK_SIZE)
      port = free_port()
      server.rpc.call("nvmf_create_transport", trtype="TCP")
      server.rpc.call("nvmf_create_subsystem", nqn=NQN, serial_number="IDLE", allow_any_host=True)
      server.rpc.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "disk"})
      server.rpc.call("nvmf_subsystem_add_listener", nqn=NQN, listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)})
      hosts = [Controller(("127.0.0.1", port), NQN), Controller(("127.0.0.1", port), NQN, header_digest=True, data_digest=True)]
      for host in hosts:
        do_io(host, kind)

      before = thread_costs(server.process.pid)
      started = time.monotonic()
      time.sleep(QUIET_S)  # this is the measurement itself, not a wait for something
      seconds = time.monotonic() - started
      after = thread_costs(server.process.pid)

      costs = {}
      for thread, (name, switches, cpu_ns) in after.items():
        _, switches_before, cpu_ns_before = before.get(thread, (name, 0, 0))
        costs[f"{name} ({thread})"] = (switches - switches_before, (cpu_ns - cpu_ns_before) / 1e6)
      wakeups = sum(count for count, _ in costs.values()) / seconds
      cpu_percent = sum(cpu_ms for _, cpu_ms in costs.values()) / seconds / 10
      print(f"  {kind}: {wakeups:.2f} wake-ups/s, {cpu_percent:.3f} % CPU, {len(after)} threads", flush=True)
      if wakeups > MAX_WAKEUPS_PER_S or cpu_percent > MAX_CPU_PERCENT:
        threads = "\n".join(f"  {name}: {count} wake-ups, {cpu_ms:.1f} ms" for name, (count, cpu_ms) in costs.items())
        raise AssertionError(f"{kind}: more than {MAX_WAKEUPS_PER_S} wake-ups/s or {MAX_CPU_PERCENT} % CPU in {seconds:.1f} quiet seconds\n{threads}\n"
                             f"{server.rpc.call('framework_get_reactors')}")
      # It woke up well: the same connections still work.
      for host in hosts:
        host.read(1, 0, 4096)
        host.close()
      server.terminate()

  return run


for bdev_kind in ("null", "malloc", "aio", "uring"):
  cases.case(f"quiet with {bdev_kind}")(measure(bdev_kind))


if __name__ == "__main__":
  command_line = options(__doc__.split("\n")[0])
  sys.exit(cases.run(command_line, command_line.only))
