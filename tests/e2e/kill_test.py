#!/usr/bin/env -S /usr/bin/python3
"""kill -9 of catnapd in the middle of writes: after a restart, files served by aio and uring, also through bdevs that
stand on these, hold every acknowledged write, flushed or not.

The kernel outlives the server, so an acknowledgement alone is a promise here. Left out: loss of power, where only flushes and FUA promise something
(power_cut_test.py).
"""
import sys
from pathlib import Path

from acknowledged import BLOCK, Ledger, read_back, write_and_kill
from harness import Cases, Catnapd, free_port, options, run_program
from nvme_client import connect_when_ready

NQN = "nqn.2026-11.io.catnap:kill"
# Which file module is under a namespace, by namespace id; the last two are under others.
KINDS = {1: "aio", 2: "uring", 3: "aio", 4: "uring"}
CRYPTO, DELAYED = 3, 4
BLOCKS = 1024
WANTED_WRITES = 1500
ROUNDS = 3

cases = Cases("kill_test")


class Rig:
  def __init__(self, folder, chosen):
    self.folder = folder
    self.chosen = chosen
    self.port = free_port()
    self.ledgers = [Ledger(nsid, BLOCKS, acknowledged_lasts=True) for nsid in KINDS]
    for nsid in KINDS:
      with open(self.disk(nsid), "wb") as disk:
        disk.truncate(BLOCKS * BLOCK)

  def disk(self, nsid):
    return self.folder / f"disk{nsid}"

  def configure(self, server):
    call = server.rpc.call
    call("nvmf_create_transport", trtype="TCP")
    call("nvmf_create_subsystem", nqn=NQN, serial_number="KILL", allow_any_host=True)
    # Before the files, as a configuration may have it.
    call("accel_crypto_key_create", name="key", cipher="AES_XTS", key="1" * 64, key2="2" * 64)
    call("bdev_crypto_create", name="crypto", base_bdev_name=f"file{CRYPTO}p0", key_name="key")
    call("bdev_split_create", base_bdev=f"file{CRYPTO}", split_count=1)
    call("bdev_delay_create", name="delayed", base_bdev_name=f"EE_file{DELAYED}", avg_read_latency=0, p99_read_latency=0, avg_write_latency=100,
         p99_write_latency=5000)
    call("bdev_error_create", base_name=f"file{DELAYED}")
    for nsid, kind in KINDS.items():
      call(f"bdev_{kind}_create", name=f"file{nsid}", filename=str(self.disk(nsid)), block_size=512)
    call("bdev_wait_for_examine")
    tops = {CRYPTO: "crypto", DELAYED: "delayed"}
    for nsid in KINDS:
      call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": tops.get(nsid, f"file{nsid}"), "nsid": nsid})
    call("nvmf_subsystem_add_listener", nqn=NQN, listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(self.port)})

  def zero_what_is_noise(self):
    """Nobody has written these blocks yet, so they decrypt to anything; the ledger begins with zeroes."""
    controller = connect_when_ready(("127.0.0.1", self.port), NQN)
    step = 16 * BLOCK
    for place in range(0, BLOCKS * BLOCK, step):
      controller.submit_write(CRYPTO, place, bytes(step))
      controller.io.reap().check("Write")
    controller.close()


@cases.case(f"killed {ROUNDS} times while writing, nothing acknowledged is lost")
def kill(rig):
  with Catnapd(rig.chosen.catnapd, name="kill", log_folder=rig.chosen.logs) as server:
    rig.configure(server)
    rig.zero_what_is_noise()
    for number in range(ROUNDS):
      write_and_kill(server, connect_when_ready(("127.0.0.1", rig.port), NQN), rig.ledgers, rig.chosen.seed + number, WANTED_WRITES)
      server.start()  # over the stale RPC socket of the killed one
      rig.configure(server)
      promised = [sum(version > 0 for version in ledger.promised) for ledger in rig.ledgers]
      controller = connect_when_ready(("127.0.0.1", rig.port), NQN)
      lost = [sentence for sentences in read_back(controller, rig.ledgers).values() for sentence in sentences]
      controller.close()
      print(f"  kill {number + 1}: {promised} blocks promised, {len(lost)} sectors lost", flush=True)
      assert not lost, f"{len(lost)} sectors lost what was acknowledged (seed {rig.chosen.seed}):\n" + "\n".join(lost[:20])
    server.terminate()


def main():
  chosen = options(__doc__.split("\n")[0], ("--seed", {"type": int, "default": 20261121, "help": "of the writes"}))
  return run_program(cases, chosen, Rig)


if __name__ == "__main__":
  sys.exit(main())
