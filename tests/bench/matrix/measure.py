"""Runs cases: the yardstick and catnapd in turn, in pairs, with one server for all cases of a kind of bdev.

Left out: which cases (cases.py), what to make of the figures (report.py).
"""
import contextlib
import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "e2e"))
from harness import Catnapd, die_with_parent, free_port  # noqa: E402  (the end-to-end tests' way of running catnapd)

NQN = "nqn.2026-11.io.catnap:bench"
BLOCK_SIZE = 512
MOST_STANDSTILLS = 5  # of a pair; more is a fault of the yardstick
MAXIMUM_RUNS = 3  # that a rate is a part of
DISK_BYTES = 64 << 20
HOST_NQN = "nqn.2014-08.org.nvmexpress:uuid:7065726f-0000-4000-8000-000000000001"  # catnap-perf's
PSK = "NVMeTLSkey-1:01:VRLbtnN9AQb2WXW3c9+wEf/DRLz0QuLdbYvEhwtdWwNf9LrZ:"  # the example of the TCP Transport specification


@dataclasses.dataclass
class Pair:
  """One run of each, right after the other."""
  bound: dict
  catnap: dict

  def fraction(self):
    return self.catnap["iops"] / self.bound["iops"]

  def cpu_ratio(self):
    return self.catnap["target_cpu_us_per_io"] / max(self.bound["target_cpu_us_per_io"], 1e-9)


@dataclasses.dataclass
class Result:
  case: object
  pairs: list
  rate: int = 0

  def values(self, of):
    return sorted(of(pair) for pair in self.pairs)

  def median(self, of):
    return statistics.median(self.values(of))

  def fraction(self):
    return self.median(Pair.fraction)

  def cpu_ratio(self):
    return self.median(Pair.cpu_ratio)


class Competitors:
  """Processes that want all of a CPU, but only inside `with`: who else works there meanwhile gets a quarter of it."""
  COUNT = 3  # a server that sleeps now and then takes little harm from one

  def __init__(self, cpu):
    self.processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"], preexec_fn=lambda: (die_with_parent(), os.sched_setaffinity(0, {cpu})))
                      for _ in range(self.COUNT)]
    self._tell(signal.SIGSTOP)

  def _tell(self, what):
    for process in self.processes:
      process.send_signal(what)

  def __enter__(self):
    self._tell(signal.SIGCONT)

  def __exit__(self, *unused):
    self._tell(signal.SIGSTOP)

  def end(self):
    self._tell(signal.SIGKILL)
    for process in self.processes:
      process.wait()


class Bench:
  """Servers as cases need them; the server on one CPU, the load on another. `slowed`: catnapd has competitors, the yardstick has none. `unpaced`: the yardstick
  does without the system's congestion control, as catnapd does within a host; then it is the same on every machine."""

  def __init__(self, bin_folder, seconds, pairs, logs=None, warm_up_seconds=None, slowed=False, unpaced=False):
    self.bin = bin_folder
    self.seconds = seconds
    self.warm_up_seconds = warm_up_seconds  # None: as the programs think best
    self.pairs = pairs
    self.unpaced = unpaced
    self.logs = logs
    cpus = sorted(os.sched_getaffinity(0))
    self.server_cpu, self.client_cpu = cpus[0], cpus[-1]
    self.competitors = Competitors(self.server_cpu) if slowed else None
    self.server = None
    self.bdev, self.disk_bytes = None, 0
    self.most_iops = {}  # by case: found once, so that what is compared has the same rate
    self.port = self.secure_port = 0
    self.folder = tempfile.TemporaryDirectory(prefix="catnap-bench-")

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self._stop()
    if self.competitors:
      self.competitors.end()
    self.folder.cleanup()

  def measure(self, case):
    return self.measure_together([case])[0]

  def measure_together(self, cases):
    """Cases that will be compared with each other, in turn within each round: a machine that becomes slower or faster meanwhile wrongs none of them."""
    self._serve(cases[0])
    results = [Result(case, [], self._rate_of(case)) for case in cases]
    for index in range(self.pairs):
      for result in results if index % 2 == 0 else reversed(results):
        result.pairs.append(self._pair(result.case, result.rate, index % 2 == 0))
    return results

  def _rate_of(self, case):
    """Of what catnapd itself reaches in poll mode: half of what the yardstick does may be more than that, and then there is a queue, not a rate."""
    if not case.load_percent:
      return 0
    full = dataclasses.replace(case, load_percent=0, burst=1, mode="poll")
    if full not in self.most_iops:
      self.most_iops[full] = statistics.median(self._catnap(full, 0)["iops"] for _ in range(MAXIMUM_RUNS))
    return max(1, int(self.most_iops[full] * case.load_percent / 100))

  def _pair(self, case, rate, bound_first):
    """A pair whose yardstick got nothing done says nothing (the machine stood still, as virtual ones do): it is measured again."""
    for _ in range(MOST_STANDSTILLS):
      bound = self._bound(case, rate) if bound_first else None
      catnap = self._catnap(case, rate)
      pair = Pair(bound or self._bound(case, rate), catnap)
      if pair.bound["iops"] > 0:
        return pair
    raise RuntimeError(f"{case.name()}: in {MOST_STANDSTILLS} runs one after another bare TCP got nothing done")

  def _bound(self, case, rate):
    request, response = case.shapes()
    arguments = ["--request", request, "--response", response, "--depth", case.depth * case.connections, "--server-cpu", self.server_cpu,
                 "--client-cpu", self.client_cpu]
    if self.unpaced:
      arguments.append("--unpaced")
    # At a fixed rate the question is what sleeping costs, so there the yardstick sleeps as well.
    if rate or case.mode == "interrupt":
      arguments.append("--server-waits")
    if rate:
      arguments += ["--rate", rate, "--burst", case.burst]
    return self._run("catnap-tcp-bound", arguments)

  def _catnap(self, case, rate):
    self.server.rpc.call("reactor_set_mode", mode=case.mode)
    arguments = ["--json", "--trsvcid", self.secure_port if case.tls else self.port, "--nqn", NQN, "--pattern", case.pattern, "--size", case.size, "--depth", case.depth, "--connections",
                 case.connections, "--cpu", self.client_cpu, "--pid", self.server.process.pid]
    if case.digests:
      arguments += ["--hdgst", "--ddgst"]
    if case.tls:
      arguments += ["--psk-file", Path(self.folder.name) / "psk"]
    if rate:
      arguments += ["--rate", rate, "--burst", case.burst]
    with self.competitors or contextlib.nullcontext():
      return self._run("catnap-perf", arguments)

  def _run(self, program, arguments):
    arguments = [*arguments, "--seconds", self.seconds, *([] if self.warm_up_seconds is None else ["--warm-up", self.warm_up_seconds])]
    done = subprocess.run([self.bin / program, *map(str, arguments)], capture_output=True, text=True,
                          timeout=120 + 4 * self.seconds, check=False)
    if done.returncode != 0:
      raise RuntimeError(f"{program} {' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return json.loads(done.stdout)

  def _serve(self, case):
    # Each connection has a part of its own of the disk, with room for one I/O at least.
    disk_bytes = max(DISK_BYTES, case.connections * case.size)
    if self.server is not None and (self.bdev, self.disk_bytes) == (case.bdev, disk_bytes):
      return
    self._stop()
    self.bdev, self.disk_bytes = case.bdev, disk_bytes
    self.server = Catnapd(self.bin / "catnapd", ["-m", f"[{self.server_cpu}]"], name=f"bench-{case.bdev}", log_folder=self.logs)
    rpc = self.server.__enter__().rpc
    self.port = free_port()
    if case.bdev == "uring":
      path = Path(self.folder.name) / "disk"
      path.write_bytes(bytes(disk_bytes))
      rpc.call("bdev_uring_create", name="disk", filename=str(path), block_size=BLOCK_SIZE)
    else:
      rpc.call(f"bdev_{case.bdev}_create", name="disk", num_blocks=disk_bytes // BLOCK_SIZE, block_size=BLOCK_SIZE)
    rpc.call("nvmf_create_transport", trtype="TCP", max_io_size=1 << 20, max_queue_depth=256)
    rpc.call("nvmf_create_subsystem", nqn=NQN, allow_any_host=True)
    rpc.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "disk"})
    rpc.call("nvmf_subsystem_add_listener", nqn=NQN, listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(self.port)})
    self._serve_securely(rpc)
    # Memory that was never written is one shared page; both sides' copies should be of real ones.
    self._run_once_over()

  def _serve_securely(self, rpc):
    """The same subsystem by TLS, for catnap-perf's host."""
    key = Path(self.folder.name) / "psk"
    key.touch(mode=0o600)
    key.write_text(PSK)
    self.secure_port = free_port()
    rpc.call("keyring_file_add_key", name="psk", path=str(key))
    rpc.call("nvmf_subsystem_add_host", nqn=NQN, host=HOST_NQN, psk="psk")
    rpc.call("nvmf_subsystem_add_listener", nqn=NQN, secure_channel=True,
             listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(self.secure_port)})

  def _run_once_over(self):
    if self.bdev == "null":
      return
    subprocess.run([self.bin / "catnap-perf", "--trsvcid", str(self.port), "--nqn", NQN, "--pattern", "write", "--size", "131072", "--depth", "16", "--seconds",
                    "0.5", "--warm-up", "0"], check=True, capture_output=True, timeout=120)

  def _stop(self):
    if self.server is not None:
      self.server.terminate()
      self.server.__exit__(None, None, None)
      self.server = None
