#!/usr/bin/env -S /usr/bin/python3
"""What poll periods of the initiator cost and bring: CPU, IOPS and latency at each period, event driven, and with a polling reactor, and CPU when idle.

  tests/bench/poll_periods.py [--bin build/release/bin] [--seconds 2] [--rounds 3]
  tests/bench/poll_periods.py --latency [--rounds 15] [--seconds 1]

With --latency only the question what waiting costs at queue depth 1: pairs of an adaptive reactor and the same one polling, one right after the other, and the median
of their differences, which should be within 15 us. Wants a quiet machine; exit status 1 if it is more.

catnap-perf -> catnapd with the initiator -> catnapd with a null bdev, all over loopback. The periods are changed on the live controller. CPU is that of
the catnapd with the initiator, all threads. Medians over rounds, each of which measures every row once. Prints a Markdown table. Left out: judging it.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))
from harness import ROOT, Catnapd, free_port  # noqa: E402
from nvme_client import Controller  # noqa: E402

BACK, FRONT = "nqn.2026-11.io.catnap:back", "nqn.2026-11.io.catnap:front"
TICKS = os.sysconf("SC_CLK_TCK")
# Name, nvme_ioq_poll_period_us, reactor mode of the initiator.
ROWS = [("event", 0, "adaptive"), ("10 us", 10, "adaptive"), ("100 us", 100, "adaptive"), ("1000 us", 1000, "adaptive"), ("10000 us", 10000, "adaptive"),
        ("event, polling reactor", 0, "poll")]
DEPTHS = (1, 32)
LATENCY_BOUND_US = 15


def export(server, nqn, bdev):
  port = free_port()
  server.rpc.call("nvmf_create_transport", trtype="TCP")
  server.rpc.call("nvmf_create_subsystem", nqn=nqn, allow_any_host=True)
  server.rpc.call("nvmf_subsystem_add_ns", nqn=nqn, namespace={"nsid": 1, "bdev_name": bdev})
  server.rpc.call("nvmf_subsystem_add_listener", nqn=nqn, listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)})
  return port


def cpu_s(process):
  fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
  return (int(fields[11]) + int(fields[12])) / TICKS


def choose(server, period_us, mode):
  server.rpc.call("bdev_nvme_set_options", nvme_ioq_poll_period_us=period_us)
  server.rpc.call("reactor_set_mode", mode=mode)
  effective = server.rpc.call("bdev_nvme_get_controllers")[0]["ctrlrs"][0]["ioq_poll_period_us"]
  assert effective == period_us, f"period {effective} instead of {period_us}"


def idle(server, port, seconds):
  """With a host connected, without which the initiator has no I/O queue that could be polled."""
  host = Controller(("127.0.0.1", port), FRONT)
  host.read(1, 0, 4096)
  before = cpu_s(server.process)
  time.sleep(seconds)
  percent = 100 * (cpu_s(server.process) - before) / seconds
  host.close()
  return percent


def load(server, perf, port, depth, seconds):
  done = subprocess.run([perf, "--trsvcid", str(port), "--nqn", FRONT, "--depth", str(depth), "--seconds", str(seconds), "--json", "--wait", "--cpu", "0",
                         "--pid", str(server.process.pid)], capture_output=True, text=True, check=True)
  return json.loads(done.stdout)


def latency(middle, perf, port, rounds, seconds):
  """Pairs, so that what else the machine does falls on both."""
  differences, waiting, polling = [], [], []
  for _ in range(rounds):
    pair = []
    for mode in ("adaptive", "poll"):
      choose(middle, 0, mode)
      pair.append(load(middle, perf, port, 1, seconds)["p50_us"])
    waiting.append(pair[0])
    polling.append(pair[1])
    differences.append(pair[0] - pair[1])
  extra = statistics.median(differences)
  spread = f"{min(differences):.1f} to {max(differences):.1f}"
  print(f"queue depth 1, p50 of {rounds} pairs: adaptive {statistics.median(waiting):.1f} us, polling {statistics.median(polling):.1f} us; "
        f"waiting costs {extra:.1f} us (median; {spread}), bound {LATENCY_BOUND_US} us")
  return 0 if extra <= LATENCY_BOUND_US else 1


def main():
  parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
  parser.add_argument("--bin", type=Path, default=ROOT / "build" / "release" / "bin")
  parser.add_argument("--seconds", type=float, help="per measurement; 2, with --latency 1")
  parser.add_argument("--rounds", type=int, help="3, with --latency 15")
  parser.add_argument("--latency", action="store_true", help="only adaptive against polling at queue depth 1")
  chosen = parser.parse_args()
  chosen.seconds = chosen.seconds or (1 if chosen.latency else 2)
  chosen.rounds = chosen.rounds or (15 if chosen.latency else 3)
  results = {name: [] for name, _, _ in ROWS}
  with Catnapd(chosen.bin / "catnapd", ["-m", "[0]"], name="back") as back, Catnapd(chosen.bin / "catnapd", ["-m", "[1]"], name="initiator") as middle:
    back.rpc.call("bdev_null_create", name="Null0", num_blocks=1 << 20, block_size=512)
    back_port = export(back, BACK, "Null0")
    middle.rpc.call("bdev_nvme_attach_controller", name="Remote", trtype="TCP", traddr="127.0.0.1", adrfam="IPv4", trsvcid=str(back_port), subnqn=BACK)
    port = export(middle, FRONT, "Remoten1")
    if chosen.latency:
      return latency(middle, chosen.bin / "catnap-perf", port, chosen.rounds, chosen.seconds)
    for _ in range(chosen.rounds):
      for name, period_us, mode in ROWS:
        choose(middle, period_us, mode)
        row = {"idle": idle(middle, port, chosen.seconds)}
        for depth in DEPTHS:
          row[depth] = load(middle, chosen.bin / "catnap-perf", port, depth, chosen.seconds)
        results[name].append(row)
  print("| Poll period | " + " | ".join(f"IOPS, depth {depth} | p50, us | p99, us | CPU, %" for depth in DEPTHS) + " | idle CPU, % |")
  print("| --- |" + " --- |" * (4 * len(DEPTHS) + 1))
  for name, rows in results.items():
    cells = []
    for depth in DEPTHS:
      for key, form in (("iops", "{:,.0f}"), ("p50_us", "{:,.0f}"), ("p99_us", "{:,.0f}"), ("target_cpu_percent", "{:.0f}")):
        cells.append(form.format(statistics.median(row[depth][key] for row in rows)))
    cells.append(f"{statistics.median(row['idle'] for row in rows):.1f}")
    print(f"| {name} | " + " | ".join(cells) + " |")
  return 0


if __name__ == "__main__":
  sys.exit(main())
