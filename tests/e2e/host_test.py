#!/usr/bin/env -S /usr/bin/python3
"""A real Linux host, a Debian kernel with nvme-cli in QEMU, uses the target: discovery, connections, data, file system, discard, reset, refusals, AENs.

One guest is booted for all cases; each case connects for itself and disconnects. `--target nvmet` runs the same cases against the kernel's target in a second
guest, which checks the cases. Left out: idle cost (idle_test.py), power cuts (power_cut_test.py), hostile peers (tests/protocol).
"""
import re
import sys

from guest import HOST_ADDRESS
from harness import Cases, options
from linux_host import FRIEND, STRANGER, FioRounds, present, run_program
from targets import CatnapTarget, KernelTarget

DISK_NQN = "nqn.2026-11.io.catnap:e2e"        # any host; namespaces 1 malloc, 2 uring, 3 aio
PRIVATE_NQN = "nqn.2026-11.io.catnap:private"  # only FRIEND may connect
DISCOVERY_NQN = "nqn.2014-08.org.nvmexpress.discovery"
SIZE_MIB = 96
# Refusals are what two cases ask for.
EXPECTED = "Connect Invalid Data Parameter|is not allowed"
cases = Cases("host_test")
case = cases.case


@case("discover lists both subsystems and the discovery service asks for no TLS")
def discover(host):
  output = host.guest.check(f"nvme discover {host.where} -q {FRIEND} -I {FRIEND[-36:]}", 40)
  records = re.split(r"=====Discovery Log Entry \d+======", output)[1:]
  found = {re.search(r"subnqn:\s*(\S+)", record).group(1): record for record in records}
  assert DISK_NQN in found and PRIVATE_NQN in found, f"subsystems are missing:\n{output}"
  for nqn, record in found.items():
    assert re.search(r"trtype:\s*tcp", record) and re.search(r"treq:\s*not specified", record), f"{nqn}: {record}"
    assert re.search(rf"trsvcid:\s*\S*{host.target.port if host.target.name == 'catnapd' else host.target.PORT}", record), f"{nqn}: {record}"
  stranger = host.guest.check(f"nvme discover {host.where} -q {STRANGER} -I {STRANGER[-36:]}", 40)
  assert DISK_NQN in stranger and PRIVATE_NQN not in stranger, f"a host sees a subsystem that it is not allowed to use:\n{stranger}"


@case("nvme-cli's admin commands are answered")
def admin_commands(host):
  controller = host.connect(more="-i 1")
  disk = host.disk(1)
  identify = host.guest.check(f"nvme id-ctrl /dev/{controller}")
  assert re.search(r"oncs\s*:\s*0x\w+", identify) and re.search(r"subnqn\s*:\s*" + re.escape(DISK_NQN), identify), identify
  namespace = host.guest.check(f"nvme id-ns {disk}")
  blocks = int(re.search(r"nsze\s*:\s*(\w+)", namespace).group(1), 16)
  assert blocks == SIZE_MIB * 2048, namespace
  for command in (f"nvme ns-descs {disk}", f"nvme list-ns /dev/{controller}", f"nvme smart-log /dev/{controller}", f"nvme error-log /dev/{controller}",
                  f"nvme fw-log /dev/{controller}", f"nvme effects-log /dev/{controller}", f"nvme list", "nvme list-subsys"):
    host.guest.check(command)
  for feature, name in ((0x07, "number of queues"), (0x0B, "asynchronous events"), (0x0F, "keep alive timer")):
    code, output = host.guest.run(f"nvme get-feature /dev/{controller} -f {feature}")
    assert code == 0 and "Current value" in output, f"get-feature {name}: {output}"
  keep_alive = host.guest.check(f"nvme get-feature /dev/{controller} -f 15")
  assert int(re.search(r"Current value:\s*(\w+)", keep_alive).group(1), 16) >= 5000, keep_alive
  # Sizes that a target must refuse and survive: no such log page, no such namespace.
  code, output = host.guest.run(f"nvme get-log /dev/{controller} --log-id=0xBF --log-len=64")
  assert code != 0, f"log page BFh is not refused: {output}"
  code, output = host.guest.run(f"nvme id-ns /dev/{controller} -n 77")
  assert code != 0 or not re.search(r"nsze\s*:\s*0x0*[1-9a-f]", output), f"namespace 77 is not refused: {output}"


def data_case(queues, digests):
  """fio with verification, small mixed and 1 MiB blocks, on all three kinds of disk over one kind of connection."""

  def run(host):
    host.connect(more=queues + (" -g -G" if digests else ""))
    wanted = sum(int(number) for number in re.findall(r"-\w (\d+)", queues))
    count = int(host.guest.check("cat /sys/class/nvme/nvme*/queue_count"))
    assert count == wanted + 1, f"{wanted} I/O queues and one admin queue expected, the host has {count}"
    pairs = host.target.queue_pairs(DISK_NQN)
    assert pairs in (None, count), f"the target shows {pairs} queue pairs, the host has {count}"
    for nsid in (1, 2, 3):
      disk = host.disk(nsid)
      host.fio("mixed", disk, "--rw=randrw --bsrange=512-64k --blockalign=512 --size=24m --io_size=4m --iodepth=16")
    host.fio("large", host.disk(1), "--rw=write --bs=1m --size=12m --offset=32m --iodepth=4")
    host.fio("large", host.disk(2), "--rw=write --bs=1m --size=8m --offset=32m --iodepth=4")

  return run


case("data over 1 I/O queue")(data_case("-i 1", digests=False))
case("data over 1 I/O queue, header and data digests")(data_case("-i 1", digests=True))
case("data over 4 I/O queues")(data_case("-i 2 -W 2", digests=False))
case("data over 4 I/O queues, header and data digests")(data_case("-i 2 -W 2", digests=True))


@case("ext4: make, mount, copy a tree, unmount, check, compare")
def file_system(host):
  host.connect(more="-i 2 -g -G")
  for nsid in (1, 2):
    disk = host.disk(nsid)
    host.guest.check(f"""
      mkfs.ext4 -q -F {disk}
      mkdir -p /mnt/disk
      mount -t ext4 {disk} /mnt/disk
      cp -r /usr/lib/modules /usr/sbin /mnt/disk/
      umount /mnt/disk
      e2fsck -f -n {disk}
      mount -t ext4 -o ro {disk} /mnt/disk
      for tree in modules sbin; do
        [ $tree = modules ] && from=/usr/lib || from=/usr
        (cd $from/$tree && find . -type f | sort | xargs sha256sum) >/tmp/sums.$tree
        (cd /mnt/disk/$tree && sha256sum -c -s /tmp/sums.$tree)
        [ $(wc -l </tmp/sums.$tree) -gt 2 ]
      done
      umount /mnt/disk""".replace("\n      ", "\n"), 120)


@case("discard and write zeroes read back as zeroes")
def zeroes(host):
  host.connect(more="-i 1")
  for nsid in (1, 2, 3):
    disk = host.disk(nsid)
    host.guest.check(f"tr '\\0' '\\245' </dev/zero | head -c 6291456 >{disk}; sync {disk}; echo 3 >/proc/sys/vm/drop_caches", 60)
    host.guest.check(f"blkdiscard -o 1048576 -l 1048576 {disk}; blkdiscard -z -o 4194304 -l 1048576 {disk}", 60)
    assert int(host.guest.check(f"cat /sys/block/{disk[5:]}/queue/discard_max_bytes")) > 0, f"{disk} takes no discards"
    assert int(host.guest.check(f"cat /sys/block/{disk[5:]}/queue/write_zeroes_max_bytes")) > 0, f"{disk} takes no write zeroes"
    # Bytes that are not A5h per mebibyte: the zeroed one has 1048576, its neighbours none.
    counts = host.guest.check(f"for m in 0 1 2 3 4 5; do dd if={disk} bs=1M skip=$m count=1 iflag=direct 2>/dev/null | tr -d '\\245' | wc -c; done", 60).split()
    nonzero = host.guest.check(f"for m in 1 4; do dd if={disk} bs=1M skip=$m count=1 iflag=direct 2>/dev/null | tr -d '\\0' | wc -c; done", 60).split()
    assert counts[4] == "1048576" and nonzero[1] == "0", f"{disk}: write zeroes left {counts}, not zero: {nonzero}"
    assert counts[1] in ("1048576", "0") and (nonzero[0] == "0" or counts[1] == "0"), f"{disk}: discard left a mixture: {counts}, not zero: {nonzero}"
    assert [counts[m] for m in (0, 2, 3, 5)] == ["0"] * 4, f"{disk}: neighbours of the zeroed areas changed: {counts}"


@case("nvme reset while fio writes and verifies")
def reset(host):
  controller = host.connect(more="-i 2")
  disk = host.disk(1)
  fio = FioRounds(host, disk)
  for _ in range(2):
    writes = "$(cat /sys/block/nvme*c*n*/stat | awk '{ n += $5 } END { print n }')"
    host.guest.check(f"before={writes}; until [ {writes} -gt $((before + 20)) ]; do sleep 0.05; done; nvme reset /dev/{controller}", 60)
    host.guest.wait_until(f'[ "$(cat /sys/class/nvme/{controller}/state)" = live ]', 30, "the controller to be live after the reset")
  fio.finish()


@case("disconnect and reconnect: the data is still there")
def reconnect(host):
  sums = []
  for attempt in range(2):
    host.connect(more="-i 1 -g" if attempt else "-i 2")
    disks = [host.disk(nsid) for nsid in (1, 2, 3)]
    if attempt == 0:
      for number, disk in enumerate(disks):
        host.guest.check(f"seq {number} 200000 | head -c 1048576 >{disk}; sync {disk}", 60)
    sums.append([host.checksum(disk, 1).split()[0] for disk in disks])
    host.disconnect()
  assert sums[0] == sums[1], f"before and after: {sums}"
  assert len(set(sums[0])) == 3, "the three disks hold the same data"


@case("a wrong NQN is refused in words")
def wrong_nqn(host):
  wrong = "nqn.2026-11.io.catnap:nowhere"
  output, messages = host.refused(wrong, FRIEND)
  assert re.search(r"[Ff]ailed|could not add", output), f"nvme-cli said: {output}"
  assert f'Connect Invalid Data Parameter, subsysnqn "{wrong}"' in messages, f"nvme-cli said: {output}\nthe kernel said: {messages}"
  if host.target.logs_refusals:
    assert wrong in host.target.log(), "the target's log does not name the wrong NQN"


@case("a host that is not allowed is refused in words, an allowed one is not")
def not_allowed(host):
  output, messages = host.refused(PRIVATE_NQN, STRANGER)
  assert re.search(r"[Ff]ailed|could not add", output), f"nvme-cli said: {output}"
  assert "is not allowed" in messages and STRANGER in messages, f"nvme-cli said: {output}\nthe kernel said: {messages}"
  if host.target.logs_refusals:
    assert STRANGER in host.target.log(), "the target's log does not name the refused host"
  host.connect(nqn=PRIVATE_NQN, host=FRIEND)


@case("a namespace added and removed while connected appears and disappears")
def namespace_notices(host):
  host.connect(more="-i 1")
  host.disk(1)
  for _ in range(2):
    host.target.add_namespace(DISK_NQN, 7, 16)
    host.guest.wait_until(present(7), 20, "the disk of the added namespace")
    host.fio("fresh", host.disk(7), "--rw=randwrite --bs=4k --size=1m --iodepth=4")
    host.target.remove_namespace(DISK_NQN, 7)
    host.guest.wait_until(f"! {present(7)}", 20, "the disk of the removed namespace to go away")
    host.guest.check(present(1))


@case("nvme connect-all connects to everything that the discovery log names")
def connect_all(host):
  # The log names the listener's own address, which means another machine inside the guest: socat leads from there to the target.
  inside = host.target.port if host.target.name == "catnapd" else host.target.PORT
  host.guest.check(f"socat TCP-LISTEN:{inside},fork,reuseaddr TCP:{HOST_ADDRESS}:{host.target.port} >/dev/null 2>&1 & echo $! >/tmp/socat.pid\n"
                   f"until grep -q ':{inside:04X} 00000000:0000 0A' /proc/net/tcp; do sleep 0.05; done")
  host.guest.check(f"nvme connect-all {host.where} -q {FRIEND} -I {FRIEND[-36:]} -i 1", 60)
  connected = host.guest.check("cat /sys/class/nvme/nvme*/subsysnqn").split()
  assert sorted(connected) == sorted([DISK_NQN, PRIVATE_NQN]), f"connected to {connected}"
  host.disk(1)
  host.disconnect()
  host.guest.check("kill $(cat /tmp/socat.pid)")


def main():
  chosen = options(__doc__.split("\n")[0], ("--target", {"choices": ["catnapd", "nvmet"], "default": "catnapd", "help": "whom to test (nvmet: the cases)"}))

  def prepare(target):
    target.add_subsystem(DISK_NQN)
    for nsid, kind in ((1, "malloc"), (2, "uring"), (3, "aio")):
      target.add_namespace(DISK_NQN, nsid, SIZE_MIB, kind)
    target.add_subsystem(PRIVATE_NQN, any_host=False)
    target.allow_host(PRIVATE_NQN, FRIEND)
    return DISK_NQN

  make_target = (lambda: CatnapTarget(chosen.catnapd, chosen.logs)) if chosen.target == "catnapd" else (lambda: KernelTarget(chosen.logs))
  return run_program(cases, chosen, "host", make_target, prepare, EXPECTED, modules="nvme-tcp ext4")


if __name__ == "__main__":
  sys.exit(main())
