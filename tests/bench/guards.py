#!/usr/bin/env -S /usr/bin/python3
"""What catnapd's defences cost those who do nothing wrong, in pairs.

  tests/bench/guards.py seccomp [--pairs 9]     IOPS, CPU per I/O and p99 with --seccomp on to those with off; each pair is two servers in turn
  tests/bench/guards.py crowd [--pairs 5]       I/O latency of a host beside 1,000 half handshakes, of TLS and of DH-HMAC-CHAP

The crowd comes in two ways. `held`: 1,000 connections have begun to prove themselves, the server has answered, and they are silent; the pair is with and
without them. `storm`: such connections come without an end, a fixed number a second, and leave; the other half of the pair is the same storm at another catnapd of
this machine, so that both halves have the same number of processes that want a CPU. The CPU that the reactor's OS thread took says whether it was given any of that
work, whatever else the machine does. Server on CPU 0, load on CPU 1, 4 KiB random reads. Prints medians and
spread; wants a machine that does nothing else. Left out: judging it; what is refused, and that nothing leaks (secure_channel_test, auth_test).
"""
import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
for folder in ("e2e", "protocol/rpc", "lib"):
  sys.path.insert(0, str(HERE.parent / folder))
from auth_host import AuthQueue, dhchap  # noqa: E402
from harness import ROOT, Catnapd, die_with_parent, free_port, wait_for  # noqa: E402
from tls_keys import HostKey, client_hello, interchange  # noqa: E402

NQN, HOST = "nqn.2026-11.io.catnap:guards", "nqn.2026-11.io.catnap:crowd"
CROWD, PER_SECOND = 1000, {"tls": 200, "auth": 50}
# Longer than anything here takes: the crowd is to be there all the time.
PATIENCE_MS = 120_000
KEY = bytes(range(32))


class Target:
  """catnapd with a malloc namespace for everybody in the clear, and listeners whose hosts must prove themselves."""

  def __init__(self, chosen, name, confined=None, cpu=0):
    self.server = Catnapd(chosen.bin / "catnapd", ["-m", f"[{cpu}]", "--wait-for-rpc"], name=name, confined=confined)
    rpc = self.rpc = self.server.__enter__().rpc
    self.port, self.secure_port = free_port(), free_port()
    rpc.call("nvmf_set_config", dhchap_timeout_ms=PATIENCE_MS, dhchap_failures_per_minute=0)
    rpc.call("framework_start_init")
    rpc.call("nvmf_create_transport", trtype="TCP", tls_handshake_timeout_ms=PATIENCE_MS, max_tls_handshakes=2 * CROWD, max_half_open=2 * CROWD,
             max_half_open_per_host=2 * CROWD, connect_timeout_ms=PATIENCE_MS)
    rpc.call("bdev_malloc_create", name="m0", num_blocks=131072, block_size=512)
    rpc.call("nvmf_create_subsystem", nqn=NQN, allow_any_host=True)
    rpc.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "m0"})
    for name, text in (("psk", interchange(KEY, 1)), ("secret", dhchap.make_secret())):
      path = self.server.folder / name
      path.touch(mode=0o600)
      path.write_text(text + "\n")
      rpc.call("keyring_file_add_key", name=name, path=str(path))
    rpc.call("nvmf_subsystem_add_host", nqn=NQN, host=HOST, psk="psk", dhchap_key="secret")
    for port, secure in ((self.port, False), (self.secure_port, True)):
      rpc.call("nvmf_subsystem_add_listener", nqn=NQN, secure_channel=secure,
               listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)})

  def half_done(self, kind):
    if kind == "tls":
      return self.rpc.call("nvmf_get_stats")["connections"]["tls_handshakes"]["under_way"]
    return sum((queue.get("auth") or {}).get("state") != "completed" for queue in self.rpc.call("nvmf_subsystem_get_qpairs", nqn=NQN) if queue.get("auth"))

  def load(self, chosen, *more, pattern="randread"):
    """What catnap-perf says of a run."""
    arguments = ["--json", "--trsvcid", self.port, "--nqn", NQN, "--pattern", pattern, "--size", 4096, "--seconds", chosen.seconds, "--cpu", 1, "--pid",
                 self.server.process.pid, *more]
    begun, cpu_ns = time.monotonic_ns(), self.reactor_cpu_ns()
    done = subprocess.run([chosen.bin / "catnap-perf", *map(str, arguments)], capture_output=True, text=True, timeout=120 + 4 * chosen.seconds, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    result["reactor_cpu_percent"] = 100 * (self.reactor_cpu_ns() - cpu_ns) / (time.monotonic_ns() - begun)
    return result

  def reactor_cpu_ns(self):
    """Of the reactor's OS thread alone: what is done elsewhere in the process, and what other processes do, is not in it."""
    tid = self.rpc.call("framework_get_reactors")["reactors"][0]["tid"]
    return int(Path(f"/proc/{self.server.process.pid}/task/{tid}/schedstat").read_text().split()[0])

  def end(self):
    self.server.terminate()
    self.server.__exit__(None, None, None)


# --- the crowd: a process of its own ---


def half_tls(port):
  key = HostKey(KEY, 1, HOST, NQN)
  connection = socket.create_connection(("127.0.0.1", port), 60)
  connection.sendall(client_hello(key.identity, key.psk, 1))
  assert connection.recv(4096)[:2] == b"\x16\x03", "no ServerHello"
  return connection


def half_auth(port):
  queue = AuthQueue(("127.0.0.1", port), NQN, HOST, "unused")
  queue.negotiate(groups=(1,))
  queue.challenge()
  return queue


HALF = {"tls": half_tls, "auth": half_auth}


def be_crowd(kind, port, manner):
  """The other program: says when its connections are there, and stays until its input ends."""
  held = [HALF[kind](port) for _ in range(CROWD)] if manner == "held" else []
  print("there", flush=True)
  if manner == "held":
    sys.stdin.read()
  begun, count = time.monotonic(), 0
  while manner == "storm":
    HALF[kind](port).close()
    count += 1
    time.sleep(max(0.0, begun + count / PER_SECOND[kind] - time.monotonic()))
  for one in held:
    one.close()


class Crowd:
  def __init__(self, kind, port, manner):
    self.process = subprocess.Popen([sys.executable, __file__, "be-crowd", kind, str(port), manner], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                    preexec_fn=die_with_parent)
    assert self.process.stdout.readline() == b"there\n", "the crowd did not come"

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self.process.kill()
    self.process.communicate()


# --- the two questions ---


def spread(values, digits=2):
  values = sorted(values)
  return f"{statistics.median(values):.{digits}f} ({values[0]:.{digits}f} to {values[-1]:.{digits}f})"


def in_turn(index, first, second):
  """Both, the first one first in every other pair; a machine that becomes slower meanwhile wrongs neither."""
  if index % 2 == 0:
    one = first()
    return one, second()
  other = second()
  return first(), other


def crowd(chosen):
  target, other = Target(chosen, "guards-target"), Target(chosen, "guards-elsewhere", cpu=1)
  load = ("--depth", 4, "--rate", chosen.rate)
  target.rpc.call("reactor_set_mode", mode="interrupt")  # so that its CPU is what it does, and not looking around
  target.load(chosen, "--depth", 4)
  try:
    print(f"4 KiB random reads, {chosen.rate} a second, {chosen.pairs} pairs of {chosen.seconds} s; latency in us\n")
    print("| Crowd | 99 % within, with | without | ratio of the pairs | CPU of the reactor, %, with | without |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind in HALF:
      pairs = [in_turn(index, lambda: beside_held(chosen, target, kind, load), lambda: target.load(chosen, *load)) for index in range(chosen.pairs)]
      tell(f"{kind}, {CROWD} held", pairs)
      pairs = [in_turn(index, lambda: beside_storm(chosen, target, target, kind, load), lambda: beside_storm(chosen, target, other, kind, load))
               for index in range(chosen.pairs)]
      tell(f"{kind}, {PER_SECOND[kind]} a second (without: at another catnapd)", pairs)
  finally:
    target.end()
    other.end()


def beside_held(chosen, target, kind, load):
  with Crowd(kind, target.secure_port if kind == "tls" else target.port, "held"):
    wait_for(lambda: target.half_done(kind) >= CROWD, 60, "the whole crowd")
    result = target.load(chosen, *load)
    assert target.half_done(kind) >= CROWD, "some have left"
  wait_for(lambda: target.half_done(kind) == 0, 60, "its end")
  return result


def beside_storm(chosen, target, at, kind, load):
  with Crowd(kind, at.secure_port if kind == "tls" else at.port, "storm"):
    return target.load(chosen, *load)


def tell(name, pairs):
  def column(key, side, digits):
    return spread([pair[side][key] for pair in pairs], digits)

  ratios = [pair[0]["p99_us"] / pair[1]["p99_us"] for pair in pairs]
  print(f"| {name} | {column('p99_us', 0, 0)} | {column('p99_us', 1, 0)} | {spread(ratios)} | {column('reactor_cpu_percent', 0, 1)} | "
        f"{column('reactor_cpu_percent', 1, 1)} |", flush=True)


def seccomp(chosen):
  print(f"{chosen.pairs} pairs of {chosen.seconds} s, servers in turn: --seccomp on to --seccomp off\n")
  print("| 4 KiB random reads | IOPS | CPU per I/O | 99 % within |\n| --- | --- | --- | --- |")
  # On against on first: what the machine itself makes of such a ratio.
  for name, others in (("on to on", "on"), ("on to off", "off")):
    for depth in (1, 32):
      pairs = [in_turn(index, lambda: one_server(chosen, "on", depth), lambda others=others: one_server(chosen, others, depth)) for index in range(chosen.pairs)]
      columns = [spread([pair[0][key] / max(pair[1][key], 1e-9) for pair in pairs], 3) for key in ("iops", "target_cpu_us_per_io", "p99_us")]
      print(f"| {name}, depth {depth} | " + " | ".join(columns) + " |", flush=True)


def one_server(chosen, mode, depth):
  target = Target(chosen, f"guards-{mode}", confined=("--seccomp", mode))
  try:
    target.load(chosen, "--depth", 32, pattern="write")  # memory that was never written is one shared page
    target.rpc.call("reactor_set_mode", mode=chosen.mode)
    return target.load(chosen, "--depth", depth)
  finally:
    target.end()


def main():
  if sys.argv[1:2] == ["be-crowd"]:
    return be_crowd(sys.argv[2], int(sys.argv[3]), sys.argv[4])
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("question", choices=("seccomp", "crowd"))
  parser.add_argument("--bin", type=Path, default=ROOT / "build" / "release" / "bin", help="folder of catnapd and catnap-perf")
  parser.add_argument("--pairs", type=int, default=7)
  parser.add_argument("--seconds", type=float, default=2.0, help="of each half of a pair")
  parser.add_argument("--rate", type=int, default=2000, help="I/Os a second beside the crowd")
  parser.add_argument("--mode", default="interrupt", choices=("interrupt", "adaptive", "poll"), help="of the reactor, for seccomp: asleep it calls the kernel most")
  chosen = parser.parse_args()
  if len(os.sched_getaffinity(0)) < 2:
    print("SKIPPED: two CPUs are needed, one for the server and one for the load")
    return 77
  return {"seccomp": seccomp, "crowd": crowd}[chosen.question](chosen)


if __name__ == "__main__":
  sys.exit(main())
