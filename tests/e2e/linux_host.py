"""A guest seen as an NVMe host: connecting, disks by namespace id, fio, what its kernel said, and what is common to all programs with a real host.

Left out: the guest as a machine (guest.py), the targets (targets.py), the cases (host_test.py and the programs beside it).
"""
import re

from guest import HOST_ADDRESS, Guest, missing_prerequisite
from harness import Catnapd, skip

FRIEND = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555"
STRANGER = "nqn.2014-08.org.nvmexpress:uuid:66666666-7777-8888-9999-aaaaaaaaaaaa"
# Kernel messages that no case may cause.
KERNEL_TROUBLE = re.compile(r"BUG:|WARNING:|Oops|blocked for more than|I/O error|I/O Error|timeout, |data digest error|Invalid |starting error recovery|Reconnecting in")

# An emulated CPU on a busy machine takes its time for a group of Diffie-Hellman and for handshakes.
EMULATED_MS = 120_000

# With the kernel's multipathing, nvme0n1 is the disk that people use, and nvme0c0n1 the hidden path to it.
DISK_NAMES = "nvme[0-9]*n[0-9]*"


class Host:
  """The guest seen as an NVMe host, and the target that it talks to. `expected` matches kernel messages that a case asks for."""

  def __init__(self, guest, target, nqn, expected=None):
    self.guest = guest
    self.target = target
    self.nqn = nqn
    self.where = f"-t tcp -a {HOST_ADDRESS} -s {target.port}"
    self.expected = re.compile(expected) if expected else None
    self.dmesg_seen = ""
    self.last_messages = ""

  def controllers(self):
    """Names of all controllers, such as nvme0, in the order of their numbers."""
    return sorted(self.guest.check("ls /sys/class/nvme").split(), key=lambda name: int(name[4:]))

  def connect_one(self, nqn=None, more="", host=FRIEND, port=None):
    """Connects; returns the name of the controller that this brought."""
    before = set(self.controllers())
    where = f"-t tcp -a {HOST_ADDRESS} -s {port or self.target.port}"
    self.guest.check(f"nvme connect {where} -n {nqn or self.nqn} -q {host} -I {host[-36:]} {more}", 40)
    new = [name for name in self.controllers() if name not in before]
    assert len(new) == 1, f"one more controller expected, there are {new}"
    return new[0]

  def connect_another(self, host, more="", nqn=None):
    """As connect_one() over one I/O queue, for a second host of this kernel: nvme-cli takes it for the first one and refuses. `more` in the kernel's words."""
    before = set(self.controllers())
    code, output = self.try_another(host, more, nqn)
    assert code == 0, output
    new = [name for name in self.controllers() if name not in before]
    assert len(new) == 1, f"one more controller expected, there are {new}"
    return new[0]

  def try_another(self, host, more="", nqn=None):
    return self.guest.run(f"echo -n transport=tcp,traddr={HOST_ADDRESS},trsvcid={self.target.port},nqn={nqn or self.nqn},hostnqn={host},hostid={host[-36:]},"
                          f"nr_io_queues=1{more} >/dev/nvme-fabrics", 40)

  def connect(self, nqn=None, more="", host=FRIEND):
    """Connects where nothing is connected yet; returns the controller's name, such as nvme0."""
    name = self.connect_one(nqn, more, host)
    names = self.controllers()
    assert len(names) == 1, f"one controller expected, there are {names}"
    return name

  def disk(self, nsid):
    """Waits for the disk of a namespace id of the only subsystem and returns its path."""
    self.guest.wait_until(present(nsid), 20, f"the disk of namespace {nsid}")
    return "/dev/" + self.guest.check(f"cd /sys/block; for d in $(ls | grep -x '{DISK_NAMES}'); do [ $(cat $d/nsid) != {nsid} ] || echo $d; done").strip()

  def refused(self, nqn, host):
    """An attempt to connect that must fail; returns what nvme-cli and the kernel said about it."""
    before = len(self.guest.check("dmesg"))
    connected = self.controllers()
    code, output = self.guest.run(f"nvme connect {self.where} -n {nqn} -q {host} -I {host[-36:]}", 40)
    assert code != 0, f"connecting {host} to {nqn} succeeded"
    assert self.controllers() == connected, "a controller is left after the refusal"
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


class FioRounds:
  """fio in the guest, in the background: rounds of writing and verifying, one after another until it is told to stop or one fails."""

  def __init__(self, host, disk, arguments="--rw=randwrite --bs=4k --size=2m --iodepth=8", name="under"):
    self.guest = host.guest
    self.name = name
    self.guest.check(f"""(
      rm -f /tmp/{name}.stop /tmp/{name}.end /tmp/{name}.rounds
      while [ ! -e /tmp/{name}.stop ]; do
        fio --name={name} --filename={disk} --ioengine=libaio --direct=1 --verify=crc32c --verify_fatal=1 {arguments} || break
        echo round >>/tmp/{name}.rounds
      done >/tmp/{name}.out 2>&1
      [ -e /tmp/{name}.stop ] && echo well >/tmp/{name}.end || echo badly >/tmp/{name}.end) &""")

  def finish(self, timeout_s=90):
    """Ends after the round that is under way; fails if any round did."""
    self.guest.check(f"touch /tmp/{self.name}.stop")
    self.guest.wait_until(f"[ -e /tmp/{self.name}.end ]", timeout_s, "fio's end")
    assert "well" in self.guest.check(f"cat /tmp/{self.name}.end"), "fio failed:\n" + self.guest.check(f"cat /tmp/{self.name}.out")
    assert "round" in self.guest.check(f"cat /tmp/{self.name}.rounds"), "no round of fio ended"


class TargetWithKeys:
  """catnapd for as long as it is open, with a malloc bdev, a subsystem and `rig.secrets` as keys of these names; add_to() gives it the rest. It becomes
  `rig.rpc`; what the rig's host has connected is let go before it ends."""

  def __init__(self, rig, nqn, name, config):
    self.rig, self.nqn, self.config = rig, nqn, config
    self.server = Catnapd(rig.chosen.catnapd, ["--wait-for-rpc"], name=name, log_folder=rig.chosen.logs)

  def __enter__(self):
    self.server.__enter__()
    rpc = self.rig.rpc = self.server.rpc
    rpc.call("nvmf_set_config", dhchap_failures_per_minute=0, dhchap_timeout_ms=EMULATED_MS, **self.config)
    rpc.call("framework_start_init")
    rpc.call("nvmf_create_transport", trtype="TCP", tls_handshake_timeout_ms=EMULATED_MS // 2)
    rpc.call("bdev_malloc_create", name="Malloc0", num_blocks=16 * 2048, block_size=512)
    rpc.call("nvmf_create_subsystem", nqn=self.nqn, serial_number="KEYS")
    rpc.call("nvmf_subsystem_add_ns", nqn=self.nqn, namespace={"bdev_name": "Malloc0"})
    for name, secret in self.rig.secrets.items():
      self.add_key(name, secret)
    self.add_to(rpc)
    return self

  def add_to(self, rpc):
    """Hosts and listeners."""
    raise NotImplementedError

  def add_key(self, name, text):
    path = self.rig.folder / f"{name}.key"
    path.touch(mode=0o600)
    path.write_text(text + "\n")
    self.server.rpc.call("keyring_file_add_key", name=name, path=str(path))

  def listen(self, port, **options):
    address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)}
    self.server.rpc.call("nvmf_subsystem_add_listener", nqn=self.nqn, listen_address=address, **options)

  def __exit__(self, kind, *rest):
    try:
      self.rig.disconnect()
      if kind is None:
        self.server.terminate()
    finally:
      self.server.__exit__(kind, *rest)


def only_disk(guest):
  """The name of the disk of namespace 1, the only one, once it is there: nvme0n1."""
  guest.wait_until(present(1), 20, "the disk")
  return guest.check(f"cd /sys/block; ls | grep -x '{DISK_NAMES}'").split()[0]


def present(nsid):
  """A shell condition: there is a disk of this namespace id."""
  return f"for d in $(ls /sys/block | grep -x '{DISK_NAMES}'); do cat /sys/block/$d/nsid; done 2>/dev/null | grep -qx {nsid}"


def tidy(host):
  """Leaves nothing connected; both sides must still be well."""
  host.target.check_alive()
  host.disconnect()


def judge(host):
  """Looks for trouble that the case caused in the kernel."""
  trouble = [line for line in host.new_messages().splitlines() if KERNEL_TROUBLE.search(line) and not (host.expected and host.expected.search(line))]
  assert not trouble, "the host's kernel complains:\n" + "\n".join(trouble)


def explain(host):
  """What the kernel said during a case that failed."""
  return "--- the host's kernel during this case\n" + (host.new_messages() or host.last_messages)[-4000:]


def run_program(cases, chosen, name, make_target, prepare, expected, modules="nvme-tcp", before=""):
  """The main() of a program with one target, one Linux host and cases between them; returns the exit code. `make_target()` makes the target once it is
  sure that there can be a guest, `prepare(target)` gives it what the cases use and returns the NQN of the first subsystem; `before` runs in the guest
  before its `modules` are loaded. `expected`: what the kernel may say because the cases ask for it (a regular expression)."""
  problem = missing_prerequisite()
  if problem:
    skip(problem)
  target = make_target()
  with target, Guest(name, log_folder=chosen.logs) as guest:
    nqn = prepare(target)
    loads = "; ".join(f"modprobe {module}" for module in (*modules.split(), "crc32c-intel", "crc32c_generic"))
    guest.check(f"{before}; {loads}" if before else loads)
    host = Host(guest, target, nqn, expected)
    host.new_messages()
    code = cases.run(host, chosen.only, tidy, judge, explain)
    if chosen.logs:
      (chosen.logs / f"{name}.dmesg.log").write_text(guest.check("dmesg"))
    target.finish()
    if code:
      print(f"--- the target's log ends\n{target.log()[-6000:]}")
  return code
