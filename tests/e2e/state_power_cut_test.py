#!/usr/bin/env -S /usr/bin/python3
"""catnapd with a state file inside a guest whose power is cut while several clients configure it: after the next boot exactly what was acknowledged is
there, of the call in flight its effect or not.

The state file is on an ext4 file system on a disk that forgets unflushed writes (volatile_disk.py). The cuts take turns: the virtual machine is killed and
a random half of the disk's volatile sectors is lost, or the guest resets itself (sysrq b) and all of them are. CATNAP_SOAK=1: 10 cuts.
`--without-flush LIBRARY` is the proof by mutation: with the syncs cut out of catnapd (no_flush_shim.cpp) a cut must be seen to lose what was
acknowledged. Left out: kill -9 (tests/protocol/rpc/state_test.py, from which the clients are).
"""
import json
import os
import random
import socket
import subprocess
import sys
import threading
from pathlib import Path

from guest import PATIENCE, Guest
from guest_image import Cpio, add_program
from harness import ROOT, Cases, free_port, options, run_program, wait_for
from volatile_disk import VolatileDisk

sys.path.insert(0, str(ROOT / "tests" / "protocol" / "rpc"))
from state_test import CLIENTS, Model, RpcFailure  # noqa: E402

DISK_BYTES = 24 << 20
PORT_IN_GUEST = 5260
CUTS = 10 if os.environ.get("CATNAP_SOAK") == "1" else 2
CALLS_BEFORE_CUT = 120
CALLING_TIMEOUT_S = 300 * PATIENCE

cases = Cases("state_power_cut_test")
case = cases.case


class TcpRpc:
  """One connection to the guest's JSON-RPC socket, led there by socat."""

  def __init__(self, port):
    self.socket = socket.create_connection(("127.0.0.1", port), timeout=60 * PATIENCE)
    self.received = b""
    self.last_id = 0

  def call(self, method, params=None):
    self.last_id += 1
    try:
      self.socket.sendall(json.dumps({"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params or {}}).encode())
      while b"\n" not in self.received:
        piece = self.socket.recv(65536)
        if not piece:
          raise RpcFailure("the connection ended")
        self.received += piece
    except OSError as problem:
      raise RpcFailure(f"the connection is lost: {problem}") from problem
    line, self.received = self.received.split(b"\n", 1)
    reply = json.loads(line)
    if "error" in reply:
      raise RpcFailure(f"{method}: {reply['error']}", reply["error"])
    return reply["result"]

  def close(self):
    self.socket.close()


class Rig:
  """The disk and the guest that catnapd runs in."""

  def __init__(self, folder, chosen):
    self.folder = folder
    self.logs = chosen.logs
    self.mutated = chosen.without_flush is not None
    self.random = random.Random(chosen.seed)
    self.seed = chosen.seed
    self.overlay = self.make_overlay(chosen)
    self.disk = VolatileDisk(folder / "vda", image=self.ext4_image())
    self.port = free_port()
    self.models = [Model(f"C{number}x", chosen.seed + number) for number in range(CLIENTS)]
    self.boots = 0
    self.guest = None

  def make_overlay(self, chosen):
    path = self.folder / "catnapd.cpio"
    archive = Cpio(path)
    add_program(archive, chosen.catnapd, "usr/bin/catnapd")
    if chosen.without_flush:
      add_program(archive, chosen.without_flush, "usr/lib/no_flush_shim.so")
    archive.close()
    return path

  def ext4_image(self):
    path = self.folder / "ext4"
    with open(path, "wb") as file:
      file.truncate(DISK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(path)], check=True, stdout=subprocess.DEVNULL, env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"})
    return path.read_bytes()

  def boot(self):
    self.boots += 1
    if self.guest:
      self.guest.stop()
    self.disk.power_on()
    self.guest = Guest(f"state-power-cut-{'mutated-' if self.mutated else ''}{self.boots}", overlay=self.overlay, drives=[self.disk.drive()],
                       forwards=[(self.port, PORT_IN_GUEST)], log_folder=self.logs, reboots=True)
    self.guest.start()
    self.start_server()

  def start_server(self):
    # commit=600: the journal must not flush the disk by itself while a mutated server leaves that out.
    preload = "LD_PRELOAD=/usr/lib/no_flush_shim.so NO_FLUSH_SHIM=flush " if self.mutated else ""
    self.guest.check("modprobe crc32c-intel || modprobe crc32c_generic; modprobe ext4; mount -t ext4 -o commit=600 /dev/vda /mnt; mkdir -p /var/tmp\n"
                     "[ \"$(cat /sys/block/vda/queue/write_cache)\" = 'write back' ]\n"
                     f"{preload}catnapd -r /run/rpc.sock --allow-path /dev --allow-path /mnt --state /mnt/state.json >/dev/kmsg 2>&1 &\n"
                     "catnapd=$!; until [ -S /run/rpc.sock ]; do kill -0 $catnapd; sleep 0.1; done\n"
                     f"socat TCP-LISTEN:{PORT_IN_GUEST},fork,reuseaddr UNIX-CONNECT:/run/rpc.sock >/dev/kmsg 2>&1 &", 60)
    self.guest.wait_for_console("system calls are filtered")  # where the harness looks for what was refused

    def answers():
      try:
        client = TcpRpc(self.port)
        client.call("framework_wait_init")
        client.close()
        return True
      except (OSError, RpcFailure):
        return False

    wait_for(answers, 60 * PATIENCE, "the server's first answer")

  def connect(self):
    return TcpRpc(self.port)

  def call_until_enough(self):
    """Starts the clients; returns their threads while they go on."""
    answered, lock, enough = [0], threading.Lock(), threading.Event()
    wanted = CALLS_BEFORE_CUT + self.random.randrange(20)

    def counter():
      with lock:
        answered[0] += 1
        if answered[0] >= wanted:
          enough.set()

    threads = [threading.Thread(target=model.run, args=(self, counter), daemon=True) for model in self.models]
    for thread in threads:
      thread.start()
    assert enough.wait(CALLING_TIMEOUT_S), f"{answered[0]} calls in {CALLING_TIMEOUT_S} s: {[model.problem for model in self.models]}"
    return threads

  def judge(self):
    """What differs from what was acknowledged, as sentences; the clients go on from what is there."""
    client = self.connect()
    differences = []
    for model in self.models:
      found = model.found(client)
      if found not in [model.state, model.in_flight]:
        differences.append(f"client {model.name} (seed {self.seed}) has\n{found}\ninstead of\n{model.state}\nor\n{model.in_flight}")
      model.state, model.in_flight = found, None
    state = client.call("framework_get_state")
    client.close()
    print(f"  {state['bytes']} bytes of state, {len(differences)} of {len(self.models)} clients find something else than was acknowledged", flush=True)
    return differences

  def close(self):
    if self.guest:
      self.guest.stop()
    self.disk.close()


@case(f"{CUTS} power cuts while it is configured")
def cuts(rig):
  rig.boot()
  seen = 0
  for number in range(1 if rig.mutated else CUTS):
    threads = rig.call_until_enough()
    if number % 2 == 0:
      rig.disk.cut(rig.random)
      rig.guest.kill()
    else:
      rig.guest.send("echo b >/proc/sysrq-trigger")
      rig.guest.wait_ready()
      rig.disk.forget()
    for thread in threads:
      thread.join(90 * PATIENCE)
      assert not thread.is_alive(), "a client does not end"
    for model in rig.models:
      assert model.problem is None, model.problem
    if number % 2 == 0:
      rig.boot()
    else:
      rig.start_server()
    differences = rig.judge()
    seen += len(differences)
    assert rig.mutated or not differences, "\n".join(differences)
  assert seen or not rig.mutated, f"syncs were cut out, and no loss was seen (seed {rig.seed})"


def main():
  chosen = options(__doc__.split("\n")[0],
                   ("--without-flush", {"type": Path, "metavar": "LIBRARY", "help": "cut syncs out of catnapd with this library and expect losses"}),
                   ("--seed", {"type": int, "default": 20261121, "help": "of the calls and of what a cut leaves"}))
  if chosen.without_flush:
    cases.title = "state_power_cut_mutation_test"
  return run_program(cases, chosen, Rig, in_guest=True)


if __name__ == "__main__":
  sys.exit(main())
