#!/usr/bin/env -S /usr/bin/python3
"""Two Linux hosts (two host names of one guest, without multipathing) share a namespace by persistent reservations: registration, exclusive access, preemption
while the other writes, and reservations that outlive catnapd.

Left out: every combination of type and command (tests/unit/server, tests/protocol).
"""
import re
import sys

from harness import Cases, options
from linux_host import FRIEND, STRANGER, run_program
from targets import CatnapTarget

NQN = "nqn.2026-11.io.catnap:reservations"
SIZE_MIB = 16
# A reservation file is that of one namespace: it must be the same one after a restart.
DISK_UUID = "b3d40f5c-0b3c-4a4b-9f3e-2f6f4f1c8a10"
KEYS = (0xA11CE, 0xB0B)
WRITE_EXCLUSIVE, EXCLUSIVE_ACCESS = 1, 2

cases = Cases("reservation_test")
case = cases.case


class TwoHosts:
  """Both hosts connected; `disks[i]` is how host i sees namespace 1."""

  def __init__(self, host):
    self.host = host
    self.guest = host.guest
    self.disks = []
    for who in (FRIEND, STRANGER):
      name = host.connect_another(who)
      self.guest.wait_until(f"ls /sys/class/nvme/{name} | grep -qx '{name}n1'", 20, f"the disk of {name}")
      self.disks.append(f"/dev/{name}n1")

  def register(self, who, more=""):
    self.guest.check(f"nvme resv-register {self.disks[who]} --namespace-id=1 --nrkey={KEYS[who]:#x} --rrega=0 {more}")

  def acquire(self, who, kind, more="--racqa=0"):
    return self.guest.run(f"nvme resv-acquire {self.disks[who]} --namespace-id=1 --crkey={KEYS[who]:#x} --rtype={kind} {more}")

  def report(self, who):
    return self.guest.check(f"nvme resv-report {self.disks[who]} --namespace-id=1 --eds --numd=127")

  def clear(self, who):
    self.guest.check(f"nvme resv-release {self.disks[who]} --namespace-id=1 --crkey={KEYS[who]:#x} --rrela=1")

  def write(self, who):
    """Exit code and output of one direct write of a block."""
    return self.guest.run(f"dd if=/dev/zero of={self.disks[who]} bs=4096 count=1 oflag=direct")

  def read(self, who):
    return self.guest.run(f"dd if={self.disks[who]} of=/dev/null bs=4096 count=1 iflag=direct")


@case("a registered holder writes, the other may read and not write")
def write_exclusive(host):
  hosts = TwoHosts(host)
  hosts.register(0)
  hosts.register(1)
  code, output = hosts.acquire(0, WRITE_EXCLUSIVE)
  assert code == 0, output
  assert hosts.write(0)[0] == 0, "the holder cannot write"
  assert hosts.read(1)[0] == 0, "the other host cannot read under write exclusive"
  code, output = hosts.write(1)
  assert code != 0, "the other host wrote under write exclusive"
  code, output = hosts.acquire(1, EXCLUSIVE_ACCESS)
  assert code != 0 and re.search(r"RESERVATION_CONFLICT|[Rr]eservation [Cc]onflict|0x83|83", output), f"a second holder was let in: {output}"
  report = hosts.report(1)
  assert re.search(r"regctl\s*:\s*2", report) and re.search(r"rtype\s*:\s*1", report), report
  assert f"{KEYS[0]:x}" in report.lower() and f"{KEYS[1]:x}" in report.lower(), report
  hosts.clear(0)
  assert hosts.write(1)[0] == 0, "nothing is reserved any more, and the host cannot write"


@case("preempt and abort while the other host writes: it is stopped, told, and nothing hangs")
def preempt(host):
  hosts = TwoHosts(host)
  for who in range(2):
    hosts.register(who)
  code, output = hosts.acquire(1, WRITE_EXCLUSIVE)
  assert code == 0, output
  guest = host.guest
  guest.check(f"""(
    rm -f /tmp/stopped /tmp/writes
    while dd if=/dev/zero of={hosts.disks[1]} bs=64k count=16 oflag=direct 2>/tmp/dd.out; do echo one >>/tmp/writes; done
    mv /tmp/dd.out /tmp/stopped) &""")
  guest.wait_until("[ -s /tmp/writes ]", 20, "the other host to write")
  code, output = hosts.acquire(0, WRITE_EXCLUSIVE, f"--racqa=2 --prkey={KEYS[1]:#x}")
  assert code == 0, output
  guest.wait_until("[ -e /tmp/stopped ]", 30, "the preempted host's writes to be refused")
  assert hosts.write(0)[0] == 0, "the new holder cannot write"
  assert hosts.write(1)[0] != 0, "the preempted host can still write"
  report = hosts.report(0)
  assert re.search(r"regctl\s*:\s*1", report) and f"{KEYS[1]:x}" not in report.lower(), f"the preempted host is still registered:\n{report}"
  hosts.clear(0)


@case("reservations with persistence outlive a restart of catnapd, those without do not")
def persistence(host):
  for keeps in (True, False):
    hosts = TwoHosts(host)
    hosts.register(0, f"--cptpl={3 if keeps else 2}")
    hosts.register(1)
    code, output = hosts.acquire(0, EXCLUSIVE_ACCESS)
    assert code == 0, output
    host.disconnect()
    host.target.restart()
    hosts = TwoHosts(host)
    assert (hosts.write(1)[0] != 0) == keeps, f"after a restart the reservation is {'gone' if keeps else 'still there'}"
    assert hosts.write(0)[0] == 0, "the holder cannot write after the restart"
    report = hosts.report(0)
    assert (f"{KEYS[0]:x}" in report.lower()) == keeps, report
    if keeps:
      hosts.clear(0)
    host.disconnect()


class ReservationTarget(CatnapTarget):
  """catnapd whose namespace keeps reservations in a file; restart() brings it up again with the same configuration and data."""

  def configure(self):
    self.rpc.call("nvmf_create_transport", trtype="TCP")
    self.rpc.call("bdev_aio_create", name="disk", filename=str(self.folder / "disk"), block_size=512, uuid=DISK_UUID)
    self.add_subsystem(NQN)
    self.rpc.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "disk", "nsid": 1, "ptpl_file": str(self.folder / "ptpl")})

  def __enter__(self):
    with open(self.folder / "disk", "wb") as disk:
      disk.truncate(SIZE_MIB << 20)
    self.server.__enter__()
    self.configure()
    return self

  def restart(self):
    self.server.terminate()
    self.server.start()
    self.configure()


def main():
  chosen = options(__doc__.split("\n", maxsplit=1)[0])
  # Refused writes are what the cases ask for.
  expected = "[Rr]eservation [Cc]onflict|reservation conflict|sct 0x0 / sc 0x83|critical nexus error|I/O error"
  # Two hosts in one kernel: multipathing would make their controllers two paths of one host.
  return run_program(cases, chosen, "reservations", lambda: ReservationTarget(chosen.catnapd, chosen.logs), lambda target: NQN, expected,
                     before="modprobe nvme-core multipath=N")


if __name__ == "__main__":
  sys.exit(main())
