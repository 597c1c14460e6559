#!/usr/bin/env -S /usr/bin/python3
"""A real Linux host, a Debian kernel with nvme-cli in QEMU, uses the target: discovery, connections, data, file system, discard, reset, refusals, AENs.

One guest is booted for all cases; each case connects for itself and disconnects. `--target nvmet` runs the same cases against the kernel's target in a second
guest, which checks the cases. Left out: idle cost (idle_test.py), power cuts (power_cut_test.py), hostile peers (tests/protocol).
"""
import re
import sys

from guest import HOST_ADDRESS, Guest, missing_prerequisite
from harness import Cases, options, skip
from targets import CatnapTarget, KernelTarget

DISK_NQN = "nqn.2026-11.io.catnap:e2e"        # any host; namespaces 1 malloc, 2 uring, 3 aio
PRIVATE_NQN = "nqn.2026-11.io.catnap:private"  # only FRIEND may connect
DISCOVERY_NQN = "nqn.2014-08.org.nvmexpress.discovery"
FRIEND = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555"
STRANGER = "nqn.2014-08.org.nvmexpress:uuid:66666666-7777-8888-9999-aaaaaaaaaaaa"
SIZE_MIB = 96
# Kernel messages that no case may cause.
KERNEL_TROUBLE = re.compile(r"BUG:|WARNING:|Oops|blocked for more than|I/O error|I/O Error|timeout, |data digest error|Invalid |starting error recovery|Reconnecting in")

# With the kernel's multipathing, nvme0n1 is the disk that people use, and nvme0c0n1 the hidden path to it.
DISK_NAMES = "nvme[0-9]*n[0-9]*"

cases = Cases("host_test")
case = cases.case


class Host:
  """The guest seen as an NVMe host, and the target that it talks to."""

  def __init__(self, guest, target):
    self.guest = guest
    self.target = target
    self.where = f"-t tcp -a {HOST_ADDRESS} -s {target.port}"
    self.dmesg_seen = ""
    self.last_messages = ""

  def connect(self, nqn=DISK_NQN, more="", host=FRIEND):
    """Connects and waits for the namespaces' disks; returns the controller's name, such as nvme0."""
    self.guest.check(f"nvme connect {self.where} -n {nqn} -q {host} -I {host[-36:]} {more}", 40)
    name = self.guest.check("ls /sys/class/nvme").split()
    assert len(name) == 1, f"one controller expected, there are {name}"
    return name[0]

  def disk(self, nsid):
    """Waits for the disk of a namespace id of the only controller and returns its path."""
    self.guest.wait_until(present(nsid), 20, f"the disk of namespace {nsid}")
    return "/dev/" + self.guest.check(f"cd /sys/block; for d in $(ls | grep -x '{DISK_NAMES}'); do [ $(cat $d/nsid) != {nsid} ] || echo $d; done").strip()

  def refused(self, nqn, host):
    """An attempt to connect that must fail; returns what nvme-cli and the kernel said about it."""
    before = len(self.guest.check("dmesg"))
    code, output = self.guest.run(f"nvme connect {self.where} -n {nqn} -q {host} -I {host[-36:]}", 40)
    assert code != 0, f"connecting {host} to {nqn} succeeded"
    assert self.guest.check("ls /sys/class/nvme").strip() == "", "a controller is left after the refusal"
    return output, self.guest.check("dmesg")[before:]

  def disconnect(self):
    self.guest.check("nvme disconnect-all; until [ -z \"$(ls /sys/class/nvme)\" ]; do sleep 0.1; done", 60)

  def new_messages(self):
    """Kernel messages since the last call."""
    whole = self.guest.check("dmesg")
    new = whole[len(self.dmesg_seen) :] if whole.startswith(self.dmesg_seen) else whole
    self.dmesg_seen = whole
    self.last_messages = new
    return new

  def fio(self, name, disk, arguments, timeout_s=90):
    """Runs fio on a disk; what it wrote is verified by crc32c unless the arguments say otherwise."""
    return self.guest.check(f"fio --name={name} --filename={disk} --ioengine=libaio --direct=1 --verify=crc32c --verify_fatal=1 --randrepeat=1 "
                            f"--group_reporting --output-format=terse {arguments}", timeout_s)

  def checksum(self, disk, mebibytes):
    return self.guest.check(f"echo 3 >/proc/sys/vm/drop_caches; head -c {mebibytes << 20} {disk} | sha256sum", 60)


def present(nsid):
  """A shell condition: there is a disk of this namespace id."""
  return f"for d in $(ls /sys/block | grep -x '{DISK_NAMES}'); do cat /sys/block/$d/nsid; done 2>/dev/null | grep -qx {nsid}"


def tidy(host):
  """Leaves nothing connected; both sides must still be well."""
  host.target.check_alive()
  host.disconnect()


def judge(host):
  """Looks for trouble that the case caused in the kernel."""
  trouble = [line for line in host.new_messages().splitlines() if KERNEL_TROUBLE.search(line) and not line_is_expected(line)]
  assert not trouble, "the host's kernel complains:\n" + "\n".join(trouble)


def explain(host):
  """What the kernel said during a case that failed."""
  return "--- the host's kernel during this case\n" + (host.new_messages() or host.last_messages)[-4000:]


def line_is_expected(line):
  # Refusals are what two cases ask for.
  return "Connect Invalid Data Parameter" in line or "is not allowed" in line


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
  # Rounds of writing and verifying, one after another until the resets are over.
  host.guest.check(f"""(
    rm -f /tmp/fio.stop /tmp/fio.end
    while [ ! -e /tmp/fio.stop ]; do
      fio --name=under --filename={disk} --ioengine=libaio --direct=1 --verify=crc32c --verify_fatal=1 --rw=randwrite --bs=4k --size=2m --iodepth=8 || break
      echo round >>/tmp/fio.rounds
    done >/tmp/fio.out 2>&1
    [ -e /tmp/fio.stop ] && echo well >/tmp/fio.end || echo badly >/tmp/fio.end) &""")
  for _ in range(2):
    writes = "$(cat /sys/block/nvme*c*n*/stat | awk '{ n += $5 } END { print n }')"
    host.guest.check(f"before={writes}; until [ {writes} -gt $((before + 20)) ]; do sleep 0.05; done; nvme reset /dev/{controller}", 60)
    host.guest.wait_until(f'[ "$(cat /sys/class/nvme/{controller}/state)" = live ]', 30, "the controller to be live after the reset")
  host.guest.check("touch /tmp/fio.stop")
  host.guest.wait_until("[ -e /tmp/fio.end ]", 90, "fio's end")
  assert "well" in host.guest.check("cat /tmp/fio.end"), "fio failed across the reset:\n" + host.guest.check("cat /tmp/fio.out")
  assert "round" in host.guest.check("cat /tmp/fio.rounds"), "no round of fio ended"


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
  problem = missing_prerequisite()
  if problem:
    skip(problem)
  target = CatnapTarget(chosen.catnapd, chosen.logs) if chosen.target == "catnapd" else KernelTarget(chosen.logs)
  with target, Guest("host", log_folder=chosen.logs) as guest:
    target.add_subsystem(DISK_NQN)
    for nsid, kind in ((1, "malloc"), (2, "uring"), (3, "aio")):
      target.add_namespace(DISK_NQN, nsid, SIZE_MIB, kind)
    target.add_subsystem(PRIVATE_NQN, any_host=False)
    target.allow_host(PRIVATE_NQN, FRIEND)
    guest.check("modprobe nvme-tcp; modprobe ext4; modprobe crc32c-intel; modprobe crc32c_generic; nvme version")
    host = Host(guest, target)
    host.new_messages()
    code = cases.run(host, chosen.only, tidy, judge, explain)
    if chosen.logs:
      (chosen.logs / "host.dmesg.log").write_text(guest.check("dmesg"))
    target.finish()
    if code:
      print(f"--- the target's log ends\n{target.log()[-6000:]}")
  return code


if __name__ == "__main__":
  sys.exit(main())
