"""A Linux guest in QEMU (software emulation, no KVM) that runs shell scripts for a test and gives back exit code and output.

    with Guest("host") as guest:
      code, output = guest.run("nvme list", timeout_s=20)

The guest sees this machine's loopback at 10.0.2.2; `forwards` leads the other way. Everything is bounded in time; QEMU is ended by its process id, and
ends with the test that started it. Left out: the image (image/guest_image.py), disks that lose unflushed writes (volatile_disk.py).
"""
import base64
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "image"))
import guest_image  # noqa: E402

# What software emulation needs for one boot on a loaded two-core machine, with room to spare.
# Soaks run for long beside other things, and an emulated machine that is starved must not end them: all bounds are that much longer.
PATIENCE = 5 if os.environ.get("CATNAP_SOAK") == "1" else 2
BOOT_TIMEOUT_S = 120 * PATIENCE
HOST_ADDRESS = "10.0.2.2"
QEMU = "qemu-system-x86_64"
# What a catnapd says whose filter of system calls had to refuse one. Servers in guests write their logs to /dev/kmsg, from where they get to the console.
REFUSED = "was refused by catnapd's own filter"
_running = weakref.WeakSet()
_refused = []


def refused_in_guests():
  """The lines of all guests, those that have ended too."""
  return _refused + [line for guest in _running for line in guest.refused_lines()]


class GuestError(Exception):
  """The guest did not boot, ended, or did not answer in time."""


class CommandFailed(GuestError):
  """A script that had to succeed did not."""


def die_with_parent():
  """For Popen's preexec_fn: the child gets SIGKILL when the test process ends, however it ends (prctl PR_SET_PDEATHSIG)."""
  ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def missing_prerequisite():
  """A sentence naming what is missing to run guests here, or None."""
  if not any(os.access(os.path.join(folder, QEMU), os.X_OK) for folder in os.environ.get("PATH", "").split(":")):
    return f"{QEMU} is not installed (Debian package qemu-system-x86)"
  try:
    guest_image.ensure_image()
  except guest_image.ImageUnavailable as problem:
    return f"no guest image: {problem}"
  return None


class Guest:
  """One virtual machine. `drives` are QEMU -drive values without id/if (virtio disks vda, vdb, ... in this order)."""

  def __init__(self, name, tools=True, overlay=None, drives=(), forwards=(), cpus=2, memory_mib=640, log_folder=None, reboots=False, newer_kernel=False,
               boot_image=None, nodes=1):
    self.name = name
    self.tools = tools
    self.overlay = overlay  # Path of one more cpio archive, laid over the image
    self.drives = list(drives)
    self.forwards = list(forwards)  # (port here on 127.0.0.1, port in the guest)
    self.cpus = cpus
    self.memory_mib = memory_mib
    self.nodes = nodes  # NUMA nodes, of equal parts of CPUs and memory
    self.newer_kernel = newer_kernel  # of Debian's backports suite (guest_image.ensure_newer_kernel)
    self.boot_image = boot_image  # folder with `vmlinuz` and `base.cpio`, instead of the usual ones
    self.reboots = reboots  # True: a reset boots again; False: it ends QEMU
    self.folder = Path(tempfile.mkdtemp(prefix=f"catnap-guest-{name}-"))
    self.console_path = (Path(log_folder) if log_folder else self.folder) / f"{name}.console.log"
    self.process = None
    self.channel = None
    self.received = b""
    self.next_id = 1
    _running.add(self)

  def __enter__(self):
    try:
      self.start()
    except BaseException:
      self.stop()
      raise
    return self

  def __exit__(self, *unused):
    self.stop()

  def start(self):
    image = guest_image.ensure_image()
    boot = self.boot_image or (guest_image.ensure_newer_kernel() if self.newer_kernel else image)
    initrd = self.folder / "initrd"
    parts = [boot / "base.cpio"] + ([image / "tools.cpio"] if self.tools else []) + ([self.overlay] if self.overlay else [])
    with open(initrd, "wb") as whole:
      for part in parts:
        whole.write(Path(part).read_bytes())
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(self.folder / "agent"))
    listener.listen(1)
    listener.settimeout(BOOT_TIMEOUT_S)
    forwards = "".join(f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in self.forwards)
    command = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-M", "pc", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off",
               "-smp", str(self.cpus), "-m", str(self.memory_mib), "-kernel", str(boot / "vmlinuz"), "-initrd", str(initrd),
               "-append", "console=ttyS0 quiet loglevel=5 printk.devkmsg=on panic=-1 mitigations=off nokaslr random.trust_cpu=on rdinit=/init",
               "-serial", f"file:{self.console_path}", "-device", "virtio-serial-pci",
               "-chardev", f"socket,id=agent,path={self.folder / 'agent'}", "-device", "virtserialport,chardev=agent,name=agent",
               "-netdev", f"user,id=net0{forwards}", "-device", "virtio-net-pci,netdev=net0,romfile="]
    if self.nodes > 1:
      command[command.index("-smp") + 1] += f",sockets={self.nodes}"  # no CPUs of one socket on two nodes
      command[command.index("-append") + 1] += " tsc=reliable"  # what several sockets have in common is doubted otherwise; here it is one clock
    for node in range(self.nodes if self.nodes > 1 else 0):
      share = self.cpus // self.nodes
      command += ["-object", f"memory-backend-ram,id=node{node},size={self.memory_mib // self.nodes}M",
                  "-numa", f"node,nodeid={node},cpus={node * share}-{(node + 1) * share - 1},memdev=node{node}"]
    # Kernels panic when the first timer interrupts come late, as they do where the emulation has to wait for a CPU.
    command[command.index("-append") + 1] += " no_timer_check"
    for number, drive in enumerate(self.drives):
      command += ["-drive", f"if=none,id=disk{number},{drive}", "-device", f"virtio-blk-pci,drive=disk{number},num-queues={self.cpus}"]
    if not self.reboots:
      command += ["-no-reboot"]
    self.errors = open(self.folder / "qemu.log", "wb")
    self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors, preexec_fn=die_with_parent)
    try:
      self.channel, _ = listener.accept()
    except TimeoutError as problem:
      raise GuestError(f"{QEMU} did not open its agent channel: {self._qemu_output()}") from problem
    finally:
      listener.close()
    self.wait_ready()

  def _qemu_output(self):
    return (self.folder / "qemu.log").read_text(errors="replace").strip()

  def console(self):
    """All that the guest's kernel and init printed so far."""
    return self.console_path.read_text(errors="replace") if self.console_path.exists() else ""

  def wait_for_console(self, text, timeout_s=30):
    """Until the console has it: what the guest was told to say there has arrived."""
    deadline = time.monotonic() + timeout_s * PATIENCE
    while text not in self.console():
      if time.monotonic() > deadline:
        raise GuestError(f"guest {self.name}: '{text}' did not come to the console, which ends:\n{self.console()[-2000:]}")
      time.sleep(0.05)

  def refused_lines(self):
    return [f"guest {self.name}: {line}" for line in self.console().splitlines() if REFUSED in line]

  def _receive(self, deadline):
    self.channel.settimeout(max(0.01, deadline - time.monotonic()))
    try:
      got = self.channel.recv(65536)
    except TimeoutError:
      got = None
    if got is None or time.monotonic() > deadline:
      raise GuestError(f"guest {self.name} did not answer in time; console ends:\n{self.console()[-2000:]}")
    if not got:
      raise GuestError(f"guest {self.name} ended; console ends:\n{self.console()[-2000:]}\n{self._qemu_output()}")
    self.received += got

  def wait_ready(self, timeout_s=BOOT_TIMEOUT_S):
    """Returns when the agent of this boot (or of the boot after a reset) has said hello."""
    deadline = time.monotonic() + timeout_s
    while b"READY\n" not in self.received:
      self._receive(deadline)
    self.received = self.received.split(b"READY\n", 1)[1]

  def run(self, script, timeout_s=30):
    """Runs a shell script in the guest: (exit code, output of both streams). A script that takes longer is ended, with code 143 or 137."""
    identity = self.next_id
    self.send(script, timeout_s)
    # The guest ends the script by itself; the rest is for an emulated machine that is slow to say so.
    deadline = time.monotonic() + (timeout_s + 30) * PATIENCE
    while True:
      found = re.match(rb"DONE (\d+) (\d+) (\d+)\n", self.received)
      if found and len(self.received) >= found.end() + int(found.group(3)):
        output = self.received[found.end() : found.end() + int(found.group(3))]
        self.received = self.received[found.end() + len(output) :]
        if int(found.group(1)) == identity:
          return int(found.group(2)), output.decode(errors="replace")
        continue
      self._receive(deadline)

  def send(self, script, timeout_s=30):
    """Hands the guest a script without waiting for its end (for one that ends the guest)."""
    request = f"{self.next_id} {timeout_s * PATIENCE} {base64.b64encode(script.encode()).decode()}\n"
    self.next_id += 1
    self.channel.sendall(request.encode())

  def check(self, script, timeout_s=30):
    """Runs a script that must succeed; returns its output. It stops at the first command that fails."""
    code, output = self.run("set -e\n" + script, timeout_s)
    if code != 0:
      raise CommandFailed(f"in guest {self.name}, exit code {code}\n--- script\n{script.strip()}\n--- output\n{output.strip()}")
    return output

  def wait_until(self, condition, timeout_s=20, what=None):
    """Waits, inside the guest, until a shell condition holds."""
    script = f"until {condition}; do sleep 0.1; done"
    code, output = self.run(script, timeout_s)
    if code != 0:
      _, log = self.run("dmesg | tail -30")
      raise CommandFailed(f"guest {self.name} waited {timeout_s} s in vain for {what or condition}\n{output}\n--- dmesg\n{log}")

  def kill(self):
    """Ends the virtual machine at once, as if its power were cut."""
    if self.process and self.process.poll() is None:
      self.process.kill()
      self.process.wait()

  def stop(self):
    self.kill()
    if self in _running:
      _running.discard(self)
      _refused.extend(self.refused_lines())
    if self.channel:
      self.channel.close()
      self.channel = None
    if getattr(self, "errors", None):
      self.errors.close()
    shutil.rmtree(self.folder, ignore_errors=True)
