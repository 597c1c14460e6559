#!/usr/bin/env -S /usr/bin/python3
"""What a Linux host may see and reach, and when it loses it: namespaces masked per host, a resize, referrals followed by connect-all, a host removed while it
writes, a host that is frozen until its keep-alive time is over.

Left out: every refusal by its status and offset (tests/protocol), reservations (reservation_test.py), paths (ana_test.py).
"""
import os
import signal
import sys

from guest import HOST_ADDRESS
from harness import Cases, free_port, options, wait_for
from linux_host import FRIEND, STRANGER, FioRounds, present, run_program
from targets import CatnapTarget

NQN = "nqn.2026-11.io.catnap:access"
FAR_NQN = "nqn.2026-11.io.catnap:far"  # listed by the second discovery service only
SIZE_MIB = 16

cases = Cases("access_test")
case = cases.case


def controllers(host, nqn=NQN):
  return host.target.rpc.call("nvmf_subsystem_get_controllers", nqn=nqn)


@case("a masked namespace is seen by the host that was let in, as long as it is")
def masking(host):
  rpc = host.target.rpc
  rpc.call("bdev_malloc_create", name="masked", num_blocks=SIZE_MIB * 2048, block_size=512)
  rpc.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "masked", "nsid": 5, "no_auto_visible": True})
  try:
    host.connect(more="-i 1")
    host.disk(1)
    assert host.guest.run(present(5))[0] != 0, "a masked namespace is visible"
    rpc.call("nvmf_ns_add_host", nqn=NQN, nsid=5, host=FRIEND)
    host.fio("masked", host.disk(5), "--rw=randwrite --bs=4k --size=1m --iodepth=4")
    rpc.call("nvmf_ns_remove_host", nqn=NQN, nsid=5, host=FRIEND)
    host.guest.wait_until(f"! {present(5)}", 20, "the disk to go with the permission")
    host.guest.check(present(1))
    rpc.call("nvmf_ns_add_host", nqn=NQN, nsid=5, host=STRANGER)
    assert host.guest.run(present(5))[0] != 0, "a namespace is visible to one host because another was let in"
  finally:
    host.disconnect()
    rpc.call("nvmf_subsystem_remove_ns", nqn=NQN, nsid=5)
    rpc.call("bdev_malloc_delete", name="masked")


@case("a namespace that grows is larger on the host, and the new blocks hold data")
def resize(host):
  path = host.target.folder / "growing"
  path.write_bytes(b"\0" * (8 << 20))
  rpc = host.target.rpc
  rpc.call("bdev_aio_create", name="growing", filename=str(path), block_size=512)
  rpc.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "growing", "nsid": 6})
  try:
    host.connect(more="-i 1")
    disk = host.disk(6)
    os.truncate(path, 24 << 20)
    rpc.call("bdev_aio_rescan", name="growing")
    host.guest.wait_until(f"[ $(cat /sys/block/{disk[5:]}/size) = {24 << 11} ]", 20, "the host to see the new size")
    host.fio("grown", disk, "--rw=write --bs=64k --offset=16m --size=2m --iodepth=4")
  finally:
    host.disconnect()
    rpc.call("nvmf_subsystem_remove_ns", nqn=NQN, nsid=6)
    rpc.call("bdev_aio_delete", name="growing")


@case("connect-all follows a referral to another discovery service")
def referrals(host):
  rpc = host.target.rpc
  far = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(host.target.far_port)}
  rpc.call("nvmf_create_subsystem", nqn=FAR_NQN, serial_number="FAR", allow_any_host=True)
  rpc.call("nvmf_subsystem_add_listener", nqn=FAR_NQN, listen_address=far)
  rpc.call("nvmf_discovery_add_referral", address=far)
  # Addresses in the log are those of this machine's loopback; in the guest socat leads from its own loopback to here.
  ports = (host.target.port, host.target.far_port)
  try:
    for port in ports:
      host.guest.check(f"socat TCP-LISTEN:{port},fork,reuseaddr TCP:{HOST_ADDRESS}:{port} >/dev/null 2>&1 & echo $! >>/tmp/socat.pids\n"
                       f"until grep -q ':{port:04X} 00000000:0000 0A' /proc/net/tcp; do sleep 0.05; done")
    output = host.guest.check(f"nvme discover {host.where} -q {FRIEND} -I {FRIEND[-36:]}", 40)
    assert "discovery subsystem referral" in output and FAR_NQN not in output, f"the far subsystem must be found through the referral only:\n{output}"
    host.guest.check(f"nvme connect-all {host.where} -q {FRIEND} -I {FRIEND[-36:]} -i 1", 60)
    connected = host.guest.check("cat /sys/class/nvme/nvme*/subsysnqn").split()
    assert set(connected) >= {NQN, FAR_NQN}, f"connected to {connected}"
    rpc.call("nvmf_discovery_remove_referral", address=far)
    output = host.guest.check(f"nvme discover {host.where} -q {FRIEND} -I {FRIEND[-36:]}", 40)
    assert "discovery subsystem referral" not in output, output
  finally:
    host.disconnect()
    host.guest.check("kill $(cat /tmp/socat.pids); rm /tmp/socat.pids")
    rpc.call("nvmf_delete_subsystem", nqn=FAR_NQN)


@case("a host that is removed loses its connection, and another one keeps its own")
def host_removed(host):
  rpc = host.target.rpc
  rpc.call("nvmf_subsystem_allow_any_host", nqn=NQN, allow_any_host=False)
  try:
    for who in (FRIEND, STRANGER):
      rpc.call("nvmf_subsystem_add_host", nqn=NQN, host=who)
    kept = host.connect_one(more="-i 1", host=FRIEND)
    lost = host.connect_another(STRANGER, ",ctrl_loss_tmo=0")
    disk = host.disk(1)
    fio = FioRounds(host, disk)
    rpc.call("nvmf_subsystem_remove_host", nqn=NQN, host=STRANGER)
    host.guest.wait_until(f"[ ! -e /sys/class/nvme/{lost} ]", 40, "the removed host's controller to go")
    assert {each["hostnqn"] for each in controllers(host)} == {FRIEND}, controllers(host)
    before = len(host.guest.check("dmesg"))
    code, _ = host.try_another(STRANGER)
    messages = host.guest.check("dmesg")[before:]
    assert code != 0 and "is not allowed" in messages, f"the removed host connects again, or the kernel does not say why not: {messages}"
    assert host.guest.check(f"cat /sys/class/nvme/{kept}/state").strip() == "live", "the other host lost its connection"
    fio.finish()
  finally:
    rpc.call("nvmf_subsystem_allow_any_host", nqn=NQN, allow_any_host=True)


@case("a frozen host loses its controller when its keep-alive time is over, and comes back with its data")
def frozen(host):
  host.connect(more="-i 1 --keep-alive-tmo=2")
  disk = host.disk(1)
  host.guest.check(f"seq 1 200000 | head -c 1048576 >{disk}; sync {disk}", 60)
  before = host.checksum(disk, 1)
  machine = host.guest.process
  machine.send_signal(signal.SIGSTOP)
  try:
    wait_for(lambda: not controllers(host), 30, "the target to give the silent host up")
  finally:
    machine.send_signal(signal.SIGCONT)
  wait_for(lambda: controllers(host), 60, "the host to come back")
  name = host.controllers()[0]
  host.guest.wait_until(f'[ "$(cat /sys/class/nvme/{name}/state)" = live ]', 60, "the host to be live again")
  assert host.checksum(disk, 1) == before, "the data changed while the host was frozen"


class AccessTarget(CatnapTarget):
  """catnapd whose discovery log shows only what listens where the host asked, so that a second port is a second discovery service."""

  def __init__(self, *arguments):
    super().__init__(*arguments)
    self.far_port = free_port()
    self.server.arguments.append("--wait-for-rpc")

  def __enter__(self):
    self.server.__enter__()
    self.rpc.call("nvmf_set_config", discovery_filter="transport,address,svcid")
    self.rpc.call("framework_start_init")
    self.rpc.call("nvmf_create_transport", trtype="TCP")
    return self


def prepare(target):
  target.add_subsystem(NQN)
  target.add_namespace(NQN, 1, SIZE_MIB)
  return NQN


def main():
  chosen = options(__doc__.split("\n", maxsplit=1)[0])
  # Two hosts lose their connections on purpose.
  expected = "starting error recovery|Reconnecting in|Connect Invalid Data Parameter|is not allowed|keep.alive|I/O Error|timeout, "
  return run_program(cases, chosen, "access", lambda: AccessTarget(chosen.catnapd, chosen.logs), prepare, expected)


if __name__ == "__main__":
  sys.exit(main())
