"""The two targets that the host's cases run against: catnapd on this machine, and the kernel's own target in a second guest.

The second one is there to check the cases themselves: what nvmet passes and catnapd does not is catnapd's fault. Both offer the same few methods, which take
effect before they return. Left out: the cases (host_test.py).
"""
import shutil
import tempfile
from pathlib import Path

from guest import Guest
from harness import Catnapd, free_port

MIB = 1 << 20
BLOCK_SIZE = 512


class CatnapTarget:
  """catnapd with files for aio and uring in a temporary folder; `kind` of a namespace: malloc, aio, uring or null."""

  name = "catnapd"
  # What the target's log must name when it refuses a host: NQNs go there.
  logs_refusals = True

  def __init__(self, binary, log_folder=None):
    self.port = free_port()
    self.folder = Path(tempfile.mkdtemp(prefix="catnap-e2e-disks-"))
    self.server = Catnapd(binary, ["-L", "nvmf_tcp"], name="catnapd-host-test", log_folder=log_folder)
    self.rpc = self.server.rpc
    self.bdevs = {}  # (nqn, nsid) -> (kind, bdev name)

  def __enter__(self):
    self.server.__enter__()
    self.rpc.call("nvmf_create_transport", trtype="TCP")
    return self

  def __exit__(self, *unused):
    self.server.close()
    shutil.rmtree(self.folder, ignore_errors=True)

  def add_subsystem(self, nqn, any_host=True):
    self.rpc.call("nvmf_create_subsystem", nqn=nqn, serial_number="E2E0000000000001", model_number="catnap e2e", allow_any_host=any_host, max_namespaces=32)
    self.rpc.call("nvmf_subsystem_add_listener", nqn=nqn, listen_address=self.address())

  def address(self):
    return {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(self.port)}

  def allow_host(self, nqn, host):
    self.rpc.call("nvmf_subsystem_add_host", nqn=nqn, host=host)

  def add_namespace(self, nqn, nsid, size_mib, kind="malloc"):
    bdev = f"{kind}{len(self.bdevs)}"
    blocks = size_mib * MIB // BLOCK_SIZE
    if kind in ("aio", "uring"):
      path = self.folder / bdev
      with open(path, "wb") as disk:
        disk.truncate(size_mib * MIB)
      self.rpc.call(f"bdev_{kind}_create", name=bdev, filename=str(path), block_size=BLOCK_SIZE)
    else:
      self.rpc.call(f"bdev_{kind}_create", name=bdev, num_blocks=blocks, block_size=BLOCK_SIZE)
    self.bdevs[(nqn, nsid)] = (kind, bdev)
    self.rpc.call("nvmf_subsystem_add_ns", nqn=nqn, namespace={"bdev_name": bdev, "nsid": nsid})

  def remove_namespace(self, nqn, nsid):
    self.rpc.call("nvmf_subsystem_remove_ns", nqn=nqn, nsid=nsid)
    kind, bdev = self.bdevs.pop((nqn, nsid))
    self.rpc.call(f"bdev_{kind}_delete", name=bdev)

  def queue_pairs(self, nqn):
    """Number of connected queue pairs, the admin queue's included."""
    return len(self.rpc.call("nvmf_subsystem_get_qpairs", nqn=nqn))

  def check_alive(self):
    assert self.server.alive(), f"catnapd ended with {self.server.process.poll()}; its log ends:\n{self.server.log()[-4000:]}"

  def log(self):
    return self.server.log()

  def finish(self):
    """Ends it as a service manager would."""
    self.server.terminate()


class KernelTarget:
  """nvmet-tcp in a guest of its own, with memory-backed null_blk disks."""

  name = "nvmet"
  logs_refusals = False
  PORT = 4420

  def __init__(self, log_folder=None):
    self.port = free_port()
    self.guest = Guest("nvmet", tools=False, forwards=[(self.port, self.PORT)], memory_mib=1024, log_folder=log_folder)
    self.disks = 0
    self.last_log = ""

  def __enter__(self):
    self.guest.start()
    try:
      self.guest.check("modprobe configfs; mount -t configfs config /sys/kernel/config; modprobe crc32c-intel; modprobe nvmet-tcp; modprobe null_blk nr_devices=0\n"
                       "mkdir /sys/kernel/config/nvmet/ports/1; cd /sys/kernel/config/nvmet/ports/1\n"
                       f"echo tcp >addr_trtype; echo ipv4 >addr_adrfam; echo 0.0.0.0 >addr_traddr; echo {self.PORT} >addr_trsvcid")
    except BaseException:
      self.guest.stop()
      raise
    return self

  def __exit__(self, *unused):
    self.guest.stop()

  def add_subsystem(self, nqn, any_host=True):
    self.guest.check(f"cd /sys/kernel/config/nvmet; mkdir subsystems/{nqn}; echo {int(any_host)} >subsystems/{nqn}/attr_allow_any_host\n"
                     f"ln -s /sys/kernel/config/nvmet/subsystems/{nqn} ports/1/subsystems/{nqn}")

  def allow_host(self, nqn, host):
    self.guest.check(f"cd /sys/kernel/config/nvmet; mkdir -p hosts/{host}; ln -s /sys/kernel/config/nvmet/hosts/{host} subsystems/{nqn}/allowed_hosts/{host}")

  def add_namespace(self, nqn, nsid, size_mib, kind="malloc"):
    disk = f"disk{self.disks}"
    self.disks += 1
    self.guest.check(f"mkdir /sys/kernel/config/nullb/{disk}; cd /sys/kernel/config/nullb/{disk}\n"
                     f"echo 1 >memory_backed; echo {size_mib} >size; echo 512 >blocksize; echo 1 >discard; echo 1 >power\n"
                     f"mkdir /sys/kernel/config/nvmet/subsystems/{nqn}/namespaces/{nsid}; cd /sys/kernel/config/nvmet/subsystems/{nqn}/namespaces/{nsid}\n"
                     f"echo -n /dev/{disk} >device_path || echo -n /dev/nullb$(cat /sys/kernel/config/nullb/{disk}/index) >device_path; echo 1 >enable")

  def remove_namespace(self, nqn, nsid):
    self.guest.check(f"cd /sys/kernel/config/nvmet/subsystems/{nqn}/namespaces; echo 0 >{nsid}/enable; rmdir {nsid}")

  def queue_pairs(self, nqn):
    return None

  def check_alive(self):
    self.guest.check("true")

  def log(self):
    return self.last_log or self.guest.check("dmesg")

  def finish(self):
    self.last_log = self.log()
    self.guest.stop()
