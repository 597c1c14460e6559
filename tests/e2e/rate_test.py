#!/usr/bin/env -S /usr/bin/python3
"""Rate limits against the clock: each limit with 1 and with 8 connections for some seconds, while another namespace runs free. The rate must be the limit
within 5 %, or within one I/O; what the machine cannot do without a limit is not asked of it.

Left out: fairness between connections, limits changed under load (tests/unit/bdev/core_limits_test.cpp, on a virtual clock).
"""
import json
import subprocess
import sys

from harness import Cases, Catnapd, NotHere, free_port, options

SECONDS = 10
CONNECTIONS = (1, 8)
TOLERANCE = 0.05
# With less room than this above the limit, before or after, the machine and not the limit was measured.
ROOM = 1.5
MIB = 1 << 20
# (parameter, limit, bytes per I/O, commands outstanding over all connections)
LIMITS = (("rw_ios_per_sec", 1, 4096, 8), ("rw_ios_per_sec", 10, 4096, 8), ("rw_ios_per_sec", 1000, 4096, 32), ("rw_ios_per_sec", 100_000, 512, 64),
          ("rw_mbytes_per_sec", 1, 4096, 32), ("rw_mbytes_per_sec", 100, 65536, 32))

cases = Cases("rate_test")


def nqn_of(name):
  return f"nqn.2026-11.io.catnap:{name}"


def configure(server):
  port = free_port()
  server.rpc.call("nvmf_create_transport", trtype="TCP")
  for name in ("limited", "free"):
    server.rpc.call("bdev_null_create", name=name, num_blocks=131072, block_size=512)
    server.rpc.call("nvmf_create_subsystem", nqn=nqn_of(name), allow_any_host=True)
    server.rpc.call("nvmf_subsystem_add_ns", nqn=nqn_of(name), namespace={"bdev_name": name})
    server.rpc.call("nvmf_subsystem_add_listener", nqn=nqn_of(name),
                    listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)})
  return port


def load(chosen, port, name, seconds, *arguments):
  """A load generator on that namespace; finished() gives what it prints."""
  return subprocess.Popen([chosen.catnapd.parent / "catnap-perf", "--trsvcid", str(port), "--nqn", nqn_of(name), "--json", "--seconds", str(seconds),
                           *arguments],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process):
  output, errors = process.communicate(timeout=60)
  assert process.returncode == 0, f"catnap-perf ended with {process.returncode}: {errors}"
  return json.loads(output)


def measure(chosen, port, seconds, size, depth, connections):
  """(what the limited namespace did, what the free one did meanwhile)."""
  free = load(chosen, port, "free", seconds, "--depth", "1")
  limited = load(chosen, port, "limited", seconds, "--size", str(size), "--depth", str(max(1, depth // connections)), "--queues", str(connections),
                 "--pattern", "randrw")
  return finished(limited), finished(free)


def within(parameter, limit, size, depth, connections):

  def run(chosen):
    with Catnapd(chosen.catnapd, name="rate", log_folder=chosen.logs) as server:
      port = configure(server)
      per_s = limit if parameter == "rw_ios_per_sec" else limit * MIB / size
      unlimited = measure(chosen, port, 1, size, depth, connections)[0]["iops"]
      server.rpc.call("bdev_set_qos_limit", name="limited", **{parameter: limit})
      limited, free = measure(chosen, port, SECONDS, size, depth, connections)
      server.rpc.call("bdev_set_qos_limit", name="limited", **{parameter: 0})
      unlimited = min(unlimited, measure(chosen, port, 1, size, depth, connections)[0]["iops"])
      expected = per_s * limited["seconds"]
      print(f"  {parameter} {limit}, {connections} connection(s): {limited['ios']} I/Os in {limited['seconds']:.2f} s, {expected:.0f} expected "
            f"({100 * (limited['ios'] / expected - 1):+.2f} %); meanwhile {free['iops']} I/Os a second on the free namespace, "
            f"{unlimited} without the limit before or after", flush=True)
      off = limited["ios"] - expected
      if off < -TOLERANCE * expected and unlimited < ROOM * per_s:
        raise NotHere(f"{unlimited} I/Os a second were possible here before or after, {per_s:.0f} are the limit")
      assert abs(off) <= max(1, TOLERANCE * expected), f"{limited['ios']} I/Os, {expected:.0f} expected"
      server.terminate()

  return run


for parameter_name, value, io_bytes, outstanding in LIMITS:
  for count in CONNECTIONS:
    cases.case(f"{parameter_name} {value} over {count} connection(s)")(within(parameter_name, value, io_bytes, outstanding, count))


if __name__ == "__main__":
  command_line = options(__doc__.split("\n")[0])
  sys.exit(cases.run(command_line, command_line.only))
