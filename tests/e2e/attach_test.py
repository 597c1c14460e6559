#!/usr/bin/env -S /usr/bin/python3
"""Volumes come and go while every reactor is in interrupt mode, with each kind of bdev: made, shown to a host that writes and reads it, taken away, removed.

How long the slowest round took is printed. Left out: hosts with a kernel (host_test.py), idle cost (idle_test.py).
"""
import os
import sys
import tempfile
import time
from pathlib import Path

from harness import Cases, Catnapd, free_port, options
from nvme_client import Controller

NQN = "nqn.2026-11.io.catnap:attach"
ROUNDS = 1000 if os.environ.get("CATNAP_SOAK") else 25
SIZE_BYTES = 4 << 20
BLOCK_SIZE = 512

cases = Cases("attach_test")


def make_bdev(rpc, kind, path):
  if kind in ("aio", "uring"):
    rpc.call(f"bdev_{kind}_create", name="disk", filename=str(path), block_size=BLOCK_SIZE)
  else:
    rpc.call(f"bdev_{kind}_create", name="disk", num_blocks=SIZE_BYTES // BLOCK_SIZE, block_size=BLOCK_SIZE)


def attach_and_detach(kind):
  def run(chosen):
    with tempfile.TemporaryDirectory(prefix="catnap-attach-") as folder, \
         Catnapd(chosen.catnapd, ["--interrupt-mode"], name=f"attach-{kind}", log_folder=chosen.logs) as server:
      path = Path(folder) / "disk"
      with open(path, "wb") as disk:
        disk.truncate(SIZE_BYTES)
      port = free_port()
      rpc = server.rpc
      rpc.call("nvmf_create_transport", trtype="TCP")
      rpc.call("nvmf_create_subsystem", nqn=NQN, allow_any_host=True)
      rpc.call("nvmf_subsystem_add_listener", nqn=NQN,
               listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)})
      slowest_s = 0
      for number in range(ROUNDS):
        began = time.monotonic()
        make_bdev(rpc, kind, path)
        rpc.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "disk", "nsid": 1})
        host = Controller(("127.0.0.1", port), NQN)
        content = bytes([number & 0xFF]) * 8192
        host.submit_write(1, 65536, content)
        host.io.reap().check("Write")
        found = host.read(1, 65536, len(content))
        assert kind == "null" or found == content, f"round {number}: read back differently"
        # Every other time the host is still there when its namespace goes.
        if number % 2 == 0:
          host.close()
        rpc.call("nvmf_subsystem_remove_ns", nqn=NQN, nsid=1)
        if number % 2 == 1:
          host.close()
        rpc.call(f"bdev_{kind}_delete", name="disk")
        slowest_s = max(slowest_s, time.monotonic() - began)
      mode = rpc.call("framework_get_reactors")["reactors"][0]["mode"]
      assert mode == "interrupt", mode
      print(f"  {kind}: {ROUNDS} rounds, the slowest took {1000 * slowest_s:.0f} ms", flush=True)
      server.terminate()

  return run


for bdev_kind in ("null", "malloc", "aio", "uring"):
  cases.case(f"attach and detach {ROUNDS} times with {bdev_kind}")(attach_and_detach(bdev_kind))


if __name__ == "__main__":
  command_line = options(__doc__.split("\n", maxsplit=1)[0])
  sys.exit(cases.run(command_line, command_line.only))
